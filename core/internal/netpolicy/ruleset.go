package netpolicy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// direction is the way a packet goes as a pod sees it.
type direction int

const (
	out direction = iota // of the pod it comes from
	in                   // of the pod it goes to
)

func directionsOf() []direction { return []direction{out, in} }

func (d direction) String() string { return [...]string{"out", "in"}[d] }

// ruleset is what the packet filter is to hold. Names of chains and sets are
// digests of what they stand for, so that what stays the same keeps its name.
type ruleset struct {
	base baseFacts
	sets map[string]set
	// chains of policies, which accept, and of groups of pods that have the same
	// policies, which jump there and drop the rest.
	chains map[string][]rule
	// pods of this node: address -> chain of its group, "" = not isolated. By
	// direction.
	pods [2]map[netip.Addr]string
}

// baseFacts are what the part of the rules depends on that no policy changes.
type baseFacts struct {
	local  []netip.Prefix // of this node's pods, one a family
	bridge string         // link whose ports are pods, "" = none
}

func (b baseFacts) families() []family {
	var all []family
	for _, p := range b.local {
		all = append(all, familyOf(p.Addr()))
	}
	return all
}

// kind is what the elements of a set are.
type kind int

const (
	addresses kind = iota // 10.42.0.2
	blocks                // 10.42.0.0-10.42.0.255, never changed once made
	endpoints             // 10.42.0.2 . tcp . 80
	pairs                 // 10.42.0.2 . 10.42.0.2
)

func (k kind) String() string { return [...]string{"pods", "blocks", "ports", "self"}[k] }

// set is a set of the packet filter. An element of several parts is joined by sep.
type set struct {
	kind     kind
	family   family
	elements map[string]bool
}

const sep = " . "

// rule is one of: a jump to the chain of a policy; the acceptance of what a pod
// sends to itself; the drop of the rest; the acceptance of what matches.
type rule struct {
	jump    string
	comment string
	self    family
	drop    bool
	match   match
}

// match is what a rule of a policy accepts. The zero value is everything.
type match struct {
	direction direction
	family    family      // 0 = both, without peers and endpoints only
	peers     string      // set that has the other side's address, "" = anybody
	ports     []portRange // of one protocol, low 0 = all of it; none = any
	endpoints string      // set that has address, protocol and port of the destination, "" = any
}

// text is the rule as the packet filter reads it.
func (r rule) text() string {
	switch {
	case r.jump != "":
		return "jump " + r.jump
	case r.self != 0:
		ip := keyword(r.self)
		return fmt.Sprintf("%s saddr . %s daddr @%s accept", ip, ip, selfSet(r.self))
	case r.drop:
		return "counter drop"
	}
	m := r.match
	var words []string
	if m.peers != "" {
		side := "saddr"
		if m.direction == out {
			side = "daddr"
		}
		words = append(words, keyword(m.family), side, "@"+m.peers)
	}
	if m.endpoints != "" {
		words = append(words, keyword(m.family), "daddr . meta l4proto . th dport @"+m.endpoints)
	}
	if len(m.ports) > 0 {
		words = append(words, portText(m.ports))
	}
	return strings.Join(append(words, "accept"), " ")
}

func portText(ports []portRange) string {
	if ports[0].low == 0 {
		return "meta l4proto " + ports[0].protocol
	}
	var list []string
	for _, p := range ports {
		if p.low == p.high {
			list = append(list, fmt.Sprint(p.low))
		} else {
			list = append(list, fmt.Sprintf("%d-%d", p.low, p.high))
		}
	}
	return fmt.Sprintf("%s dport { %s }", ports[0].protocol, strings.Join(list, ", "))
}

func keyword(f family) string {
	if f == 6 {
		return "ip6"
	}
	return "ip"
}

func selfSet(f family) string { return fmt.Sprintf("self%d", f) }

// digest names what parts stand for. It has enough bits that nobody makes two
// policies of one name.
func digest(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return hex.EncodeToString(h.Sum(nil)[:12])
}

// newRuleset has no pods, so that what comes from or goes to the node's pods is
// dropped until they are known.
func newRuleset(base baseFacts) *ruleset {
	rs := &ruleset{base: base, sets: map[string]set{}, chains: map[string][]rule{}}
	for _, d := range directionsOf() {
		rs.pods[d] = map[netip.Addr]string{}
	}
	for _, f := range base.families() {
		rs.sets[selfSet(f)] = set{pairs, f, map[string]bool{}}
	}
	return rs
}

