package kernel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"sync"
	"time"
)

// Component is the work of a unit. Run blocks until ctx is done, then cleans up
// and returns nil or an error that wraps context.Canceled; returning earlier,
// even with nil, is a failure. It calls ready once a probe of its own has
// succeeded; more calls are harmless. ctx carries the unit, so that Report,
// Waiting and Poll can tell what it is doing; context.Cause(ctx) says why it ended.
type Component interface {
	Run(ctx context.Context, ready func()) error
}

// Preparer is a Component with work to do before any unit runs, such as
// reading files or refusing impossible settings. Prepare is called once, in Add
// order; all are called, and their errors are returned together.
type Preparer interface {
	Prepare(ctx context.Context) error
}

// Checker is a Component that can tell whether it is well. Check is called every
// CheckInterval while the unit is ready or unhealthy, never twice at a time, and
// has CheckInterval to answer. An error makes the unit unhealthy, nil makes it
// ready again; neither starts nor stops anything.
type Checker interface {
	Check(ctx context.Context) error
}

// The defaults of Options.
const (
	DefaultStallAfter    = 10 * time.Second
	DefaultStopTimeout   = 30 * time.Second
	DefaultCheckInterval = 10 * time.Second
)

// Options of a Kernel. A zero field means its default.
type Options struct {
	Logger        *slog.Logger  // where state changes and stalls are written; nil writes nothing
	StallAfter    time.Duration // how long a unit may wait, start or stop before it is reported
	StopTimeout   time.Duration // how long one unit may take to return once its context is cancelled
	CheckInterval time.Duration // the pause between two Checks and the time one may take
}

// Label is the profiler's label that every goroutine of a unit has; its value is
// the unit's name.
const Label = "unit"

// Kernel holds the units of a node. Make it with New; all methods may be called
// from any goroutine.
type Kernel struct {
	log  *slog.Logger
	opts Options

	stopping chan struct{} // closed when the units are to stop
	allReady chan struct{} // closed when every unit has been ready
	ended    chan struct{} // closed when Run returns

	mu        sync.Mutex
	units     []*Unit
	misuse    []error // programming errors, told by Run
	running   bool    // Run was called
	begun     time.Time
	preparing *Unit
	notReady  int   // units whose latch is still open
	cause     error // why the units stop
	first     error // the failure that stopped them, nil when they were told to
	stuck     []error
	result    error // what Run returned
	events    []Event
}

// New returns a kernel without units.
func New(opts Options) *Kernel {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.StallAfter <= 0 {
		opts.StallAfter = DefaultStallAfter
	}
	if opts.StopTimeout <= 0 {
		opts.StopTimeout = DefaultStopTimeout
	}
	if opts.CheckInterval <= 0 {
		opts.CheckInterval = DefaultCheckInterval
	}
	return &Kernel{
		log:      opts.Logger,
		opts:     opts,
		stopping: make(chan struct{}),
		allReady: make(chan struct{}),
		ended:    make(chan struct{}),
	}
}

var unitName = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)

// Add adds a unit that starts when every unit in needs has been ready. The name
// is lower-case letters, digits and dashes, and unique. Add never fails by
// itself: a bad or repeated name, a nil component, a nil unit or one of another
// kernel, and an Add after Run are programming errors that Run returns, before
// it starts anything or, when it is already running, by stopping everything.
func (k *Kernel) Add(name string, c Component, needs ...*Unit) *Unit {
	k.mu.Lock()
	defer k.mu.Unlock()
	u := &Unit{
		kernel:    k,
		name:      name,
		component: c,
		state:     StateWaiting,
		ready:     make(chan struct{}),
		done:      make(chan struct{}),
	}
	if k.running {
		k.wrong("unit %q was added after Run; add every unit before", name)
		return u
	}
	if !unitName.MatchString(name) {
		k.wrong("unit name %q: must be lower-case letters, digits and dashes, beginning with a letter", name)
	}
	if slices.ContainsFunc(k.units, func(o *Unit) bool { return o.name == name }) {
		k.wrong("unit %q was added twice", name)
	}
	if c == nil {
		k.wrong("unit %q has no component", name)
	}
	for i, n := range needs {
		switch {
		case n == nil:
			k.wrong("unit %q: need number %d is nil", name, i+1)
		case n.kernel != k || n.index >= len(k.units) || k.units[n.index] != n:
			k.wrong("unit %q needs %q, which is a unit of another kernel", name, n.name)
		case !slices.Contains(u.needs, n):
			u.needs = append(u.needs, n)
			n.dependents = append(n.dependents, u)
		}
	}
	u.index = len(k.units)
	k.units = append(k.units, u)
	return u
}

