package flannel

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/cleat-dev/cleat/hostabi"
)

// dual is a node of both families whose addresses and MACs end in a number.
func dual(name string, last int) *corev1.Node {
	n := node(name, fmt.Sprintf("10.42.%d.0/24", last), fmt.Sprintf("10.99.0.%d", last), map[string]string{
		annotationManaged: "true", annotationBackendType: "vxlan",
		annotationPublicIP: fmt.Sprintf("10.99.0.%d", last), annotationBackendData: fmt.Sprintf(`{"VNI":8,"VtepMAC":"02:00:00:00:04:0%d"}`, last),
		annotationPublicIPv6: fmt.Sprintf("fd99::%d", last), annotationBackendV6Data: fmt.Sprintf(`{"VNI":8,"VtepMAC":"02:00:00:00:06:0%d"}`, last),
	})
	n.Spec.PodCIDRs = append(n.Spec.PodCIDRs, fmt.Sprintf("fd42:0:0:%d::/64", last))
	return n
}

// addIPv6 gives up0 the address fd99::1/64 for the time of the test.
func addIPv6(t *testing.T) {
	t.Helper()
	up, err := netlink.LinkByName("up0")
	if err != nil {
		t.Fatal(err)
	}
	address := &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP("fd99::1"), Mask: net.CIDRMask(64, 128)}, Flags: unix.IFA_F_NODAD}
	if err := netlink.AddrAdd(up, address); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := netlink.AddrDel(up, address); err != nil {
			t.Error(err)
		}
	})
}

// watchRoutes returns what waits until the routes to the third node went, and fails if
// one to the second did meanwhile.
func watchRoutes(t *testing.T) func() {
	t.Helper()
	changes, done := make(chan netlink.RouteUpdate, 100), make(chan struct{})
	if err := netlink.RouteSubscribe(changes, done); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		defer close(done)
		for left := 0; left < 2 || len(changes) > 0; {
			select {
			case u := <-changes:
				switch {
				case u.Type != unix.RTM_DELROUTE || u.Dst == nil:
				case u.Dst.String() == "10.42.3.0/24", u.Dst.String() == "fd42:0:0:3::/64":
					left++
				case u.Dst.String() == "10.42.2.0/24", u.Dst.String() == "fd42:0:0:2::/64":
					t.Errorf("the route %s was away", u.Dst)
				}
			case <-time.After(time.Minute):
				t.Fatalf("%d routes were seen to go", left)
			}
		}
	}
}

// TestSweep: what leads to a node that left while nothing ran is taken away at the next
// start, and what leads to those that stay is not touched.
func TestSweep(t *testing.T) {
	addIPv6(t)
	plan := hostabi.FlannelPlan{Backend: hostabi.FlannelVXLAN, Network: "10.42.0.0/16", NetworkV6: "fd42::/56", Interface: "up0", VNI: 8, Port: 8473, NFTables: true}
	// leadsTo is to which nodes the links lead: by a route, a neighbour and a forwarding entry for each family.
	leadsTo := func(nodes ...int) func() error {
		var want []string
		for _, last := range nodes {
			want = append(want, fmt.Sprintf("10.42.%d.0/24", last), fmt.Sprintf("fd42:0:0:%d::/64", last))
			for _, family := range []int{4, 6} {
				mac := fmt.Sprintf("02:00:00:00:%02d:%02d", family, last)
				want = append(want, mac, mac)
			}
		}
		slices.Sort(want)
		return func() error {
			var out string
			for family, link := range map[string]string{"-4": "flannel.8", "-6": "flannel-v6.8"} {
				out += ruleset(t, "ip", family, "route", "show", "dev", link) + ruleset(t, "ip", family, "neigh", "show", "dev", link) +
					ruleset(t, "bridge", "fdb", "show", "dev", link)
			}
			var found []string
			for _, word := range strings.Fields(out) {
				if strings.HasPrefix(word, "02:") || strings.Contains(word, "42") && strings.Contains(word, "/") {
					found = append(found, word)
				}
			}
			slices.Sort(found)
			if !slices.Equal(found, want) {
				return fmt.Errorf("%q, want %q: %s", found, want, out)
			}
			return nil
		}
	}
	r := start(t, plan, node("self", "", "10.99.0.1", nil), dual("stays", 2), dual("leaves", 3))
	eventually(t, "both", leadsTo(2, 3))
	r.stop(t)
	if err := leadsTo(2, 3)(); err != nil {
		t.Errorf("after it ended: %v", err)
	}

	stayed := watchRoutes(t)
	r = start(t, plan, node("self", "", "10.99.0.1", nil), dual("stays", 2))
	eventually(t, "one", leadsTo(2))
	r.stop(t)
	stayed()
}

