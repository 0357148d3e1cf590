package nodes

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestReadChoices(t *testing.T) {
	for _, tc := range []struct {
		set  map[string]string
		want choices
		err  string
	}{
		{nil, choices{100, 5, time.Minute, time.Minute}, ""},
		{
			map[string]string{"CLEAT_BENCH_HOLLOW": "0", "CLEAT_BENCH_JOINS": "2", "CLEAT_BENCH_SETTLE": "5s", "CLEAT_BENCH_WINDOW": "2m"},
			choices{0, 2, 5 * time.Second, 2 * time.Minute}, "",
		},
		{map[string]string{"CLEAT_BENCH_HOLLOW": "1001"}, choices{}, "CLEAT_BENCH_HOLLOW"},
		{map[string]string{"CLEAT_BENCH_JOINS": "-1"}, choices{}, "CLEAT_BENCH_JOINS"},
		{map[string]string{"CLEAT_BENCH_SETTLE": "0s"}, choices{}, "CLEAT_BENCH_SETTLE"},
		{map[string]string{"CLEAT_BENCH_WINDOW": "long"}, choices{}, "CLEAT_BENCH_WINDOW"},
	} {
		got, err := readChoices(func(name string) string { return tc.set[name] })
		if tc.err != "" {
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%v: %v, want an error with %s", tc.set, err, tc.err)
			}
			continue
		}
		if err != nil || got != tc.want {
			t.Errorf("%v: %+v, %v, want %+v", tc.set, got, err, tc.want)
		}
	}
}

func TestHollowSteps(t *testing.T) {
	for last, want := range map[int][]int{
		0: nil, 3: {3}, 25: {25}, 40: {25, 40}, 100: {25, 50, 100}, 250: {25, 50, 100, 200, 250},
	} {
		if got := hollowSteps(last); !slices.Equal(got, want) {
			t.Errorf("%d: %v, want %v", last, got, want)
		}
	}
}
