package node

import (
	"context"
	"log/slog"
	"math"
	"runtime/debug"
	"testing"

	"github.com/cleat-dev/cleat/core/kernel"
)

// settings reads the collector's without changing them.
func settings() (percent int, limit int64) {
	percent = debug.SetGCPercent(100)
	debug.SetGCPercent(percent)
	return percent, debug.SetMemoryLimit(-1)
}

type readyAtOnce struct{ release chan struct{} }

func (u readyAtOnce) Run(ctx context.Context, ready func()) error {
	<-u.release
	ready()
	<-ctx.Done()
	return nil
}

func TestEaseStart(t *testing.T) {
	before, _ := settings()
	t.Cleanup(func() { debug.SetGCPercent(before); debug.SetMemoryLimit(math.MaxInt64) })
	log := slog.New(slog.DiscardHandler)

	k := kernel.New(kernel.Options{Logger: log})
	unit := readyAtOnce{make(chan struct{})}
	k.Add("one", unit)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	stop := easeStart(ctx, k, log)
	go func() { ended <- k.Run(ctx) }()
	percent, limit := settings()
	if percent != -1 || limit != startHeap {
		t.Errorf("while starting GOGC is %d and the limit %d, want none and %d", percent, limit, startHeap)
	}
	close(unit.release)
	if err := k.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop()
	if percent, limit := settings(); percent != steadyPercent || limit != math.MaxInt64 {
		t.Errorf("when ready GOGC is %d and the limit %d, want %d and none", percent, limit, steadyPercent)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}

	t.Setenv("GOGC", "77")
	debug.SetGCPercent(77)
	easeStart(t.Context(), k, log)()
	if percent, _ := settings(); percent != 77 {
		t.Errorf("an operator's GOGC of 77 became %d", percent)
	}
}

func TestMemory(t *testing.T) {
	if got := memory(); got < 64<<20 {
		t.Errorf("this machine is said to have %d bytes of memory", got)
	}
	if err := letGoOfProgram(); err != nil { // and the test goes on
		t.Error(err)
	}
}
