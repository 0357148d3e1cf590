package peers

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/core/kernel/kerneltest"
)

// harness is a unit whose list and tunnels are the test's.
type harness struct {
	*Component
	t       *testing.T
	log     lines
	begun   chan struct{} // closed when the list is followed
	take    func(servers []string, err error)
	stop    chan error // what Follow ends with
	servers func() ([]string, <-chan struct{})
	run     chan struct{} // closed when the tunnels are kept
	broken  error
}

// lines is a log.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) count(part string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), part)
}

func (h *harness) Run(ctx context.Context, ready func()) error {
	close(h.run)
	ready()
	<-ctx.Done()
	return nil
}

func (h *harness) Check(context.Context) error { return h.broken }

func newHarness(t *testing.T, address string, shared bool) *harness {
	t.Helper()
	h := &harness{t: t, begun: make(chan struct{}), stop: make(chan error, 1), run: make(chan struct{})}
	var err error
	h.Component, err = New(Options{
		Address: address, Log: slog.New(slog.NewTextHandler(&h.log, nil)),
		Shared: func() bool { return shared },
		Follow: func(ctx context.Context, take func([]string, error)) error {
			h.take = take
			close(h.begun)
			select {
			case <-ctx.Done():
				return nil
			case err := <-h.stop:
				return err
			}
		},
		Tunnel: func(servers func() ([]string, <-chan struct{})) (Tunnel, error) {
			h.servers = servers
			return h, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// tell has the list become servers and says whether the tunnels heard of it.
func (h *harness) tell(err error, servers ...string) (urls []string, heard bool) {
	h.t.Helper()
	_, changed := h.servers()
	h.take(servers, err)
	select {
	case <-changed:
		heard = true
	default:
	}
	urls, _ = h.servers()
	return urls, heard
}

func TestOthers(t *testing.T) {
	kerneltest.NoLeaks(t)
	for _, c := range []struct{ own, first, second, third string }{
		{"192.0.2.1", "192.0.2.1:6443", "192.0.2.2:6443", "192.0.2.10:6443"},
		{"fd00::1", "[fd00::1]:6443", "[fd00::2]:6443", "[fd00::10]:6443"},
		{"::ffff:192.0.2.1", "192.0.2.1:6443", "192.0.2.2:6443", "192.0.2.10:6443"},
	} {
		h := newHarness(t, c.own, true)
		stop := kerneltest.Run(t, h.Component) // ready without a list
		<-h.begun
		<-h.run
		for _, step := range []struct {
			what    string
			servers []string
			heard   bool
			want    []string
		}{
			{"alone", []string{c.first}, false, nil},
			{"a second", []string{c.first, c.second}, true, []string{c.second}},
			{"the same", []string{c.second, c.first}, false, []string{c.second}},
			{"a third", []string{c.third, c.first, c.second}, true, []string{c.second, c.third}},
			{"it moves", []string{c.third, strings.Replace(c.second, "6443", "7443", 1)}, true, []string{strings.Replace(c.second, "6443", "7443", 1), c.third}},
			// A lease has no port: the endpoints have that of who wrote them last.
			{"this one by another's port", []string{strings.Replace(c.first, "6443", "7443", 1), c.second}, true, []string{c.second}},
			{"alone again", []string{c.first}, true, nil},
		} {
			var want []string
			for _, to := range step.want {
				want = append(want, "https://"+to)
			}
			got, heard := h.tell(nil, step.servers...)
			if !slices.Equal(got, want) || heard != step.heard {
				t.Errorf("%s, %s: %v, heard of %t; want %v, %t", c.own, step.what, got, heard, want, step.heard)
			}
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	}
}

// A list that is wrong leaves the last one, and one line in the log.
func TestBadLists(t *testing.T) {
	h := newHarness(t, "192.0.2.1", true)
	kerneltest.Run(t, h.Component)
	<-h.begun
	h.tell(nil, "192.0.2.1:6443", "192.0.2.2:6443")
	for name, bad := range map[string][]string{
		"not an address": {"server.example:6443"},
		"0 of them":      nil,
		"33 of them":     slices.Repeat([]string{"192.0.2.3:6443"}, 33),
		"no node's":      {"127.0.0.1:6443"},
	} {
		before := h.log.count("not taken")
		for range 3 {
			if got, heard := h.tell(nil, bad...); len(got) != 1 || heard {
				t.Errorf("%s: the list is %v, heard of %t", name, got, heard)
			}
		}
		if n := h.log.count("not taken") - before; n != 1 {
			t.Errorf("%s: said %d times", name, n)
		}
	}
	if got, heard := h.tell(errors.New("not read"), "192.0.2.3:6443"); len(got) != 1 || heard || h.log.count("not read") != 1 {
		t.Errorf("an error: the list is %v, heard of %t", got, heard)
	}
}

// A datastore of this server alone has no others, so nobody is asked.
func TestAlone(t *testing.T) {
	kerneltest.NoLeaks(t)
	h := newHarness(t, "192.0.2.1", false)
	if err := kerneltest.Run(t, h.Component)(); err != nil {
		t.Error(err)
	}
	for what, c := range map[string]chan struct{}{"the list was followed": h.begun, "tunnels were kept": h.run} {
		select {
		case <-c:
			t.Error(what)
		default:
		}
	}
	if h.log.count("\n") > 0 {
		t.Errorf("it logs:\n%s", h.log.b.String())
	}
}

func TestEnds(t *testing.T) {
	kerneltest.NoLeaks(t)
	h := newHarness(t, "192.0.2.1", true)
	ended := make(chan error, 1)
	go func() { ended <- h.Component.Run(t.Context(), func() {}) }()
	<-h.run
	broken := errors.New("nobody to follow")
	h.stop <- broken
	select {
	case err := <-ended:
		if !errors.Is(err, broken) {
			t.Errorf("got %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("it goes on without a list")
	}
	h = newHarness(t, "server.example", true)
	if err := h.Component.Run(t.Context(), func() { t.Error("ready") }); err == nil || !strings.Contains(err.Error(), "--advertise-address") {
		t.Errorf("got %v", err)
	}
	h.broken = errors.New("no tunnel")
	if err := h.Component.Check(t.Context()); !errors.Is(err, h.broken) {
		t.Errorf("its health is %v", err)
	}
}
