package kernel_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cleat-dev/cleat/core/kernel"
	"github.com/cleat-dev/cleat/core/kernel/kerneltest"
)

// lines is a slog handler that keeps each record as one line.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) Enabled(context.Context, slog.Level) bool { return true }
func (l *lines) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *lines) WithGroup(string) slog.Handler            { return l }
func (l *lines) Handle(_ context.Context, r slog.Record) error {
	line := r.Level.String() + " " + r.Message
	r.Attrs(func(a slog.Attr) bool {
		if a.Key != "since" && a.Key != "stack" {
			line += fmt.Sprintf(" %s=%q", a.Key, a.Value)
		}
		return true
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, line)
	return nil
}

// take returns the lines since the last call that contain word.
func (l *lines) take(word string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for _, s := range l.all {
		if strings.Contains(s, word) {
			out = append(out, s)
		}
	}
	l.all = nil
	return out
}

func wantLines(t *testing.T, got []string, want ...string) {
	t.Helper()
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		t.Errorf("lines:\n got %s\nwant %s", g, w)
	}
}

func TestStallReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &lines{}
		k := kernel.New(kernel.Options{Logger: slog.New(log)})
		a := k.Add("a", runFunc(func(ctx context.Context, ready func()) error {
			kernel.Report(ctx, "waiting for %s", "the moon")
			kernel.Waiting(ctx, errors.New("connection refused"))
			select {
			case <-time.After(45 * time.Second):
				ready()
				<-ctx.Done()
			case <-ctx.Done():
			}
			return ctx.Err()
		}))
		k.Add("b", kerneltest.Instant(), a)
		r := start(t, k)

		time.Sleep(9999 * time.Millisecond)
		wantLines(t, log.take("still"))
		time.Sleep(2 * time.Millisecond)
		wantLines(t, log.take("still"),
			`WARN units are still waiting waiting="b for a" for="10s"`,
			`WARN unit is still starting unit="a" state="starting" for="10s" progress="waiting for the moon" probe_error="connection refused"`)
		time.Sleep(9 * time.Second)
		wantLines(t, log.take("still"))
		time.Sleep(time.Second)
		if got := log.take("still"); len(got) != 2 {
			t.Errorf("second report: %q", got)
		}
		time.Sleep(20 * time.Second) // the fortieth second
		if got := log.take("still"); len(got) != 2 {
			t.Errorf("third report: %q", got)
		}
		time.Sleep(time.Minute)
		wantLines(t, log.take("unit"),
			`INFO unit ready unit="a" state="ready" after="45s"`,
			`INFO unit starting unit="b" state="starting" after="45s"`,
			`INFO unit ready unit="b" state="ready" after="0s"`)
		s := k.Status()[0]
		if *s.ReadyAfterMS != 45000 || s.Progress != "" || s.ProbeError != "" {
			t.Errorf("status once ready: %+v", s)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// slowPrepare is a component whose Prepare takes a while.
type slowPrepare struct{ *kerneltest.Fake }

func (slowPrepare) Prepare(ctx context.Context) error {
	kernel.Report(ctx, "compiling")
	select {
	case <-time.After(15 * time.Second):
	case <-ctx.Done():
	}
	return ctx.Err()
}

func TestStallInPrepare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &lines{}
		k := kernel.New(kernel.Options{Logger: slog.New(log)})
		a := k.Add("a", slowPrepare{kerneltest.Instant()})
		k.Add("b", kerneltest.Instant())
		k.Add("c", kerneltest.Instant(), a)
		r := start(t, k)
		time.Sleep(11 * time.Second)
		wantLines(t, log.take("still"),
			`WARN units are still waiting waiting="b for a, c for a" for="10s"`,
			`WARN unit is still waiting unit="a" state="waiting" for="10s" progress="prepare: compiling"`)
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestUnitThatIgnoresItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &lines{}
		k := kernel.New(kernel.Options{Logger: slog.New(log), StopTimeout: 12 * time.Second})
		a, b := kerneltest.Instant(), kerneltest.Instant()
		forever := make(chan struct{})
		b.OnStop(func() error { <-forever; return nil })
		k.Add("b", b, k.Add("a", a))
		r := start(t, k)
		synctest.Wait()
		log.take("")
		begun := time.Now()
		err := r.stop()
		if took := time.Since(begun); took != 12*time.Second {
			t.Errorf("stopping took %s", took)
		}
		wantUnitError(t, err, "b", kernel.ErrStuck)
		wantStates(t, k, "a=stopped b=failed")
		wantLines(t, log.take("unit"),
			`INFO unit stopping unit="b" state="stopping" after="0s"`,
			`WARN unit is still stopping unit="b" state="stopping" for="10s"`,
			`ERROR unit failed unit="b" state="failed" after="12s" err="unit b: did not return after its context was cancelled for 12s"`,
			`INFO unit stopping unit="a" state="stopping" after="12s"`,
			`INFO unit stopped unit="a" state="stopped" after="0s"`)
		close(forever)
	})
}

