package kerneltest

import (
	"runtime"
	"strings"
	"testing"
	"time"
)

// NoLeaks fails the test if, Deadline after its end, goroutines run that did not
// run when NoLeaks was called. Call it first, and not in parallel tests.
func NoLeaks(t testing.TB) {
	t.Helper()
	noLeaks(t, Deadline)
}

func noLeaks(t testing.TB, patience time.Duration) {
	before := goroutines()
	t.Cleanup(func() {
		t.Helper()
		deadline := time.NewTimer(patience)
		defer deadline.Stop()
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			left := leftover(before, goroutines())
			if len(left) == 0 {
				return
			}
			select {
			case <-tick.C:
			case <-deadline.C:
				t.Errorf("%d goroutines are left:\n\n%s", len(left), strings.Join(left, "\n\n"))
				return
			}
		}
	})
}

// leftover returns the stacks of the goroutines that are only in after.
func leftover(before, after map[string]string) []string {
	var left []string
	for id, stack := range after {
		if _, old := before[id]; !old && !strings.Contains(stack, "testing.(*T).Run") {
			left = append(left, stack)
		}
	}
	return left
}

// goroutines returns the stack of every goroutine but the caller's, by its id.
func goroutines() map[string]string {
	buf := make([]byte, 1<<20)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) {
			buf = buf[:n]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	stacks := strings.Split(strings.TrimSpace(string(buf)), "\n\n")
	byID := make(map[string]string, len(stacks))
	for _, s := range stacks[1:] { // the first is the caller
		id, _, _ := strings.Cut(strings.TrimPrefix(s, "goroutine "), " ")
		byID[id] = s
	}
	return byID
}
