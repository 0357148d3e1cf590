package node

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/core/internal/sdnotify"
	"github.com/cleat-dev/cleat/core/kernel"
)

func ms(n int64) *int64 { return &n }

func TestSummarize(t *testing.T) {
	ready := func(unit string) kernel.Status {
		return kernel.Status{Unit: unit, State: kernel.StateReady, ReadyAfterMS: ms(5)}
	}
	ill := ready("b")
	ill.State, ill.Error = kernel.StateUnhealthy, "no answer"
	for _, c := range []struct {
		name  string
		units []kernel.Status
		want  summary
	}{
		{"boot", []kernel.Status{ready("a"), {Unit: "b", State: kernel.StateStarting}, {Unit: "c", State: kernel.StateWaiting, WaitingFor: []string{"b"}}},
			summary{text: "starting: waiting for b; 1 of 3 units are ready"}},
		{"prepare", []kernel.Status{{Unit: "a", State: kernel.StateWaiting, WaitingFor: []string{"b"}}, {Unit: "b", State: kernel.StateWaiting, Progress: "prepare"}},
			summary{text: "starting: waiting for b; 0 of 2 units are ready"}},
		{"ready", []kernel.Status{ready("a"), ready("b")}, summary{text: "ready: 2 units", ready: true, healthy: true}},
		{"unhealthy", []kernel.Status{ready("a"), ill}, summary{text: "unhealthy: b: no answer", ready: true}},
		{"stop", []kernel.Status{ready("a"), {Unit: "b", State: kernel.StateStopping, ReadyAfterMS: ms(1)}},
			summary{text: "stopping: waiting for b", stopping: true}},
		{"failure", []kernel.Status{{Unit: "a", State: kernel.StateFailed, Error: "port 6443 is taken"}, {Unit: "b", State: kernel.StateStopped}},
			summary{text: "a: port 6443 is taken", stopping: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := summarize(c.units); got != c.want {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
		})
	}
}

// gate is a unit that is ready, and well, when the test says so.
type gate struct {
	open chan struct{}
	ill  chan bool
	err  error
}

func (g *gate) Run(ctx context.Context, ready func()) error {
	select {
	case <-g.open:
		ready()
	case <-ctx.Done():
	}
	<-ctx.Done()
	return ctx.Err()
}

func (g *gate) Check(context.Context) error {
	select {
	case ill := <-g.ill:
		g.err = nil
		if ill {
			g.err = errors.New("no answer")
		}
	default:
	}
	return g.err
}

// TestTellService follows a server through its life as its service manager hears it.
func TestTellService(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 4096)
	// until reads up to the wanted message and fails on one that must not come before.
	until := func(want string, never ...string) {
		t.Helper()
		for {
			n, err := conn.Read(buffer)
			if err != nil {
				t.Fatalf("waiting for %q: %v", want, err)
			}
			got := string(buffer[:n])
			if got == want {
				return
			}
			for _, bad := range never {
				if got == bad {
					t.Fatalf("%q came before %q", bad, want)
				}
			}
		}
	}

	t.Setenv("NOTIFY_SOCKET", socket)
	t.Setenv("WATCHDOG_USEC", "40000")
	manager, err := sdnotify.Take()
	if err != nil {
		t.Fatal(err)
	}
	k := kernel.New(kernel.Options{CheckInterval: 20 * time.Millisecond})
	g := &gate{open: make(chan struct{}), ill: make(chan bool)}
	k.Add("slow", g)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	stop := tellService(k, manager, slog.New(slog.DiscardHandler))
	go func() { ended <- k.Run(ctx) }()

	until("STATUS=starting: waiting for slow; 0 of 1 units are ready", "READY=1", "WATCHDOG=1")
	until("EXTEND_TIMEOUT_USEC=90000000", "READY=1", "WATCHDOG=1")
	close(g.open)
	until("READY=1", "WATCHDOG=1")
	until("STATUS=ready: 1 units")
	until("WATCHDOG=1")
	g.ill <- true
	until("STATUS=unhealthy: slow: no answer", "READY=1", "STOPPING=1")
	g.ill <- false
	until("STATUS=ready: 1 units", "WATCHDOG=1", "READY=1", "STOPPING=1")
	until("WATCHDOG=1")
	cancel()
	stop(<-ended)
	until("STOPPING=1", "READY=1")
	until("STATUS=stopped in order")
}
