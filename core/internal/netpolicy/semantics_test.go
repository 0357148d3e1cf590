package netpolicy

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/knftables"
)

// objects are the state of an API server.
type objects struct {
	pods       []*corev1.Pod
	namespaces []*corev1.Namespace
	policies   []*networkingv1.NetworkPolicy
	attached   map[string][]netip.Addr // by UID
}

func (o objects) cluster(t testing.TB, node string) *cluster {
	t.Helper()
	c := newCluster(node, o.pods, o.namespaces, func(uid string) []netip.Addr { return o.attached[uid] })
	for _, np := range o.policies {
		p, err := newPolicy(np)
		if err != nil {
			t.Fatalf("%s/%s: %v", np.Namespace, np.Name, err)
		}
		c.policies[p.namespace] = append(c.policies[p.namespace], p)
	}
	return c
}

// packet is the first of a connection.
type packet struct {
	from, to netip.Addr
	protocol corev1.Protocol
	port     int32
}

// allowed is what the API's reference says about a packet that the node forwards,
// put as plainly as possible. ok is false where an address of the node has no pod.
func (o objects) allowed(base baseFacts, node string, p packet) bool {
	src, dst := o.podAt(p.from), o.podAt(p.to)
	if src != nil && src == dst {
		return true
	}
	for _, end := range []struct {
		addr netip.Addr
		pod  *corev1.Pod
	}{{p.from, src}, {p.to, dst}} {
		here := slices.ContainsFunc(base.local, func(l netip.Prefix) bool { return l.Contains(end.addr) })
		if here && (end.pod == nil || end.pod.Spec.NodeName != node) {
			return false // nobody knows whose it is
		}
	}
	if src != nil && src.Spec.NodeName == node && !o.side(src, p, p.to, dst, dst, networkingv1.PolicyTypeEgress) {
		return false
	}
	if dst != nil && dst.Spec.NodeName == node && !o.side(dst, p, p.from, src, dst, networkingv1.PolicyTypeIngress) {
		return false
	}
	return true
}

func (o objects) podAt(a netip.Addr) *corev1.Pod {
	var found *corev1.Pod
	for _, p := range o.pods {
		if p.Spec.HostNetwork || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			continue
		}
		for _, ip := range p.Status.PodIPs {
			if netip.MustParseAddr(ip.IP) == a && (found == nil || found.CreationTimestamp.Before(&p.CreationTimestamp)) {
				found = p
			}
		}
	}
	return found
}

// side says whether the policies of pod allow a packet from or to other.
func (o objects) side(pod *corev1.Pod, p packet, other netip.Addr, otherPod, dst *corev1.Pod, way networkingv1.PolicyType) bool {
	isolated := false
	for _, np := range o.policies {
		if np.Namespace != pod.Namespace || !matches(np.Spec.PodSelector, pod.Labels) || !slices.Contains(np.Spec.PolicyTypes, way) {
			continue
		}
		isolated = true
		if way == networkingv1.PolicyTypeIngress {
			for _, r := range np.Spec.Ingress {
				if o.peersMatch(np.Namespace, r.From, other, otherPod) && portsMatch(r.Ports, p, dst, true) {
					return true
				}
			}
			continue
		}
		for _, r := range np.Spec.Egress {
			// A name is one of the peer's pods'; a block has no names.
			if o.peersMatch(np.Namespace, r.To, other, otherPod) && portsMatch(r.Ports, p, dst, false) {
				return true
			}
			if o.podPeersMatch(np.Namespace, r.To, otherPod) && portsMatch(r.Ports, p, dst, true) {
				return true
			}
		}
	}
	return !isolated
}

func (o objects) peersMatch(namespace string, peers []networkingv1.NetworkPolicyPeer, a netip.Addr, pod *corev1.Pod) bool {
	for _, p := range peers {
		if p.IPBlock != nil && netip.MustParsePrefix(p.IPBlock.CIDR).Contains(a) &&
			!slices.ContainsFunc(p.IPBlock.Except, func(e string) bool { return netip.MustParsePrefix(e).Contains(a) }) {
			return true
		}
	}
	return len(peers) == 0 || o.podPeersMatch(namespace, peers, pod)
}

func (o objects) podPeersMatch(namespace string, peers []networkingv1.NetworkPolicyPeer, pod *corev1.Pod) bool {
	if pod == nil {
		return false
	}
	for _, p := range peers {
		if p.IPBlock != nil || p.PodSelector != nil && !matches(*p.PodSelector, pod.Labels) {
			continue
		}
		if p.NamespaceSelector == nil && pod.Namespace == namespace {
			return true
		}
		for _, n := range o.namespaces {
			if p.NamespaceSelector != nil && n.Name == pod.Namespace && matches(*p.NamespaceSelector, n.Labels) {
				return true
			}
		}
	}
	return len(peers) == 0
}

