package kernel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/pprof"
	"slices"
	"sync"
	"time"
)

// Unit is a component in a kernel. Its only use is as a need of later units and
// to ask for its state.
type Unit struct {
	kernel     *Kernel
	index      int
	name       string
	component  Component
	needs      []*Unit
	dependents []*Unit

	ready     chan struct{} // the latch; closed once
	readyOnce sync.Once
	done      chan struct{} // closed when nothing of the unit runs any more

	// Guarded by kernel.mu.
	state      State
	since      time.Time
	startedAt  time.Time
	readyAfter time.Duration
	wasReady   bool
	err        error
	progress   string
	probeError string
	reportAt   time.Time // when the stall report mentions it next
}

// Name returns the name given to Add.
func (u *Unit) Name() string { return u.name }

// Ready tells whether the unit has ever been ready.
func (u *Unit) Ready() bool {
	select {
	case <-u.ready:
		return true
	default:
		return false
	}
}

// Status returns the state of the unit.
func (u *Unit) Status() Status {
	u.kernel.mu.Lock()
	defer u.kernel.mu.Unlock()
	return u.statusLocked()
}

// live is the whole life of the unit, from waiting for its needs until nothing
// of it, nor of the units above it, runs any more.
func (u *Unit) live(parent context.Context) {
	defer close(u.done)
	if !u.awaitNeeds() || !u.change(StateStarting, nil) {
		u.change(StateStopped, nil)
		return
	}
	// The parent's end is for the kernel, which stops units in order.
	ctx, cancel := context.WithCancelCause(withUnit(context.WithoutCancel(parent), u))
	defer cancel(nil)
	run := spawn(func() (err error) {
		// The label goes to every goroutine below: profiles tell units apart, and so does whoever asks who is speaking.
		pprof.Do(ctx, pprof.Labels(Label, u.name), func(ctx context.Context) { err = u.component.Run(ctx, u.becomeReady) })
		return err
	})
	check := spawn(func() error { return u.watchHealth(ctx) })

	above := make(chan struct{}) // closed when every dependent is done
	go func() {
		defer close(above)
		<-u.kernel.stopping // the unit's own failure too, so no failure leaves this waiting
		for _, d := range u.dependents {
			<-d.done // bounded: each dependent has its own StopTimeout
		}
	}()
	select {
	case err := <-run:
		u.returned(err)
		cancel(context.Canceled)
		u.join(check)
		<-above // so that the units below outlive them, although this one did not
	case <-above:
		u.change(StateStopping, nil)
		cancel(u.kernel.stopCause())
		timeout := time.NewTimer(u.kernel.opts.StopTimeout)
		defer timeout.Stop()
		select {
		case err := <-run:
			u.returned(err)
			u.join(check)
		case <-timeout.C:
			u.leaveBehind()
		}
	}
}

// awaitNeeds tells whether every need became ready before the kernel stopped.
func (u *Unit) awaitNeeds() bool {
	for _, n := range u.needs {
		select {
		case <-n.ready:
		case <-u.kernel.stopping:
			return false
		}
	}
	return true
}

// join waits for the health watcher, which has been cancelled, as long as a
// component may take to stop.
func (u *Unit) join(check <-chan error) {
	timeout := time.NewTimer(u.kernel.opts.StopTimeout)
	defer timeout.Stop()
	select {
	case <-check:
	case <-timeout.C:
		u.leaveBehind()
	}
}

// becomeReady is the ready function given to Run.
func (u *Unit) becomeReady() {
	u.readyOnce.Do(func() {
		if !u.change(StateReady, nil) {
			return // too late
		}
		close(u.ready)
		k := u.kernel
		k.mu.Lock()
		k.notReady--
		last := k.notReady == 0
		k.mu.Unlock()
		if last {
			close(k.allReady)
		}
	})
}

// returned records what Run returned.
func (u *Unit) returned(err error) {
	k := u.kernel
	k.mu.Lock()
	stopping := k.cause != nil
	k.mu.Unlock()
	switch {
	case stopping && (err == nil || errors.Is(err, context.Canceled)):
		// Told to, or it saw the end by itself, as code with its own signal handler does.
		u.change(StateStopped, nil)
		return
	case err == nil:
		err = ErrStoppedByItself
	case errors.Is(err, context.Canceled):
		err = fmt.Errorf("%w: %w", ErrStoppedByItself, err)
	}
	u.fail(&UnitError{Unit: u.name, Err: err})
}

