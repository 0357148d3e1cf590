package kernel

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestRunProbed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var probes, ready atomic.Int32
		probe := func(context.Context) error {
			if probes.Add(1) < 3 {
				return errors.New("not yet")
			}
			return nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			done <- RunProbed(ctx, func() { ready.Add(1) }, func(ctx context.Context) error {
				<-ctx.Done()
				return nil
			}, time.Second, probe)
		}()
		time.Sleep(time.Second + time.Millisecond)
		synctest.Wait()
		if ready.Load() != 0 {
			t.Error("ready after two failed probes")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if ready.Load() != 1 {
			t.Error("not ready after the third probe")
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("got %v, want what run returned", err)
		}
	})
}

func TestRunProbedEndsTheProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failure := errors.New("no")
		err := RunProbed(t.Context(), func() { t.Error("ready was called") },
			func(context.Context) error { return failure }, time.Second,
			func(ctx context.Context) error { return failure })
		if !errors.Is(err, failure) {
			t.Errorf("got %v, want run's error", err)
		}
		// synctest fails the test if the probe's goroutine is still there.
	})
}
