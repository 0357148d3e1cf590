package kernel_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/cleat-dev/cleat/core/kernel"
	"github.com/cleat-dev/cleat/core/kernel/kerneltest"
)

type runFunc func(ctx context.Context, ready func()) error

func (f runFunc) Run(ctx context.Context, ready func()) error { return f(ctx, ready) }

// running is a kernel that runs in the background.
type running struct {
	*kernel.Kernel
	cancel context.CancelCauseFunc
	result chan error
}

func start(t *testing.T, k *kernel.Kernel) *running {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	r := &running{Kernel: k, cancel: cancel, result: make(chan error, 1)}
	go func() { r.result <- k.Run(ctx) }()
	return r
}

// stop ends the kernel as a signal would and returns what Run returned.
func (r *running) stop() error {
	r.cancel(errors.New("told to"))
	return <-r.result
}

func states(k *kernel.Kernel) string {
	var out []string
	for _, s := range k.Status() {
		out = append(out, fmt.Sprintf("%s=%s", s.Unit, s.State))
	}
	return strings.Join(out, " ")
}

func wantStates(t *testing.T, k *kernel.Kernel, want string) {
	t.Helper()
	synctest.Wait()
	if got := states(k); got != want {
		t.Errorf("states:\n got %s\nwant %s", got, want)
	}
}

func wantUnitError(t *testing.T, err error, unit string, target error) {
	t.Helper()
	var ue *kernel.UnitError
	if !errors.As(err, &ue) {
		t.Fatalf("got error %v, want a UnitError", err)
	}
	if ue.Unit != unit {
		t.Errorf("the error blames unit %s, want %s: %v", ue.Unit, unit, err)
	}
	if target != nil && !errors.Is(err, target) {
		t.Errorf("error %v does not wrap %v", err, target)
	}
}

func TestStartsInOrderAndStopsInReverse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kernel.New(kernel.Options{})
		a, b, c := kerneltest.New(), kerneltest.New(), kerneltest.New()
		release := make(chan struct{})
		c.OnStop(func() error { <-release; return nil })
		ua := k.Add("a", a)
		ub := k.Add("b", b, ua)
		k.Add("c", c, ub, ua)
		r := start(t, k)

		wantStates(t, k, "a=starting b=waiting c=waiting")
		a.BecomeReady()
		wantStates(t, k, "a=ready b=starting c=waiting")
		if got := k.Status()[2].WaitingFor; !slices.Equal(got, []string{"b"}) {
			t.Errorf("c waits for %v, want b alone", got)
		}
		b.BecomeReady()
		c.BecomeReady()
		if err := k.WaitReady(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantStates(t, k, "a=ready b=ready c=ready")

		r.cancel(nil)
		wantStates(t, k, "a=ready b=ready c=stopping")
		if got := k.Status()[0].WaitingFor; !slices.Equal(got, []string{"b", "c"}) {
			t.Errorf("while stopping, a waits for %v, want b and c", got)
		}
		close(release)
		if err := <-r.result; err != nil {
			t.Errorf("Run: %v", err)
		}
		wantStates(t, k, "a=stopped b=stopped c=stopped")
		var order []string
		for _, e := range k.Timeline() {
			order = append(order, e.Unit+" "+string(e.State))
		}
		want := []string{
			"a starting", "a ready", "b starting", "b ready", "c starting", "c ready",
			"c stopping", "c stopped", "b stopping", "b stopped", "a stopping", "a stopped",
		}
		if !slices.Equal(order, want) {
			t.Errorf("timeline:\n got %q\nwant %q", order, want)
		}
	})
}

