package servicelb

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/cleat-dev/cleat/core/internal/nodenotes"
)

// Class is the loadBalancerClass of Services that ask for nodes' addresses by name.
const Class = "cleat.dev/nodes"

// Reasons of the Events on Services.
const (
	reasonTaken   = "PortTaken"    // another Service has the port
	reasonInUse   = "PortInUse"    // the node itself has it
	reasonNoNodes = "NoNodes"      // no node is to serve
	reasonChanged = "UpdatedNodes" // the addresses changed
	reasonForeign = "StatusTaken"  // somebody else writes the addresses
)

// maxNamed bounds how many nodes a message names.
const maxNamed = 5

// decision is what a Service gets.
type decision struct {
	service  *corev1.Service
	ingress  []corev1.LoadBalancerIngress // nil for none
	refusals []refusal
}

// refusal is why some nodes do not serve a Service.
type refusal struct{ reason, message string }

// wanted reports whether a Service asks for addresses of nodes.
func wanted(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeLoadBalancer && (s.Spec.LoadBalancerClass == nil || *s.Spec.LoadBalancerClass == Class)
}

// isLocal reports whether only nodes with an endpoint of their own serve.
func isLocal(s *corev1.Service) bool {
	return s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}

// claim is a port at an address, which one Service can have.
type claim struct {
	addr netip.Addr
	port nodenotes.Port
}

// decide gives each wanted Service its nodes. A node serves all ports of a Service
// or none, and a port at an address belongs to one Service: the one that has it
// already, else the older one. A node that is not ready, or without a local
// endpoint, keeps its Service's claim, so that nothing changes hands meanwhile.
// members are the nodes that may serve, local tells those of them that have ready
// endpoints of a Service.
func decide(services []*corev1.Service, members []member, local func(*corev1.Service) map[string]bool) []decision {
	var decisions []decision
	for _, s := range services {
		if wanted(s) {
			decisions = append(decisions, decision{service: s})
		}
	}
	slices.SortFunc(decisions, func(a, b decision) int { return older(a.service, b.service) })

	claims := make(map[claim]*corev1.Service)
	for _, d := range decisions {
		for _, c := range held(d.service, members) {
			if claims[c] == nil {
				claims[c] = d.service
			}
		}
	}
	for i := range decisions {
		d := &decisions[i]
		var hasEndpoint map[string]bool
		if isLocal(d.service) {
			hasEndpoint = local(d.service)
		}
		d.decide(pool(d.service, members), claims, func(m member) bool {
			return m.ready && (!isLocal(d.service) || hasEndpoint[m.name])
		})
	}
	return decisions
}

// decide fills the decision; serves tells whether a node that the Service may have
// takes its traffic at the moment.
func (d *decision) decide(members []member, claims map[claim]*corev1.Service, serves func(member) bool) {
	var refused causes
	byFamily := make(map[corev1.IPFamily][]corev1.LoadBalancerIngress)
	listed := make(map[netip.Addr]bool)
	for _, m := range members {
		var mine []claim
		for _, family := range d.service.Spec.IPFamilies {
			mine = append(mine, claimsOf(d.service, m.addresses(family))...)
		}
		if reason, cause := hindered(m, mine, claims, d.service); cause != "" {
			refused.add(reason, cause, m.name)
			continue
		}
		for _, c := range mine {
			claims[c] = d.service
		}
		if !serves(m) {
			continue
		}
		for _, family := range d.service.Spec.IPFamilies {
			for _, addr := range m.addresses(family) {
				// Nodes behind one router may have one external address.
				if !listed[addr] {
					listed[addr] = true
					byFamily[family] = append(byFamily[family], ingress(addr, d.service))
				}
			}
		}
	}
	for _, family := range d.service.Spec.IPFamilies {
		d.ingress = append(d.ingress, byFamily[family]...)
	}
	d.refusals = refused.refusals()
	if len(members) == 0 {
		d.refusals = []refusal{noNodes(d.service)}
	}
}

func noNodes(s *corev1.Service) refusal {
	if name := label(s.Labels, LabelPool, labelK3sPool); name != "" {
		return refusal{reasonNoNodes, fmt.Sprintf("no node that may serve load balancers has the label %s=%s", LabelPool, name)}
	}
	return refusal{reasonNoNodes, "no node may serve load balancers: each has the label " + corev1.LabelNodeExcludeBalancers}
}

