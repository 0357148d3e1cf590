package join

import (
	"context"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/core/internal/joinapi"
	"github.com/cleat-dev/cleat/core/internal/pki"
)

// running is a machine whose unit runs, and whose clock can be moved together with
// the server's.
type running struct {
	*machine
	*Join
	server *fakeServer
	ahead  atomic.Int64 // nanoseconds
}

func joinAndRun(t *testing.T) *running {
	t.Helper()
	s := newFakeServer(t, loopbackLeaf(), time.Now())
	r := &running{machine: newMachine(t, s.URL, s.token()), server: s}
	now := func() time.Time { return time.Now().Add(time.Duration(r.ahead.Load())) }
	s.now, r.opts.Now = now, now
	r.Join = New(r.opts)
	ctx, cancel := context.WithCancel(t.Context())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- r.Run(ctx, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-done:
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	s.takeAsked()
	return r
}

// look is what the keeper does at a look; it does so itself after minutes only.
func (r *running) look() error { return r.keeper.Renew(r.machine.t.Context(), false) }

func (r *running) move(d time.Duration) { r.ahead.Add(int64(d)) }

// ends is when each certificate of the node ends.
func (r *running) ends(t *testing.T) map[string]time.Time {
	t.Helper()
	ends := map[string]time.Time{}
	for _, file := range r.keeper.Certificates {
		c, err := pki.ReadLeaf(file)
		if err != nil {
			t.Fatal(err)
		}
		ends[file] = c.NotAfter
	}
	return ends
}

// certificatePaths are those of the certificates of a node.
func certificatePaths() []string {
	return []string{joinapi.PathClientKubelet, joinapi.PathServingKubelet, joinapi.PathClientKubeProxy, joinapi.PathClientNetwork}
}

// A token may be changed, or end, while its nodes stay members.
func TestRenewsWithoutTheToken(t *testing.T) {
	r := joinAndRun(t)
	before := r.ends(t)
	r.server.changeToken()

	if err := r.look(); err != nil || len(r.server.takeAsked()) > 0 {
		t.Errorf("with nothing due it asked the server, or failed: %v", err)
	}
	r.move(pki.LeafLife * 2 / 3)
	if err := r.look(); err != nil {
		t.Fatal(err)
	}
	for file, end := range r.ends(t) {
		if !end.After(before[file]) {
			t.Errorf("%s still ends %v", file, end)
		}
	}
	asked := r.server.takeAsked()
	for _, path := range certificatePaths() {
		if !slices.Contains(asked, path) {
			t.Errorf("%s was not asked for, only %v", path, asked)
		}
	}
	if err := r.Check(r.machine.t.Context()); err != nil {
		t.Error(err)
	}
	// Nor does a restart need it.
	r.must()
}

// A machine that slept until its certificates had ended has the token left.
func TestRenewsWithTheToken(t *testing.T) {
	r := joinAndRun(t)
	before := r.ends(t)
	// The fake server serves with a certificate of its own, which must not end with them.
	for file := range before {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.look(); err != nil {
		t.Fatal(err)
	}
	r.ends(t)
	if !slices.Contains(r.server.takeAsked(), joinapi.PathClientKubelet) {
		t.Error("nothing was asked for")
	}
	// A server that does not know the certificate's authority any more.
	r.server.setHook(func(w http.ResponseWriter, req *http.Request) bool {
		if _, _, ok := req.BasicAuth(); ok || req.URL.Path == joinapi.PathCACerts {
			return false
		}
		joinapi.WriteStatus(w, http.StatusUnauthorized, 0, "who")
		return true
	})
	r.move(pki.LeafLife * 2 / 3)
	if err := r.look(); err != nil {
		t.Fatal(err)
	}
	for file, end := range r.ends(t) {
		if !end.After(before[file]) {
			t.Errorf("%s still ends %v", file, end)
		}
	}
}

func TestServerAwayWhenCertificatesAreDue(t *testing.T) {
	r := joinAndRun(t)
	r.server.setHook(func(w http.ResponseWriter, _ *http.Request) bool {
		joinapi.WriteStatus(w, http.StatusServiceUnavailable, 0, "not now")
		return true
	})
	// Once in half a day it asks without need, and does not insist.
	r.move(13 * time.Hour)
	if err := r.look(); err != nil {
		t.Error(err)
	}
	if text := strings.Join(r.logs.all(), "\n"); !strings.Contains(text, "could not be asked") {
		t.Errorf("it said %s", text)
	}
	r.server.takeAsked()
	if err := r.look(); err != nil || len(r.server.takeAsked()) > 0 {
		t.Errorf("it asked again at once, %v", err)
	}
	r.move(pki.LeafLife * 2 / 3)
	if err := r.look(); err == nil || !strings.Contains(err.Error(), "not now") {
		t.Errorf("%v, want the server's words", err)
	}
	r.server.setHook(nil)
	if err := r.Rotate(r.machine.t.Context()); err != nil {
		t.Fatal(err)
	}
}

// Authorities that the token does not vouch for are not written.
func TestChangedAuthorityIsNotTaken(t *testing.T) {
	r := joinAndRun(t)
	before := files(t, r.machine)
	other, err := pki.NewAuthority("other", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	r.server.mu.Lock()
	r.server.shown = other
	r.server.mu.Unlock()
	r.move(pki.LeafLife * 2 / 3)
	if err := r.look(); err == nil {
		t.Error("a server of another authority was asked for certificates")
	}
	for path, text := range files(t, r.machine) {
		if before[path] != text {
			t.Errorf("%s changed", path)
		}
	}
}

func TestJoinedIsToldTheLifetime(t *testing.T) {
	s := newFakeServer(t, loopbackLeaf(), time.Now())
	m := newMachine(t, s.URL, s.token())
	var told time.Duration
	m.opts.Joined = func(life time.Duration) { told = life }
	m.must()
	if told < pki.LeafLife || told > pki.LeafLife+2*time.Hour {
		t.Errorf("told %v", told)
	}
}
