// Package cluster measures cleat beside the programs it embeds: a one-node cluster
// of `cleat server`, and the same of upstream's programs as separate processes, once
// on etcd and once on kine with SQLite. `make bench` runs it.
//
// Three machines of a lab take turns, of which one is on at a time. Both sides are
// started by the same small starter inside the machine, the test binary itself,
// which also measures: time begins when it executes the first program.
// docs/reference/benchmarks.md says what is measured and what is fair about it.
package cluster