// compile makes the rules of this node.
func compile(base baseFacts, node string, c *cluster) *ruleset {
	b := &builder{ruleset: newRuleset(base), cluster: c, members: map[string][]*pod{}}
	for _, p := range c.local(node) {
		b.addPod(p)
	}
	return b.ruleset
}

type builder struct {
	*ruleset
	cluster *cluster
	members map[string][]*pod // of peers, by their key
}

// addPod isolates a pod of this node as the policies say that select it.
func (b *builder) addPod(p *pod) {
	var selecting []*policy
	for _, pol := range b.cluster.policies[p.namespace] {
		if pol.pods.Matches(p.labels) {
			selecting = append(selecting, pol)
		}
	}
	for _, d := range directionsOf() {
		chain := b.group(d, selecting, p)
		for _, a := range p.addresses {
			self, used := b.sets[selfSet(familyOf(a))]
			if !used {
				continue // not a family of this node's pods
			}
			b.pods[d][a] = chain
			if chain != "" {
				self.elements[a.String()+sep+a.String()] = true
			}
		}
	}
}

// group is the chain of the pods that have the same policies as p.
func (b *builder) group(d direction, selecting []*policy, p *pod) string {
	parts := []string{d.String()}
	var jumps []rule
	for _, pol := range selecting {
		if d == in && !pol.ingress || d == out && !pol.egress {
			continue
		}
		chain := b.policyChain(d, pol)
		b.addOwnEndpoints(d, pol, p)
		parts = append(parts, chain)
		jumps = append(jumps, rule{jump: chain, comment: pol.namespace + "/" + pol.name})
	}
	if len(jumps) == 0 {
		return ""
	}
	name := fmt.Sprintf("group-%s-%s", d, digest(parts...))
	if b.chains[name] == nil {
		var rules []rule
		for _, f := range b.base.families() {
			rules = append(rules, rule{self: f})
		}
		b.chains[name] = append(append(rules, jumps...), rule{drop: true})
	}
	return name
}

// policyChain is the chain that accepts what a policy allows.
func (b *builder) policyChain(d direction, pol *policy) string {
	name := fmt.Sprintf("policy-%s-%s", d, digest(d.String(), pol.namespace, pol.name))
	if _, made := b.chains[name]; made {
		return name
	}
	rules := []rule{}
	for _, r := range pol.rules(d) {
		rules = append(rules, b.rulesOf(d, pol, r)...)
	}
	b.chains[name] = rules
	return name
}

func (p *policy) rules(d direction) []policyRule {
	if d == in {
		return p.in
	}
	return p.out
}

// rulesOf makes every rule with one kind of peer and one kind of port.
func (b *builder) rulesOf(d direction, pol *policy, r policyRule) []rule {
	var ports [][]portRange
	if r.anyPort {
		ports = append(ports, nil)
	}
	for _, p := range r.ports {
		if n := len(ports) - 1; n >= 0 && ports[n][0].protocol == p.protocol {
			ports[n] = append(ports[n], p)
		} else {
			ports = append(ports, []portRange{p})
		}
	}
	var rules []rule
	add := func(m match) {
		m.direction = d
		rules = append(rules, rule{match: m})
	}
	if r.anyPeer {
		for _, p := range ports {
			add(match{ports: p})
		}
	}
	for _, f := range b.base.families() {
		var sets []string
		if len(ports) > 0 || d == in { // else the peers are in the set of endpoints
			sets = b.peerSets(f, r)
		}
		for _, s := range sets {
			for _, p := range ports {
				add(match{family: f, peers: s, ports: p})
			}
		}
		if len(r.named) == 0 {
			continue
		}
		if d == out {
			// Numbers are those of the pods that are peers; other addresses have none.
			if r.anyPeer || len(r.peers) > 0 {
				add(match{family: f, endpoints: b.peerEndpoints(f, r)})
			}
			continue
		}
		if r.anyPeer {
			sets = []string{""}
		}
		for _, s := range sets {
			add(match{family: f, peers: s, endpoints: b.ownEndpoints(f, pol, r.named)})
		}
	}
	return rules
}