// fail records the unit's failure and stops the kernel with it.
func (u *Unit) fail(err error) {
	k := u.kernel
	if !u.change(StateFailed, err) {
		return
	}
	k.mu.Lock()
	if k.first == nil {
		k.first = err
	}
	k.mu.Unlock()
	k.stop(err)
}

// Fail makes the unit called name fail with err, for a program that says by other
// ways than the return of Run that it cannot go on. While the units stop, nothing
// fails any more; with a name that no unit has, the failure is the node's.
func (k *Kernel) Fail(name string, err error) {
	k.mu.Lock()
	i := slices.IndexFunc(k.units, func(u *Unit) bool { return u.name == name })
	stopping := k.cause != nil
	if i < 0 && !stopping && k.first == nil {
		k.first = err
	}
	k.mu.Unlock()
	switch {
	case stopping:
		k.log.Info("a program gave up while it was stopped", slog.String("unit", name), slog.Any("err", err))
	case i < 0:
		k.stop(err)
	default:
		k.units[i].fail(&UnitError{Unit: name, Err: err})
	}
}

// leaveBehind gives up on a component that does not return.
func (u *Unit) leaveBehind() {
	k := u.kernel
	err := &UnitError{Unit: u.name, Err: fmt.Errorf("%w for %s", ErrStuck, k.opts.StopTimeout)}
	u.change(StateFailed, err)
	k.mu.Lock()
	k.stuck = append(k.stuck, err)
	k.mu.Unlock()
}

func (k *Kernel) stopCause() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.cause
}

// change moves the unit to another state and writes the one line about it. It
// reports false, and does nothing, when the state drawing has no such arrow.
func (u *Unit) change(to State, err error) bool {
	k := u.kernel
	now := time.Now()
	k.mu.Lock()
	from := u.state
	if !allowed(from, to) || to == StateStarting && k.cause != nil {
		k.mu.Unlock()
		return false
	}
	after := now.Sub(u.since)
	u.state, u.since, u.err = to, now, err
	u.reportAt = now.Add(k.opts.StallAfter)
	switch {
	case to == StateStarting:
		u.startedAt = now
	case to == StateReady && from == StateStarting:
		u.readyAfter, u.wasReady = after, true
		u.progress, u.probeError = "", ""
	}
	attrs := []any{slog.String("unit", u.name), slog.String("state", string(to)), slog.Duration("after", after.Round(time.Millisecond))}
	if healthChange := to == StateUnhealthy || from == StateUnhealthy && to == StateReady; !healthChange {
		e := Event{At: now, Unit: u.name, State: to, AfterMS: now.Sub(k.begun).Milliseconds()}
		if err != nil {
			e.Error = err.Error()
		}
		k.events = append(k.events, e)
	}
	k.mu.Unlock()

	// Outside the lock, because a log handler may ask for the status; before the
	// caller opens a latch, so that a line never precedes its own cause.
	level := slog.LevelInfo
	if from == StateWaiting && to == StateStopped {
		level = slog.LevelDebug // it never began, and would hide why
	}
	if err != nil {
		level = slog.LevelWarn
		attrs = append(attrs, slog.Any("err", err))
	}
	if to == StateFailed {
		level = slog.LevelError
	}
	var p *PanicError
	if errors.As(err, &p) {
		attrs = append(attrs, slog.String("stack", string(p.Stack)))
	}
	k.log.Log(context.Background(), level, "unit "+string(to), attrs...)
	return true
}

// allowed is the state drawing of the package comment.
func allowed(from, to State) bool {
	switch from {
	case StateWaiting:
		return to == StateStarting || to == StateStopped || to == StateFailed
	case StateStarting:
		return to == StateReady || to == StateStopping || to == StateStopped || to == StateFailed
	case StateReady:
		return to == StateUnhealthy || to == StateStopping || to == StateStopped || to == StateFailed
	case StateUnhealthy:
		return to == StateReady || to == StateStopping || to == StateStopped || to == StateFailed
	case StateStopping:
		return to == StateStopped || to == StateFailed
	case StateStopped:
		return to == StateFailed // its Check did not return
	}
	return false
}