// After an orderly end, or the failure of one unit, what does Run return and
// where did each unit end? Unit a is needed by b, b by c; all but c are ready.
func TestEnds(t *testing.T) {
	boom := errors.New("boom")
	for _, tc := range []struct {
		name   string
		act    func(a, b, c *kerneltest.Fake, r *running)
		unit   string // blamed; "" for a nil error
		is     error
		states string
	}{
		{"told to stop before all were ready", func(_, _, _ *kerneltest.Fake, r *running) { r.cancel(nil) },
			"", nil, "a=stopped b=stopped c=stopped"},
		{"a failure at the top", func(_, _, c *kerneltest.Fake, _ *running) { c.Fail(boom) },
			"c", boom, "a=stopped b=stopped c=failed"},
		{"a failure at the bottom", func(a, _, _ *kerneltest.Fake, _ *running) { a.Fail(boom) },
			"a", boom, "a=failed b=stopped c=stopped"},
		{"nil before the end", func(_, b, _ *kerneltest.Fake, _ *running) { b.Fail(nil) },
			"b", kernel.ErrStoppedByItself, "a=stopped b=failed c=stopped"},
		{"context.Canceled before the end", func(_, b, _ *kerneltest.Fake, _ *running) { b.Fail(context.Canceled) },
			"b", kernel.ErrStoppedByItself, "a=stopped b=failed c=stopped"},
		{"a failure while stopping", func(_, b, _ *kerneltest.Fake, r *running) {
			b.OnStop(func() error { return boom })
			r.cancel(nil)
		}, "b", boom, "a=stopped b=failed c=stopped"},
		{"the first failure wins", func(a, b, c *kerneltest.Fake, r *running) {
			a.OnStop(func() error { return errors.New("later") })
			b.OnStop(func() error { return errors.New("late") })
			c.Fail(boom)
		}, "c", boom, "a=failed b=failed c=failed"},
		{"a wrapped cancellation is an orderly end", func(_, b, _ *kerneltest.Fake, r *running) {
			b.OnStop(func() error { return fmt.Errorf("serve: %w", context.Canceled) })
			r.cancel(nil)
		}, "", nil, "a=stopped b=stopped c=stopped"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := kernel.New(kernel.Options{})
				a, b, c := kerneltest.Instant(), kerneltest.Instant(), kerneltest.New()
				ua := k.Add("a", a)
				ub := k.Add("b", b, ua)
				k.Add("c", c, ub)
				r := start(t, k)
				wantStates(t, k, "a=ready b=ready c=starting")

				tc.act(a, b, c, r)
				err := <-r.result
				if tc.unit == "" && err != nil {
					t.Errorf("Run: %v, want nil", err)
				}
				if tc.unit != "" {
					wantUnitError(t, err, tc.unit, tc.is)
				}
				wantStates(t, k, tc.states)
				if k.WaitReady(t.Context()) == nil {
					t.Error("WaitReady says that all units became ready")
				}
			})
		})
	}
}

func TestPanicFailsTheUnit(t *testing.T) {
	k := kernel.New(kernel.Options{})
	k.Add("a", runFunc(func(context.Context, func()) error { panic("at the disco") }))
	err := k.Run(t.Context())
	wantUnitError(t, err, "a", nil)
	var p *kernel.PanicError
	if !errors.As(err, &p) {
		t.Fatalf("got %v, want a PanicError", err)
	}
	if p.Value != "at the disco" || !strings.Contains(string(p.Stack), "TestPanicFailsTheUnit") {
		t.Errorf("value %v, stack:\n%s", p.Value, p.Stack)
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("the message is not one line: %q", err)
	}
}

func TestGoexitFailsTheUnit(t *testing.T) {
	k := kernel.New(kernel.Options{})
	k.Add("a", runFunc(func(context.Context, func()) error { runtime.Goexit(); return nil }))
	wantUnitError(t, k.Run(t.Context()), "a", nil)
}

func TestReadyIsALatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kernel.New(kernel.Options{})
		var mu sync.Mutex
		var late func()
		u := k.Add("a", runFunc(func(ctx context.Context, ready func()) error {
			ready()
			ready()
			mu.Lock()
			late = ready
			mu.Unlock()
			<-ctx.Done()
			ready()
			return nil
		}))
		r := start(t, k)
		wantStates(t, k, "a=ready")
		if err := r.stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
		mu.Lock()
		defer mu.Unlock()
		late()
		wantStates(t, k, "a=stopped")
		if !u.Ready() {
			t.Error("the latch has opened again")
		}
	})
}

func TestReadyAfterStopIsIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kernel.New(kernel.Options{})
		u := k.Add("a", runFunc(func(ctx context.Context, ready func()) error {
			<-ctx.Done()
			ready()
			return ctx.Err()
		}))
		b := kerneltest.New()
		k.Add("b", b, u)
		r := start(t, k)
		synctest.Wait()
		if err := r.stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
		if u.Ready() {
			t.Error("the unit became ready while stopping")
		}
		select {
		case <-b.Started():
			t.Error("its dependent was started")
		default:
		}
	})
}

func TestPrepare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e1, e2 := errors.New("no disk"), errors.New("no luck")
		k := kernel.New(kernel.Options{})
		a, b, c := kerneltest.Instant(), kerneltest.Instant(), kerneltest.Instant()
		a.FailPrepare(e1)
		c.FailPrepare(e2)
		k.Add("a", a)
		k.Add("b", b)
		k.Add("c", c)
		err := k.Run(t.Context())
		if !errors.Is(err, e1) || !errors.Is(err, e2) {
			t.Errorf("got %v, want both errors", err)
		}
		if want := "unit a: prepare: no disk\nunit c: prepare: no luck"; err == nil || err.Error() != want {
			t.Errorf("got %v, want %q", err, want)
		}
		wantStates(t, k, "a=failed b=stopped c=failed")
		for i, f := range []*kerneltest.Fake{a, b, c} {
			if f.Prepared() != 1 {
				t.Errorf("unit %d was prepared %d times", i, f.Prepared())
			}
			select {
			case <-f.Started():
				t.Errorf("unit %d was started", i)
			default:
			}
		}
	})
}

