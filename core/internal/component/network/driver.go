package network

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/cleat-dev/cleat/core/kernel"
)

// Pauses between the attempts to run a driver.
const (
	minPause = time.Second
	maxPause = 30 * time.Second
)

// driver is what keeps a plan's network going.
type driver struct {
	up       chan struct{} // closed when it runs for the first time
	finished bool          // the rest of its plan is carried out
	stop     func()        // ends it and waits until it has ended
}

// startDriver runs a driver until it is stopped, again after a pause if it
// fails: the network of running pods outlives it, so its failure is not the
// node's.
func startDriver(ctx context.Context, log *slog.Logger, h *health, run func(ctx context.Context, ready func()) error) *driver {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	d := &driver{up: make(chan struct{}), stop: func() {
		cancel()
		<-ended
	}}
	first := sync.OnceFunc(func() { close(d.up) })
	up := func() {
		h.set(nil)
		first()
	}
	go func() {
		defer close(ended)
		pause := minPause
		for {
			begin := time.Now()
			err := run(ctx, up)
			if ctx.Err() != nil {
				return
			}
			if time.Since(begin) > time.Minute {
				pause = minPause
			}
			if err == nil {
				err = errors.New("it ended by itself")
			}
			h.set(err)
			kernel.Waiting(ctx, err)
			log.Error("network driver ended, it is started again", "error", err, "pause", pause)
			timer := time.NewTimer(pause)
			select {
			case <-ctx.Done():
				timer.Stop()
				return
			case <-timer.C:
			}
			pause = min(2*pause, maxPause)
		}
	}()
	return d
}

// health is the last error of a driver that does not run.
type health struct {
	mu  sync.Mutex
	err error
}

func (h *health) set(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.err = err
}

func (h *health) get() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}

// idleDriver is the driver of a plan that needs nothing to run.
func idleDriver() *driver {
	up := make(chan struct{})
	close(up)
	return &driver{up: up, stop: func() {}}
}
