package kernel

import (
	"fmt"
	"strings"
	"text/tabwriter"
)

// Graph is the boot order: which unit needs which. Its renderings depend only on
// the Add calls, so they can be compared and committed.
type Graph struct {
	Units []GraphUnit `json:"units"` // in Add order, so needs come first
}

// GraphUnit is one unit of a Graph.
type GraphUnit struct {
	Unit  string   `json:"unit"`
	Needs []string `json:"needs,omitempty"`
}

// Graph returns the units added so far.
func (k *Kernel) Graph() Graph {
	k.mu.Lock()
	defer k.mu.Unlock()
	g := Graph{Units: make([]GraphUnit, len(k.units))}
	for i, u := range k.units {
		g.Units[i].Unit = u.name
		for _, n := range u.needs {
			g.Units[i].Needs = append(g.Units[i].Needs, n.name)
		}
	}
	return g
}

// Text renders the graph as two columns: the unit and what it needs.
func (g Graph) Text() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "UNIT\tNEEDS")
	for _, u := range g.Units {
		needs := "-"
		if len(u.Needs) > 0 {
			needs = strings.Join(u.Needs, ", ")
		}
		fmt.Fprintf(w, "%s\t%s\n", u.Unit, needs)
	}
	w.Flush() // a strings.Builder does not fail
	return b.String()
}

// Mermaid renders the graph for Markdown pages; arrows point from a unit to
// those that need it.
func (g Graph) Mermaid() string {
	var b strings.Builder
	b.WriteString("flowchart LR\n")
	for _, u := range g.Units {
		fmt.Fprintf(&b, "  %s\n", u.Unit)
	}
	g.edges(func(from, to string) { fmt.Fprintf(&b, "  %s --> %s\n", from, to) })
	return b.String()
}

// DOT renders the graph for Graphviz.
func (g Graph) DOT() string {
	var b strings.Builder
	b.WriteString("digraph boot {\n  rankdir=LR;\n  node [shape=box];\n")
	for _, u := range g.Units {
		fmt.Fprintf(&b, "  %q;\n", u.Unit)
	}
	g.edges(func(from, to string) { fmt.Fprintf(&b, "  %q -> %q;\n", from, to) })
	b.WriteString("}\n")
	return b.String()
}

func (g Graph) edges(f func(from, to string)) {
	for _, u := range g.Units {
		for _, n := range u.Needs {
			f(n, u.Unit)
		}
	}
}
