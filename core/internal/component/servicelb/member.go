package servicelb

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/cleat-dev/cleat/core/internal/nodenotes"
)

// Labels of Nodes, and of Services to choose a pool. Those of k3s mean the same;
// where both are there, ours counts.
const (
	LabelEnable    = "cleat.dev/enablelb"
	LabelPool      = "cleat.dev/lbpool"
	labelK3sEnable = "svccontroller.k3s.cattle.io/enablelb"
	labelK3sPool   = "svccontroller.k3s.cattle.io/lbpool"
)

// taintAutoscaler is on nodes that are about to be taken away. It has no name in
// the API; upstream's service controller leaves such nodes out, too.
const taintAutoscaler = "ToBeDeletedByClusterAutoscaler"

// member is what matters of a Node.
type member struct {
	name     string
	ready    bool
	enabled  bool // is labelled to serve
	pool     string
	external []netip.Addr
	internal []netip.Addr
	// translated: packets to the external addresses arrive with an internal one.
	translated bool
	listens    map[nodenotes.Port]string // ports of the machine's own programs
}

// memberOf returns what matters of a node. A node that never serves returns false:
// one that is labelled so or on its way out. Addresses in networks are left out.
func memberOf(node *corev1.Node, networks []netip.Prefix) (member, bool) {
	if _, excluded := node.Labels[corev1.LabelNodeExcludeBalancers]; excluded || node.DeletionTimestamp != nil {
		return member{}, false
	}
	if slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == taintAutoscaler }) {
		return member{}, false
	}
	notes, _ := nodenotes.Read(node.Annotations) // a node that writes nonsense does without it
	m := member{
		name:       node.Name,
		enabled:    label(node.Labels, LabelEnable, labelK3sEnable) == "true",
		pool:       label(node.Labels, LabelPool, labelK3sPool),
		translated: notes.Translated,
		listens:    notes.Listens,
	}
	for _, c := range node.Status.Conditions {
		m.ready = m.ready || c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	}
	for _, a := range node.Status.Addresses {
		addr, err := nodenotes.ParseAddress(a.Address)
		switch {
		case err != nil: // host names are among them
		case slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(addr) }):
		case a.Type == corev1.NodeExternalIP:
			m.external = append(m.external, addr)
		case a.Type == corev1.NodeInternalIP:
			m.internal = append(m.internal, addr)
		}
	}
	// Every kubelet's port is known, also that of one without notes.
	if port := node.Status.DaemonEndpoints.KubeletEndpoint.Port; port > 0 && port < 1<<16 {
		kubelet := nodenotes.Port{Number: uint16(port), Protocol: corev1.ProtocolTCP}
		if _, known := m.listens[kubelet]; !known {
			if m.listens == nil {
				m.listens = make(map[nodenotes.Port]string)
			}
			m.listens[kubelet] = "kubelet"
		}
	}
	return m, true
}

// addresses are those at which a node serves a family: the external ones if it has
// any. Behind address translation packets to these arrive with an internal address,
// so then the internal ones follow.
func (m member) addresses(family corev1.IPFamily) []netip.Addr {
	of := func(all []netip.Addr) (out []netip.Addr) {
		for _, a := range all {
			if a.Is6() == (family == corev1.IPv6Protocol) && !slices.Contains(out, a) {
				out = append(out, a)
			}
		}
		return out
	}
	external, internal := of(m.external), of(m.internal)
	switch {
	case len(external) == 0:
		return internal
	case m.translated:
		return of(append(external, internal...))
	}
	return external
}

func label(labels map[string]string, own, k3s string) string {
	if v, ok := labels[own]; ok {
		return v
	}
	return labels[k3s]
}
