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
		if l, err := nodeLease(node); err == nil && within(m.cfg.Network, l.Subnet) {
			now[node.Name] = l
		}
	}
	var removed, added []lease.Event
	for _, name := range slices.Sorted(maps.Keys(sent)) {
		if l, ok := now[name]; !ok || !l.Subnet.Equal(sent[name].Subnet) {
			removed = append(removed, lease.Event{Type: lease.EventRemoved, Lease: sent[name]})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(now)) {
		if old, ok := sent[name]; !ok || !reflect.DeepEqual(old, now[name]) {
			added = append(added, lease.Event{Type: lease.EventAdded, Lease: now[name]})
		}
	}
	clear(sent)
	maps.Copy(sent, now)
	return append(removed, added...)
}

// nodeLease reads what a node's flannel published; an error if it has not, or
// not in a shape that may be used: any node can write anything there.
func nodeLease(node *corev1.Node) (lease.Lease, error) {
	if node.Annotations[annotationManaged] != "true" {
		return lease.Lease{}, fmt.Errorf("node %q does not run flannel", node.Name)
	}
	pods, err := podSubnet(node)
	if err != nil {
		return lease.Lease{}, err
	}
	public, err := netip.ParseAddr(node.Annotations[annotationPublicIP])
	if err != nil || !public.Is4() || public.IsUnspecified() || public.IsMulticast() || public.IsLoopback() {
		return lease.Lease{}, fmt.Errorf("node %q: %s: %q is no address of a node", node.Name, annotationPublicIP, node.Annotations[annotationPublicIP])
	}
	data := json.RawMessage(node.Annotations[annotationBackendData])
	if !json.Valid(data) {
		return lease.Lease{}, fmt.Errorf("node %q: %s is no JSON", node.Name, annotationBackendData)
	}
	return lease.Lease{
		EnableIPv4: true,
		Subnet:     pods,
		Attrs: lease.LeaseAttrs{
			PublicIP:    ip.FromIP(net.IP(public.AsSlice())),
			BackendType: node.Annotations[annotationBackendType],
			BackendData: data,
		},
	}, nil
}

// podSubnet returns the IPv4 pod CIDR of a node.
func podSubnet(node *corev1.Node) (ip.IP4Net, error) {
	for _, text := range node.Spec.PodCIDRs {
		_, cidr, err := net.ParseCIDR(text)
		if err != nil {
			return ip.IP4Net{}, fmt.Errorf("node %q: pod CIDR: %w", node.Name, err)
		}
		if cidr.IP.To4() != nil {
			return ip.FromIPNet(cidr), nil
		}
	}
	return ip.IP4Net{}, fmt.Errorf("node %q has no IPv4 pod CIDR", node.Name)
}

func within(network, part ip.IP4Net) bool {
	return network.PrefixLen <= part.PrefixLen && network.Contains(part.IP)
}
