package cluster

import (
	"strings"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/test/bench/load"
	"github.com/cleat-dev/cleat/test/bench/processes"
)

func TestRender(t *testing.T) {
	boot := func(side string, readyz float64) outcome {
		return outcome{Side: side, Cold: &bootTimes{Readyz: readyz, Node: readyz + 1, Pod: readyz + 2, Spent: readyz + 3}}
	}
	full := outcome{
		Side: "a",
		Cold: &bootTimes{Readyz: 2, Node: 3, Pod: 4, Spent: 5},
		Idle: &processes.Idle{Processes: []processes.Figures{
			{Name: "one", Count: 1, Memory: processes.Memory{PSS: 100 << 20}, Seconds: 1.5},
			{Name: "two", Count: 3, Memory: processes.Memory{PSS: 50 << 20}, Seconds: 0.25},
		}},
		API: []apiFigures{{requestCreate, 8, load.Result{P50: 2500 * time.Microsecond, P99: 9 * time.Millisecond, PerSecond: 400}}},
	}
	got := render([]string{"a", "b"}, []outcome{boot("a", 1), boot("b", 8), full, boot("b", 4), boot("a", 9), boot("b", 3)})
	for _, want := range []string{
		"| figure | a | b | to b |\n|---|---|---|---|\n",
		"| cold start, seconds to `/readyz` | 2.00 (1.00 to 9.00) | 4.00 (3.00 to 8.00) | 0.50 |\n",
		"| cold start, seconds to node Ready | 3.00 (2.00 to 10.00) | 5.00 (4.00 to 9.00) | 0.60 |\n",
		"| cold start, seconds to the first pod Running | 4.00 (3.00 to 11.00) | 6.00 (5.00 to 10.00) | 0.67 |\n",
		"| cold start, processor seconds | 5.00 (4.00 to 12.00) | 7.00 (6.00 to 11.00) | 0.71 |\n",
		"| idle, PSS in MiB | 150 (150 to 150) | | |\n",
		"| idle, processor seconds | 1.75 (1.75 to 1.75) | | |\n",
		"| create, 8 clients, per second | 400 (400 to 400) | | |\n",
		"| create, 8 clients, p50 in ms | 2.50 (2.50 to 2.50) | | |\n",
		"| create, 8 clients, p99 in ms | 9.00 (9.00 to 9.00) | | |\n",
		"| a | one | 1 | 100 | 1.50 |\n| a | two | 3 | 50 | 0.25 |\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	for _, unmeasured := range []string{"warm", "1 client", "update"} {
		if strings.Contains(got, unmeasured) {
			t.Errorf("a row for %s, which nobody measured:\n%s", unmeasured, got)
		}
	}
}