// peerSets are the sets of which one has the address of a peer.
func (b *builder) peerSets(f family, r policyRule) []string {
	var sets []string
	if len(r.peers) > 0 {
		sets = append(sets, b.peerSet(f, r.peers))
	}
	if name := b.blockSet(f, r.blocks); name != "" {
		sets = append(sets, name)
	}
	return sets
}

// peerSet has the addresses of all pods that any of the peers selects.
func (b *builder) peerSet(f family, peers []peer) string {
	key := peersKey(peers)
	name := fmt.Sprintf("%s%d-%s", addresses, f, digest(key))
	if _, made := b.sets[name]; made {
		return name
	}
	elements := map[string]bool{}
	for _, p := range b.selected(key, peers) {
		for _, a := range p.addresses {
			if familyOf(a) == f {
				elements[a.String()] = true
			}
		}
	}
	b.sets[name] = set{addresses, f, elements}
	return name
}

func peersKey(peers []peer) string {
	keys := make([]string, 0, len(peers))
	for _, p := range peers {
		keys = append(keys, p.key())
	}
	slices.Sort(keys)
	return strings.Join(slices.Compact(keys), "\n")
}

// selected returns the pods that any of the peers selects.
func (b *builder) selected(key string, peers []peer) []*pod {
	if found, done := b.members[key]; done {
		return found
	}
	var found []*pod
	for namespace, pods := range b.cluster.pods {
		var here []peer
		for _, p := range peers {
			if p.ofNamespace(b.cluster.namespaces, namespace) {
				here = append(here, p)
			}
		}
		if len(here) == 0 {
			continue
		}
		for _, candidate := range pods {
			if slices.ContainsFunc(here, func(p peer) bool { return p.pods.Matches(candidate.labels) }) {
				found = append(found, candidate)
			}
		}
	}
	b.members[key] = found
	return found
}

func (b *builder) blockSet(f family, ranges []addrRange) string {
	elements := map[string]bool{}
	for _, r := range ranges {
		if familyOf(r.low) == f {
			elements[r.String()] = true
		}
	}
	if len(elements) == 0 {
		return ""
	}
	name := fmt.Sprintf("%s%d-%s", blocks, f, digest(slices.Sorted(maps.Keys(elements))...))
	b.sets[name] = set{blocks, f, elements}
	return name
}

// peerEndpoints has the named ports of the pods that a rule for egress names.
func (b *builder) peerEndpoints(f family, r policyRule) string {
	key, pods := "*", b.cluster.all
	if !r.anyPeer {
		key = peersKey(r.peers)
		pods = func() []*pod { return b.selected(key, r.peers) }
	}
	name := fmt.Sprintf("%s%d-%s", endpoints, f, digest(key, namesKey(r.named)))
	if _, made := b.sets[name]; !made {
		s := set{endpoints, f, map[string]bool{}}
		for _, p := range pods() {
			s.addEndpoints(p, r.named)
		}
		b.sets[name] = s
	}
	return name
}

// ownEndpoints has the named ports of this node's pods that a policy selects; they
// are filled in by addOwnEndpoints.
func (b *builder) ownEndpoints(f family, pol *policy, named []namedPort) string {
	name := fmt.Sprintf("%s%d-%s", endpoints, f, digest("own", pol.namespace, pol.name, namesKey(named)))
	if _, made := b.sets[name]; !made {
		b.sets[name] = set{endpoints, f, map[string]bool{}}
	}
	return name
}

func (b *builder) addOwnEndpoints(d direction, pol *policy, p *pod) {
	if d == out {
		return
	}
	for _, r := range pol.in {
		if len(r.named) == 0 {
			continue
		}
		for _, f := range b.base.families() {
			if s, made := b.sets[b.ownEndpoints(f, pol, r.named)]; made {
				s.addEndpoints(p, r.named)
			}
		}
	}
}

func (s set) addEndpoints(p *pod, named []namedPort) {
	for _, port := range p.ports {
		if !slices.Contains(named, port.namedPort) {
			continue
		}
		for _, a := range p.addresses {
			if familyOf(a) == s.family {
				s.elements[fmt.Sprint(a, sep, port.protocol, sep, port.number)] = true
			}
		}
	}
}

func namesKey(named []namedPort) string {
	keys := make([]string, 0, len(named))
	for _, n := range named {
		keys = append(keys, n.protocol+"/"+n.name)
	}
	slices.Sort(keys)
	return strings.Join(slices.Compact(keys), "\n")
}
