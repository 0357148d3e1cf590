package renewal

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cleat-dev/cleat/core/internal/pki"
)

// owner has one certificate and a clock that can be set.
type owner struct {
	t         *testing.T
	authority *pki.Authority
	cert, key string
	life      time.Duration

	mu      sync.Mutex
	set     time.Duration // by how much the clock is ahead of the timers
	broken  error
	looks   []time.Time
	renewed int
	said    []string
}

func newOwner(t *testing.T, life time.Duration) *owner {
	t.Helper()
	dir := t.TempDir()
	o := &owner{t: t, cert: filepath.Join(dir, "x.crt"), key: filepath.Join(dir, "x.key"), life: life}
	var err error
	if o.authority, err = pki.NewAuthority("ca", time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	if err := o.renew(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	o.renewed, o.looks = 0, nil
	return o
}

func (o *owner) now() time.Time { return time.Now().Add(o.set) }

func (o *owner) renew(_ context.Context, all bool) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.looks = append(o.looks, time.Now())
	if o.broken != nil {
		return o.broken
	}
	issue := o.authority.EnsureLeaf
	if all {
		issue = o.authority.ReissueLeaf
	}
	why, err := issue(o.cert, o.key, pki.Leaf{CommonName: "x", Client: true, Life: o.life}, o.now())
	if why != "" {
		o.renewed++
	}
	return err
}

func (o *owner) change(f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f()
}

// valid is an error if the certificate is not good now.
func (o *owner) valid() {
	o.t.Helper()
	c, err := pki.ReadLeaf(o.cert)
	if err != nil {
		o.t.Fatal(err)
	}
	if now := o.now(); now.After(c.NotAfter) || now.Before(c.NotBefore) {
		o.t.Errorf("at %v the certificate is valid from %v to %v", now, c.NotBefore, c.NotAfter)
	}
}

func (o *owner) Enabled(context.Context, slog.Level) bool { return true }
func (o *owner) WithAttrs([]slog.Attr) slog.Handler       { return o }
func (o *owner) WithGroup(string) slog.Handler            { return o }
func (o *owner) Handle(_ context.Context, r slog.Record) error {
	text := r.Level.String() + " " + r.Message
	r.Attrs(func(a slog.Attr) bool { text += " " + a.String(); return true })
	o.change(func() { o.said = append(o.said, text) })
	return nil
}

// keep runs a keeper for the certificate in a time that does not pass by itself.
func keep(t *testing.T, life time.Duration, test func(*testing.T, *owner, *Keeper)) {
	synctest.Test(t, func(t *testing.T) {
		o := newOwner(t, life)
		k := New(Options{Certificates: []string{o.cert}, Renew: o.renew, Log: slog.New(o), Now: func() time.Time {
			o.mu.Lock()
			defer o.mu.Unlock()
			return o.now()
		}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			k.Run(ctx)
		}()
		test(t, o, k)
		cancel()
		<-done
	})
}

func TestRenewsInTime(t *testing.T) {
	for _, life := range []time.Duration{30 * time.Second, time.Minute, time.Hour, 24 * time.Hour} {
		t.Run(life.String(), func(t *testing.T) {
			keep(t, life, func(t *testing.T, o *owner, k *Keeper) {
				for range 60 {
					time.Sleep(life / 20)
					synctest.Wait()
					o.change(o.valid)
				}
				// Three lifetimes, each renewed after some two thirds.
				if o.renewed < 4 || o.renewed > 6 {
					t.Errorf("renewed %d times", o.renewed)
				}
				if len(o.said) > 0 || k.Check() != nil {
					t.Errorf("%v, %v", o.said, k.Check())
				}
			})
		})
	}
}

// Timers stand still while a machine sleeps, and do not move when its clock is set.
func TestClockIsSet(t *testing.T) {
	for name, by := range map[string]time.Duration{"forward": 300 * 24 * time.Hour, "beyond the end": 400 * 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			keep(t, pki.LeafLife, func(t *testing.T, o *owner, _ *Keeper) {
				time.Sleep(time.Hour)
				synctest.Wait()
				if o.renewed > 0 {
					t.Error("renewed in the first hour")
				}
				o.change(func() { o.set += by })
				time.Sleep(5*time.Minute + time.Second)
				synctest.Wait()
				o.change(o.valid)
				if o.renewed != 1 {
					t.Errorf("renewed %d times", o.renewed)
				}
			})
		})
	}
}

func TestFailure(t *testing.T) {
	keep(t, 24*time.Hour, func(t *testing.T, o *owner, k *Keeper) {
		o.change(func() { o.broken, o.looks = errors.New("the disk is full"), nil })
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		// Soon at first, and then as often as it looks anyway.
		if n := len(o.looks); n < 10 || n > 25 {
			t.Errorf("%d tries in half an hour", n)
		}
		if first := o.looks[1].Sub(o.looks[0]); first > 2*time.Second {
			t.Errorf("the second try came after %v", first)
		}
		if len(o.said) != 1 || !strings.HasPrefix(o.said[0], "WARN") || !strings.Contains(o.said[0], "the disk is full") || !strings.Contains(o.said[0], "left=23h") {
			t.Errorf("said %v", o.said)
		}
		if err := k.Check(); err != nil {
			t.Errorf("with a day left: %v", err)
		}
		time.Sleep(22 * time.Hour)
		synctest.Wait()
		if n := len(o.said); n < 20 || n > 24 || !strings.HasPrefix(o.said[n-1], "ERROR") {
			t.Errorf("in 22 hours it said %d lines, the last %s", n, o.said[n-1])
		}
		if err := k.Check(); err == nil || !strings.Contains(err.Error(), o.cert) || !strings.Contains(err.Error(), "the disk is full") {
			t.Errorf("with an hour left: %v", err)
		}
		o.change(func() { o.broken = nil })
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		o.change(o.valid)
		if err := k.Check(); err != nil || o.renewed != 1 {
			t.Errorf("mended: %v, renewed %d times", err, o.renewed)
		}
	})
}

func TestRotate(t *testing.T) {
	keep(t, pki.LeafLife, func(t *testing.T, o *owner, k *Keeper) {
		if err := k.Rotate(t.Context()); err != nil || o.renewed != 1 {
			t.Errorf("%v, renewed %d times", err, o.renewed)
		}
		o.change(func() { o.broken = errors.New("the disk is full") })
		if err := k.Rotate(t.Context()); !errors.Is(err, o.broken) {
			t.Errorf("%v", err)
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := New(Options{}).Rotate(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("not running: %v", err)
	}
}

func TestShortest(t *testing.T) {
	o := newOwner(t, time.Minute)
	long := newOwner(t, time.Hour)
	for want, files := range map[time.Duration][]string{
		66 * time.Second: {long.cert, o.cert, "missing"},
		66 * time.Minute: {long.cert},
		pki.LeafLife:     {"missing"},
	} {
		if got := Shortest(files); got != want {
			t.Errorf("%v: %v, want %v", files, got, want)
		}
	}
}
