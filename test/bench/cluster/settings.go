package cluster

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The parts of the benchmark that settings choose from.
const (
	figureBoot = "boot" // seconds from a cold and from a warm data directory
	figureIdle = "idle" // memory and processor time of an idle cluster
	figureAPI  = "api"  // requests per second
)

// settings are the choices of whoever runs the benchmark, from the environment.
type settings struct {
	Runs    int
	Figures []string
	Settle  time.Duration // from the first pod to the idle window
	Window  time.Duration // how long an idle cluster is watched
}

// readSettings reads the variables CLEAT_BENCH_…; what is not set has its default.
func readSettings(getenv func(string) string) (settings, error) {
	all := []string{figureBoot, figureIdle, figureAPI}
	s := settings{Runs: 5, Figures: all, Settle: time.Minute, Window: time.Minute}
	var err error
	if v := getenv("CLEAT_BENCH_RUNS"); v != "" {
		if s.Runs, err = strconv.Atoi(v); err != nil || s.Runs < 1 || s.Runs > 100 {
			return s, fmt.Errorf("CLEAT_BENCH_RUNS: %q, want 1 to 100", v)
		}
	}
	if v := getenv("CLEAT_BENCH_FIGURES"); v != "" {
		s.Figures = strings.Split(v, ",")
		for _, f := range s.Figures {
			if !slices.Contains(all, f) {
				return s, fmt.Errorf("CLEAT_BENCH_FIGURES: %q is unknown; choose from %s", f, strings.Join(all, ","))
			}
		}
	}
	for name, into := range map[string]*time.Duration{"CLEAT_BENCH_SETTLE": &s.Settle, "CLEAT_BENCH_WINDOW": &s.Window} {
		if v := getenv(name); v != "" {
			if *into, err = time.ParseDuration(v); err != nil || *into < time.Second || *into > time.Hour {
				return s, fmt.Errorf("%s: %q, want a duration from 1s to 1h", name, v)
			}
		}
	}
	return s, nil
}

func (s settings) wants(figure string) bool { return slices.Contains(s.Figures, figure) }