func portsMatch(ports []networkingv1.NetworkPolicyPort, p packet, dst *corev1.Pod, names bool) bool {
	for _, port := range ports {
		switch {
		case port.Protocol != nil && *port.Protocol != p.protocol || port.Protocol == nil && p.protocol != corev1.ProtocolTCP:
		case port.Port == nil:
			return true
		case port.Port.Type == intstr.Int && port.EndPort == nil:
			if port.Port.IntVal == p.port {
				return true
			}
		case port.Port.Type == intstr.Int:
			if port.Port.IntVal <= p.port && p.port <= *port.EndPort {
				return true
			}
		case dst != nil && names:
			for _, c := range dst.Spec.Containers {
				for _, cp := range c.Ports {
					if cp.Name == port.Port.StrVal && cp.ContainerPort == p.port && cp.Protocol == p.protocol {
						return true
					}
				}
			}
		}
	}
	return len(ports) == 0
}

func matches(s metav1.LabelSelector, labels map[string]string) bool {
	for k, v := range s.MatchLabels {
		if labels[k] != v {
			return false
		}
	}
	for _, e := range s.MatchExpressions {
		if _, has := labels[e.Key]; e.Operator == metav1.LabelSelectorOpExists && !has ||
			e.Operator == metav1.LabelSelectorOpDoesNotExist && has ||
			e.Operator == metav1.LabelSelectorOpIn && !(has && slices.Contains(e.Values, labels[e.Key])) {
			return false
		}
	}
	return true
}

// passes is what the packet filter does with the packet.
func (rs *ruleset) passes(p packet) bool {
	for _, d := range directionsOf() {
		addr := p.from
		if d == in {
			addr = p.to
		}
		chain, known := rs.pods[d][addr]
		switch {
		case known && chain == "":
		case known && !rs.accepts(chain, p):
			return false
		case !known && slices.ContainsFunc(rs.base.local, func(l netip.Prefix) bool { return l.Contains(addr) }):
			return false
		}
	}
	return true
}

// accepts walks a chain.
func (rs *ruleset) accepts(chain string, p packet) bool {
	for _, r := range rs.chains[chain] {
		switch {
		case r.jump != "":
			if rs.accepts(r.jump, p) {
				return true
			}
		case r.self != 0:
			if rs.sets[selfSet(r.self)].elements[fmt.Sprint(p.from, sep, p.to)] {
				return true
			}
		case r.drop:
			return false
		case rs.matches(r.match, p):
			return true
		}
	}
	return false
}

func (rs *ruleset) matches(m match, p packet) bool {
	protocol := strings.ToLower(string(p.protocol))
	if m.family != 0 && m.family != familyOf(p.from) {
		return false
	}
	if m.peers != "" {
		other := p.from
		if m.direction == out {
			other = p.to
		}
		if !rs.sets[m.peers].has(other) {
			return false
		}
	}
	if m.endpoints != "" && !rs.sets[m.endpoints].elements[fmt.Sprint(p.to, sep, protocol, sep, p.port)] {
		return false
	}
	return len(m.ports) == 0 || slices.ContainsFunc(m.ports, func(r portRange) bool {
		return r.protocol == protocol && (r.low == 0 || int32(r.low) <= p.port && p.port <= int32(r.high))
	})
}

func (s set) has(a netip.Addr) bool {
	for e := range s.elements {
		low, high, isRange := strings.Cut(e, "-")
		if !isRange {
			high = low
		}
		if (addrRange{netip.MustParseAddr(low), netip.MustParseAddr(high)}).contains(a) {
			return true
		}
	}
	return false
}

const thisNode = "here"

func dualBase() baseFacts {
	return baseFacts{local: []netip.Prefix{netip.MustParsePrefix("10.42.0.0/24"), netip.MustParsePrefix("fd42::/64")}, bridge: "cni0"}
}

// dice makes objects at random, out of few values, so that much matches.
type dice struct{ *rand.Rand }

func (d dice) one(of ...string) string { return of[d.IntN(len(of))] }
func (d dice) chance(percent int) bool { return d.IntN(100) < percent }
func (d dice) namespace() string       { return d.one("blue", "green", "red") }
func (d dice) labels() map[string]string {
	return map[string]string{"app": d.one("a", "b", "c"), d.one("x", "y"): "1"}
}
func (d dice) port() int32 { return []int32{53, 80, 81, 443, 8080}[d.IntN(5)] }
func (d dice) protocol() corev1.Protocol {
	return []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP}[d.IntN(3)]
}

