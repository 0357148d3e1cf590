package flannel

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flannel-io/flannel/pkg/ip"
	"github.com/flannel-io/flannel/pkg/lease"
	"github.com/flannel-io/flannel/pkg/subnet"
	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/cleat-dev/cleat/core/internal/nettest"
	"github.com/cleat-dev/cleat/hostabi"
)

// TestMain runs the tests in a network namespace of their own that has one link,
// "up0", with 10.99.0.1/24 and the default route.
func TestMain(m *testing.M) { os.Exit(nettest.Main(m, makeLink)) }

func makeLink() error {
	if _, err := netlink.LinkByName("up0"); err == nil {
		return nil // in a fuzzing worker
	}
	pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "up0"}, PeerName: "peer0"}
	if err := netlink.LinkAdd(pair); err != nil {
		return fmt.Errorf("veth: %w", err)
	}
	addr, err := netlink.ParseAddr("10.99.0.1/24")
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(pair, addr); err != nil {
		return err
	}
	for _, name := range []string{"lo", "peer0", "up0"} {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(l); err != nil {
			return err
		}
	}
	return netlink.RouteAdd(&netlink.Route{LinkIndex: pair.Index, Gw: net.IPv4(10, 99, 0, 254)})
}

func node(name, podCIDR, address string, annotations map[string]string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: annotations}}
	if podCIDR != "" {
		n.Spec.PodCIDRs = []string{podCIDR}
	}
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address}}
	return n
}

func peer(backend, data string) *corev1.Node {
	return node("peer", "10.42.1.0/24", "10.99.0.2", map[string]string{
		annotationManaged: "true", annotationBackendType: backend, annotationBackendData: data, annotationPublicIP: "10.99.0.2",
	})
}

func eventually(t *testing.T, what string, probe func() error) {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := probe()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("%s: %v", what, err)
		case <-tick.C:
		}
	}
}

// routeTo finds the route to a subnet.
func routeTo(subnet string) (*netlink.Route, error) {
	_, dst, err := net.ParseCIDR(subnet)
	if err != nil {
		return nil, err
	}
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Dst: dst}, netlink.RT_FILTER_DST)
	if err != nil || len(routes) == 0 {
		return nil, fmt.Errorf("no route to %s (%w)", subnet, err)
	}
	return &routes[0], nil
}

func ruleset(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", name, err, out)
	}
	return string(out)
}

type running struct {
	client *fake.Clientset
	cancel context.CancelFunc
	ended  chan error
}

