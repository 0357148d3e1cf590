package node

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/cleat-dev/cleat/core/internal/joinapi"
	"github.com/cleat-dev/cleat/core/kernel"
)

// A server takes no tunnel of its own node; without one, a node of its name is
// another machine.
func TestWhoseTunnels(t *testing.T) {
	for _, c := range []struct {
		node, disableAgent string
		want               int // the unit does not run, so 503 is what others get
	}{
		{"n1", "false", http.StatusMisdirectedRequest},
		{"n2", "false", http.StatusServiceUnavailable},
		{"n1", "true", http.StatusServiceUnavailable},
	} {
		tunnels := newServerTunnels(serverConfig(t, map[string][]string{"disable-agent": {c.disableAgent}}), slog.New(slog.DiscardHandler))
		r := httptest.NewRequest(http.MethodGet, joinapi.PathConnect, nil)
		r.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}}
		w := httptest.NewRecorder()
		tunnels.serve(w, r, c.node)
		if w.Code != c.want {
			t.Errorf("node %s, --disable-agent=%s: %d, want %d", c.node, c.disableAgent, w.Code, c.want)
		}
	}
}

// That another server cannot be reached does not take this one out of service.
func TestReadinessIsOfThisMachine(t *testing.T) {
	all := []kernel.Status{{Unit: "apiserver"}, {Unit: unitPeers, State: kernel.StateUnhealthy}, {Unit: "join"}}
	var names []string
	for _, u := range ofThisMachine(func() []kernel.Status { return all })() {
		names = append(names, u.Unit)
	}
	if want := []string{"apiserver", "join"}; !slices.Equal(names, want) {
		t.Errorf("%v, want %v", names, want)
	}
}
