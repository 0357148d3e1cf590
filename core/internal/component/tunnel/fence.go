package tunnel

import (
	"fmt"
	"net/netip"
	"slices"

	"k8s.io/client-go/tools/cache"

	"github.com/cleat-dev/cleat/core/config"
)

// fence says what a server may have this node dial. A server that was taken over
// gets no further into the node's network than this.
type fence struct {
	mode        string
	node        string
	addresses   []netip.Addr // of the node
	kubeletPort uint16
	cluster     []netip.Prefix // pods of the cluster
	pods        cache.Indexer  // those on this node; nil but in mode pod
}

// allows says why the node does not dial address, nil if it does:
//
//	mode     the node's own addresses        others
//	agent    the kubelet's port              none
//	pod      that, and ports of its pods     its pods
//	cluster  every port                      every pod of the cluster
func (f *fence) allows(network, address string) error {
	if network != "tcp" {
		return fmt.Errorf("network %.20q: a tunnel carries tcp", network)
	}
	to, err := netip.ParseAddrPort(address)
	if err != nil || to.Addr().Zone() != "" || to.Addr().Is4In6() || to.Port() == 0 {
		return fmt.Errorf("address %.80q: want a plain IP address and a port", address)
	}
	ip, port := to.Addr(), to.Port()
	if slices.Contains(f.addresses, ip) {
		if port == f.kubeletPort || f.mode == config.EgressCluster || f.pods != nil && has(f.pods, byHostPort, hostPortKey(f.node, port)) {
			return nil
		}
		return fmt.Errorf("address %s: with --egress-selector-mode %s the port is not for servers", to, f.mode)
	}
	switch {
	case f.mode == config.EgressCluster && slices.ContainsFunc(f.cluster, func(p netip.Prefix) bool { return p.Contains(ip) }):
		return nil
	case f.pods != nil && has(f.pods, byAddress, ip.String()):
		return nil
	}
	return fmt.Errorf("address %s: with --egress-selector-mode %s this node dials nothing there", to, f.mode)
}
