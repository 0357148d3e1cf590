package supervisor

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/core/internal/joinapi"
	"github.com/cleat-dev/cleat/core/internal/token"
)

func (h *harness) rotate(user, password, body string) (int, string) {
	h.t.Helper()
	return h.do(request{method: http.MethodPut, path: joinapi.PathToken, user: user, password: password, body: []byte(body)})
}

// From one request to the next the old token is worth nothing.
func TestRotation(t *testing.T) {
	h := start(t)
	settings := func(user, password string) int {
		t.Helper()
		status, _ := h.do(request{path: joinapi.PathConfig, user: user, password: password})
		return status
	}
	h.Config.TokenFile = "/etc/secret"
	status, body := h.rotate("server", clusterPassword, `{"newToken":"`+newPassword+`"}`)
	if status != 200 || !strings.Contains(body, "/etc/secret") {
		t.Fatalf("%d %s", status, body)
	}
	for _, c := range []struct {
		user, password string
		want           int
	}{
		{"node", clusterPassword, 401}, {"server", clusterPassword, 401}, {"node", newPassword, 200}, {"server", newPassword, 200},
		{"node", agentPassword, 200}, {"server", agentPassword, 401},
	} {
		if got := settings(c.user, c.password); got != c.want {
			t.Errorf("%s with %q: %d, want %d", c.user, c.password, got, c.want)
		}
	}
	h.Config.TokenFile = ""
	if status, body := h.rotate("server", newPassword, `{"newToken":"`+clusterPassword+`"}`); status != 200 || body != "" {
		t.Errorf("back again: %d %s", status, body)
	}
	if !strings.Contains(h.log.String(), "the token was rotated") {
		t.Error("the log says nothing")
	}
	noSecrets(t, "the log", h.log.String())
}

func TestRotationRefuses(t *testing.T) {
	h := start(t)
	for _, c := range []struct {
		body   string
		err    error
		status int
		says   string
	}{
		{"", nil, 400, "want"},
		{"{}", nil, 400, "empty"},
		{`{"newToken":"` + newPassword + `"}{}`, nil, 400, "behind"},
		{`{"newToken":"` + newPassword + `","x":1}`, nil, 400, "want"},
		{`{"newToken":"` + newPassword + ` x"}`, nil, 400, "printable"},
		{`{"newToken":"` + strings.Repeat("x", 1100) + `"}`, nil, 400, "1100 characters"},
		{`{"newToken":"` + strings.Repeat("x", joinapi.MaxRotation) + `"}`, nil, 413, "2048 bytes"},
		{`{"newToken":"` + newPassword + `"}`, fmt.Errorf("%w is the one in force", token.ErrNew), 400, "in force"},
		{`{"newToken":"` + newPassword + `"}`, errors.New("no datastore"), 503, "no datastore"},
	} {
		h.mu.Lock()
		h.rotateErr = c.err
		h.mu.Unlock()
		status, body := h.rotate("server", clusterPassword, c.body)
		if status != c.status || !strings.Contains(body, c.says) || strings.Contains(body, newPassword) {
			t.Errorf("%.60q: %d %s, want %d %q", c.body, status, body, c.status, c.says)
		}
	}
	if status, body := h.rotate("node", clusterPassword, `{"newToken":"x"}`); status != 403 || !strings.Contains(body, "user server") {
		t.Errorf("as a node: %d %s", status, body)
	}
	if h.servers.Password != clusterPassword {
		t.Error("a refusal changed the token")
	}
}

// Guesses at bootstrap tokens are held up as all others are, and an API server that
// is away is nobody's guess.
func TestBootstrapTokensAreThrottled(t *testing.T) {
	h := start(t)
	own, err := h.routes(h.id, h.store)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	own.guesses.now = func() time.Time { return now } // nothing is paid off meanwhile
	ask := func(remote, id, secret string) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://h"+joinapi.PathConfig, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.RemoteAddr = remote
		r.SetBasicAuth(id, secret)
		w := &answer{header: http.Header{}, status: http.StatusOK}
		own.ServeHTTP(w, r)
		return w.status
	}
	for range 2 * h.limits.guesses {
		if got := ask("203.0.113.5:1", "toosoo", bootstrapSecret); got != 503 {
			t.Fatalf("before the API server: %d", got)
		}
	}
	for i := range 2 * h.limits.guesses {
		ask("203.0.113.5:1", bootstrapID, fmt.Sprintf("%016d", i))
	}
	if got := ask("203.0.113.5:1", bootstrapID, bootstrapSecret); got != 429 {
		t.Errorf("after many guesses: %d", got)
	}
	if got := ask("203.0.113.6:1", bootstrapID, bootstrapSecret); got != 200 {
		t.Errorf("from elsewhere: %d", got)
	}
}

// Whoever cannot be looked up in time is told to come again.
func TestBootstrapTokenIsLookedUpInBoundedTime(t *testing.T) {
	h := start(t, func(l *limits) { l.lookUp = 1 })
	h.BootstrapToken = func(ctx context.Context, _ string) (string, string, error) {
		<-ctx.Done()
		return "", "", ctx.Err()
	}
	if status, body := h.do(request{path: joinapi.PathConfig, user: bootstrapID, password: bootstrapSecret}); status != 503 || !strings.Contains(body, "cannot be checked yet") {
		t.Errorf("%d %s", status, body)
	}
}
