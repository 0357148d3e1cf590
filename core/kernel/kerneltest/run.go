package kerneltest

import (
	"context"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/core/kernel"
)

// Deadline is how long Run waits for readiness and for the end, and NoLeaks for the
// last goroutine: far longer than any component of a test needs.
const Deadline = 30 * time.Second

// Run runs one component in a kernel of its own until it is ready. stop ends it
// and returns its error; the test's end calls stop too, and fails the test if that
// was an error nobody asked for. A component that fails or is not ready within
// Deadline fails the test, with the last thing it was waiting for.
func Run(t testing.TB, c kernel.Component) (stop func() error) {
	t.Helper()
	k := kernel.New(kernel.Options{StopTimeout: Deadline})
	unit := k.Add("under-test", c)
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() { result <- k.Run(ctx) }()

	var err error
	var stopped bool
	stop = func() error {
		if !stopped {
			stopped = true
			cancel()
			err = <-result
		}
		return err
	}
	t.Cleanup(func() {
		if asked := stopped; stop() != nil && !asked {
			t.Errorf("the component failed: %v", err)
		}
	})
	wait, done := context.WithTimeout(ctx, Deadline)
	defer done()
	if notReady := k.WaitReady(wait); notReady != nil {
		status := unit.Status()
		_ = stop() // its error is part of notReady, or less telling than it
		t.Fatalf("the component is not ready: %v (progress %q, last probe error %q)", notReady, status.Progress, status.ProbeError)
	}
	return stop
}
