package supervisor

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/core/internal/joinapi"
	"github.com/cleat-dev/cleat/core/kernel"
)

// The list is read again when it is old, not for every node, and a server that
// cannot read it says so.
func TestServers(t *testing.T) {
	var reads atomic.Int64
	var fails atomic.Bool
	h := start(t)
	h.Servers = func(context.Context) ([]string, error) {
		reads.Add(1)
		if fails.Load() {
			return nil, errors.New("no route to the datastore")
		}
		return []string{"192.0.2.1:6443", "192.0.2.2:6443"}, nil
	}
	ask := request{path: joinapi.PathServers, user: "node", password: clusterPassword}
	for range 20 {
		status, body := h.do(ask)
		got, err := joinapi.ParseServers([]byte(body))
		if status != http.StatusOK || err != nil || len(got.Servers) != 2 {
			t.Fatalf("%d %s: %v", status, body, err)
		}
	}
	if n := reads.Load(); n < 1 || n > 10 {
		t.Errorf("20 requests read the list %d times", n)
	}
	fails.Store(true)
	deadline := time.Now().Add(time.Minute)
	for {
		status, body := h.do(ask)
		if status == http.StatusServiceUnavailable {
			if strings.Contains(body, "no route") {
				t.Errorf("the answer tells about the inside: %s", body)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("an old list is still served")
		}
	}
}

// A node that cannot read the list waits for no longer than serversTimeout.
func TestServersThatHang(t *testing.T) {
	h := start(t)
	h.Servers = func(ctx context.Context) ([]string, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	begun := time.Now()
	status, _ := h.do(request{path: joinapi.PathServers, user: "node", password: clusterPassword})
	if took := time.Since(begun); status != http.StatusServiceUnavailable || took > 10*serversTimeout {
		t.Errorf("%d after %v", status, took)
	}
}

// A load balancer sends nobody to a server whose API server is not well.
func TestReadyFollowsTheAPIServer(t *testing.T) {
	h := start(t)
	h.SetHandler(http.NotFoundHandler())
	for state, want := range map[kernel.State]int{
		kernel.StateStarting: 503, kernel.StateReady: 200, kernel.StateUnhealthy: 503, kernel.StateStopping: 503,
	} {
		h.Units = func() []kernel.Status {
			return []kernel.Status{{Unit: "scheduler", State: kernel.StateFailed}, {Unit: unitAPIServer, State: state}}
		}
		if status, body := h.do(request{path: joinapi.PathReady}); status != want {
			t.Errorf("an API server that is %s: %d %s, want %d", state, status, body, want)
		}
	}
}