// TestSweepGateways: routes to nodes that left while nothing ran go at the next start,
// those to nodes that stay are not touched, and Clean takes all. Routes that somebody
// else made stay. With routes left the vxlan backend could set none for IPv6.
func TestSweepGateways(t *testing.T) {
	addIPv6(t)
	others := []string{
		"10.41.3.0/24 via 10.99.0.10",               // outside the network
		"10.42.0.0/16 via 10.99.0.11",               // all of the network
		"10.42.4.0/24 via 10.99.0.254",              // through the router
		"10.42.5.0/24 via 10.99.0.9 proto static",   // of a network manager
		"10.42.6.0/24 via 10.99.0.9 metric 7",       // with more than flannel says
		"10.42.7.0/24 via 10.99.0.9 src 10.99.0.1",  // likewise
		"10.42.8.0/24 scope link",                   // without a gateway
		"fd42:0:0:5::/64 via fd99::9 proto static",  // of a network manager
		"fd42:0:0:6::/64 via fd99::9 metric 7",      // with more than flannel says
		"fd42:0:0:7::/64 via fd99::9 src fd99::1",   // likewise
		"fd41:0:0:5::/64 via fd99::10 metric 1024",  // outside
		"fd42:0:0:10::/64 via fd99::10 metric 1024", // through a router
	}
	for _, one := range others {
		args := append([]string{"route", "add"}, append(strings.Fields(one), "dev", "up0")...)
		ruleset(t, "ip", args...)
		t.Cleanup(func() { ruleset(t, "ip", append([]string{"route", "del"}, args[2:]...)...) })
	}
	// routes are those of up0 but for its own network.
	routes := func() string {
		var found []string
		for _, family := range []string{"-4", "-6"} {
			for line := range strings.Lines(ruleset(t, "ip", family, "route", "show", "dev", "up0")) {
				if strings.Contains(line, "/") && !strings.HasPrefix(line, "10.99.") && !strings.HasPrefix(line, "fd99:") && !strings.HasPrefix(line, "fe80:") {
					found = append(found, strings.Join(strings.Fields(line), " "))
				}
			}
		}
		slices.Sort(found)
		return strings.Join(found, "\n")
	}
	strangers := routes()
	if got := strings.Count(strangers, "\n") + 1; got != len(others) {
		t.Fatalf("%d routes of others, want %d: %s", got, len(others), strangers)
	}
	leadsTo := func(nodes ...int) func() error {
		want := strings.Split(strangers, "\n")
		for _, last := range nodes {
			want = append(want, fmt.Sprintf("10.42.%d.0/24 via 10.99.0.%d", last, last), fmt.Sprintf("fd42:0:0:%d::/64 via fd99::%d metric 1024 pref medium", last, last))
		}
		slices.Sort(want)
		return func() error {
			if got := routes(); got != strings.Join(want, "\n") {
				return fmt.Errorf("%s\nwant\n%s", got, strings.Join(want, "\n"))
			}
			return nil
		}
	}
	gateway := hostabi.FlannelPlan{Backend: hostabi.FlannelHostGW, Network: "10.42.0.0/16", NetworkV6: "fd42::/56", Interface: "up0", NFTables: true}
	vxlan := gateway
	vxlan.Backend, vxlan.VNI, vxlan.Port = hostabi.FlannelVXLAN, 9, 8474
	run := func(plan hostabi.FlannelPlan, routes func() error, nodes ...int) {
		t.Helper()
		objects := []*corev1.Node{node("self", "", "10.99.0.1", nil)}
		for _, last := range nodes {
			n := dual(fmt.Sprint("n", last), last)
			n.Annotations[annotationBackendType] = plan.Backend
			if plan.Backend == hostabi.FlannelHostGW {
				n.Annotations[annotationBackendData], n.Annotations[annotationBackendV6Data] = "null", "null"
			}
			objects = append(objects, n)
		}
		r := start(t, plan, objects...)
		eventually(t, plan.Backend, routes)
		r.stop(t)
		if err := routes(); err != nil {
			t.Errorf("after it ended: %v", err)
		}
	}
	run(gateway, leadsTo(2, 3), 2, 3)
	stayed := watchRoutes(t)
	run(gateway, leadsTo(2), 2)
	stayed()

	run(gateway, leadsTo(2, 3), 2, 3)
	for range 2 {
		if err := Clean(t.Context(), gateway); err != nil {
			t.Error(err)
		}
	}
	if err := leadsTo()(); err != nil {
		t.Errorf("after it was cleaned: %v", err)
	}
	run(vxlan, func() error {
		for family, link := range map[string]string{"-4": "flannel.9", "-6": "flannel-v6.9"} {
			if out := ruleset(t, "ip", family, "route", "show", "dev", link); !strings.Contains(out, "2.0/24 via") && !strings.Contains(out, ":2::/64 via") {
				return fmt.Errorf("%s leads to %q", link, out)
			}
		}
		return leadsTo()()
	}, 2)
	for _, name := range linkNames(vxlan) {
		l, err := netlink.LinkByName(name)
		if err == nil {
			err = netlink.LinkDel(l)
		}
		if err != nil {
			t.Error(err)
		}
	}
}
