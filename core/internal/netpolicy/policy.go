package netpolicy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// policy is a NetworkPolicy with its selectors parsed.
type policy struct {
	namespace, name string
	pods            labels.Selector
	ingress, egress bool // isolates the pods it selects that way
	in, out         []policyRule
}

// policyRule allows what comes from, or goes to, any of its peers on any of its
// ports.
type policyRule struct {
	anyPeer bool
	peers   []peer
	blocks  []addrRange // sorted, apart from each other
	anyPort bool
	ports   []portRange
	named   []namedPort
}

// peer selects pods.
type peer struct {
	namespace  string          // the only one, if namespaces is nil
	namespaces labels.Selector // of namespaces by their labels
	pods       labels.Selector
}

// key is the same for peers that select the same.
func (p peer) key() string {
	if p.namespaces == nil {
		return "=" + p.namespace + "/" + p.pods.String()
	}
	return "~" + p.namespaces.String() + "/" + p.pods.String()
}

// portRange is ports of one protocol; low 0 stands for all of them.
type portRange struct {
	protocol  string // "tcp", "udp" or "sctp"
	low, high uint16
}

// namedPort is a port that each pod says the number of.
type namedPort struct {
	protocol, name string
}

// newPolicy reads a NetworkPolicy. What the API server should not have let in is
// left out, so that it allows nothing, and told in the error beside the policy.
func newPolicy(np *networkingv1.NetworkPolicy) (*policy, error) {
	var errs []error
	p := &policy{namespace: np.Namespace, name: np.Name}
	var err error
	if p.pods, err = metav1.LabelSelectorAsSelector(&np.Spec.PodSelector); err != nil {
		return nil, fmt.Errorf("podSelector: %w", err)
	}
	p.ingress, p.egress = directions(np.Spec)
	for i, r := range np.Spec.Ingress {
		rule, err := newRule(np.Namespace, r.From, r.Ports)
		if err != nil {
			errs = append(errs, fmt.Errorf("ingress[%d]: %w", i, err))
		}
		p.in = append(p.in, rule)
	}
	for i, r := range np.Spec.Egress {
		rule, err := newRule(np.Namespace, r.To, r.Ports)
		if err != nil {
			errs = append(errs, fmt.Errorf("egress[%d]: %w", i, err))
		}
		p.out = append(p.out, rule)
	}
	return p, errors.Join(errs...)
}

// directions are those a policy isolates its pods in; without policyTypes it is
// ingress, and egress if there are rules for it.
func directions(spec networkingv1.NetworkPolicySpec) (ingress, egress bool) {
	if len(spec.PolicyTypes) == 0 {
		return true, len(spec.Egress) > 0
	}
	return slices.Contains(spec.PolicyTypes, networkingv1.PolicyTypeIngress),
		slices.Contains(spec.PolicyTypes, networkingv1.PolicyTypeEgress)
}

func newRule(namespace string, peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort) (policyRule, error) {
	r := policyRule{anyPeer: len(peers) == 0, anyPort: len(ports) == 0}
	var errs []error
	for i, p := range peers {
		if err := r.addPeer(namespace, p); err != nil {
			errs = append(errs, fmt.Errorf("peer %d: %w", i, err))
		}
	}
	for i, p := range ports {
		if err := r.addPort(p); err != nil {
			errs = append(errs, fmt.Errorf("ports[%d]: %w", i, err))
		}
	}
	r.blocks = mergeRanges(r.blocks)
	r.ports = mergePorts(r.ports)
	return r, errors.Join(errs...)
}

func (r *policyRule) addPeer(namespace string, p networkingv1.NetworkPolicyPeer) error {
	if p.IPBlock != nil {
		ranges, err := blockRanges(*p.IPBlock)
		r.blocks = append(r.blocks, ranges...)
		return err
	}
	if p.PodSelector == nil && p.NamespaceSelector == nil {
		return errors.New("names neither pods nor namespaces nor addresses")
	}
	one := peer{namespace: namespace, pods: labels.Everything()}
	var err error
	if p.PodSelector != nil {
		if one.pods, err = metav1.LabelSelectorAsSelector(p.PodSelector); err != nil {
			return fmt.Errorf("podSelector: %w", err)
		}
	}
	if p.NamespaceSelector != nil {
		if one.namespaces, err = metav1.LabelSelectorAsSelector(p.NamespaceSelector); err != nil {
			return fmt.Errorf("namespaceSelector: %w", err)
		}
		one.namespace = ""
	}
	r.peers = append(r.peers, one)
	return nil
}

func (r *policyRule) addPort(p networkingv1.NetworkPolicyPort) error {
	protocol := "tcp"
	if p.Protocol != nil {
		protocol = strings.ToLower(string(*p.Protocol))
	}
	if !slices.Contains([]string{"tcp", "udp", "sctp"}, protocol) {
		return fmt.Errorf("protocol %q is none of TCP, UDP, SCTP", *p.Protocol)
	}
	switch {
	case p.Port == nil:
		r.ports = append(r.ports, portRange{protocol: protocol})
	case p.Port.Type == intstr.String:
		r.named = append(r.named, namedPort{protocol, p.Port.StrVal})
	default:
		low, high := p.Port.IntVal, p.Port.IntVal
		if p.EndPort != nil {
			high = *p.EndPort
		}
		if low < 1 || high < low || high > 65535 {
			return fmt.Errorf("port %d to %d: not between 1 and 65535", low, high)
		}
		r.ports = append(r.ports, portRange{protocol, uint16(low), uint16(high)})
	}
	return nil
}

// mergePorts joins what overlaps or touches, by protocol.
func mergePorts(ports []portRange) []portRange {
	slices.SortFunc(ports, func(a, b portRange) int {
		if c := strings.Compare(a.protocol, b.protocol); c != 0 {
			return c
		}
		return int(a.low) - int(b.low)
	})
	var out []portRange
	for _, p := range ports {
		if n := len(out) - 1; n >= 0 && out[n].protocol == p.protocol && (out[n].low == 0 || int(p.low) <= int(out[n].high)+1) {
			if out[n].low != 0 {
				out[n].high = max(out[n].high, p.high)
			}
			continue
		}
		out = append(out, p)
	}
	return out
}

// namespaceLabels are the labels of all namespaces, by name.
type namespaceLabels map[string]labels.Set

// ofNamespace reports whether the peer may select pods of a namespace.
func (p peer) ofNamespace(namespaces namespaceLabels, namespace string) bool {
	if p.namespaces == nil {
		return namespace == p.namespace
	}
	of, known := namespaces[namespace]
	return known && p.namespaces.Matches(of)
}

// family is 4 or 6; 0 stands for both.
type family int

func familyOf(a netip.Addr) family {
	if a.Is4() {
		return 4
	}
	return 6
}