// hindered says why a node cannot serve, "" if it can.
func hindered(m member, mine []claim, claims map[claim]*corev1.Service, s *corev1.Service) (reason, cause string) {
	for _, c := range mine {
		if program, taken := m.listens[c.port]; taken {
			cause = "a program of the machine itself listens on port " + c.port.String()
			if program != "" {
				cause = program + " of the machine itself listens on port " + c.port.String()
			}
			return reasonInUse, cause
		}
	}
	for _, c := range mine {
		if holder := claims[c]; holder != nil && holder != s {
			return reasonTaken, fmt.Sprintf("port %s belongs to Service %s/%s", c.port, holder.Namespace, holder.Name)
		}
	}
	return "", ""
}

// serving are the nodes that may serve, by name: those labelled for it, if any is.
func serving(nodes []*corev1.Node, networks []netip.Prefix) []member {
	var all, enabled []member
	for _, n := range nodes {
		if m, ok := memberOf(n, networks); ok {
			all = append(all, m)
			if m.enabled {
				enabled = append(enabled, m)
			}
		}
	}
	if len(enabled) > 0 {
		all = enabled
	}
	slices.SortFunc(all, func(a, b member) int { return strings.Compare(a.name, b.name) })
	return all
}

// pool is the nodes that a Service may have: those of the pool it is labelled with,
// else all.
func pool(s *corev1.Service, members []member) []member {
	name := label(s.Labels, LabelPool, labelK3sPool)
	if name == "" {
		return members
	}
	return slices.DeleteFunc(slices.Clone(members), func(m member) bool { return m.pool != name })
}

// held is what a Service has, by its status, and still wants.
func held(s *corev1.Service, members []member) []claim {
	may := make(map[claim]bool)
	for _, m := range pool(s, members) {
		for _, family := range s.Spec.IPFamilies {
			for _, c := range claimsOf(s, m.addresses(family)) {
				may[c] = true
			}
		}
	}
	var out []claim
	for _, in := range s.Status.LoadBalancer.Ingress {
		addr, err := nodenotes.ParseAddress(in.IP)
		if err != nil {
			continue
		}
		for _, p := range in.Ports {
			if c := (claim{addr, portOf(p.Port, p.Protocol)}); may[c] {
				out = append(out, c)
			}
		}
	}
	return out
}

func claimsOf(s *corev1.Service, addrs []netip.Addr) []claim {
	var out []claim
	for _, a := range addrs {
		for _, p := range s.Spec.Ports {
			out = append(out, claim{a, portOf(p.Port, p.Protocol)})
		}
	}
	return out
}

func portOf(number int32, protocol corev1.Protocol) nodenotes.Port {
	// The API server lets nothing else through than 1 to 65535.
	return nodenotes.Port{Number: uint16(number), Protocol: cmp.Or(protocol, corev1.ProtocolTCP)}
}

// ingress is the entry of an address. Its ports are what says, later, which ones
// the Service has.
func ingress(addr netip.Addr, s *corev1.Service) corev1.LoadBalancerIngress {
	in := corev1.LoadBalancerIngress{IP: addr.String(), IPMode: new(corev1.LoadBalancerIPModeVIP)}
	for _, p := range s.Spec.Ports {
		in.Ports = append(in.Ports, corev1.PortStatus{Port: p.Port, Protocol: cmp.Or(p.Protocol, corev1.ProtocolTCP)})
	}
	return in
}

// older orders Services by age, and those of one second by name.
func older(a, b *corev1.Service) int {
	return cmp.Or(
		a.CreationTimestamp.Compare(b.CreationTimestamp.Time),
		strings.Compare(a.Namespace, b.Namespace),
		strings.Compare(a.Name, b.Name))
}

// causes collects why nodes do not serve, in the order met.
type causes struct {
	all   []refusal
	nodes map[refusal][]string
}

func (c *causes) add(reason, cause, node string) {
	r := refusal{reason, cause}
	if c.nodes == nil {
		c.nodes = make(map[refusal][]string)
	}
	if c.nodes[r] == nil {
		c.all = append(c.all, r)
	}
	c.nodes[r] = append(c.nodes[r], node)
}

// refusals puts the nodes into the messages.
func (c *causes) refusals() []refusal {
	var out []refusal
	for _, r := range c.all {
		nodes := c.nodes[r]
		where := strings.Join(nodes[:min(len(nodes), maxNamed)], ", ")
		if more := len(nodes) - maxNamed; more > 0 {
			where += fmt.Sprintf(" and %d more", more)
		}
		out = append(out, refusal{r.reason, "not served by " + where + ": " + r.message})
	}
	return out
}
