package nodes

import (
	"strings"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/test/bench/processes"
)

func idle(mebibytes uint64, seconds float64) processes.Idle {
	m := mebibytes << 20
	return processes.Idle{Processes: []processes.Figures{
		{Name: "cleat", Count: 1, Memory: processes.Memory{PSS: m, RSS: 2 * m, USS: m / 2}, Seconds: seconds / 2},
		{Name: "containerd-shim", Count: 2, Seconds: seconds / 2},
	}}
}

func TestRender(t *testing.T) {
	at := func(real, hollow, pods int, mebibytes uint64) step {
		return step{
			Real: real, Hollow: hollow, Pods: pods, Ready: 2.25, Server: idle(mebibytes, float64(real+hollow)), Window: 20,
			Counters: counters{Watches: float64(10 * hollow), Heap: 64 << 20}, Requests: 0.5 * float64(hollow), Database: 1 << 20,
		}
	}
	got, err := render(result{
		Choices: choices{Window: 10 * time.Second},
		Cold:    []join{{3, 0.5}, {9, 0.75}, {1, 0.25}},
		Warm:    []join{{1, 4}, {2, 6}},
		Agents:  []agent{{"n2", idle(100, 1)}, {"n3", idle(120, 2)}},
		Steps:   []step{at(1, 0, 0, 300), at(2, 0, 0, 304), at(3, 0, 0, 308), at(3, 25, 0, 333), at(3, 50, 0, 358), at(3, 50, 50, 1000)},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| cold join, seconds to node Ready | 3.00 | 1.00 | 9.00 | 3 |\n",
		"| cold join, processor seconds | 0.50 | 0.25 | 0.75 | 3 |\n",
		"| warm join, seconds to node Ready | 1.50 | 1.00 | 2.00 | 2 |\n",
		"| warm join, processor seconds | 5.00 | 4.00 | 6.00 | 2 |\n",
		"| idle, PSS in MiB | 110 | 100 | 120 | 2 |\n",
		"| idle, RSS in MiB | 220 | 200 | 240 | 2 |\n",
		"| idle, USS in MiB | 55 | 50 | 60 | 2 |\n",
		"| idle, processor, ms a second | 150.0 | 100.0 | 200.0 | 2 |\n",
		"| 1 | 0 | 0 | 2.2 | 300 | 64.0 | 50.0 | 0.00 | 0 | 0 | 0 | 1.00 |\n",
		"| 3 | 50 | 50 | 2.2 | 1000 | 64.0 | 2650.0 | 25.00 | 500 | 0 | 0 | 1.00 |\n",
		// A real node costs 4 MiB and a hollow one 1; the step with pods does not count.
		"| real | 4.00 | 0.000 | 50.000 | 0.0000 | 0.00 | 0.00 | 0.00 | 0.0000 |\n",
		"| hollow | 1.00 | 0.000 | 50.000 | 0.5000 | 10.00 | 0.00 | 0.00 | 0.0000 |\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func TestRenderPart(t *testing.T) {
	got, err := render(result{Warm: []join{{1, 2}}})
	if want := "| an agent | median | smallest | largest | of |\n|---|---|---|---|---|\n| warm join, seconds to node Ready | 1.00 | 1.00 | 1.00 | 1 |\n| warm join, processor seconds | 2.00 | 2.00 | 2.00 | 1 |\n\n"; err != nil || got != want {
		t.Errorf("%v, %q, want %q", err, got, want)
	}
	if got, err := render(result{Steps: []step{{Real: 1, Window: 1}}}); err != nil || strings.Contains(got, "cost") {
		t.Errorf("the cost of a node out of one step: %v\n%s", err, got)
	}
	if _, err := render(result{Steps: []step{{Real: 1, Window: 1}, {Real: 1, Window: 1}}}); err == nil || !strings.Contains(err.Error(), "real nodes") {
		t.Errorf("the cost of a node out of one number of nodes: %v", err)
	}
}
