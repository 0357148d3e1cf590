package tunnel

import (
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/joinapi"
)

func TestPlaces(t *testing.T) {
	gone := aPod("gone", "n1", "10.42.1.9")
	gone.Status.Phase = corev1.PodSucceeded
	external := aNode("n4", "192.0.2.4", 10250)
	external.Status.Addresses = append(external.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeExternalIP, Address: "198.51.100.4"})
	nodes := []*corev1.Node{
		aNode("n1", "192.0.2.1", 10250), aNode("n2", "192.0.2.2", 10350), aNode("v6", "fd00::1", 10250), external,
		aNode("a", "192.0.2.9", 10250), aNode("b", "192.0.2.9", 10250), // one of them lies
		aNode("none", "192.0.2.8", 0),
	}
	pods := []*corev1.Pod{
		aPod("p1", "n1", "10.42.1.5"), aPod("p2", "n2", "10.42.2.5"), aPod("p6", "v6", "fd42::5"), gone, aPod("new", "n2", "10.42.1.9"),
		aPod("thief", "n2", "10.42.1.7"), aPod("owner", "n1", "10.42.1.7"), aPod("twin", "n1", "10.42.1.8"), aPod("twin2", "n1", "10.42.1.8"),
		aPod("unscheduled", "", "10.42.1.10"), aPod("kubelet", "n2", "192.0.2.1"), // claims a node's address
		hostPod("host", "n1", "192.0.2.1", 8443),
	}
	for _, c := range []struct {
		address             string
		agent, pod, cluster string
	}{
		{"192.0.2.1:10250", "n1", "n1", "n1"},
		{"192.0.2.2:10250", "", "", "n2"},
		{"192.0.2.2:10350", "n2", "n2", "n2"},
		{"[fd00::1]:10250", "v6", "v6", "v6"},
		{"[::ffff:192.0.2.1]:10250", "n1", "n1", "n1"},
		{"198.51.100.4:10250", "", "", ""},
		{"192.0.2.9:10250", "", "", ""},
		{"192.0.2.8:0", "none", "none", "none"}, // the port that it says; nobody dials it
		{"192.0.2.8:10250", "", "", "none"},
		{"192.0.2.1:8443", "", "n1", "n1"},
		{"192.0.2.1:22", "", "", "n1"},
		{"10.42.1.5:443", "", "n1", "n1"},
		{"10.42.2.5:443", "", "n2", "n2"},
		{"[fd42::5]:443", "", "v6", "v6"},
		{"10.42.1.9:443", "", "n2", "n2"},
		{"10.42.1.7:443", "", "", ""},
		{"10.42.1.8:443", "", "n1", "n1"},
		{"10.42.1.10:443", "", "", ""},
		{"10.43.0.1:443", "", "", ""},
		{"n1:10250", "", "", ""},
		{"192.0.2.1", "", "", ""},
		{"192.0.2.1:70000", "", "", ""},
		{"", "", "", ""},
	} {
		for mode, want := range map[string]string{config.EgressAgent: c.agent, config.EgressPod: c.pod, config.EgressCluster: c.cluster} {
			h := &hub{Server: NewServer(mode, "server", nil), t: t}
			h.know(nodes, pods...)
			if got := h.places.Load().node(c.address); got != want {
				t.Errorf("%s in mode %s: node %q, want %q", c.address, mode, got, want)
			}
		}
	}
}

// aFence is a node's that has a pod, and one in its own network.
func aFence(t testing.TB, mode string) *fence {
	t.Helper()
	f := &fence{
		mode: mode, node: "n1", kubeletPort: 10250, cluster: []netip.Prefix{netip.MustParsePrefix("10.42.0.0/16"), netip.MustParsePrefix("fd42::/56")},
		addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("fd00::1")},
	}
	if mode == config.EgressPod {
		f.pods = cache.NewIndexer(cache.MetaNamespaceKeyFunc, podIndexers())
		for _, p := range []*corev1.Pod{aPod("p1", "n1", "10.42.1.5"), aPod("p6", "n1", "fd42::5"), hostPod("host", "n1", "192.0.2.1", 8443)} {
			if err := f.pods.Add(p); err != nil {
				t.Fatal(err)
			}
		}
	}
	return f
}

