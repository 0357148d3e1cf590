// Package kerneltest helps to test components and what is built of them: a
// component that does what the test says, a runner for one component, and a
// check that no goroutine is left.
package kerneltest

import (
	"context"
	"sync"
)

// Fake is a component that becomes ready, fails, sickens and stops when the test
// says so. The zero value is not usable; make it with New or Instant.
type Fake struct {
	ready   chan struct{}
	failure chan error
	started chan struct{}
	stopped chan struct{}

	readyOnce sync.Once
	mu        sync.Mutex
	prepare   error
	health    error
	onStop    func() error
	prepared  int
	checked   int
}

// New returns a fake that starts and then waits for BecomeReady. It may be run once.
func New() *Fake {
	return &Fake{
		ready:   make(chan struct{}),
		failure: make(chan error, 1),
		started: make(chan struct{}),
		stopped: make(chan struct{}),
	}
}

// Instant returns a fake that is ready as soon as it runs.
func Instant() *Fake {
	f := New()
	f.BecomeReady()
	return f
}

// BecomeReady makes the fake call ready, now or when it runs.
func (f *Fake) BecomeReady() { f.readyOnce.Do(func() { close(f.ready) }) }

// Fail makes Run return err, now or when it runs; only the first call counts.
func (f *Fake) Fail(err error) {
	select {
	case f.failure <- err:
	default:
	}
}

// FailPrepare makes Prepare return err.
func (f *Fake) FailPrepare(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.prepare = err
}

// SetHealth makes Check return err from now on.
func (f *Fake) SetHealth(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.health = err
}

// OnStop makes Run call stop once its context is cancelled and return what it
// returns. A stop that blocks is a component that ignores its context.
func (f *Fake) OnStop(stop func() error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.onStop = stop
}

// Started is closed when Run is called.
func (f *Fake) Started() <-chan struct{} { return f.started }

// Stopped is closed when Run returns.
func (f *Fake) Stopped() <-chan struct{} { return f.stopped }

// Prepared returns how often Prepare was called.
func (f *Fake) Prepared() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.prepared
}

// Checked returns how often Check was called.
func (f *Fake) Checked() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.checked
}

// Prepare implements kernel.Preparer.
func (f *Fake) Prepare(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.prepared++
	return f.prepare
}

// Check implements kernel.Checker.
func (f *Fake) Check(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.checked++
	return f.health
}

// Run implements kernel.Component.
func (f *Fake) Run(ctx context.Context, ready func()) error {
	close(f.started)
	defer close(f.stopped)
	mayReady := f.ready
	for {
		select {
		case <-mayReady:
			ready()
			mayReady = nil
		case err := <-f.failure:
			return err
		case <-ctx.Done():
			f.mu.Lock()
			stop := f.onStop
			f.mu.Unlock()
			if stop != nil {
				return stop()
			}
			return ctx.Err()
		}
	}
}
