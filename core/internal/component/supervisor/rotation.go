package supervisor

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/cleat-dev/cleat/core/internal/joinapi"
	"github.com/cleat-dev/cleat/core/internal/token"
)

// serveRotation replaces the servers' token and answers with what is left to do.
func (a *api) serveRotation(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body) // bounded by the route
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		joinapi.WriteStatus(w, http.StatusRequestEntityTooLarge, 0, fmt.Sprintf("new token: more than %d bytes", tooLarge.Limit))
		return
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		joinapi.WriteStatus(w, http.StatusRequestTimeout, 0, "new token: it did not come in time")
		return
	}
	if err != nil {
		return // the client is gone
	}
	next, err := joinapi.ParseRotation(body)
	if err == nil {
		err = a.Rotate(r.Context(), next)
		if err != nil && !errors.Is(err, token.ErrNew) {
			a.Log.Error("the token was not rotated", "from", r.RemoteAddr, "error", err)
			joinapi.WriteStatus(w, http.StatusServiceUnavailable, 0, "the token was not rotated: "+err.Error())
			return
		}
	}
	if err != nil {
		joinapi.WriteStatus(w, http.StatusBadRequest, 0, err.Error())
		return
	}
	a.Log.Warn("the token was rotated: the old one joins nobody any more", "from", r.RemoteAddr)
	text(w, a.leftToDo())
}

// leftToDo says where this server would find the old token at its next start, ""
// if nowhere.
func (a *api) leftToDo() string {
	switch {
	case a.Config.TokenFile != "":
		return fmt.Sprintf("this server reads its token from %s: write the new one there before it starts again", a.Config.TokenFile)
	case a.Config.Token != "":
		return fmt.Sprintf("this server is given its token (%s): give it the new one before it starts again", a.Config.Origin("token"))
	}
	return ""
}
