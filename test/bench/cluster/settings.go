package cluster

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cleat-dev/cleat/test/bench/settings"
)

// The parts of the benchmark that settings choose from.
const (
	figureBoot = "boot" // seconds from a cold and from a warm data directory
	figureIdle = "idle" // memory and processor time of an idle cluster
	figureAPI  = "api"  // requests per second
)

// choices are those of whoever runs the benchmark, from the environment.
type choices struct {
	Runs    int
	Figures []string
	Settle  time.Duration // from the first pod to the idle window
	Window  time.Duration // how long an idle cluster is watched
}

// readSettings reads the variables CLEAT_BENCH_…; what is not set has its default.
func readSettings(getenv func(string) string) (choices, error) {
	all := []string{figureBoot, figureIdle, figureAPI}
	s := choices{Runs: 5, Figures: all, Settle: time.Minute, Window: time.Minute}
	if v := getenv("CLEAT_BENCH_FIGURES"); v != "" {
		s.Figures = strings.Split(v, ",")
		for _, f := range s.Figures {
			if !slices.Contains(all, f) {
				return s, fmt.Errorf("CLEAT_BENCH_FIGURES: %q is unknown; choose from %s", f, strings.Join(all, ","))
			}
		}
	}
	return s, errors.Join(
		settings.Count(getenv, "CLEAT_BENCH_RUNS", &s.Runs, 1, 100),
		settings.Duration(getenv, "CLEAT_BENCH_SETTLE", &s.Settle),
		settings.Duration(getenv, "CLEAT_BENCH_WINDOW", &s.Window),
	)
}

func (s choices) wants(figure string) bool { return slices.Contains(s.Figures, figure) }