func TestStopBeforeStart(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	k := kernel.New(kernel.Options{})
	f := kerneltest.Instant()
	k.Add("a", f)
	if err := k.Run(ctx); err != nil {
		t.Errorf("Run: %v", err)
	}
	select {
	case <-f.Started():
		t.Error("the unit was started")
	default:
	}
}

func TestMisuse(t *testing.T) {
	for _, tc := range []struct {
		name string
		add  func(k *kernel.Kernel)
		want string
	}{
		{"bad name", func(k *kernel.Kernel) { k.Add("API server", kerneltest.New()) }, `unit name "API server": must be`},
		{"same name", func(k *kernel.Kernel) { k.Add("a", kerneltest.New()); k.Add("a", kerneltest.New()) }, `unit "a" was added twice`},
		{"no component", func(k *kernel.Kernel) { k.Add("a", nil) }, `unit "a" has no component`},
		{"nil need", func(k *kernel.Kernel) { k.Add("a", kerneltest.New(), nil) }, `unit "a": need number 1 is nil`},
		{"foreign need", func(k *kernel.Kernel) {
			k.Add("a", kerneltest.New(), kernel.New(kernel.Options{}).Add("x", kerneltest.New()))
		}, `unit "a" needs "x", which is a unit of another kernel`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			k := kernel.New(kernel.Options{})
			tc.add(k)
			if err := k.Run(t.Context()); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestMisuseWhileRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kernel.New(kernel.Options{})
		f := kerneltest.Instant()
		k.Add("a", f)
		r := start(t, k)
		<-f.Started()
		if err := k.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "twice") {
			t.Errorf("a second Run returned %v", err)
		}
		late := k.Add("b", kerneltest.New())
		if err := <-r.result; err == nil || !strings.Contains(err.Error(), `"b" was added after Run`) {
			t.Errorf("Run returned %v, want a word about unit b", err)
		}
		if late.Status().State != kernel.StateWaiting || len(k.Status()) != 1 {
			t.Errorf("the late unit became part of the kernel: %v", k.Status())
		}
	})
}

func TestEmptyKernelRunsUntilTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, kernel.New(kernel.Options{}))
		if err := r.WaitReady(t.Context()); err != nil {
			t.Error(err)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestContextOfAUnit(t *testing.T) {
	type key struct{}
	boom := errors.New("boom")
	k := kernel.New(kernel.Options{})
	var value any
	var cause error
	a := k.Add("a", runFunc(func(ctx context.Context, ready func()) error {
		value = ctx.Value(key{})
		ready()
		<-ctx.Done()
		cause = context.Cause(ctx)
		return ctx.Err()
	}))
	k.Add("b", runFunc(func(context.Context, func()) error { return boom }), a)
	err := k.Run(context.WithValue(t.Context(), key{}, "v"))
	wantUnitError(t, err, "b", boom)
	if value != "v" {
		t.Error("the unit's context does not carry the caller's values")
	}
	wantUnitError(t, cause, "b", boom)
}

func TestFailFromOutside(t *testing.T) {
	boom := errors.New("boom")
	for _, tt := range []struct {
		name string
		unit string // in the error, "" if it is the node's
	}{{"a", "a"}, {"stranger", ""}} {
		synctest.Test(t, func(t *testing.T) {
			k := kernel.New(kernel.Options{})
			labels := make(chan string, 1)
			k.Add("a", runFunc(func(ctx context.Context, ready func()) error {
				label, _ := pprof.Label(ctx, kernel.Label)
				labels <- label
				ready()
				<-ctx.Done()
				k.Fail("a", errors.New("while stopping"))
				return nil
			}))
			r := start(t, k)
			if label := <-labels; label != "a" {
				t.Errorf("the unit's goroutine has the label %q", label)
			}
			k.Fail(tt.name, boom)
			err := <-r.result
			if tt.unit != "" {
				wantUnitError(t, err, tt.unit, boom)
			} else if !errors.Is(err, boom) {
				t.Errorf("got %v, want %v", err, boom)
			}
			if strings.Contains(err.Error(), "while stopping") {
				t.Errorf("%v tells of a failure during the stop", err)
			}
		})
	}
}