// A start that fails says so in one line, which those that never began do not hide.
func TestUnitsThatNeverBeganStopQuietly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &lines{}
		k := kernel.New(kernel.Options{Logger: slog.New(log)})
		a := kerneltest.New()
		k.Add("b", kerneltest.Instant(), k.Add("a", a))
		r := start(t, k)
		synctest.Wait()
		a.Fail(errors.New("boom"))
		wantUnitError(t, <-r.result, "a", nil)
		wantStates(t, k, "a=failed b=stopped")
		wantLines(t, log.take("unit"),
			`INFO unit starting unit="a" state="starting" after="0s"`,
			`ERROR unit failed unit="a" state="failed" after="0s" err="unit a: boom"`,
			`DEBUG unit stopped unit="b" state="stopped" after="0s"`)
	})
}

func TestStuckUnitJoinsTheFirstFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		boom := errors.New("boom")
		k := kernel.New(kernel.Options{})
		a, b := kerneltest.Instant(), kerneltest.Instant()
		forever := make(chan struct{})
		a.OnStop(func() error { <-forever; return nil })
		k.Add("b", b, k.Add("a", a))
		r := start(t, k)
		synctest.Wait()
		b.Fail(boom)
		err := <-r.result
		wantUnitError(t, err, "b", boom)
		wantUnitError(t, err, "b", kernel.ErrStuck)
		if !strings.Contains(err.Error(), "unit a: did not return") {
			t.Errorf("the stuck unit is not named: %v", err)
		}
		close(forever)
	})
}

func TestHealthIsNotReadiness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &lines{}
		k := kernel.New(kernel.Options{Logger: slog.New(log), CheckInterval: time.Second})
		a, b := kerneltest.New(), kerneltest.New()
		a.SetHealth(errors.New("coughs"))
		ua := k.Add("a", a)
		k.Add("b", b, ua)
		r := start(t, k)
		time.Sleep(5 * time.Second)
		if a.Checked() != 0 {
			t.Error("the unit was checked before it was ready")
		}
		a.BecomeReady()
		wantStates(t, k, "a=ready b=starting")
		log.take("")
		time.Sleep(3500 * time.Millisecond)
		wantStates(t, k, "a=unhealthy b=starting")
		if got := k.Status()[0].Error; got != "coughs" {
			t.Errorf("error in the status: %q", got)
		}
		if !ua.Ready() {
			t.Error("bad health opened the latch")
		}
		a.SetHealth(nil)
		time.Sleep(time.Second)
		wantStates(t, k, "a=ready b=starting")
		wantLines(t, log.take("unit=\"a\""),
			`WARN unit unhealthy unit="a" state="unhealthy" after="1s" err="coughs"`,
			`INFO unit ready unit="a" state="ready" after="3s"`)
		for _, e := range k.Timeline() {
			if e.State == kernel.StateUnhealthy {
				t.Error("the timeline holds changes of health, so it grows without end")
			}
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// checkFunc is a ready component with a Check of the test's own.
type checkFunc func(ctx context.Context) error

func (checkFunc) Run(ctx context.Context, ready func()) error {
	ready()
	<-ctx.Done()
	return nil
}
func (f checkFunc) Check(ctx context.Context) error { return f(ctx) }

func TestBadChecks(t *testing.T) {
	block := make(chan struct{})
	for _, tc := range []struct {
		name   string
		check  checkFunc
		health string
		run    string // the error of Run, "" for none
	}{
		{"panics", func(context.Context) error { panic("ouch") }, "panic: ouch", ""},
		{"takes too long", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
			"check took longer than 1s: context deadline exceeded", ""},
		{"ignores its context", func(context.Context) error { <-block; return nil }, "",
			"unit a: did not return after its context was cancelled for 30s"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				block = make(chan struct{})
				k := kernel.New(kernel.Options{CheckInterval: time.Second})
				k.Add("a", tc.check)
				r := start(t, k)
				time.Sleep(3500 * time.Millisecond)
				if got := k.Status()[0].Error; got != tc.health {
					t.Errorf("health %q, want %q", got, tc.health)
				}
				err := r.stop()
				if got := fmt.Sprint(err); got != tc.run && (err != nil || tc.run != "") {
					t.Errorf("Run: %v, want %q", err, tc.run)
				}
				close(block)
			})
		})
	}
}

func TestPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kernel.New(kernel.Options{})
		var calls int
		k.Add("a", runFunc(func(ctx context.Context, ready func()) error {
			err := kernel.Poll(ctx, time.Second, func(context.Context) error {
				calls++
				if calls < 4 {
					return fmt.Errorf("try %d", calls)
				}
				return nil
			})
			if err != nil {
				return err
			}
			ready()
			return kernel.Poll(ctx, time.Second, func(context.Context) error { return errors.New("no more") })
		}))
		r := start(t, k)
		time.Sleep(1500 * time.Millisecond)
		if got := k.Status()[0].ProbeError; got != "try 2" {
			t.Errorf("probe error %q, want the last", got)
		}
		time.Sleep(2 * time.Second)
		if s := k.Status()[0]; s.State != kernel.StateReady || s.ProbeError != "no more" {
			t.Errorf("after the fourth try: %+v", s)
		}
		if err := r.stop(); err != nil {
			t.Errorf("a cancelled Poll failed the unit: %v", err)
		}
	})
}

func TestPollOutsideAKernel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond)
		defer cancel()
		refused := errors.New("refused")
		err := kernel.Poll(ctx, time.Second, func(ctx context.Context) error {
			kernel.Report(ctx, "nobody listens")
			return refused
		})
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, refused) {
			t.Errorf("got %v, want the deadline and the last probe error", err)
		}
	})
}
