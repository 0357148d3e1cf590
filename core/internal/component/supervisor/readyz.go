package supervisor

import (
	"net/http"
	"strings"

	"github.com/cleat-dev/cleat/core/internal/healthprobe"
	"github.com/cleat-dev/cleat/core/kernel"
)

const pathReadyz = "/readyz"

// serveReadyz answers while the server boots, in the words that the API server
// will use: for its first second that knows no roles, and forbids anybody to ask.
// Who leaves checks out by ?exclude= wants the API server's own, and so do all
// once no unit waits or starts. Anybody may ask, so units are named and what
// they wait for, no errors; those are in `cleat status`.
func (s *Supervisor) serveReadyz(w http.ResponseWriter, r *http.Request, api *http.Handler) {
	var text strings.Builder
	booting := false
	for _, u := range s.Units() {
		name := healthprobe.UnitPrefix + u.Unit
		booting = booting || u.State == kernel.StateWaiting || u.State == kernel.StateStarting
		switch {
		case u.State == kernel.StateReady:
			text.WriteString("[+]" + name + " ok\n")
		case len(u.WaitingFor) > 0:
			text.WriteString("[-]" + name + " failed: " + string(u.State) + " for " + strings.Join(u.WaitingFor, ", ") + "\n")
		default:
			text.WriteString("[-]" + name + " failed: " + string(u.State) + "\n")
		}
	}
	if api != nil && (!booting || r.URL.Query().Has("exclude")) {
		(*api).ServeHTTP(unavailable{w}, r)
		return
	}
	text.WriteString("readyz check failed")
	w.Header().Set("Retry-After", "1")
	http.Error(w, text.String(), http.StatusServiceUnavailable)
}

// unavailable turns the 500 that the API server gives for "not ready" into the
// 503 that it means, as before there is one.
type unavailable struct{ http.ResponseWriter }

func (u unavailable) WriteHeader(status int) {
	if status == http.StatusInternalServerError {
		status = http.StatusServiceUnavailable
	}
	u.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (u unavailable) Unwrap() http.ResponseWriter { return u.ResponseWriter }
