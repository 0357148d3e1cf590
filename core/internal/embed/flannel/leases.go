package flannel

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"reflect"
	"slices"

	"github.com/flannel-io/flannel/pkg/ip"
	"github.com/flannel-io/flannel/pkg/lease"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// difference returns the events that lead from sent to the nodes as they are,
// and makes sent hold them.
func (m *nodes) difference(sent map[string]lease.Lease) []lease.Event {
	all, err := m.lister.List(labels.Everything())
	if err != nil {
		return nil // a cache has no errors
	}
	now := map[string]lease.Lease{}
	for _, node := range all {
		if l, err := m.nodeLease(node); err == nil {
			now[node.Name] = l
		}
	}
	var removed, added []lease.Event
	for _, name := range slices.Sorted(maps.Keys(sent)) {
		if l, ok := now[name]; !ok || !sameSubnets(l, sent[name]) {
			removed = append(removed, lease.Event{Type: lease.EventRemoved, Lease: sent[name]})
		}
	}
	lost := func(l lease.Lease) bool {
		return slices.ContainsFunc(removed, func(e lease.Event) bool { return sameMachine(e.Lease, l) })
	}
	for _, name := range slices.Sorted(maps.Keys(now)) {
		if old, ok := sent[name]; !ok || !reflect.DeepEqual(old, now[name]) || lost(old) {
			added = append(added, lease.Event{Type: lease.EventAdded, Lease: now[name]})
		}
	}
	clear(sent)
	maps.Copy(sent, now)
	return append(removed, added...)
}

func sameSubnets(a, b lease.Lease) bool {
	return a.Subnet.Equal(b.Subnet) && a.EnableIPv6 == b.EnableIPv6 && (!a.EnableIPv6 || a.IPv6Subnet.Equal(b.IPv6Subnet))
}

// sameMachine reports whether two Nodes were made by one machine, which had another
// name then: what leads to the one leads to the other, and goes with the first of them.
func sameMachine(a, b lease.Lease) bool {
	return a.EnableIPv4 && a.Attrs.PublicIP == b.Attrs.PublicIP ||
		a.EnableIPv6 && a.Attrs.PublicIPv6.Cmp(b.Attrs.PublicIPv6) == 0
}

// nodeLease reads what a node's flannel published; an error if it has not, or
// not in a shape that may be used: any node can write anything there.
func (m *nodes) nodeLease(node *corev1.Node) (lease.Lease, error) {
	if node.Annotations[annotationManaged] != "true" {
		return lease.Lease{}, fmt.Errorf("node %q does not run flannel", node.Name)
	}
	v4, v6, err := m.podSubnets(node)
	if err != nil {
		return lease.Lease{}, err
	}
	l := lease.Lease{
		EnableIPv4: m.cfg.EnableIPv4, EnableIPv6: m.cfg.EnableIPv6, Subnet: v4, IPv6Subnet: v6,
		Attrs: lease.LeaseAttrs{BackendType: node.Annotations[annotationBackendType]},
	}
	if m.cfg.EnableIPv4 {
		public, data, err := published(node, annotationPublicIP, annotationBackendData, netip.Addr.Is4)
		if err != nil {
			return lease.Lease{}, err
		}
		l.Attrs.PublicIP, l.Attrs.BackendData = ip.FromIP(public), data
	}
	if m.cfg.EnableIPv6 {
		public, data, err := published(node, annotationPublicIPv6, annotationBackendV6Data, netip.Addr.Is6)
		if err != nil {
			return lease.Lease{}, err
		}
		l.Attrs.PublicIPv6, l.Attrs.BackendV6Data = ip.FromIP6(public), data
	}
	return l, nil
}

// published reads the address and the backend's data of one family.
func published(node *corev1.Node, addressKey, dataKey string, ofFamily func(netip.Addr) bool) (net.IP, json.RawMessage, error) {
	public, err := netip.ParseAddr(node.Annotations[addressKey])
	if err != nil || !ofFamily(public) || public.Is4In6() || public.Zone() != "" || public.IsUnspecified() || public.IsMulticast() || public.IsLoopback() {
		return nil, nil, fmt.Errorf("node %q: %s: %q is no address of a node", node.Name, addressKey, node.Annotations[addressKey])
	}
	data := json.RawMessage(node.Annotations[dataKey])
	if !json.Valid(data) {
		return nil, nil, fmt.Errorf("node %q: %s is no JSON", node.Name, dataKey)
	}
	return public.AsSlice(), data, nil
}

// podSubnets returns a node's pod CIDR of each family that the network has; it is
// an error if one is missing or lies outside.
func (m *nodes) podSubnets(node *corev1.Node) (v4 ip.IP4Net, v6 ip.IP6Net, err error) {
	var have4, have6 bool
	for _, text := range node.Spec.PodCIDRs {
		_, cidr, err := net.ParseCIDR(text)
		if err != nil {
			return v4, v6, fmt.Errorf("node %q: pod CIDR: %w", node.Name, err)
		}
		switch {
		case cidr.IP.To4() != nil && !have4:
			v4, have4 = ip.FromIPNet(cidr), true
		case cidr.IP.To4() == nil && !have6:
			v6, have6 = ip.FromIP6Net(cidr), true
		}
	}
	switch {
	case m.cfg.EnableIPv4 && !have4:
		return v4, v6, fmt.Errorf("node %q has no IPv4 pod CIDR", node.Name)
	case m.cfg.EnableIPv6 && !have6:
		return v4, v6, fmt.Errorf("node %q has no IPv6 pod CIDR", node.Name)
	case m.cfg.EnableIPv4 && (m.cfg.Network.PrefixLen > v4.PrefixLen || !m.cfg.Network.Contains(v4.IP)):
		return v4, v6, fmt.Errorf("pod CIDR %s of node %q lies outside the network %s", v4, node.Name, m.cfg.Network)
	case m.cfg.EnableIPv6 && !m.cfg.IPv6Network.ContainsCIDR(&v6):
		return v4, v6, fmt.Errorf("pod CIDR %s of node %q lies outside the network %s", v6, node.Name, m.cfg.IPv6Network)
	}
	if !m.cfg.EnableIPv4 {
		v4 = ip.IP4Net{}
	}
	if !m.cfg.EnableIPv6 {
		v6 = ip.IP6Net{}
	}
	return v4, v6, nil
}
