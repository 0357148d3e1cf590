// Package nodes measures what a node costs: how long an agent takes to join and what
// it needs when idle, and how the server's memory, processor time and requests
// grow with the number of nodes. `make bench-nodes` runs it.
//
// The machines are those of a lab: a server, two agents, and one on which
// test/bench/upstream/hollow runs as many hollow nodes as asked for. Each machine has
// a copy of the program of its own, so that no page of it is shared with another's
// and its memory is what it would be elsewhere. docs/reference/benchmarks.md says
// what is measured and what hollow nodes leave out.
package nodes
