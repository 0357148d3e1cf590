package leader

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const patience = time.Minute

// newGate is a gate that asks often, and keeps the lease however busy the machine is.
func newGate(kubeconfig string) *Gate {
	g := NewGate(kubeconfig, leaseName, "me")
	g.timing = timing{lease: 2 * patience, renew: patience, retry: 50 * time.Millisecond}
	return g
}

// start runs the gate with run; result delivers what it returns.
func start(t *testing.T, g *Gate, run func(ctx context.Context) error) (cancel func(), result <-chan error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx, run) }()
	return cancel, done
}

func receive[T any](t *testing.T, what string, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		t.Fatalf("not within %s: %s", patience, what)
		panic("unreachable")
	}
}

func TestLeads(t *testing.T) {
	server, kubeconfig := newAPI(t)
	g := newGate(kubeconfig)
	running := make(chan struct{})
	mayReturn := make(chan struct{})
	ended := make(chan struct{})
	cancel, result := start(t, g, func(ctx context.Context) error {
		close(running)
		<-ctx.Done()
		close(ended)
		<-mayReturn
		return nil
	})
	receive(t, "run is called", running)
	if got := server.holder(); got != "me" {
		t.Errorf("the lease is held by %q while run runs, want %q", got, "me")
	}
	if g.Standby() {
		t.Error("a gate that leads says that it stands by")
	}

	cancel()
	receive(t, "run's context ends", ended)
	renewals := server.writes() + 2
	server.eventually(t, "the lease is renewed while run comes to its end", func() bool { return server.writes() >= renewals })
	if got := server.holder(); got != "me" {
		t.Errorf("the lease is held by %q before run has returned, want %q", got, "me")
	}
	select {
	case err := <-result:
		t.Fatalf("Run returned %v before run did", err)
	default:
	}
	close(mayReturn)
	if err := receive(t, "Run returns", result); err != nil {
		t.Errorf("told to stop, Run returned %v", err)
	}
	if got := server.holder(); got != "" {
		t.Errorf("the lease is still held by %q after Run returned", got)
	}
}

func TestStandsBy(t *testing.T) {
	server, kubeconfig := newAPI(t)
	server.hold("other", 3600)
	g := newGate(kubeconfig)
	if g.Standby() {
		t.Error("a gate that was not run says that it stands by")
	}
	running := make(chan struct{})
	cancel, result := start(t, g, func(ctx context.Context) error {
		close(running)
		<-ctx.Done()
		return nil
	})
	server.eventually(t, "the gate stands by", g.Standby)
	select {
	case <-running:
		t.Fatal("run was called while another server leads")
	default:
	}

	server.hold("", 1)
	receive(t, "run is called once the lease was given up", running)
	if g.Standby() {
		t.Error("a gate that leads says that it stands by")
	}
	cancel()
	if err := receive(t, "Run returns", result); err != nil {
		t.Error(err)
	}
}

func TestStandbyEndsPromptly(t *testing.T) {
	server, kubeconfig := newAPI(t)
	server.hold("other", 3600)
	g := NewGate(kubeconfig, leaseName, "me")
	g.timing = timing{lease: 10 * time.Minute, renew: 5 * time.Minute, retry: time.Minute}
	cancel, result := start(t, g, func(context.Context) error {
		t.Error("run was called")
		return nil
	})
	server.eventually(t, "the gate stands by", g.Standby)
	before := time.Now()
	cancel()
	if err := receive(t, "Run returns", result); err != nil {
		t.Errorf("told to stop, Run returned %v", err)
	}
	if took := time.Since(before); took > g.timing.retry/2 {
		t.Errorf("the end of a standby took %s", took)
	}
	if got := server.holder(); got != "other" {
		t.Errorf("the lease of another server is now held by %q", got)
	}
	if g.Standby() {
		t.Error("a gate that has ended says that it stands by")
	}
}

func TestRunsItselfToAnEnd(t *testing.T) {
	failure := errors.New("no scheduler")
	for _, want := range []error{failure, nil} {
		server, kubeconfig := newAPI(t)
		_, result := start(t, newGate(kubeconfig), func(context.Context) error { return want })
		if err := receive(t, "Run returns", result); !errors.Is(err, want) {
			t.Errorf("run returned %v, Run %v", want, err)
		}
		if got := server.holder(); got != "" {
			t.Errorf("the lease is still held by %q", got)
		}
	}
}

func TestLosesTheLease(t *testing.T) {
	for name, lose := range map[string]func(*api){
		"another took it": func(s *api) { s.hold("other", 3600) },
		"no answers":      func(s *api) { s.fail(true) },
	} {
		t.Run(name, func(t *testing.T) {
			server, kubeconfig := newAPI(t)
			running := make(chan struct{})
			g := newGate(kubeconfig)
			g.timing.lease, g.timing.renew = 3*time.Second, 2*time.Second // it gives up soon, and a lease counts whole seconds
			_, result := start(t, g, func(ctx context.Context) error {
				close(running)
				<-ctx.Done()
				return ctx.Err()
			})
			receive(t, "run is called", running)
			lose(server)
			if err := receive(t, "Run returns", result); !errors.Is(err, ErrLost) {
				t.Errorf("got %v, want %v", err, ErrLost)
			}
		})
	}
}

func TestErrorAfterTheLoss(t *testing.T) {
	leading, lose := context.WithCancel(t.Context())
	failure := errors.New("could not write")
	err := runWhile(t.Context(), leading, func(ctx context.Context) error {
		lose()
		<-ctx.Done()
		return failure
	})
	if !errors.Is(err, ErrLost) || !errors.Is(err, failure) {
		t.Errorf("got %v, want both what was lost and what failed", err)
	}
}

func TestPanicReachesTheCaller(t *testing.T) {
	server, kubeconfig := newAPI(t)
	func() {
		defer func() {
			if v := recover(); v != "broken" {
				t.Errorf("recovered %v, want what run panicked with", v)
			}
		}()
		_ = newGate(kubeconfig).Run(t.Context(), func(context.Context) error { panic("broken") })
	}()
	if got := server.holder(); got != "" {
		t.Errorf("the lease is still held by %q", got)
	}
}

func TestOpenGate(t *testing.T) {
	var g Gate
	failure := errors.New("done")
	if err := g.Run(t.Context(), func(context.Context) error { return failure }); err != failure {
		t.Errorf("got %v, want what run returned", err)
	}
	if g.Standby() {
		t.Error("an open gate says that it stands by")
	}
}

func TestKubeconfigIsNamed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "scheduler.kubeconfig")
	run := func(context.Context) error { t.Error("run was called"); return nil }
	if err := NewGate(file, leaseName, "me").Run(t.Context(), run); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("missing: got %v, want an error that names %s", err, file)
	}
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := NewGate(file, leaseName, "me").Run(t.Context(), run); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("broken: got %v, want an error that names %s", err, file)
	}
}
