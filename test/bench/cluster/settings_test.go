package cluster

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestReadSettings(t *testing.T) {
	for _, tc := range []struct {
		set  map[string]string
		want choices
		err  string
	}{
		{nil, choices{5, []string{"boot", "idle", "api"}, time.Minute, time.Minute}, ""},
		{
			map[string]string{"CLEAT_BENCH_RUNS": "2", "CLEAT_BENCH_FIGURES": "api,boot", "CLEAT_BENCH_SETTLE": "5s", "CLEAT_BENCH_WINDOW": "2m"},
			choices{2, []string{"api", "boot"}, 5 * time.Second, 2 * time.Minute}, "",
		},
		{map[string]string{"CLEAT_BENCH_RUNS": "0"}, choices{}, "CLEAT_BENCH_RUNS"},
		{map[string]string{"CLEAT_BENCH_RUNS": "many"}, choices{}, "CLEAT_BENCH_RUNS"},
		{map[string]string{"CLEAT_BENCH_FIGURES": "boots"}, choices{}, `"boots"`},
		{map[string]string{"CLEAT_BENCH_WINDOW": "0s"}, choices{}, "CLEAT_BENCH_WINDOW"},
	} {
		got, err := readSettings(func(name string) string { return tc.set[name] })
		if tc.err != "" {
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%v: %v, want an error with %s", tc.set, err, tc.err)
			}
			continue
		}
		if err != nil || got.Runs != tc.want.Runs || !slices.Equal(got.Figures, tc.want.Figures) || got.Settle != tc.want.Settle || got.Window != tc.want.Window {
			t.Errorf("%v: %+v, %v, want %+v", tc.set, got, err, tc.want)
		}
	}
}