func TestFence(t *testing.T) {
	for _, c := range []struct {
		network, address    string
		agent, pod, cluster bool
	}{
		{"tcp", "192.0.2.1:10250", true, true, true},
		{"tcp", "[fd00::1]:10250", true, true, true},
		{"tcp", "192.0.2.1:8443", false, true, true},
		{"tcp", "192.0.2.1:22", false, false, true},
		{"tcp", "10.42.1.5:443", false, true, true},
		{"tcp", "[fd42::5]:443", false, true, true},
		{"tcp", "10.42.1.6:443", false, false, true},
		{"tcp", "10.43.0.1:443", false, false, false},
		{"tcp", "127.0.0.1:10250", false, false, false},
		{"tcp", "127.0.0.1:10248", false, false, false},
		{"tcp", "[::1]:10250", false, false, false},
		{"tcp", "192.0.2.2:10250", false, false, false},
		{"tcp", "169.254.169.254:80", false, false, false}, // where clouds keep credentials
		{"tcp", "0.0.0.0:10250", false, false, false},
		{"tcp", "[::ffff:192.0.2.1]:10250", false, false, false},
		{"tcp", "[fd00::1%eth0]:10250", false, false, false},
		{"tcp", "192.0.2.1:0", false, false, false},
		{"tcp", "192.0.2.1:10250:80", false, false, false},
		{"tcp", "localhost:10250", false, false, false},
		{"tcp", ":10250", false, false, false},
		{"tcp", "", false, false, false},
		{"udp", "192.0.2.1:10250", false, false, false},
		{"tcp4", "192.0.2.1:10250", false, false, false},
		{"unix", "/run/cleat/status.sock", false, false, false},
		{"", "192.0.2.1:10250", false, false, false},
	} {
		for mode, want := range map[string]bool{config.EgressAgent: c.agent, config.EgressPod: c.pod, config.EgressCluster: c.cluster} {
			if err := aFence(t, mode).allows(c.network, c.address); (err == nil) != want {
				t.Errorf("%q %q in mode %s: %v, want allowed %t", c.network, c.address, mode, err, want)
			}
		}
	}
}

// A mode that a newer server has is the narrowest here.
func TestUnknownMode(t *testing.T) {
	c := NewClient(ClientOptions{NodeName: "n1", Addresses: []string{"192.0.2.1"}, KubeletPort: 10250})
	f, err := c.newFence(joinapi.NodeConfig{EgressSelectorMode: "everything", ClusterCIDR: []string{"10.42.0.0/16"}})
	if err != nil || f.allows("tcp", "192.0.2.1:10250") != nil || f.allows("tcp", "192.0.2.1:22") == nil || f.allows("tcp", "10.42.0.5:80") == nil {
		t.Errorf("%+v, %v", f, err)
	}
}

func FuzzFence(f *testing.F) {
	for _, address := range []string{"192.0.2.1:10250", "[fd00::1%x]:10250", "10.42.1.5:1", "[::ffff:10.42.1.5]:1", "a:b", "::1:1"} {
		f.Add("tcp", address)
	}
	f.Fuzz(func(t *testing.T, network, address string) {
		for _, mode := range modes() {
			fence := aFence(t, mode)
			if fence.allows(network, address) != nil {
				continue
			}
			to, err := netip.ParseAddrPort(address)
			if err != nil || network != "tcp" {
				t.Fatalf("%s: %q %q was allowed", mode, network, address)
			}
			own := to.Addr() == fence.addresses[0] || to.Addr() == fence.addresses[1]
			pods := fence.cluster[0].Contains(to.Addr()) || fence.cluster[1].Contains(to.Addr())
			if !own && !pods || mode == config.EgressAgent && (!own || to.Port() != 10250) {
				t.Fatalf("%s: %q was allowed", mode, address)
			}
		}
	})
}
