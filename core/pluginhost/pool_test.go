package pluginhost

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cleat-dev/cleat/core/pluginhost/guesttest"
	"github.com/cleat-dev/cleat/hostabi"
)

// thing is a pooled value that remembers whether it was closed.
type thing struct {
	n      int
	closed int
}

func (t *thing) close() { t.closed++ }

func newThings(size, keep, warm int) (*pool[*thing], *[]*thing) {
	var all []*thing
	p := newPool(size, keep, warm, time.Now, func(context.Context) (*thing, error) {
		all = append(all, &thing{n: len(all)})
		return all[len(all)-1], nil
	})
	return p, &all
}

func get(t *testing.T, p *pool[*thing]) *thing {
	t.Helper()
	inst, _, err := p.get(t.Context(), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return inst
}

func TestPoolIsLIFO(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, all := newThings(3, 3, 1)
		if err := p.fill(t.Context()); err != nil {
			t.Fatal(err)
		}
		a, b, c := get(t, p), get(t, p), get(t, p)
		if a.n != 0 || b.n != 1 || c.n != 2 {
			t.Fatalf("got %d, %d, %d", a.n, b.n, c.n)
		}
		p.put(a, true)
		p.put(b, true)
		p.put(c, true)
		for range 3 {
			x := get(t, p)
			if x != c {
				t.Errorf("got %d, want the last one put, 2", x.n)
			}
			p.put(x, true)
		}
		time.Sleep(idleFor + time.Second)
		p.put(get(t, p), true)
		if idle, busy := p.count(); idle != 1 || busy != 0 || a.closed != 1 || b.closed != 1 || c.closed != 0 {
			t.Errorf("idle %d, busy %d, closed %d %d %d; want only the top to be left", idle, busy, a.closed, b.closed, c.closed)
		}
		if err := p.close(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, x := range *all {
			if x.closed != 1 {
				t.Errorf("%d was closed %d times", x.n, x.closed)
			}
		}
		if _, _, err := p.get(t.Context(), time.Second); !errors.Is(err, errPoolClosed) {
			t.Errorf("get after close: %v", err)
		}
	})
}

func TestPoolWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := newThings(1, 0, 0)
		held := get(t, p)
		if _, _, err := p.get(t.Context(), time.Minute); !errors.Is(err, errPoolBusy) {
			t.Errorf("got %v, want %v", err, errPoolBusy)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, _, err := p.get(ctx, time.Minute); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want %v", err, context.Canceled)
		}
		done := make(chan *thing)
		go func() {
			inst, _, err := p.get(t.Context(), time.Minute)
			if err != nil {
				t.Error(err)
			}
			done <- inst
		}()
		synctest.Wait()
		p.put(held, true)
		if held.closed != 1 {
			t.Error("an instance beyond keep was kept")
		}
		next := <-done
		closed := make(chan error)
		go func() { closed <- p.close(t.Context()) }()
		synctest.Wait()
		select {
		case err := <-closed:
			t.Errorf("close did not wait for the instance at work: %v", err)
		default:
		}
		p.put(next, true)
		if err := <-closed; err != nil || next.closed != 1 {
			t.Errorf("close: %v, the instance was closed %d times", err, next.closed)
		}
	})
}

func TestPoolOpenFails(t *testing.T) {
	broken := errors.New("broken")
	p := newPool(1, 1, 1, time.Now, func(context.Context) (*thing, error) { return nil, broken })
	for range 3 { // a failure gives its slot back
		if _, miss, err := p.get(t.Context(), time.Minute); !errors.Is(err, broken) || !miss {
			t.Fatalf("got %t, %v", miss, err)
		}
	}
	if err := p.fill(t.Context()); !errors.Is(err, broken) {
		t.Errorf("fill: %v", err)
	}
}

func TestPoolCloseGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := newThings(1, 1, 0)
		get(t, p)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := p.close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}

func TestBreakerStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(time.Now)
		fail := func() { b.done("bad") }
		allow := func(want bool) {
			t.Helper()
			if ok, _, _ := b.allow(); ok != want {
				t.Fatalf("allowed %t, want %t, in state %s", ok, want, b.current())
			}
		}
		for range breakerFaults {
			allow(true)
			fail()
		}
		allow(false)
		for pause := breakerMinPause; pause <= 4*breakerMaxPause; pause *= 2 {
			time.Sleep(min(pause, breakerMaxPause) - time.Millisecond)
			allow(false)
			time.Sleep(time.Millisecond)
			allow(true)  // on trial
			allow(false) // nobody else
			fail()
		}
		time.Sleep(breakerMaxPause)
		allow(true)
		b.abandon()
		allow(true) // the trial came to nothing, so there is another
		if state, changed := b.done(""); state != BreakerClosed || !changed {
			t.Errorf("state %s, changed %t", state, changed)
		}
		allow(true)
		fail()
		allow(true) // one fault is not enough again
		if state, changed := b.done(""); state != BreakerClosed || changed {
			t.Errorf("state %s, changed %t", state, changed)
		}
	})
}

// TestColdPluginIsDropped waits until the machine code of a plugin that is
// asked rarely is freed, and asks again.
func TestColdPluginIsDropped(t *testing.T) {
	plan := guesttest.Guest{Manifest: guesttest.Cold("store", hostabi.PointDatastore), Hooks: map[string][]byte{hostabi.ExportDatastorePlan: guesttest.I32(1)}}
	b := lockOf(t, plan.Wasm())
	synctest.Test(t, func(t *testing.T) {
		h, err := Open(t.Context(), b.options(t))
		if err != nil {
			t.Fatal(err)
		}
		p := h.current.Load().plugins[0]
		loaded := func() bool { p.mu.Lock(); defer p.mu.Unlock(); return p.current != nil }
		for range 2 {
			if _, err := h.PlanDatastore(t.Context(), hostabi.DatastoreRequest{}); err == nil {
				t.Error("a plan from a plugin that declines")
			}
			time.Sleep(coldLinger - time.Second)
			if !loaded() {
				t.Error("dropped too early")
			}
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if loaded() {
				t.Error("not dropped")
			}
		}
		if s := h.Stats()[0]; s.Calls != 2 || s.Idle != 0 {
			t.Errorf("stats %+v", s)
		}
		if err := h.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