func (d dice) selector() metav1.LabelSelector {
	switch d.IntN(5) {
	case 0:
		return metav1.LabelSelector{}
	case 1:
		return metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "x", Operator: metav1.LabelSelectorOpExists}}}
	case 2:
		return metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "app", Operator: metav1.LabelSelectorOpIn, Values: []string{"a", "b"}}}}
	default:
		return metav1.LabelSelector{MatchLabels: map[string]string{"app": d.one("a", "b", "c")}}
	}
}

func (d dice) pod(i int) *corev1.Pod {
	node, subnet := thisNode, 0
	if d.chance(50) {
		node, subnet = "there", 1
	}
	host := 2 + d.IntN(12) // few, so that some are used twice
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: d.namespace(), Name: fmt.Sprint("p", i), UID: types.UID(fmt.Sprint(i)), Labels: d.labels(),
		CreationTimestamp: metav1.NewTime(time.Unix(int64(i), 0)),
	}}
	p.Spec.NodeName, p.Spec.HostNetwork = node, d.chance(5)
	p.Status.Phase = corev1.PodRunning
	if d.chance(10) {
		p.Status.Phase = corev1.PodSucceeded
	}
	p.Status.PodIPs = []corev1.PodIP{{IP: fmt.Sprintf("10.42.%d.%d", subnet, host)}, {IP: fmt.Sprintf("fd42:0:0:%d::%x", subnet, host)}}
	if d.chance(20) {
		p.Status.PodIPs = nil
	}
	p.Spec.Containers = []corev1.Container{{Ports: []corev1.ContainerPort{
		{Name: "web", ContainerPort: d.port(), Protocol: corev1.ProtocolTCP}, {Name: "dns", ContainerPort: 53, Protocol: d.protocol()},
	}}}
	return p
}

func (d dice) peers() []networkingv1.NetworkPolicyPeer {
	var peers []networkingv1.NetworkPolicyPeer
	for range d.IntN(3) {
		pods, namespaces := d.selector(), metav1.LabelSelector{MatchLabels: map[string]string{"colour": d.namespace()}}
		if d.chance(20) {
			namespaces = metav1.LabelSelector{}
		}
		peers = append(peers, []networkingv1.NetworkPolicyPeer{
			{PodSelector: &pods}, {NamespaceSelector: &namespaces}, {PodSelector: &pods, NamespaceSelector: &namespaces},
			{IPBlock: &networkingv1.IPBlock{CIDR: d.one("10.42.0.0/16", "10.42.1.0/29", "0.0.0.0/0"), Except: []string{d.one("10.42.1.4/30", "10.42.0.8/29")}}},
			{IPBlock: &networkingv1.IPBlock{CIDR: d.one("fd42::/16", "::/0"), Except: []string{"fd42:0:0:1::8/125"}}},
		}[d.IntN(5)])
	}
	return peers
}

func (d dice) ports() []networkingv1.NetworkPolicyPort {
	var ports []networkingv1.NetworkPolicyPort
	for range d.IntN(4) {
		protocol, number, end, name := d.protocol(), intstr.FromInt32(d.port()), int32(443), intstr.FromString(d.one("web", "dns", "none"))
		p := networkingv1.NetworkPolicyPort{Protocol: &protocol}
		switch d.IntN(4) {
		case 0:
		case 1:
			p.Port = &number
		case 2:
			if number.IntVal <= end {
				p.Port, p.EndPort = &number, &end
			}
		case 3:
			p.Port = &name
		}
		ports = append(ports, p)
	}
	return ports
}

func (d dice) policy(i int) *networkingv1.NetworkPolicy {
	np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: d.namespace(), Name: fmt.Sprintf("np%02d", i)}}
	np.Spec.PodSelector = d.selector()
	for _, way := range []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress} {
		if d.chance(60) {
			np.Spec.PolicyTypes = append(np.Spec.PolicyTypes, way)
		}
	}
	if len(np.Spec.PolicyTypes) == 0 {
		np.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
	}
	for range d.IntN(3) {
		np.Spec.Ingress = append(np.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{From: d.peers(), Ports: d.ports()})
		np.Spec.Egress = append(np.Spec.Egress, networkingv1.NetworkPolicyEgressRule{To: d.peers(), Ports: d.ports()})
	}
	return np
}

