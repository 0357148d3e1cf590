package nodes

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cleat-dev/cleat/test/bench/processes"
	"github.com/cleat-dev/cleat/test/bench/stats"
)

// step is the server with a number of nodes, all Ready and nothing going on.
type step struct {
	Real, Hollow, Pods int
	Ready              float64 // seconds until the nodes, or pods, that this step added were Ready
	Server             processes.Idle
	Window             float64  // seconds over which the processor time was measured
	Counters           counters // at the end
	Requests           float64  // a second
	Database           int64    // bytes, with its log
}

// agent is one agent that has nothing to do.
type agent struct {
	Name string
	Idle processes.Idle
}

// join is one start of an agent until its Node is Ready.
type join struct {
	Ready float64 // seconds
	Spent float64 // processor seconds of all its processes
}

// result is all that was measured. What was not asked for is empty.
type result struct {
	Choices choices
	Cold    []join // data directory empty, Node gone
	Warm    []join // the node had joined before and its machine was off
	Agents  []agent
	Steps   []step
}

// figure is one column of the server's table and how to read it.
type figure struct {
	name   string
	digits int // after the point
	read   func(step) float64
}

func figures() []figure {
	return []figure{
		{"PSS in MiB", 0, func(s step) float64 { return processes.Mebibytes(s.Server.Memory().PSS) }},
		{"live heap in MiB", 1, func(s step) float64 { return s.Counters.Heap / (1 << 20) }},
		{"processor, ms a second", 1, func(s step) float64 { return 1000 * s.Server.Seconds() / s.Window }},
		{"requests a second", 2, func(s step) float64 { return s.Requests }},
		{"watches", 0, func(s step) float64 { return s.Counters.Watches }},
		{"goroutines", 0, func(s step) float64 { return s.Counters.Goroutines }},
		{"open files", 0, func(s step) float64 { return s.Counters.Files }},
		{"database in MiB", 2, func(s step) float64 { return float64(s.Database) / (1 << 20) }},
	}
}

// render makes the tables of what was measured.
func render(r result) (string, error) {
	cost, err := renderCost(r.Steps)
	return renderAgents(r) + renderSteps(r.Steps) + cost, err
}

func renderSteps(steps []step) string {
	if len(steps) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("| real nodes | hollow nodes | pods | seconds until Ready |")
	for _, f := range figures() {
		b.WriteString(" " + f.name + " |")
	}
	b.WriteString("\n|" + strings.Repeat("---|", 4+len(figures())) + "\n")
	for _, s := range steps {
		fmt.Fprintf(&b, "| %d | %d | %d | %.1f |", s.Real, s.Hollow, s.Pods, s.Ready)
		for _, f := range figures() {
			fmt.Fprintf(&b, " %.*f |", f.digits, f.read(s))
		}
		b.WriteString("\n")
	}
	return b.String() + "\n"
}

// renderCost makes the table of what each node costs: the slope of the line of the
// least squares through the steps without pods, for real nodes and for hollow ones.
func renderCost(steps []step) (string, error) {
	without := slices.DeleteFunc(slices.Clone(steps), func(s step) bool { return s.Pods > 0 })
	kinds := []struct {
		name  string
		steps []step
		count func(step) int
	}{
		{"real", slices.DeleteFunc(slices.Clone(without), func(s step) bool { return s.Hollow > 0 }), func(s step) int { return s.Real }},
		{"hollow", slices.DeleteFunc(slices.Clone(without), func(s step) bool { return s.Real < realNodes }), func(s step) int { return s.Hollow }},
	}
	var b strings.Builder
	for _, k := range kinds {
		if len(k.steps) < 2 {
			continue
		}
		if b.Len() == 0 {
			b.WriteString("| cost of a node |")
			for _, f := range figures() {
				b.WriteString(" " + f.name + " |")
			}
			b.WriteString("\n|" + strings.Repeat("---|", 1+len(figures())) + "\n")
		}
		fmt.Fprintf(&b, "| %s |", k.name)
		for _, f := range figures() {
			var x, y []float64
			for _, s := range k.steps {
				x, y = append(x, float64(k.count(s))), append(y, f.read(s))
			}
			line, err := stats.Fit(x, y)
			if err != nil {
				return "", fmt.Errorf("%s of %s nodes: %w", f.name, k.name, err)
			}
			fmt.Fprintf(&b, " %.*f |", f.digits+2, line.Slope)
		}
		b.WriteString("\n")
	}
	return b.String(), nil
}

func renderAgents(r result) string {
	var b strings.Builder
	row := func(name string, digits int, values []float64) {
		if len(values) == 0 {
			return
		}
		if b.Len() == 0 {
			b.WriteString("| an agent | median | smallest | largest | of |\n|---|---|---|---|---|\n")
		}
		values = slices.Sorted(slices.Values(values))
		fmt.Fprintf(&b, "| %s | %.*f | %.*f | %.*f | %d |\n", name,
			digits, stats.Median(values), digits, values[0], digits, values[len(values)-1], len(values))
	}
	for _, kind := range []struct {
		name  string
		joins []join
	}{{"cold", r.Cold}, {"warm", r.Warm}} {
		var seconds, processor []float64
		for _, j := range kind.joins {
			seconds, processor = append(seconds, j.Ready), append(processor, j.Spent)
		}
		row(kind.name+" join, seconds to node Ready", 2, seconds)
		row(kind.name+" join, processor seconds", 2, processor)
	}
	of := func(read func(processes.Idle) float64) []float64 {
		var values []float64
		for _, a := range r.Agents {
			values = append(values, read(a.Idle))
		}
		return values
	}
	row("idle, PSS in MiB", 0, of(func(i processes.Idle) float64 { return processes.Mebibytes(i.Memory().PSS) }))
	row("idle, RSS in MiB", 0, of(func(i processes.Idle) float64 { return processes.Mebibytes(i.Memory().RSS) }))
	row("idle, USS in MiB", 0, of(func(i processes.Idle) float64 { return processes.Mebibytes(i.Memory().USS) }))
	row("idle, processor, ms a second", 1, of(func(i processes.Idle) float64 { return 1000 * i.Seconds() / r.Choices.Window.Seconds() }))
	if b.Len() > 0 {
		b.WriteString("\n")
	}
	return b.String()
}
