package kernel_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cleat-dev/cleat/core/kernel"
	"github.com/cleat-dev/cleat/core/kernel/kerneltest"
)

// behaviour is what a unit of a random graph does.
type behaviour byte

const (
	obeys behaviour = iota
	failsEarly
	failsOnceReady
	returnsNil
	panics
	failsWhenStopped
	neverReady
	behaviours
)

func (b behaviour) fails() bool { return b != obeys && b != neverReady }

var errChosen = errors.New("as the graph says")

// member is a unit of a random graph that checks the order of things itself.
type member struct {
	name       string
	does       behaviour
	needs      []*member
	dependents []*member
	pause      func() // between the steps of its life

	started, ready, returned atomic.Bool
	wrong                    atomic.Pointer[string] // the broken promise
}

func (m *member) complain(format string, args ...any) {
	s := m.name + ": " + fmt.Sprintf(format, args...)
	m.wrong.Store(&s)
}

// above returns the members that need this one, directly or through others.
func (m *member) above() map[*member]bool {
	all := map[*member]bool{}
	var add func(*member)
	add = func(m *member) {
		for _, d := range m.dependents {
			if !all[d] {
				all[d] = true
				add(d)
			}
		}
	}
	add(m)
	return all
}

func (m *member) Check(context.Context) error { return nil }

func (m *member) Run(ctx context.Context, ready func()) error {
	if m.started.Swap(true) {
		m.complain("run twice")
	}
	defer m.returned.Store(true)
	for _, n := range m.needs {
		if !n.ready.Load() {
			m.complain("started before %s was ready", n.name)
		}
	}
	m.pause()
	switch m.does {
	case failsEarly:
		return errChosen
	case panics:
		panic(errChosen)
	case neverReady:
	default:
		m.ready.Store(true)
		ready()
	}
	m.pause()
	switch m.does {
	case failsOnceReady:
		return errChosen
	case returnsNil:
		return nil
	}
	<-ctx.Done()
	for d := range m.above() {
		if d.started.Load() && !d.returned.Load() {
			m.complain("cancelled while %s was running", d.name)
		}
	}
	m.pause()
	if m.does == failsWhenStopped {
		return errChosen
	}
	return ctx.Err()
}

// graphOf makes units of data: of every four bytes, one is the behaviour and three
// choose needs among the units before.
func graphOf(k *kernel.Kernel, data []byte, pause func()) []*member {
	var members []*member
	var units []*kernel.Unit
	for i := 0; i+4 <= len(data) && len(members) < 200; i += 4 {
		m := &member{name: fmt.Sprintf("u%d", len(members)), pause: pause}
		if data[i] < byte(behaviours) {
			m.does = behaviour(data[i]) // most bytes obey, so that graphs grow deep
		}
		var needs []*kernel.Unit
		for _, b := range data[i+1 : i+4] {
			if b < 64 || len(members) == 0 {
				continue
			}
			n := int(b) % len(members)
			m.needs = append(m.needs, members[n])
			members[n].dependents = append(members[n].dependents, m)
			needs = append(needs, units[n])
		}
		units = append(units, k.Add(m.name, m, needs...))
		members = append(members, m)
	}
	return members
}

// verify holds the end of a run against the promises of the package.
func verify(t *testing.T, k *kernel.Kernel, members []*member, err error) {
	t.Helper()
	byName := map[string]*member{}
	anyFailed := false
	for i, m := range members {
		byName[m.name] = m
		if wrong := m.wrong.Load(); wrong != nil {
			t.Error(*wrong)
		}
		if m.started.Load() && !m.returned.Load() {
			t.Errorf("%s outlived Run", m.name)
		}
		status := k.Status()[i]
		switch status.State {
		case kernel.StateStopped:
		case kernel.StateFailed:
			anyFailed = true
			if !m.does.fails() {
				t.Errorf("%s is failed, though it obeys: %s", m.name, status.Error)
			}
		default:
			t.Errorf("%s ended as %s", m.name, status.State)
		}
	}
	var blamed *kernel.UnitError
	switch {
	case err == nil && anyFailed:
		t.Error("a unit failed, but Run returned nil")
	case err == nil:
	case !errors.As(err, &blamed):
		t.Errorf("the error names no unit: %v", err)
	case byName[blamed.Unit] == nil || !byName[blamed.Unit].does.fails():
		t.Errorf("the error blames %s, which obeys: %v", blamed.Unit, err)
	}
}

func FuzzOrder(f *testing.F) {
	f.Add([]byte("\xff\x00\x00\x00\xff\x40\x00\x00\xff\x41\x40\x00"))
	f.Add([]byte("\xff\x00\x00\x00\x02\x40\x00\x00\xff\x41\x40\x00\x06\x40\x40\x40\xff\x43\x00\x00"))
	f.Add([]byte(strings.Repeat("\xff\x80\x81\x90", 40)))
	f.Fuzz(func(t *testing.T, data []byte) {
		synctest.Test(t, func(t *testing.T) {
			k := kernel.New(kernel.Options{})
			members := graphOf(k, data, func() {})
			ctx, cancel := context.WithCancel(t.Context())
			result := make(chan error, 1)
			go func() { result <- k.Run(ctx) }()
			synctest.Wait()
			cancel()
			verify(t, k, members, <-result)
			g := k.Graph()
			if len(g.Units) != len(members) || g.Text() == "" || g.Mermaid() == "" || g.DOT() == "" {
				t.Errorf("the graph has %d units of %d", len(g.Units), len(members))
			}
		})
	})
}

// TestHammer runs big random graphs on real threads, stops them at random moments
// and reads the status all the while. It means most under the race detector.
func TestHammer(t *testing.T) {
	kerneltest.NoLeaks(t)
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 1))
		data := make([]byte, 4*(1+rng.IntN(150)))
		for i := range data {
			data[i] = byte(rng.Uint32())
			if i%4 == 0 && seed%3 != 0 {
				data[i] |= 0x80 // two graphs of three obey throughout
			}
		}
		stopAfter := time.Duration(rng.IntN(4000)) * time.Microsecond
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			k := kernel.New(kernel.Options{CheckInterval: time.Millisecond, StallAfter: time.Millisecond})
			members := graphOf(k, data, runtime.Gosched)
			ctx, cancel := context.WithTimeout(t.Context(), stopAfter)
			defer cancel()
			watched := make(chan struct{})
			go func() {
				defer close(watched)
				for ctx.Err() == nil {
					k.Status()
					k.Timeline()
					runtime.Gosched()
				}
			}()
			err := k.Run(ctx)
			cancel()
			<-watched
			verify(t, k, members, err)
		})
	}
}
