package statuspage

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/cleat-dev/cleat/core/internal/joinapi"
)

// CodeLifetime is how long a link may be used, for messages.
const CodeLifetime = codeLifetime

const (
	codeLifetime    = 5 * time.Minute
	sessionLifetime = 8 * time.Hour
	maxCodes        = 16
	maxSessions     = 32

	// A session is in two halves: the cookie, which no script can read, and the
	// key, which the page sends in a header. A browser sends a cookie to every port
	// of a host, so also to a pod's; what the page keeps is for its own port alone.
	// The name has the prefix of cookies that no page without TLS can set.
	cookieName = "__Secure-cleat-ui"
	keyHeader  = "Cleat-Page-Key"
	cookieHalf = 21 // letters, of 43
)

// tickets are secrets that are good for a while. Only their digests are kept, in
// memory; with too many, the oldest goes.
type tickets struct {
	most     int
	lifetime time.Duration
	now      func() time.Time

	mu   sync.Mutex
	list []ticket // oldest first
}

type ticket struct {
	digest [sha256.Size]byte
	ends   time.Time
}

// issue makes a ticket: 256 random bits, in letters that a URL and a cookie take.
func (t *tickets) issue() string {
	var secret [32]byte
	_, _ = rand.Read(secret[:]) // it never fails
	text := base64.RawURLEncoding.EncodeToString(secret[:])
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sweep()
	if len(t.list) == t.most {
		t.list = slices.Delete(t.list, 0, 1)
	}
	t.list = append(t.list, ticket{sha256.Sum256([]byte(text)), t.now().Add(t.lifetime)})
	return text
}

// valid reports whether text is a ticket; with take it is none afterwards.
func (t *tickets) valid(text string, take bool) bool {
	digest := sha256.Sum256([]byte(text))
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sweep()
	found := -1
	for i := range t.list {
		if subtle.ConstantTimeCompare(t.list[i].digest[:], digest[:]) == 1 {
			found = i
		}
	}
	if found >= 0 && take {
		t.list = slices.Delete(t.list, found, found+1)
	}
	return found >= 0
}

// sweep drops what has ended; the lock is held.
func (t *tickets) sweep() {
	now := t.now()
	t.list = slices.DeleteFunc(t.list, func(k ticket) bool { return !now.Before(k.ends) })
}

// Link returns the path of the page with a new code in the fragment, which a
// browser sends to nobody: it is in no server's log and no Referer.
func (p *Page) Link() string { return Prefix + "#" + p.codes.issue() }

// Admits reports whether r comes with both halves of a session.
func (p *Page) Admits(r *http.Request) bool {
	cookie, err := r.Cookie(cookieName)
	return err == nil && !fromElsewhere(r) && p.sessions.valid(cookie.Value+r.Header.Get(keyHeader), false)
}

// ServeSession takes a code, the body, for a session: a cookie, and as JSON the key.
func (p *Page) ServeSession(w http.ResponseWriter, r *http.Request) {
	harden(w.Header())
	if fromElsewhere(r) {
		joinapi.WriteStatus(w, http.StatusForbidden, 0, "another site's page asked")
		return
	}
	code, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxSessionBody))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		joinapi.WriteStatus(w, http.StatusRequestEntityTooLarge, 0, "that is no code of a link")
		return
	}
	if err != nil || !p.codes.valid(string(code), true) {
		joinapi.WriteStatus(w, http.StatusForbidden, 0, "the link was used before or is older than "+
			codeLifetime.String()+": run `cleat ui` on the server for a new one")
		return
	}
	session := p.sessions.issue()
	http.SetCookie(w, &http.Cookie{
		Name: cookieName, Value: session[:cookieHalf], Path: Prefix, MaxAge: int(sessionLifetime.Seconds()),
		Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode,
	})
	w.Header().Set("Content-Type", "application/json")
	// Nobody is left to be told when the connection is gone.
	_ = json.NewEncoder(w).Encode(struct {
		Key string `json:"key"`
	}{session[cookieHalf:]})
}
