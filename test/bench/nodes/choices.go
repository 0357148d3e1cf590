package nodes

import (
	"errors"
	"time"

	"github.com/cleat-dev/cleat/test/bench/settings"
)

// realNodes is how many real kubelets there are before the hollow ones come.
const realNodes = 3

// choices are those of whoever runs the benchmark, from the environment.
type choices struct {
	Hollow int           // how many hollow nodes at most
	Joins  int           // how often an agent joins, cold and warm each
	Settle time.Duration // from the last node Ready to the window
	Window time.Duration // how long an idle cluster is watched
}

// readChoices reads the variables CLEAT_BENCH_…; what is not set has its default.
func readChoices(getenv func(string) string) (choices, error) {
	c := choices{Hollow: 100, Joins: 5, Settle: time.Minute, Window: time.Minute}
	return c, errors.Join(
		settings.Count(getenv, "CLEAT_BENCH_HOLLOW", &c.Hollow, 0, 1000),
		settings.Count(getenv, "CLEAT_BENCH_JOINS", &c.Joins, 0, 100),
		settings.Duration(getenv, "CLEAT_BENCH_SETTLE", &c.Settle),
		settings.Duration(getenv, "CLEAT_BENCH_WINDOW", &c.Window),
	)
}

// hollowSteps are the numbers of hollow nodes at which the server is measured: 25,
// twice as many each time, and the last.
func hollowSteps(last int) []int {
	var steps []int
	for n := 25; n < last; n *= 2 {
		steps = append(steps, n)
	}
	if last > 0 {
		steps = append(steps, last)
	}
	return steps
}