// wrong records a programming error. The caller holds the lock.
func (k *Kernel) wrong(format string, args ...any) {
	err := fmt.Errorf("kernel: "+format, args...)
	k.misuse = append(k.misuse, err)
	if !k.running {
		return
	}
	if k.first == nil {
		k.first = err
	}
	if k.cause == nil {
		k.cause = err
		close(k.stopping)
	}
}

// Run prepares all units, starts each as soon as its needs are ready, and blocks
// until all have returned, which they are told to do when ctx is done or one of
// them fails. It returns nil when ctx ended it and every unit stopped in order;
// otherwise the first failure, a *UnitError, joined by one *UnitError wrapping
// ErrStuck for each unit that did not return in time. Failures of Prepare are
// *UnitErrors joined. A kernel runs once.
func (k *Kernel) Run(ctx context.Context) error {
	k.mu.Lock()
	if k.running {
		k.mu.Unlock()
		return errors.New("kernel: Run was called twice")
	}
	k.running = true
	k.begun = time.Now()
	k.notReady = len(k.units)
	err := errors.Join(k.misuse...)
	units := k.units
	for _, u := range units {
		u.since, u.reportAt = k.begun, k.begun.Add(k.opts.StallAfter)
	}
	k.mu.Unlock()

	if err == nil {
		err = k.run(ctx, units)
	}
	k.mu.Lock()
	k.result = err
	k.mu.Unlock()
	close(k.ended)
	return err
}

func (k *Kernel) run(ctx context.Context, units []*Unit) error {
	watchCtx, endWatch := context.WithCancel(context.Background())
	var watch, work sync.WaitGroup
	watch.Go(func() { k.watchStalls(watchCtx) })
	defer watch.Wait()
	defer endWatch()

	prepared := k.prepare(ctx, units)
	if prepared != nil {
		k.stop(prepared)
	}
	if ctx.Err() != nil {
		k.stop(context.Cause(ctx)) // at once: the goroutine below may be late, and nothing may start now
	}
	watch.Go(func() {
		select {
		case <-ctx.Done():
			k.stop(context.Cause(ctx))
		case <-watchCtx.Done():
		}
	})
	if len(units) == 0 {
		close(k.allReady)
		<-k.stopping // which ctx closes
	}
	for _, u := range units {
		work.Go(func() { u.live(ctx) })
	}
	work.Wait()

	if prepared != nil {
		return prepared
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return errors.Join(append([]error{k.first}, k.stuck...)...)
}

// prepare calls every Prepare and joins the errors. It stops early only when ctx ends.
func (k *Kernel) prepare(ctx context.Context, units []*Unit) error {
	var errs []error
	for _, u := range units {
		p, ok := u.component.(Preparer)
		if !ok || ctx.Err() != nil {
			continue
		}
		k.mu.Lock()
		k.preparing = u
		k.mu.Unlock()
		err := guard(func() error { return p.Prepare(withUnit(ctx, u)) })
		if err != nil && ctx.Err() == nil {
			err = &UnitError{Unit: u.name, Err: fmt.Errorf("prepare: %w", err)}
			errs = append(errs, err)
			u.fail(err)
		}
	}
	k.mu.Lock()
	k.preparing = nil
	k.mu.Unlock()
	return errors.Join(errs...)
}

// stop tells all units to stop, for the first cause given.
func (k *Kernel) stop(cause error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.cause != nil {
		return
	}
	k.cause = cause
	close(k.stopping)
}

// WaitReady blocks until every unit has been ready. It fails when ctx ends, or
// when Run returns first.
func (k *Kernel) WaitReady(ctx context.Context) error {
	select {
	case <-k.allReady:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for the units to become ready: %w", context.Cause(ctx))
	case <-k.ended:
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.notReady == 0 {
		return nil
	}
	if k.result != nil {
		return fmt.Errorf("stopped before all units were ready: %w", k.result)
	}
	return errors.New("stopped before all units were ready")
}
