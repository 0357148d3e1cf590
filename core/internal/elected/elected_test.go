package elected

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cleat-dev/cleat/core/kernel/kerneltest"
)

// unit is the component, asking a server of the test.
func unit(t *testing.T, run func(ctx context.Context) error, standby func() bool, handle http.HandlerFunc) *Component {
	t.Helper()
	server := httptest.NewTLSServer(handle)
	t.Cleanup(server.Close)
	return New(server.URL, run, standby)
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
