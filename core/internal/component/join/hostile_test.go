package join

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/core/internal/joinapi"
)

// A server may be anybody's: what it says is read up to a bound.
func TestHostileAnswers(t *testing.T) {
	s := newFakeServer(t, loopbackLeaf(), time.Now())
	for name, c := range map[string]struct {
		path string
		say  func(w http.ResponseWriter)
		want string
	}{
		"a header without end": {joinapi.PathCACerts, func(w http.ResponseWriter) {
			for i := range 200 {
				w.Header().Set("X-"+strconv.Itoa(i), strings.Repeat("x", 1000))
			}
		}, "cannot be reached"},
		"a body without end": {joinapi.PathConfig, func(w http.ResponseWriter) {
			for range 2 * joinapi.MaxAnswerBody / 1024 {
				if _, err := w.Write(make([]byte, 1024)); err != nil {
					return
				}
			}
		}, "longer than"},
		"half a body": {joinapi.PathClientCA, func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write([]byte("x"))
		}, "broke"},
	} {
		s.setHook(func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == c.path {
				c.say(w)
			}
			return r.URL.Path == c.path
		})
		t.Run(name, func(t *testing.T) { newMachine(t, s.URL, s.token()).waitsWith(c.want) })
	}
}

// A member is known by its certificate when it comes again, but not to a server
// that was not checked.
func TestMemberShowsItsCertificate(t *testing.T) {
	s := newFakeServer(t, loopbackLeaf(), time.Now())
	m := newMachine(t, s.URL, s.token())
	for _, want := range []string{"", "system:node:n1"} {
		m.must()
		s.mu.Lock()
		if got := s.shows[joinapi.PathConfig]; got != want {
			t.Errorf("%s came from %q, want %q", joinapi.PathConfig, got, want)
		}
		if got := s.shows[joinapi.PathCACerts]; got != "" {
			t.Errorf("%s came from %q", joinapi.PathCACerts, got)
		}
		s.mu.Unlock()
	}
}
