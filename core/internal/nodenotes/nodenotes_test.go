package nodenotes

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
)

func TestThereAndBack(t *testing.T) {
	want := Notes{
		ExternalIPs: []netip.Addr{netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("2001:db8::7")},
		Translated:  true,
		InternalDNS: []string{"n1.internal"},
		ExternalDNS: []string{"n1.example.com", "n1.example.org"},
		Listens:     map[Port]string{{22, corev1.ProtocolTCP}: "sshd", {8472, corev1.ProtocolUDP}: "", {10250, corev1.ProtocolTCP}: "cleat"},
	}
	written := make(map[string]string)
	for key, value := range want.Annotations() {
		if value != nil {
			written[key] = *value
		}
	}
	if got := written[Listens]; got != "22/tcp=sshd,8472/udp,10250/tcp=cleat" {
		t.Errorf("%s is %q", Listens, got)
	}
	got, err := Read(written)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("(-written +read):\n%s", diff)
	}
	for key, value := range (Notes{}).Annotations() {
		if value != nil {
			t.Errorf("nothing to say, but %s is %q", key, *value)
		}
	}
}

// TestHostile: what does not fit is dropped, and the rest is kept.
func TestHostile(t *testing.T) {
	many := func(item string, n int) string { return strings.TrimSuffix(strings.Repeat(item+",", n), ",") }
	for name, tc := range map[string]struct {
		key, value string
		check      func(Notes) bool
		err        string
	}{
		"no address":    {ExternalIP, "x,192.0.2.1", func(n Notes) bool { return len(n.ExternalIPs) == 1 }, "no IP address"},
		"loopback":      {ExternalIP, "127.0.0.1", func(n Notes) bool { return n.ExternalIPs == nil }, "cannot be reached"},
		"mapped":        {ExternalIP, "::ffff:127.0.0.1", func(n Notes) bool { return n.ExternalIPs == nil }, "cannot be reached"},
		"zone":          {ExternalIP, "2001:db8::1%eth0", func(n Notes) bool { return n.ExternalIPs == nil }, "cannot be reached"},
		"unspecified":   {ExternalIP, "0.0.0.0", func(n Notes) bool { return n.ExternalIPs == nil }, "cannot be reached"},
		"addresses":     {ExternalIP, many("192.0.2.1", 9), func(n Notes) bool { return len(n.ExternalIPs) == 8 }, "more than 8"},
		"a flood":       {Listens, strings.Repeat("1", maxText+1), func(n Notes) bool { return n.Listens == nil }, "bytes"},
		"too many":      {Listens, many("1/tcp", maxListens+1), func(n Notes) bool { return len(n.Listens) == 1 }, "more than 512"},
		"no port":       {Listens, "0/tcp,70000/tcp,22/tcp", func(n Notes) bool { return len(n.Listens) == 1 }, "want port/tcp"},
		"no protocol":   {Listens, "22", func(n Notes) bool { return n.Listens == nil }, "want port/tcp"},
		"a name's text": {Listens, "22/tcp=a\nb c", func(n Notes) bool { return n.Listens[Port{22, corev1.ProtocolTCP}] == "a_b_c" }, ""},
		"no DNS name":   {ExternalDNS, "a b,ok.example", func(n Notes) bool { return len(n.ExternalDNS) == 1 }, "no DNS name"},
		"translated":    {Translated, "yes", func(n Notes) bool { return !n.Translated }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			n, err := Read(map[string]string{tc.key: tc.value})
			if !tc.check(n) {
				t.Errorf("read %+v", n)
			}
			if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Errorf("got the error %v, want %q", err, tc.err)
			}
		})
	}
}

func FuzzRead(f *testing.F) {
	f.Add("192.0.2.1,x", "22/tcp=sshd,8472/udp", "a.example")
	f.Fuzz(func(t *testing.T, ips, listens, names string) {
		n, _ := Read(map[string]string{ExternalIP: ips, Listens: listens, ExternalDNS: names})
		if len(n.ExternalIPs) > maxAddresses || len(n.Listens) > maxListens || len(n.ExternalDNS) > maxNames {
			t.Errorf("beyond the bounds: %+v", n)
		}
		for _, a := range n.ExternalIPs {
			if !a.IsGlobalUnicast() || a.Zone() != "" || a.Is4In6() {
				t.Errorf("read the address %s", a)
			}
		}
		for p, program := range n.Listens {
			if p.Number == 0 || strings.ContainsAny(program, ",= \n") {
				t.Errorf("read %s of %q", p, program)
			}
		}
	})
}
