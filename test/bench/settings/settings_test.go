package settings

import (
	"strings"
	"testing"
	"time"
)

func TestCount(t *testing.T) {
	for text, want := range map[string]int{"": 5, "2": 2, "7": 7, "1": 0, "8": 0, "many": 0, "2.5": 0} {
		got := 5
		err := Count(func(string) string { return text }, "RUNS", &got, 2, 7)
		if bad := want == 0; bad != (err != nil) || (!bad && got != want) || (bad && (got != 5 || !strings.Contains(err.Error(), "RUNS"))) {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
}

func TestDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{"": 5 * time.Second, "1s": time.Second, "1h": time.Hour, "0s": 0, "61m": 0, "7": 0} {
		got := 5 * time.Second
		err := Duration(func(string) string { return text }, "WINDOW", &got)
		if bad := want == 0; bad != (err != nil) || (!bad && got != want) || (bad && (got != 5*time.Second || !strings.Contains(err.Error(), "WINDOW"))) {
			t.Errorf("%q: %s, %v", text, got, err)
		}
	}
}