// step changes a little, as time does.
func (d dice) step(o objects, i int) objects {
	o.pods, o.policies, o.namespaces = slices.Clone(o.pods), slices.Clone(o.policies), slices.Clone(o.namespaces)
	for n := range 1 + d.IntN(4) {
		if len(o.pods) > 10 {
			at := d.IntN(len(o.pods))
			o.pods = slices.Delete(o.pods, at, at+1)
		}
		o.pods = append(o.pods, d.pod(10*i+n))
	}
	if len(o.policies) > 4 {
		at := d.IntN(len(o.policies))
		o.policies = slices.Delete(o.policies, at, at+1)
	}
	o.policies = append(o.policies, d.policy(i))
	at := d.IntN(len(o.namespaces))
	o.namespaces[at] = namespace(o.namespaces[at].Name, "colour", d.namespace())
	return o
}

func namespace(name string, labels ...string) *corev1.Namespace {
	n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}}}
	for i := 0; i+1 < len(labels); i += 2 {
		n.Labels[labels[i]] = labels[i+1]
	}
	return n
}

// TestSemantics holds the rules to the plain reading of the API, for clusters at
// random, and the changes from one to the next to a table written anew.
func TestSemantics(t *testing.T) {
	verdicts := map[bool]int{}
	for seed := range uint64(60) {
		d := dice{rand.New(rand.NewPCG(seed, 1))}
		o := objects{namespaces: []*corev1.Namespace{namespace("blue", "colour", "blue"), namespace("green", "colour", "green"), namespace("red")}}
		changing := knftables.NewFake(knftables.InetFamily, Table)
		last := newRuleset(dualBase())
		mustRun(t, changing, func(tx *knftables.Transaction) { replace(tx, last) })
		for i := range 12 {
			o = d.step(o, i)
			rs := compile(dualBase(), thisNode, o.cluster(t, thisNode))
			mustRun(t, changing, func(tx *knftables.Transaction) { update(tx, last, rs) })
			last = rs
			anew := knftables.NewFake(knftables.InetFamily, Table)
			mustRun(t, anew, func(tx *knftables.Transaction) { replace(tx, rs) })
			if got, want := dump(changing), dump(anew); got != want {
				t.Fatalf("seed %d, step %d: the changed table differs\n%s\nfrom one written anew\n%s", seed, i, got, want)
			}
			for _, p := range d.packets(o) {
				want := o.allowed(dualBase(), thisNode, p)
				if got := rs.passes(p); got != want {
					t.Fatalf("seed %d, step %d: %+v passes: %t, want %t\n%s\n%s", seed, i, p, got, want, o.json(t), dump(anew))
				}
				verdicts[want]++
			}
		}
	}
	t.Logf("%d packets allowed, %d denied", verdicts[true], verdicts[false])
	if verdicts[true] < 1000 || verdicts[false] < 1000 {
		t.Errorf("allowed %d, denied %d: too one-sided to show anything", verdicts[true], verdicts[false])
	}
}

func (d dice) packets(o objects) []packet {
	var v4, v6 []netip.Addr
	for _, p := range o.pods {
		for _, ip := range p.Status.PodIPs {
			if a := netip.MustParseAddr(ip.IP); a.Is4() {
				v4 = append(v4, a)
			} else {
				v6 = append(v6, a)
			}
		}
	}
	v4 = append(v4, netip.MustParseAddr("10.42.0.200"), netip.MustParseAddr("192.0.2.1"))
	v6 = append(v6, netip.MustParseAddr("2001:db8::1"))
	var all []packet
	for _, list := range [][]netip.Addr{v4, v6} {
		for range 150 {
			all = append(all, packet{list[d.IntN(len(list))], list[d.IntN(len(list))], d.protocol(), d.port()})
		}
	}
	return all
}

func mustRun(t testing.TB, nft knftables.Interface, fill func(tx *knftables.Transaction)) {
	t.Helper()
	tx := nft.NewTransaction()
	fill(tx)
	if err := nft.Run(context.Background(), tx); err != nil {
		t.Fatalf("%v\n%s", err, tx)
	}
}

func (o objects) json(t testing.TB) []byte {
	t.Helper()
	text, err := json.MarshalIndent([]any{o.policies, o.namespaces, o.pods}, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// dump is the text of a table, its elements in order, which nobody minds.
func dump(nft *knftables.Fake) string {
	lines := strings.Split(strings.TrimSpace(nft.Dump()), "\n")
	first := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "add element ") })
	if first >= 0 {
		slices.Sort(lines[first:])
	}
	return strings.Join(lines, "\n") + "\n"
}
