package cni

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"

	"github.com/cleat-dev/cleat/hostabi"
)

// BridgeNetwork is what a CNI configuration list needs that puts the pods of a
// node on one bridge, with host ports.
type BridgeNetwork struct {
	Name      string   // of the network; host-local keeps its leases under it
	Bridge    string   // link
	MTU       int      // bytes
	PodCIDRs  []string // one range for each family
	Routes    []string // destinations pods reach through the bridge besides the default
	ProxyMode string   // a hostabi.ProxyMode constant; host ports use the same tool
}

// Conflist returns the configuration list: the reference plugins bridge,
// host-local and portmap. Masquerading is left to the node.
func (n BridgeNetwork) Conflist() (json.RawMessage, error) {
	type subnet struct {
		Subnet string `json:"subnet"`
	}
	type route struct {
		Dst string `json:"dst"`
	}
	ranges := [][]subnet{}
	for _, cidr := range n.PodCIDRs {
		ranges = append(ranges, []subnet{{cidr}})
	}
	routes := []route{}
	for _, cidr := range n.Routes {
		routes = append(routes, route{cidr})
	}
	return json.Marshal(map[string]any{
		"cniVersion": "1.0.0",
		"name":       n.Name,
		"plugins": []any{
			map[string]any{
				"type":             "bridge",
				"bridge":           n.Bridge,
				"isDefaultGateway": true,
				"hairpinMode":      true,
				"forceAddress":     true,
				"ipMasq":           false,
				"mtu":              n.MTU,
				"ipam": map[string]any{
					"type":    "host-local",
					"ranges":  ranges,
					"routes":  routes,
					"dataDir": "/var/lib/cni/networks",
				},
			},
			map[string]any{
				"type":         "portmap",
				"capabilities": map[string]bool{"portMappings": true},
				"backend":      n.ProxyMode,
			},
		},
	})
}

// Sysctls returns the settings a node needs that routes between its pods and
// the network, and whose service rules must see traffic that stays on a bridge.
// link is that of the node: one that routes IPv6 no longer takes its own routes from
// router advertisements, unless its link is told to.
func Sysctls(networks Networks, link string) map[string]string {
	settings := map[string]string{
		"net.ipv4.ip_forward":                "1",
		"net.bridge.bridge-nf-call-iptables": "1",
	}
	if networks.V6 == "" {
		return settings
	}
	settings["net.ipv6.conf.all.forwarding"] = "1"
	settings["net.bridge.bridge-nf-call-ip6tables"] = "1"
	if link != "" && !strings.Contains(link, ".") { // a dot ends a part of the name
		settings["net.ipv6.conf."+link+".accept_ra"] = "2"
	}
	return settings
}

// NetworkPolicy returns the plan for NetworkPolicies with the core's own driver,
// nil unless the request asks for it. bridge is the link that pods are plugged into.
func NetworkPolicy(req hostabi.CNIRequest, bridge string) *hostabi.NetworkPolicyPlan {
	if !req.NetworkPolicy {
		return nil
	}
	return &hostabi.NetworkPolicyPlan{Driver: hostabi.PolicyDriverNFTables, Bridge: bridge}
}

// Networks are ranges of addresses by family, "" where there is none.
type Networks struct{ V4, V6 string }

// ParseNetworks takes a list of CIDRs from the request apart: one, or one of each
// family. field names the list in the error.
func ParseNetworks(field string, cidrs []string) (Networks, error) {
	var n Networks
	for _, cidr := range cidrs {
		prefix, err := netip.ParsePrefix(cidr)
		if err != nil || prefix.Addr().Is4In6() {
			return Networks{}, fmt.Errorf("%s: %q is not a CIDR", field, cidr)
		}
		of := &n.V6
		if prefix.Addr().Is4() {
			of = &n.V4
		}
		if *of != "" {
			return Networks{}, fmt.Errorf("%s: %q and %q are of one family; want at most one of each", field, *of, cidr)
		}
		*of = cidr
	}
	if n == (Networks{}) {
		return Networks{}, fmt.Errorf("%s is empty, want a CIDR", field)
	}
	return n, nil
}

// List returns the ranges that there are, that of IPv4 first.
func (n Networks) List() []string {
	var list []string
	for _, cidr := range []string{n.V4, n.V6} {
		if cidr != "" {
			list = append(list, cidr)
		}
	}
	return list
}

// Ranges returns the ranges of all pods of the cluster and of those of the request's node,
// which have the same families.
func Ranges(req hostabi.CNIRequest) (cluster, node Networks, err error) {
	if cluster, err = ParseNetworks("cluster-cidr", req.ClusterCIDRs); err != nil {
		return Networks{}, Networks{}, err
	}
	if len(req.Node.PodCIDRs) == 0 {
		return Networks{}, Networks{}, fmt.Errorf("node %q has no pod CIDR yet; ask again when the controller manager has assigned one", req.Node.Name)
	}
	if node, err = ParseNetworks("pod CIDRs of node "+req.Node.Name, req.Node.PodCIDRs); err != nil {
		return Networks{}, Networks{}, err
	}
	if (node.V4 == "") != (cluster.V4 == "") || (node.V6 == "") != (cluster.V6 == "") {
		return Networks{}, Networks{}, fmt.Errorf("node %q has the pod CIDRs %s, of other families than cluster-cidr %s; delete the Node and let it join again",
			req.Node.Name, strings.Join(req.Node.PodCIDRs, ","), strings.Join(req.ClusterCIDRs, ","))
	}
	return cluster, node, nil
}

// UseNFTables tells from the request whether rules go to nftables or iptables.
func UseNFTables(proxyMode string) (bool, error) {
	switch proxyMode {
	case hostabi.ProxyModeNFTables:
		return true, nil
	case hostabi.ProxyModeIPTables:
		return false, nil
	}
	return false, fmt.Errorf("proxy mode %q is unknown; use %s or %s", proxyMode, hostabi.ProxyModeNFTables, hostabi.ProxyModeIPTables)
}

// MTU returns the MTU of pod links: the wanted one, or else that of the node's
// link less overhead. An unknown node link counts as 1500 bytes. It is an error if
// it is too small for the families of the networks.
func MTU(wanted int, node hostabi.CNINode, overhead int, networks Networks) (int, error) {
	link := node.MTU
	if link == 0 {
		link = 1500
	}
	switch most := link - overhead; {
	case wanted == 0:
		wanted = most
	case wanted > most:
		return 0, fmt.Errorf("mtu %d does not fit: link %q takes %d bytes and the overlay %d of them; use at most %d",
			wanted, node.Interface, link, overhead, most)
	}
	family, least := "IPv4", 576
	if networks.V6 != "" {
		family, least = "IPv6", 1280
	}
	if wanted < least {
		return 0, fmt.Errorf("mtu %d is too small for %s; use %d or more", wanted, family, least)
	}
	return wanted, nil
}