func start(t *testing.T, plan hostabi.FlannelPlan, objects ...*corev1.Node) *running {
	t.Helper()
	client := fake.NewClientset()
	for _, o := range objects {
		if _, err := client.CoreV1().Nodes().Create(t.Context(), o, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{client: client, cancel: cancel, ended: make(chan error, 1)}
	ready := make(chan struct{})
	options := Options{NodeName: "self", Plan: plan, Log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	go func() { r.ended <- run(ctx, client, options, func() { close(ready) }) }()
	t.Cleanup(cancel)

	// The pod CIDR comes late, as it does when the node is new.
	self := node("self", "10.42.0.0/24", "10.99.0.1", nil)
	if plan.NetworkV6 != "" {
		self.Spec.PodCIDRs = append(self.Spec.PodCIDRs, "fd42::/64")
	}
	if _, err := client.CoreV1().Nodes().Update(t.Context(), self, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ready:
	case err := <-r.ended:
		t.Fatalf("ended: %v", err)
	case <-time.After(time.Minute):
		t.Fatal("not ready")
	}
	return r
}

func (r *running) stop(t *testing.T) {
	t.Helper()
	r.cancel()
	if err := <-r.ended; err != nil {
		t.Error(err)
	}
}

func TestVXLAN(t *testing.T) {
	plan := hostabi.FlannelPlan{
		Backend: hostabi.FlannelVXLAN, Network: "10.42.0.0/16", Interface: "up0", VNI: 7, Port: 8472, NFTables: true, Masquerade: true,
	}
	r := start(t, plan, node("self", "", "10.99.0.1", nil), peer("vxlan", `{"VNI":7,"VtepMAC":"02:00:00:00:00:02"}`))

	link, err := netlink.LinkByName("flannel.7")
	if err != nil {
		t.Fatal(err)
	}
	if link.Attrs().MTU != 1450 {
		t.Errorf("MTU %d", link.Attrs().MTU)
	}
	self, err := r.client.CoreV1().Nodes().Get(t.Context(), "self", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf(`{"VNI":7,"VtepMAC":"%s"}`, link.Attrs().HardwareAddr)
	if got := self.Annotations; got[annotationManaged] != "true" || got[annotationPublicIP] != "10.99.0.1" || got[annotationBackendData] != want {
		t.Errorf("annotations %v, want data %s", got, want)
	}
	eventually(t, "route to the peer", func() error {
		route, err := routeTo("10.42.1.0/24")
		if err == nil && route.LinkIndex != link.Attrs().Index {
			err = fmt.Errorf("it leads to link %d", route.LinkIndex)
		}
		return err
	})
	if rules := ruleset(t, "nft", "list", "table", "ip", "flannel-ipv4"); !strings.Contains(rules, "masquerade") {
		t.Errorf("rules: %s", rules)
	}

	if err := r.client.CoreV1().Nodes().Delete(t.Context(), "peer", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "route to the peer that left", func() error {
		if _, err := routeTo("10.42.1.0/24"); err == nil {
			return fmt.Errorf("still there")
		}
		return nil
	})
	r.stop(t)
	if _, err := netlink.LinkByName("flannel.7"); err != nil {
		t.Errorf("pods lost their network: %v", err)
	}

	// A second start finds the link and keeps its address.
	again := start(t, plan, self)
	if l, err := netlink.LinkByName("flannel.7"); err != nil || l.Attrs().HardwareAddr.String() != link.Attrs().HardwareAddr.String() {
		t.Errorf("link %v, %v", l, err)
	}
	if err := netlink.LinkDel(link); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-again.ended:
		if err == nil || !strings.Contains(err.Error(), "removed the link flannel.7") {
			t.Errorf("after the link was removed: %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("nobody noticed that the link is gone")
	}

	for range 2 {
		if err := Clean(t.Context(), plan); err != nil {
			t.Error(err)
		}
	}
	if rules := ruleset(t, "nft", "list", "ruleset"); strings.Contains(rules, "flannel") {
		t.Errorf("rules left: %s", rules)
	}
}

func TestHostGWWithIPTables(t *testing.T) {
	plan := hostabi.FlannelPlan{Backend: hostabi.FlannelHostGW, Network: "10.42.0.0/16", Masquerade: true}
	r := start(t, plan, node("self", "", "10.99.0.1", nil), peer("host-gw", "null"))
	eventually(t, "route to the peer", func() error {
		route, err := routeTo("10.42.1.0/24")
		if err == nil && route.Gw.String() != "10.99.0.2" {
			err = fmt.Errorf("it leads to %s", route.Gw)
		}
		return err
	})
	eventually(t, "rules", func() error {
		if rules := ruleset(t, "iptables-save"); strings.Count(rules, "-A FLANNEL-FWD") != 2 || !strings.Contains(rules, "-A FLANNEL-POSTRTG") {
			return fmt.Errorf("rules: %s", rules)
		}
		return nil
	})
	r.stop(t)
	for range 2 {
		if err := Clean(t.Context(), plan); err != nil {
			t.Error(err)
		}
	}
	if rules := ruleset(t, "iptables-save"); strings.Contains(rules, "FLANNEL") {
		t.Errorf("rules left: %s", rules)
	}
}

func TestDifference(t *testing.T) {
	client := fake.NewClientset()
	plan := hostabi.FlannelPlan{Backend: hostabi.FlannelVXLAN, Network: "10.42.0.0/16"}
	cfg, err := subnetConfig(plan)
	if err != nil {
		t.Fatal(err)
	}
	m, err := watchNodes(t.Context(), client, "self", cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	leases := make(chan []lease.LeaseWatchResult)
	watched := make(chan error, 1)
	go func() { watched <- m.WatchLeases(t.Context(), leases) }()

	expect := func(want ...string) {
		t.Helper()
		var got []string
		for len(got) < len(want) {
			select {
			case results := <-leases:
				for _, e := range results[0].Events {
					got = append(got, fmt.Sprint([]string{"+", "-"}[e.Type], e.Lease.Subnet, " ", e.Lease.Attrs.PublicIP))
				}
			case <-time.After(time.Minute):
				t.Fatalf("got %q, want %q", got, want)
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	nodes := client.CoreV1().Nodes()
	create := func(n *corev1.Node) {
		t.Helper()
		if _, err := nodes.Create(t.Context(), n, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	// None of these may become a route.
	for i, bad := range []func(*corev1.Node){
		func(n *corev1.Node) { n.Annotations[annotationPublicIP] = "x" },
		func(n *corev1.Node) { n.Annotations[annotationPublicIP] = "127.0.0.1" },
		func(n *corev1.Node) { n.Annotations[annotationBackendData] = "{" },
		func(n *corev1.Node) { n.Annotations[annotationManaged] = "" },
		func(n *corev1.Node) { n.Spec.PodCIDRs = []string{"0.0.0.0/0"} },
		func(n *corev1.Node) { n.Spec.PodCIDRs = []string{"10.41.0.0/24"} },
		func(n *corev1.Node) { n.Spec.PodCIDRs = nil },
	} {
		n := peer("vxlan", "{}")
		n.Name = fmt.Sprint("bad", i)
		bad(n)
		create(n)
	}
	p := peer("vxlan", "{}")
	create(p)
	expect("+10.42.1.0/24 10.99.0.2")
	p.Annotations[annotationPublicIP] = "10.99.0.3"
	if _, err := nodes.Update(t.Context(), p, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	expect("+10.42.1.0/24 10.99.0.3")
	p.Spec.PodCIDRs = []string{"10.42.9.0/24"}
	if _, err := nodes.Update(t.Context(), p, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	expect("-10.42.1.0/24 10.99.0.3", "+10.42.9.0/24 10.99.0.3")

	// A Node of another name that the same machine had goes, and with it the entry of
	// the vxlan link that both need.
	alias := peer("vxlan", "{}")
	alias.Name, alias.Annotations[annotationPublicIP], alias.Spec.PodCIDRs = "alias", "10.99.0.3", []string{"10.42.2.0/24"}
	create(alias)
	expect("+10.42.2.0/24 10.99.0.3")
	if err := nodes.Delete(t.Context(), "alias", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	expect("-10.42.2.0/24 10.99.0.3", "+10.42.9.0/24 10.99.0.3")
	m.close()
	if err := <-watched; err != nil {
		t.Error(err)
	}
	if _, ok := <-leases; ok {
		t.Error("receiver not closed")
	}
}

func FuzzNodeLease(f *testing.F) {
	f.Add("10.42.1.0/24", "fd42::/64", "10.0.0.1", "fd99::1", "vxlan", `{"VNI":1,"VtepMAC":"02:00:00:00:00:01"}`)
	f.Add("", "", "::1", "::", "", "")
	f.Fuzz(func(t *testing.T, podCIDR, podCIDRv6, public, publicV6, backend, data string) {
		n := node("n", podCIDR, "", map[string]string{
			annotationManaged: "true", annotationBackendType: backend,
			annotationPublicIP: public, annotationBackendData: data, annotationPublicIPv6: publicV6, annotationBackendV6Data: data,
		})
		n.Spec.PodCIDRs = append(n.Spec.PodCIDRs, podCIDRv6)
		_, v4, _ := net.ParseCIDR("10.42.0.0/16")
		_, v6, _ := net.ParseCIDR("fd42::/48")
		for _, cfg := range []*subnet.Config{
			{EnableIPv4: true, Network: ip.FromIPNet(v4)},
			{EnableIPv6: true, IPv6Network: ip.FromIP6Net(v6)},
			{EnableIPv4: true, EnableIPv6: true, Network: ip.FromIPNet(v4), IPv6Network: ip.FromIP6Net(v6)},
		} {
			l, err := (&nodes{cfg: cfg}).nodeLease(n)
			if err != nil {
				continue
			}
			if cfg.EnableIPv4 && l.Attrs.PublicIP == 0 || cfg.EnableIPv6 && ip.IsEmpty(l.Attrs.PublicIPv6) {
				t.Errorf("lease without an address: %+v", l)
			}
		}
	})
}
