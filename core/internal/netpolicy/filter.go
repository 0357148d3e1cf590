package netpolicy

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"sigs.k8s.io/knftables"
)

// Table is the name of the table, of the family inet.
const Table = "cleat-policy"

// The chains at which packets come in. Both are at the hook forward: what the
// node itself sends or gets, as probes are, never passes them; addresses of services
// are translated before, and a source is hidden after. What the first accepts
// goes on to the second.
func baseChain(d direction) string {
	if d == out {
		return "egress"
	}
	return "ingress"
}

const (
	outPriority = knftables.BaseChainPriority("-2")
	inPriority  = knftables.BaseChainPriority("-1")
)

// verdicts is the map from a pod's address to the chain of its group.
func verdicts(d direction, f family) string { return fmt.Sprintf("%s%d", baseChain(d), f) }

func localSet(f family) string { return fmt.Sprintf("local%d", f) }

// replace writes the whole table anew, whatever is there.
func replace(tx *knftables.Transaction, rs *ruleset) {
	tx.Add(&knftables.Table{}) // what is not there cannot be deleted
	tx.Delete(&knftables.Table{})
	tx.Add(&knftables.Table{})
	for _, p := range rs.base.local {
		f := familyOf(p.Addr())
		tx.Add(&knftables.Set{Name: localSet(f), Type: addressType(f), Flags: []knftables.SetFlag{knftables.IntervalFlag}})
		tx.Add(&knftables.Element{Set: localSet(f), Key: []string{p.String()}})
		for _, d := range directionsOf() {
			tx.Add(&knftables.Map{Name: verdicts(d, f), Type: addressType(f) + " : verdict"})
		}
	}
	for _, d := range directionsOf() {
		addBaseChain(tx, d, rs.base)
	}
	update(tx, newRuleset(baseFacts{}), rs)
}

func addressType(f family) string { return fmt.Sprintf("ipv%d_addr", f) }

func addBaseChain(tx *knftables.Transaction, d direction, base baseFacts) {
	chain, priority := baseChain(d), outPriority
	if d == in {
		priority = inPriority
	}
	tx.Add(&knftables.Chain{
		Name: chain, Type: knftables.PtrTo(knftables.FilterType),
		Hook: knftables.PtrTo(knftables.ForwardHook), Priority: knftables.PtrTo(priority),
	})
	add := func(comment string, words ...any) {
		r := &knftables.Rule{Chain: chain, Rule: knftables.Concat(words...)}
		if comment != "" {
			r.Comment = &comment
		}
		tx.Add(r)
	}
	// Only replies and errors pass unseen: a connection ends when it is no longer allowed.
	add("", "ct direction reply ct state established accept")
	add("", "ct state related accept")
	add("neighbours find each other",
		"icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert, mld-listener-query, mld-listener-report, mld-listener-done, mld2-listener-report } accept")
	if base.bridge != "" && d == out {
		for _, side := range []string{"saddr", "daddr"} {
			add("no policy can name link-local addresses", "iifname", `"`+base.bridge+`"`, "ip6", side, "fe80::/10 counter drop")
		}
	}
	side := "saddr"
	if d == in {
		side = "daddr"
	}
	for _, f := range base.families() {
		add("", keyword(f), side, "vmap", "@"+verdicts(d, f))
		add("an address of this node that no known pod has", keyword(f), side, "@"+localSet(f), "counter drop")
	}
}

// update changes the table from one state to the other. Both have the same base.
func update(tx *knftables.Transaction, from, to *ruleset) {
	for _, name := range sortedKeys(to.sets) {
		updateSet(tx, name, from.sets[name], to.sets[name])
	}
	// Chains first, as rules and elements may only name what is there.
	var rewritten []string
	for _, name := range sortedKeys(to.chains) {
		before, had := from.chains[name]
		if had && slices.EqualFunc(before, to.chains[name], rule.equal) {
			continue
		}
		rewritten = append(rewritten, name)
		tx.Add(&knftables.Chain{Name: name})
		if had {
			tx.Flush(&knftables.Chain{Name: name})
		}
	}
	for _, name := range rewritten {
		for _, r := range to.chains[name] {
			line := &knftables.Rule{Chain: name, Rule: r.text()}
			if r.comment != "" {
				line.Comment = knftables.PtrTo(r.comment[:min(len(r.comment), knftables.CommentLengthMax)])
			}
			tx.Add(line)
		}
	}
	for _, d := range directionsOf() {
		updatePods(tx, d, from.pods[d], to.pods[d])
	}
	var gone []string
	for _, name := range sortedKeys(from.chains) {
		if _, stays := to.chains[name]; !stays {
			tx.Flush(&knftables.Chain{Name: name})
			gone = append(gone, name)
		}
	}
	for _, name := range gone {
		tx.Delete(&knftables.Chain{Name: name})
	}
	for _, name := range sortedKeys(from.sets) {
		if _, stays := to.sets[name]; !stays {
			tx.Delete(&knftables.Set{Name: name})
		}
	}
}

func (r rule) equal(o rule) bool { return r.comment == o.comment && r.text() == o.text() }

func updateSet(tx *knftables.Transaction, name string, from, to set) {
	if from.elements == nil {
		s := &knftables.Set{Name: name, Type: addressType(to.family)}
		switch to.kind {
		case addresses:
		case blocks:
			s.Flags = []knftables.SetFlag{knftables.IntervalFlag}
		case endpoints:
			s.Type += " . inet_proto . inet_service"
		case pairs:
			s.Type += " . " + addressType(to.family)
		}
		tx.Add(s)
	}
	for _, e := range sortedKeys(from.elements) {
		if !to.elements[e] {
			tx.Delete(&knftables.Element{Set: name, Key: strings.Split(e, sep)})
		}
	}
	for _, e := range sortedKeys(to.elements) {
		if !from.elements[e] {
			tx.Add(&knftables.Element{Set: name, Key: strings.Split(e, sep)})
		}
	}
}

func updatePods(tx *knftables.Transaction, d direction, from, to map[netip.Addr]string) {
	element := func(a netip.Addr, chain string) *knftables.Element {
		verdict := "accept"
		if chain != "" {
			verdict = "goto " + chain
		}
		return &knftables.Element{Map: verdicts(d, familyOf(a)), Key: []string{a.String()}, Value: []string{verdict}}
	}
	byAddress := func(m map[netip.Addr]string) []netip.Addr {
		return slices.SortedFunc(maps.Keys(m), netip.Addr.Compare)
	}
	for _, a := range byAddress(from) {
		if chain, stays := to[a]; !stays || chain != from[a] {
			tx.Delete(element(a, from[a]))
		}
	}
	for _, a := range byAddress(to) {
		if chain, had := from[a]; !had || chain != to[a] {
			tx.Add(element(a, to[a]))
		}
	}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// intact reports whether the table has the chains, sets and maps that were written.
func intact(ctx context.Context, nft knftables.Interface, rs *ruleset) (bool, error) {
	have, err := nft.ListAll(ctx)
	if knftables.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("list the table %s: %w", Table, err)
	}
	chains := append(sortedKeys(rs.chains), baseChain(out), baseChain(in))
	sets, elements := sortedKeys(rs.sets), []string{}
	for _, f := range rs.base.families() {
		sets = append(sets, localSet(f))
		for _, d := range directionsOf() {
			elements = append(elements, verdicts(d, f))
		}
	}
	return same(have["chain"], chains) && same(have["set"], sets) && same(have["map"], elements), nil
}

func same(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}
