package joinapi

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation"
)

const password = "0123456789abcdef"

func TestNodeRequestRoundTrip(t *testing.T) {
	want := NodeRequest{Name: "node-1.example", Password: password, IPs: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}}
	h := http.Header{}
	want.Set(h)
	got, err := ReadNodeRequest(h)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v, %v; want %+v", got, err, want)
	}
}

func TestReadNodeRequestRefuses(t *testing.T) {
	for _, c := range []struct{ header, value, want string }{
		{HeaderNodeName, "", "missing"},
		{HeaderNodeName, "Node", "lower-case"},
		{HeaderNodeName, "a..b", "lower-case"},
		{HeaderNodeName, "-a", "lower-case"},
		{HeaderNodeName, "a/../b", "lower-case"},
		{HeaderNodeName, strings.Repeat("a", 254), "254 characters"},
		{HeaderNodePassword, "", "missing"},
		{HeaderNodePassword, "hunter2", "7 characters"},
		{HeaderNodePassword, password + " x", "character 17"},
		{HeaderNodeIP, "x", "ParseAddr"},
		{HeaderNodeIP, "10.0.0.1,", "ParseAddr"},
		{HeaderNodeIP, "127.0.0.1", "no node's"},
		{HeaderNodeIP, "0.0.0.0", "no node's"},
		{HeaderNodeIP, "224.0.0.1", "no node's"},
		{HeaderNodeIP, "fe80::1", "no node's"},
		{HeaderNodeIP, "fd00::1%eth0", "plain"},
		{HeaderNodeIP, "::ffff:10.0.0.1", "plain"},
		{HeaderNodeIP, strings.Repeat("10.0.0.1,", 200), "too long"},
	} {
		h := http.Header{}
		NodeRequest{Name: "n", Password: password}.Set(h)
		h.Del(c.header)
		if c.value != "" {
			h.Set(c.header, c.value)
		}
		_, err := ReadNodeRequest(h)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.header) {
			t.Errorf("%s %q: %v, want %q", c.header, c.value, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error shows the password: %v", err)
		}
	}
	h := http.Header{}
	NodeRequest{Name: "n", Password: password}.Set(h)
	h.Add(HeaderNodeName, "m")
	if _, err := ReadNodeRequest(h); err == nil || !strings.Contains(err.Error(), "2 times") {
		t.Errorf("two names: %v", err)
	}
}

func TestParseNodeConfig(t *testing.T) {
	const good = `{"clusterCIDR":["10.42.0.0/16"],"serviceCIDR":["10.43.0.0/16"],"clusterDNS":["10.43.0.10"],"clusterDomain":"cluster.local","cni":"cni-flannel","of":"the future"}`
	c, err := ParseNodeConfig([]byte(good))
	if err != nil || c.CNI != "cni-flannel" || c.ClusterCIDR[0] != "10.42.0.0/16" {
		t.Fatalf("%+v, %v", c, err)
	}
	for old, want := range map[string]string{
		`["10.42.0.0/16"]`: "clusterCIDR",
		`10.43.0.0/16`:     "serviceCIDR",
		`10.43.0.10`:       "clusterDNS",
		`cluster.local`:    "clusterDomain",
		`cni-flannel`:      "cni",
	} {
		replacement := map[bool]string{true: "[]", false: ""}[old[0] == '[']
		if _, err := ParseNodeConfig([]byte(strings.Replace(good, old, replacement, 1))); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("without %s: %v", old, err)
		}
	}
	for bad, want := range map[string]string{
		`"cni":"../../x"`:                                                  "cni",
		`"cni":"x","flannelBackend":"-a b"`:                                "flannelBackend",
		`"cni":"x","serviceNodePortRange":"1-2\n3"`:                        "serviceNodePortRange",
		`"cni":"x","version":"` + strings.Repeat("v", 129) + `"`:           "version",
		`"cni":"x","clusterCIDR":["10.0.0.0/8","11.0.0.0/8","12.0.0.0/8"]`: "3 networks",
		`"cni":"x","clusterDNS":["10.0.0.1","10.0.0.2","10.0.0.3"]`:        "3 addresses",
	} {
		if _, err := ParseNodeConfig([]byte(strings.Replace(good, `"cni":"cni-flannel"`, bad, 1))); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", bad, err, want)
		}
	}
	if _, err := ParseNodeConfig([]byte(strings.Repeat(" ", MaxAnswerBody+1))); err == nil {
		t.Error("a huge config was accepted")
	}
}

func TestStatusRoundTrip(t *testing.T) {
	w := httptest.NewRecorder()
	WriteStatus(w, http.StatusServiceUnavailable, 3, "wait for it")
	if w.Code != 503 || w.Header().Get("Retry-After") != "3" || !strings.Contains(w.Body.String(), `"reason":"ServiceUnavailable"`) {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	if got := ReadStatus(w.Body.Bytes()); got != "wait for it" {
		t.Errorf("read back %q", got)
	}
	if got := ReadStatus([]byte("plain\n\x1b[31mtext\xff" + strings.Repeat("x", 1000))); len(got) > 320 || strings.ContainsAny(got, "\n\x1b") {
		t.Errorf("unclean text %q", got)
	}
}

func FuzzCheckNodeName(f *testing.F) {
	for _, s := range []string{"a", "a.b", "a-b.c0", "-", "a-", "é", "", "a_b", strings.Repeat("a", 254)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if ours, theirs := CheckNodeName(name) == nil, len(validation.IsDNS1123Subdomain(name)) == 0; ours != theirs {
			t.Fatalf("node name %q: we say %v, the API server %v", name, ours, theirs)
		}
	})
}

func FuzzReadNodeRequest(f *testing.F) {
	f.Add("n", password, "10.0.0.1,fd00::1")
	f.Add("n", password, "")
	f.Fuzz(func(t *testing.T, name, pass, ips string) {
		h := http.Header{HeaderNodeName: {name}, HeaderNodePassword: {pass}, HeaderNodeIP: {ips}}
		r, err := ReadNodeRequest(h)
		if err != nil {
			return
		}
		if len(r.IPs) > MaxNodeIPs || r.Name != name || r.Password != pass {
			t.Fatalf("accepted %+v", r)
		}
		again := http.Header{}
		r.Set(again)
		if r2, err := ReadNodeRequest(again); err != nil || !reflect.DeepEqual(r, r2) {
			t.Fatalf("%+v became %+v, %v", r, r2, err)
		}
	})
}

func FuzzParseNodeConfig(f *testing.F) {
	f.Add([]byte(`{"clusterCIDR":["10.42.0.0/16"],"serviceCIDR":["10.43.0.0/16"],"clusterDomain":"cluster.local","cni":"x"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if c, err := ParseNodeConfig(text); err == nil && (len(c.ServiceCIDR) == 0 || c.CNI == "") {
			t.Fatalf("accepted %+v", c)
		}
		if s := ReadStatus(text); strings.ContainsAny(s, "\n\x1b\x00") {
			t.Fatalf("ReadStatus gave %q", s)
		}
	})
}
