package conformance

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/cleat-dev/cleat/hostabi"
)

// cniChecks are about plugins of the point cni.
func cniChecks() []check {
	return at(hostabi.PointCNI,
		core("cni/typical-node", "cleat_cni_plan",
			"The hook plans for a node like most, or says why it cannot.", asked(), checkTypicalNode),
		core("cni/no-pod-cidrs", "cleat_cni_plan",
			"The node may have no range of pod addresses yet; a plugin that needs one says so.", []string{"cni/typical-node"}, checkNoPodCIDRs),
		core("cni/odd-facts", "cleat_cni_plan",
			"Facts can be odd, unknown or wrong: the hook plans for them, or says why it cannot.", []string{"cni/typical-node"}, checkOddFacts),
		core("cni/deterministic", "Rules",
			"Two new instances plan the same for the same node, byte for byte.", []string{"cni/typical-node"}, checkNetworkDeterministic),
	)
}

// usualNode is what a node with one address says about itself.
func usualNode() hostabi.CNIRequest {
	return hostabi.CNIRequest{
		ClusterCIDRs: []string{"10.42.0.0/16"}, ServiceCIDRs: []string{"10.43.0.0/16"}, ClusterDomain: "cluster.local",
		ProxyMode: hostabi.ProxyModeNFTables,
		Node: hostabi.CNINode{Name: "conformance", Addresses: []string{"192.0.2.1"}, Interface: "eth0", MTU: 1500,
			PodCIDRs: []string{"10.42.0.0/24"}},
	}
}

// node is a request with its name in a report.
type node struct {
	name    string
	request hostabi.CNIRequest
}

func changed(name string, change func(*hostabi.CNIRequest)) node {
	n := node{name, usualNode()}
	change(&n.request)
	return n
}

func (s *subject) typicalNodes() []node {
	var all []node
	for _, c := range s.cases {
		if c.Network != nil && len(all) < maxCasesAsked {
			all = append(all, node{"case " + c.Name, *c.Network})
		}
	}
	return append(all, node{"a typical node", usualNode()},
		changed("a node with vxlan", func(r *hostabi.CNIRequest) { r.FlannelBackend = "vxlan" }),
		changed("a node with iptables", func(r *hostabi.CNIRequest) { r.ProxyMode = hostabi.ProxyModeIPTables }))
}

// planFor checks that the plugin plans for every node, or says why it cannot.
func (s *subject) planFor(ctx context.Context, all []node) (finding, error) {
	return s.share(ctx, func(g *guest) (finding, error) {
		for _, n := range all {
			a, err := g.network(ctx, n.name, n.request)
			if err != nil {
				return finding{}, err
			}
			if a.broke() {
				return failed("%s", a)
			}
		}
		return passed("answered for %d nodes", len(all))
	})
}

func checkTypicalNode(ctx context.Context, s *subject) (finding, error) {
	return s.planFor(ctx, s.typicalNodes())
}

func checkNoPodCIDRs(ctx context.Context, s *subject) (finding, error) {
	return s.planFor(ctx, []node{
		changed("a node without pod ranges", func(r *hostabi.CNIRequest) { r.Node.PodCIDRs = []string{} }),
		changed("a node whose pod ranges are null", func(r *hostabi.CNIRequest) { r.Node.PodCIDRs = nil }),
	})
}

func checkOddFacts(ctx context.Context, s *subject) (finding, error) {
	all := []node{
		changed("IPv6 only", func(r *hostabi.CNIRequest) {
			r.ClusterCIDRs, r.ServiceCIDRs = []string{"2001:db8:42::/56"}, []string{"2001:db8:43::/112"}
			r.Node.Addresses, r.Node.PodCIDRs = []string{"2001:db8::1"}, []string{"2001:db8:42::/64"}
		}),
		changed("both families", func(r *hostabi.CNIRequest) {
			r.ClusterCIDRs = append(r.ClusterCIDRs, "2001:db8:42::/56")
			r.Node.Addresses = append(r.Node.Addresses, "2001:db8::1")
			r.Node.PodCIDRs = append(r.Node.PodCIDRs, "2001:db8:42::/64")
		}),
		changed("no addresses", func(r *hostabi.CNIRequest) { r.Node.Addresses = nil }),
		changed("no cluster range", func(r *hostabi.CNIRequest) { r.ClusterCIDRs, r.ServiceCIDRs = nil, nil }),
		changed("no interface", func(r *hostabi.CNIRequest) { r.Node.Interface, r.Node.MTU = "", 0 }),
		changed("no domain", func(r *hostabi.CNIRequest) { r.ClusterDomain = "" }),
		changed("an unknown backend", func(r *hostabi.CNIRequest) { r.FlannelBackend = "conformance" }),
		changed("an unknown proxy mode", func(r *hostabi.CNIRequest) { r.ProxyMode = "conformance" }),
		changed("ranges that are none", func(r *hostabi.CNIRequest) {
			r.ClusterCIDRs, r.Node.PodCIDRs = []string{"10.42.0.0", ""}, []string{"10.42.0.0/33", "x"}
		}),
		changed("a name with other letters", func(r *hostabi.CNIRequest) { r.Node.Name, r.Node.Interface = "n\u00f6de\"\x00", "\U0001f40b" }),
	}
	for _, mtu := range []int{-1, 1, 49, 68, 576, 9000, 65535, 1 << 40} {
		all = append(all, changed(fmt.Sprintf("an MTU of %d", mtu), func(r *hostabi.CNIRequest) { r.Node.MTU = mtu }))
	}
	return s.planFor(ctx, all)
}

func checkNetworkDeterministic(ctx context.Context, s *subject) (finding, error) {
	return s.twice(ctx, func(g *guest) (all []answer, err error) {
		for _, n := range s.typicalNodes() {
			a, err := g.network(ctx, n.name, n.request)
			if err != nil {
				return nil, err
			}
			all = append(all, a)
		}
		return all, nil
	})
}

// wrongNetwork says what is wrong with a plan, "" if nothing.
func wrongNetwork(p hostabi.CNIPlan) string {
	drivers := []string{hostabi.CNIDriverFlannel, hostabi.CNIDriverBridge, hostabi.CNIDriverNone}
	switch {
	case !slices.Contains(drivers, p.Driver):
		return fmt.Sprintf("driver is %q, none of %s", p.Driver, strings.Join(drivers, ", "))
	case p.Driver == hostabi.CNIDriverFlannel && p.Flannel == nil:
		return "driver is flannel, and the plan has no part flannel"
	case p.Driver == hostabi.CNIDriverBridge && p.Bridge == nil:
		return "driver is bridge, and the plan has no part bridge"
	case p.MTU < 0:
		return fmt.Sprintf("mtu is %d", p.MTU)
	case p.ConflistName != path.Base(p.ConflistName) && p.ConflistName != "":
		return fmt.Sprintf("conflist_name %q is no file name", p.ConflistName)
	case (len(p.Conflist) > 0) != (p.ConflistName != ""):
		return "conflist and conflist_name go together, and the plan has one of them"
	}
	if len(p.Conflist) > 0 {
		value, err := hostabi.ParseJSON(p.Conflist)
		if err != nil {
			return "conflist: " + err.Error()
		}
		list, _ := value.(map[string]any)
		if plugins, _ := list["plugins"].([]any); len(plugins) == 0 || list["name"] == nil || list["cniVersion"] == nil {
			return "conflist has no name, cniVersion or plugins"
		}
	}
	for _, m := range p.Manifests {
		if m.Name == "" || m.Name != path.Base(m.Name) {
			return fmt.Sprintf("manifest %q is no file name", m.Name)
		}
	}
	return ""
}
