package network

import (
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/cleat-dev/cleat/core/internal/nettest"
	"github.com/cleat-dev/cleat/hostabi"
)

// TestMain runs the tests again in a network namespace of their own.
func TestMain(m *testing.M) { os.Exit(nettest.Main(m)) }

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", name, err, out)
	}
	return string(out)
}

func prefixes(texts ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, text := range texts {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}

func TestMasqueradeRules(t *testing.T) {
	for _, tc := range []struct {
		kind    string
		network string
		first   []netip.Prefix
		second  []netip.Prefix
		list    []string
		want    []string
	}{
		{
			hostabi.ProxyModeNFTables, "10.42.0.0/16", prefixes("10.42.0.0/24"), prefixes("10.42.3.0/24"),
			[]string{"nft", "list", "ruleset"},
			[]string{
				"ip saddr 10.42.3.0/24 ip daddr 10.42.0.0/16 return",
				"ip saddr 10.42.3.0/24 ip daddr 224.0.0.0/4 return",
				"ip saddr 10.42.3.0/24 masquerade fully-random",
			},
		},
		{
			hostabi.ProxyModeNFTables, "fd00:42::/48", prefixes("fd00:42::/64"), prefixes("fd00:42:0:3::/64"),
			[]string{"nft", "list", "ruleset"},
			[]string{"ip6 saddr fd00:42:0:3::/64 masquerade fully-random"},
		},
		{
			hostabi.ProxyModeIPTables, "10.42.0.0/16", prefixes("10.42.0.0/24"), prefixes("10.42.3.0/24"),
			[]string{"iptables-save"},
			[]string{
				"-A CLEAT-POSTROUTING -s 10.42.3.0/24 -d 10.42.0.0/16 -j RETURN",
				"-A CLEAT-POSTROUTING -s 10.42.3.0/24 -j MASQUERADE --random-fully",
				"-A CLEAT-FORWARD -d 10.42.3.0/24 -j ACCEPT",
				"-j CLEAT-FORWARD",
			},
		},
		{
			hostabi.ProxyModeIPTables, "fd00:42::/48", prefixes("fd00:42::/64"), prefixes("fd00:42:0:3::/64"),
			[]string{"ip6tables-save"},
			[]string{
				"-A CLEAT-POSTROUTING -s fd00:42:0:3::/64 -d fd00:42::/48 -j RETURN",
				"-A CLEAT-POSTROUTING -s fd00:42:0:3::/64 -j MASQUERADE --random-fully",
				"-A CLEAT-FORWARD -d fd00:42:0:3::/64 -j ACCEPT",
				"-j CLEAT-FORWARD",
			},
		},
	} {
		t.Run(tc.kind+" "+tc.network, func(t *testing.T) {
			for _, pods := range [][]netip.Prefix{tc.first, tc.second, tc.second} {
				if err := (machine{}).Masquerade(t.Context(), masquerade{tc.kind, netip.MustParsePrefix(tc.network), pods}); err != nil {
					t.Fatal(err)
				}
			}
			rules := output(t, tc.list[0], tc.list[1:]...)
			for _, want := range tc.want {
				if strings.Count(rules, want) != 1 {
					t.Errorf("%q is there %d times:\n%s", want, strings.Count(rules, want), rules)
				}
			}
			if strings.Contains(rules, tc.first[0].String()) {
				t.Errorf("old rules left:\n%s", rules)
			}
			for range 2 {
				if err := (machine{}).Unmasquerade(t.Context(), tc.kind); err != nil {
					t.Error(err)
				}
			}
			if rules := strings.ToLower(output(t, tc.list[0], tc.list[1:]...)); strings.Contains(rules, "cleat") {
				t.Errorf("rules left:\n%s", rules)
			}
		})
	}
}

func TestRemoveLink(t *testing.T) {
	m := machine{}
	if removed, err := m.RemoveLink("nolink"); removed || err != nil {
		t.Errorf("a link that is not there: %v, %v", removed, err)
	}
	if _, err := m.RemoveLink("lo"); err == nil {
		t.Error("lo was removed")
	}
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br-test"}}
	if err := netlink.LinkAdd(bridge); err != nil {
		t.Fatal(err)
	}
	port := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "port", MasterIndex: bridge.Index}, PeerName: "pod"}
	if err := netlink.LinkAdd(port); err != nil {
		t.Fatal(err)
	}
	if _, err := m.RemoveLink("port"); err == nil {
		t.Error("a veth was removed")
	}
	if _, err := m.RemoveLink("br-test"); !errors.Is(err, errLinkInUse) {
		t.Errorf("bridge with a port: %v", err)
	}
	if err := netlink.LinkDel(port); err != nil {
		t.Fatal(err)
	}
	if removed, err := m.RemoveLink("br-test"); !removed || err != nil {
		t.Errorf("bridge: %v, %v", removed, err)
	}
}

func TestSetSysctl(t *testing.T) {
	m := machine{}
	for _, value := range []string{"1", "0", "1"} {
		if err := m.SetSysctl(t.Context(), "net.ipv4.ip_forward", value); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward"); err != nil || strings.TrimSpace(string(got)) != value {
			t.Errorf("%q, %v", got, err)
		}
	}
	if err := m.SetSysctl(t.Context(), "net.ipv4.no_such_thing", "1"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing setting: %v", err)
	}
}

func TestLinks(t *testing.T) {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		t.Fatal(err)
	}
	links, err := machine{}.Links()
	if err != nil {
		t.Fatal(err)
	}
	if got := linkOf(links, []string{"192.0.2.1", "127.0.0.1"}, ""); got.Name != "lo" || got.MTU != 65536 {
		t.Errorf("%+v in %+v", got, links)
	}
	if got := linkOf(links, []string{"192.0.2.1"}, "lo"); got.Name != "lo" {
		t.Errorf("fallback: %+v", got)
	}
	if got := linkOf(links, nil, ""); got.Name != "" {
		t.Errorf("no link expected: %+v", got)
	}
}
