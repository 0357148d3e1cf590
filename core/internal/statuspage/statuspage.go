// Package statuspage is the web page on which an administrator watches a server:
// three files, and a stream of what `cleat status` shows. It changes nothing.
//
// The files hold nothing of the server and are for anybody. The stream is for who
// has an administrator's certificate, which the supervisor checks, or a session: a
// link from `cleat ui` holds a code that is good for one of those.
package statuspage

import (
	"context"
	"embed"
	"net/http"
	"path"
	"sync"
	"time"

	"github.com/cleat-dev/cleat/core/internal/joinapi"
	"github.com/cleat-dev/cleat/core/internal/serverstatus"
)

// Prefix is what the paths of the page begin with. Each file has the path of its
// name below it, and the page itself is Prefix.
const Prefix = joinapi.Prefix + "ui/"

// The paths below Prefix.
const (
	PathScript  = Prefix + "page.js"
	PathStyle   = Prefix + "page.css"
	PathSession = Prefix + "session" // POST: a code, for a session
	PathStream  = Prefix + "stream"  // GET: Server-Sent Events, each a message
)

// MaxSessionBody is how long the body of a POST to PathSession may be, in bytes.
const MaxSessionBody = 128

const (
	// look is how often the server is looked at while somebody watches, and
	// lookEvents how often its Node's events are asked for, of the API server.
	look       = time.Second
	lookEvents = 5 * time.Second
	// beat is how often a stream with nothing to say says so. The page takes a
	// connection that is silent for longer than three of them for lost.
	beat = 5 * time.Second
	// writeTimeout is how long one write to a stream may take.
	writeTimeout = 20 * time.Second
	// streamFor is when a stream ends, to be opened again: so nobody watches for
	// much longer than their session lasts.
	streamFor  = 10 * time.Minute
	maxStreams = 16
)

//go:embed web
var files embed.FS

// Options are what the page shows. Both functions may be called at any time.
type Options struct {
	Status func() serverstatus.Status
	// Events are the Node's last ones, oldest first. An error leaves those that
	// were known.
	Events func(context.Context) ([]serverstatus.Event, error)
	Now    func() time.Time // nil is time.Now

	// StreamFor is when a stream ends, to be opened again; 0 is ten minutes.
	StreamFor time.Duration
}

// Page is the page. Its methods may be called from any goroutine.
type Page struct {
	Options
	codes    tickets
	sessions tickets

	closed   chan struct{}
	close    func()
	mu       sync.Mutex
	watchers map[*watcher]struct{}
	message  []byte // the last one; nil when nobody watches
	rest     func() // ends the looking
}

// New makes a page.
func New(o Options) *Page {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.StreamFor == 0 {
		o.StreamFor = streamFor
	}
	p := &Page{
		Options:  o,
		codes:    tickets{most: maxCodes, lifetime: codeLifetime, now: o.Now},
		sessions: tickets{most: maxSessions, lifetime: sessionLifetime, now: o.Now},
		closed:   make(chan struct{}), watchers: map[*watcher]struct{}{},
	}
	p.close = sync.OnceFunc(func() { close(p.closed) })
	return p
}

// Close ends all streams, at once and for good.
func (p *Page) Close() { p.close() }

// ServeFile answers with the page, its script or its style.
func (p *Page) ServeFile(w http.ResponseWriter, r *http.Request) {
	name := path.Base(r.URL.Path)
	if r.URL.Path == Prefix {
		name = "page.html"
	}
	harden(w.Header())
	http.ServeFileFS(w, r, files, "web/"+name)
}

// harden keeps the browser from doing anything that the page does not need.
func harden(h http.Header) {
	for name, value := range map[string]string{
		"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; " +
			"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
		"X-Frame-Options":              "DENY",
		"X-Content-Type-Options":       "nosniff",
		"Referrer-Policy":              "no-referrer",
		"Cache-Control":                "no-store",
		"Cross-Origin-Opener-Policy":   "same-origin",
		"Cross-Origin-Resource-Policy": "same-origin",
	} {
		h.Set(name, value)
	}
}

// fromElsewhere reports whether another site's page had the browser send r. A
// certificate goes with every request, whoever is behind it.
func fromElsewhere(r *http.Request) bool {
	site := r.Header.Get("Sec-Fetch-Site")
	return site != "" && site != "same-origin" && site != "none"
}
