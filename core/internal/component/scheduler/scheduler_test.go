package scheduler

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/healthprobe"
	"github.com/cleat-dev/cleat/core/kernel/kerneltest"
)

func TestArgs(t *testing.T) {
	cfg := &config.Config{}
	want := []string{
		"--authentication-kubeconfig=/s.kubeconfig",
		"--authorization-kubeconfig=/s.kubeconfig",
		"--bind-address=127.0.0.1",
		"--kube-api-burst=1000",
		"--kube-api-qps=500",
		"--kubeconfig=/s.kubeconfig",
		"--leader-elect=false",
		"--profiling=false",
		"--secure-port=10259",
	}
	if diff := cmp.Diff(want, Args(cfg, "/s.kubeconfig")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	cfg.KubeSchedulerArg = []string{"profiling=true"}
	if got := Args(cfg, "/s.kubeconfig"); !slices.Contains(got, "--profiling=true") || slices.Contains(got, "--profiling=false") {
		t.Errorf("the operator's value does not replace ours: %q", got)
	}
}

// unit is the component, asking a server of the test.
func unit(t *testing.T, run func(ctx context.Context) error, standby func() bool, handle http.HandlerFunc) *Component {
	t.Helper()
	server := httptest.NewTLSServer(handle)
	t.Cleanup(server.Close)
	c := New(run, standby)
	c.probe = healthprobe.New(server.URL, nil)
	return c
}

func untilDone(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func TestReadyWhenItAnswers(t *testing.T) {
	var asked atomic.Int32
	var unwell atomic.Bool
	c := unit(t, untilDone, func() bool { return false }, func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) < 3 || unwell.Load() {
			http.Error(w, "[-]informers failed: not filled", http.StatusInternalServerError)
		}
	})
	stop := kerneltest.Run(t, c)
	if got := asked.Load(); got < 3 {
		t.Errorf("ready after %d answers, the first two of which were failures", got)
	}
	unwell.Store(true)
	if err := c.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "informers failed") {
		t.Errorf("Check: got %v, want what it complains about", err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestStandbyIsWell(t *testing.T) {
	c := unit(t, untilDone, func() bool { return true }, func(w http.ResponseWriter, _ *http.Request) {
		t.Error("asked what does not run")
	})
	stop := kerneltest.Run(t, c)
	if err := c.Check(t.Context()); err != nil {
		t.Errorf("Check: %v", err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestFailureIsTheUnits(t *testing.T) {
	failure := errors.New("no kubeconfig")
	c := unit(t, func(context.Context) error { return failure }, func() bool { return false }, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	if err := c.Run(t.Context(), func() { t.Error("ready was called") }); !errors.Is(err, failure) {
		t.Errorf("got %v, want %v", err, failure)
	}
}
