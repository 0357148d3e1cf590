package collector

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"runtime/debug"
	"testing"
	"time"
)

// settings reads the collector's without changing them.
func settings() (percent int, limit int64) {
	percent = debug.SetGCPercent(100)
	debug.SetGCPercent(percent)
	return percent, debug.SetMemoryLimit(-1)
}

func TestFollow(t *testing.T) {
	before, _ := settings()
	t.Cleanup(func() { debug.SetGCPercent(before); debug.SetMemoryLimit(math.MaxInt64) })
	log := slog.New(slog.DiscardHandler)

	ready := make(chan struct{})
	started := func(ctx context.Context) error {
		select {
		case <-ready:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	stop := Follow(t.Context(), started, log)
	percent, limit := settings()
	if percent != -1 || limit != startHeap {
		t.Errorf("while starting GOGC is %d and the limit %d, want none and %d", percent, limit, startHeap)
	}
	close(ready)
	for begin := time.Now(); ; time.Sleep(time.Millisecond) {
		percent, limit := settings()
		if percent == busyPercent && limit == memory()/2 {
			break
		}
		if time.Since(begin) > time.Minute {
			t.Fatalf("when ready GOGC is %d and the limit %d, want %d and half of the memory", percent, limit, busyPercent)
		}
	}
	stop()

	// A start that fails leaves usual settings too.
	Follow(t.Context(), func(context.Context) error { return errors.New("no") }, log)()
	if percent, _ := settings(); percent != busyPercent {
		t.Errorf("after a start that failed GOGC is %d, want %d", percent, busyPercent)
	}

	t.Setenv("GOGC", "77")
	debug.SetGCPercent(77)
	Follow(t.Context(), started, log)()
	if percent, _ := settings(); percent != 77 {
		t.Errorf("an operator's GOGC of 77 became %d", percent)
	}
}

func TestFollower(t *testing.T) {
	before, _ := settings()
	t.Cleanup(func() { debug.SetGCPercent(before) })
	debug.SetGCPercent(busyPercent)
	tick := make(chan time.Time)
	values := make(chan uint64)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		follower{log: slog.New(slog.DiscardHandler), allocated: func() uint64 { return <-values }, tick: tick}.follow(ctx)
	}()
	var bytes uint64
	values <- bytes
	for i, step := range []struct {
		seconds int
		rate    uint64
		want    int
	}{
		{idleAfter - 1, 1 << 20, busyPercent}, // the start may go on
		{1, 2 * busyRate, busyPercent},        // as here
		{idleAfter, 1 << 20, idlePercent},
		{busyAfter - 1, 2 * busyRate, idlePercent}, // a moment's work
		{5, 1 << 20, idlePercent},
		{busyAfter, 2 * busyRate, busyPercent},
		{30, 2 * busyRate, busyPercent},
		{idleAfter, 0, idlePercent},
	} {
		for range step.seconds {
			bytes += step.rate
			tick <- time.Time{}
			values <- bytes
		}
		for begin := time.Now(); ; time.Sleep(time.Millisecond) {
			percent, _ := settings()
			if percent == step.want {
				break
			}
			if time.Since(begin) > time.Minute {
				t.Fatalf("step %d: GOGC is %d, want %d", i, percent, step.want)
			}
		}
	}
	cancel()
	<-done
}

func TestMemory(t *testing.T) {
	if got := memory(); got < 64<<20 {
		t.Errorf("this machine is said to have %d bytes of memory", got)
	}
	if err := letGoOfProgram(); err != nil { // and the test goes on
		t.Error(err)
	}
}
