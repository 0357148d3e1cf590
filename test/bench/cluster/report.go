package cluster

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cleat-dev/cleat/test/bench/load"
	"github.com/cleat-dev/cleat/test/bench/processes"
	"github.com/cleat-dev/cleat/test/bench/stats"
)

// bootTimes are seconds since the first program was executed.
type bootTimes struct {
	Readyz float64 // the API server's /readyz is ok, as upstream means it
	Node   float64 // the node is Ready
	Pod    float64 // a pod that was created as soon as the API took it is Running

	// Processor seconds until the last of these.
	Spent  float64 // by all processes of the cluster
	Others float64 // by the rest of the computer, the starter and the pod included
}

// apiFigures are of one kind of request from a number of clients.
type apiFigures struct {
	Request string // create, update, get or list
	Clients int
	load.Result
}

// outcome is one run of one side. What was not asked for is nil.
type outcome struct {
	Side       string
	Run        int     // from 1
	LoadBefore float64 // the computer's load average of one minute before the run
	Cold       *bootTimes
	Warm       *bootTimes
	Idle       *processes.Idle
	API        []apiFigures
}

// row is one line of a table: a figure and how to find it in an outcome.
type row struct {
	name   string
	digits int
	read   func(outcome) (float64, bool)
}

// rows are all figures that at least one of the outcomes has, in the order of the tables.
func rows(outcomes []outcome) []row {
	boot := func(of func(outcome) *bootTimes, read func(bootTimes) float64) func(outcome) (float64, bool) {
		return func(o outcome) (float64, bool) {
			if b := of(o); b != nil {
				return read(*b), true
			}
			return 0, false
		}
	}
	idle := func(read func(processes.Idle) float64) func(outcome) (float64, bool) {
		return func(o outcome) (float64, bool) {
			if o.Idle == nil {
				return 0, false
			}
			return read(*o.Idle), true
		}
	}
	cold := func(o outcome) *bootTimes { return o.Cold }
	warm := func(o outcome) *bootTimes { return o.Warm }
	all := []row{
		{"cold start, seconds to `/readyz`", 2, boot(cold, func(b bootTimes) float64 { return b.Readyz })},
		{"cold start, seconds to node Ready", 2, boot(cold, func(b bootTimes) float64 { return b.Node })},
		{"cold start, seconds to the first pod Running", 2, boot(cold, func(b bootTimes) float64 { return b.Pod })},
		{"cold start, processor seconds", 2, boot(cold, func(b bootTimes) float64 { return b.Spent })},
		{"warm start, seconds to `/readyz`", 2, boot(warm, func(b bootTimes) float64 { return b.Readyz })},
		{"warm start, seconds to node Ready", 2, boot(warm, func(b bootTimes) float64 { return b.Node })},
		{"warm start, seconds to the first pod Running", 2, boot(warm, func(b bootTimes) float64 { return b.Pod })},
		{"warm start, processor seconds", 2, boot(warm, func(b bootTimes) float64 { return b.Spent })},
		{"idle, PSS in MiB", 0, idle(func(i processes.Idle) float64 { return processes.Mebibytes(i.Memory().PSS) })},
		{"idle, processor seconds", 2, idle(processes.Idle.Seconds)},
	}
	for _, request := range []string{requestCreate, requestUpdate, requestGet, requestList} {
		for _, clients := range clientCounts() {
			name := fmt.Sprintf("%s, %d clients", request, clients)
			if clients == 1 {
				name = request + ", 1 client"
			}
			of := func(read func(load.Result) float64) func(outcome) (float64, bool) {
				return func(o outcome) (float64, bool) {
					for _, f := range o.API {
						if f.Request == request && f.Clients == clients {
							return read(f.Result), true
						}
					}
					return 0, false
				}
			}
			milliseconds := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
			all = append(all,
				row{name + ", per second", 0, of(func(r load.Result) float64 { return r.PerSecond })},
				row{name + ", p50 in ms", 2, of(func(r load.Result) float64 { return milliseconds(r.P50) })},
				row{name + ", p99 in ms", 2, of(func(r load.Result) float64 { return milliseconds(r.P99) })})
		}
	}
	return slices.DeleteFunc(all, func(r row) bool {
		return !slices.ContainsFunc(outcomes, func(o outcome) bool { _, ok := r.read(o); return ok })
	})
}

// values are the sorted values of a figure for one side.
func (r row) values(outcomes []outcome, side string) []float64 {
	var values []float64
	for _, o := range outcomes {
		if v, ok := r.read(o); ok && o.Side == side {
			values = append(values, v)
		}
	}
	slices.Sort(values)
	return values
}

// render makes the table: medians with the smallest and the largest value, and the
// ratios of the first side's medians to the others'.
func render(sides []string, outcomes []outcome) string {
	var b strings.Builder
	b.WriteString("| figure |")
	for _, side := range sides {
		b.WriteString(" " + side + " |")
	}
	for _, side := range sides[1:] {
		b.WriteString(" to " + side + " |")
	}
	b.WriteString("\n|" + strings.Repeat("---|", 2*len(sides)) + "\n")
	for _, r := range rows(outcomes) {
		b.WriteString("| " + r.name + " |")
		for _, side := range sides {
			v := r.values(outcomes, side)
			if len(v) == 0 {
				b.WriteString(" |")
				continue
			}
			fmt.Fprintf(&b, " %.*f (%.*f to %.*f) |", r.digits, stats.Median(v), r.digits, v[0], r.digits, v[len(v)-1])
		}
		first := r.values(outcomes, sides[0])
		for _, side := range sides[1:] {
			other := r.values(outcomes, side)
			if len(first) == 0 || len(other) == 0 || stats.Median(other) == 0 {
				b.WriteString(" |")
				continue
			}
			fmt.Fprintf(&b, " %.2f |", stats.Median(first)/stats.Median(other))
		}
		b.WriteString("\n")
	}
	return b.String() + renderProcesses(sides, outcomes)
}

// renderProcesses makes the table of which processes were counted, by the medians
// of each name.
func renderProcesses(sides []string, outcomes []outcome) string {
	var b strings.Builder
	for _, side := range sides {
		pss, seconds, counts := map[string][]float64{}, map[string][]float64{}, map[string]int{}
		var names []string
		for _, o := range outcomes {
			if o.Side != side || o.Idle == nil {
				continue
			}
			for _, p := range o.Idle.Processes {
				if counts[p.Name] == 0 {
					names = append(names, p.Name)
				}
				counts[p.Name] = p.Count
				pss[p.Name] = append(pss[p.Name], processes.Mebibytes(p.PSS))
				seconds[p.Name] = append(seconds[p.Name], p.Seconds)
			}
		}
		slices.Sort(names)
		for _, name := range names {
			if b.Len() == 0 {
				b.WriteString("\n| side | process | how many | PSS in MiB | processor seconds |\n|---|---|---|---|---|\n")
			}
			slices.Sort(pss[name])
			slices.Sort(seconds[name])
			fmt.Fprintf(&b, "| %s | %s | %d | %.0f | %.2f |\n", side, name, counts[name], stats.Median(pss[name]), stats.Median(seconds[name]))
		}
	}
	return b.String()
}
