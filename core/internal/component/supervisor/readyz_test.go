package supervisor

import (
	"net/http"
	"testing"

	"github.com/cleat-dev/cleat/core/kernel"
)

func TestReadyzNamesUnits(t *testing.T) {
	h := start(t)
	states := []kernel.State{kernel.StateReady, kernel.StateStarting, kernel.StateWaiting, kernel.StateUnhealthy}
	h.Units = func() []kernel.Status {
		return []kernel.Status{
			{Unit: "pki", State: states[0]},
			{Unit: "apiserver", State: states[1], ProbeError: "dial secret", Progress: "secret"},
			{Unit: "kubelet", State: states[2], WaitingFor: []string{"apiserver", "containerd"}},
			{Unit: "deployer", State: states[3], Error: "secret"},
		}
	}
	const want = `[+]unit-pki ok
[-]unit-apiserver failed: starting
[-]unit-kubelet failed: waiting for apiserver, containerd
[-]unit-deployer failed: unhealthy
readyz check failed
`
	if status, body := h.do(request{path: "/readyz"}); status != http.StatusServiceUnavailable || body != want {
		t.Errorf("%d %q", status, body)
	}

	answer := http.StatusForbidden
	h.SetHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "from the API server", answer) }))
	if status, body := h.do(request{path: "/readyz?verbose"}); status != http.StatusServiceUnavailable || body != want {
		t.Errorf("an API server that has just begun: %d %q", status, body)
	}
	if status, _ := h.do(request{path: "/readyz?exclude=units"}); status != answer {
		t.Errorf("only the API server's own: %d, want %d", status, answer)
	}
	states = []kernel.State{kernel.StateReady, kernel.StateReady, kernel.StateUnhealthy, kernel.StateStopping}
	for _, tt := range []struct {
		path      string
		api, want int
	}{
		{"/readyz", 500, 503}, {"/readyz?verbose", 500, 503}, {"/readyz", 200, 200}, {"/readyz", 403, 403},
		{"/readyz/etcd", 500, 500}, {"/livez", 500, 500}, {"/api", 500, 500},
	} {
		answer = tt.api
		if status, body := h.do(request{path: tt.path}); status != tt.want || body != "from the API server\n" {
			t.Errorf("%s: %d became %d %q, want %d", tt.path, tt.api, status, body, tt.want)
		}
	}
}
