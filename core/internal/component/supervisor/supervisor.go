// Package supervisor owns the one TLS port of a server. It answers nodes that
// join, which needs no API server, and hands every other request to the API
// server once there is one.
package supervisor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/joinapi"
	"github.com/cleat-dev/cleat/core/internal/pki"
	"github.com/cleat-dev/cleat/core/internal/statuspage"
	"github.com/cleat-dev/cleat/core/internal/token"
	"github.com/cleat-dev/cleat/core/kernel"
)

const (
	// drainTimeout is how long requests may take to end at a stop; watches,
	// which never end, are cut after it.
	drainTimeout = 3 * time.Second
	pingTimeout  = 10 * time.Second
)

// Options are what the unit needs from its surroundings.
type Options struct {
	Config   *config.Config
	CertFile string // serving certificate, read again when the file changes
	KeyFile  string
	Version  string // what NodeConfig says of the server
	// Cluster gives the authorities; Store the datastore. Both are called when
	// Run begins, after bootstrap is ready. A store that is an io.Closer is
	// closed when Run ends.
	Cluster func() (*pki.Identity, error)
	Store   func() (Store, error)
	// Tokens gives the servers' token and that of agents, zero if there is none.
	// It is asked at every request, for Rotate replaces the first. An error of
	// Rotate that is token.ErrNew is about the new token itself.
	Tokens func() (servers, agents token.Token, err error)
	Rotate func(ctx context.Context, next token.Token) error
	// BootstrapToken gives the secret of the bootstrap token called id, "" if there
	// is none, and why it may not be used to join, "" if it may. An error says that
	// the cluster cannot be asked.
	BootstrapToken func(ctx context.Context, id string) (secret, refusal string, err error)
	// ServingNames are the DNS names and addresses of servers: no node on
	// another machine gets a certificate for them.
	ServingNames func(*config.Config) ([]string, []netip.Addr, error)
	// Servers are where the cluster's servers are reached, IP:port.
	Servers func(ctx context.Context) ([]string, error)
	// Units are those of this server, for /readyz while it boots; nil has none.
	Units func() []kernel.Status
	// Page is what administrators watch the server on; it is set. Its streams end
	// when Run does.
	Page *statuspage.Page
	// Tunnel takes over the request of a node that opens its tunnel; nil is a server
	// that takes none.
	Tunnel func(w http.ResponseWriter, r *http.Request, node string)
	// NetworkLock is the lock of the plugin that decides the network, NetworkPlugin
	// the wasm that it pins by this digest: what a node without a server runs.
	NetworkLock   func() ([]byte, error)
	NetworkPlugin func(ctx context.Context, sha256 string) ([]byte, error)
	Log           *slog.Logger
	Now           func() time.Time // nil is time.Now
}

// Supervisor is the unit. SetHandler and SetSNICertificate may be called at
// any time, from any goroutine.
type Supervisor struct {
	Options
	limits limits
	local  func(remote, asked netip.Addr) bool // whether both are this machine
	api    atomic.Pointer[http.Handler]
	sni    sync.Map // server name -> *tls.Certificate
	addr   atomic.Pointer[net.TCPAddr]
	open   chan struct{} // closed when the API server is ready for the first time
	opened sync.Once
}

// New makes the unit.
func New(o Options) *Supervisor {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Units == nil {
		o.Units = func() []kernel.Status { return nil }
	}
	return &Supervisor{Options: o, limits: standard(), local: sameMachine, open: make(chan struct{})}
}

// Open lets this machine's own node through to the API server, which must be ready.
func (s *Supervisor) Open() { s.opened.Do(func() { close(s.open) }) }

// SetHandler makes h answer everything that is not the supervisor's own; with
// nil such requests get 503 again.
func (s *Supervisor) SetHandler(h http.Handler) {
	if h == nil {
		s.api.Store(nil)
		return
	}
	s.api.Store(&h)
}

// SetSNICertificate serves cert to clients that ask for the server called
// name, such as the API server's own loopback client.
func (s *Supervisor) SetSNICertificate(name string, cert tls.Certificate) {
	s.sni.Store(name, &cert)
}

// Addr is where the unit listens, nil before it does.
func (s *Supervisor) Addr() *net.TCPAddr { return s.addr.Load() }

// Run opens the port, calls ready when a TLS request through it was answered,
// and serves until ctx ends.
func (s *Supervisor) Run(ctx context.Context, ready func()) (err error) {
	id, err := s.Cluster()
	if err != nil {
		return err
	}
	store, err := s.Store()
	if err != nil {
		return err
	}
	if c, ok := store.(io.Closer); ok {
		defer func() { err = errors.Join(err, c.Close()) }()
	}
	own, err := s.routes(id, store)
	if err != nil {
		return err
	}
	serving, err := newKeyPair(s.CertFile, s.KeyFile, s.Log)
	if err != nil {
		return err
	}
	address := net.JoinHostPort(s.Config.BindAddress, strconv.Itoa(s.Config.HTTPSListenPort))
	inner, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listen on %s (--bind-address, --https-listen-port): %w", address, err)
	}
	listener := newListener(inner, s.limits, s.local, s.Log)
	addr, _ := inner.Addr().(*net.TCPAddr)
	s.addr.Store(addr)
	server := s.server(own, serving, listener.state)
	server.RegisterOnShutdown(s.Page.Close)
	failed := make(chan error, 1)
	go func() { failed <- server.ServeTLS(listener, "", "") }()

	err = s.ping(ctx, addr, id.Server.Pool())
	if err == nil {
		ready()
		select {
		case <-ctx.Done():
		case err = <-failed:
			failed <- err
		}
	} else if ctx.Err() != nil {
		err = nil
	}
	return errors.Join(err, stop(server, listener, failed))
}

func (s *Supervisor) server(own *api, serving *keyPair, state func(net.Conn, http.ConnState)) *http.Server {
	return &http.Server{
		Handler:           s.split(own),
		ReadHeaderTimeout: s.limits.header,
		IdleTimeout:       s.limits.idle,
		MaxHeaderBytes:    s.limits.headerBytes,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: s.limits.streams},
		ConnState:         state,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, connOf(c))
		},
		// Every port scan fails a handshake: not worth more than debug.
		ErrorLog: slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
		TLSConfig: &tls.Config{
			MinVersion: tls.VersionTLS12,
			// Certificates are verified by whoever answers: the API server for
			// its requests, the supervisor for its own.
			ClientAuth: tls.RequestClientCert,
			GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
				if c, ok := s.sni.Load(hello.ServerName); ok {
					if cert, ok := c.(*tls.Certificate); ok {
						return cert, nil
					}
				}
				return serving.get(), nil
			},
		},
	}
}

// connKey is under which a request's context has its *conn.
type connKey struct{}

// split hands requests to the supervisor's own routes or to the API server.
// It compares the path as it came: the API server's may hold anything.
func (s *Supervisor) split(own *api) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n := fieldsOf(r.Header); n > s.limits.headerFields {
			s.leftover(w, r)
			joinapi.WriteStatus(w, http.StatusRequestHeaderFieldsTooLarge, 0,
				fmt.Sprintf("%d header fields, want at most %d", n, s.limits.headerFields))
			return
		}
		if own.owns(r) {
			s.deadlines(w, s.limits.body, s.limits.answer)
			own.ServeHTTP(w, r)
			return
		}
		if s.ownNode(r) && !s.awaitOpen(r.Context()) {
			return // nobody reads an answer any more
		}
		h := s.api.Load()
		switch {
		case r.URL.Path == pathReadyz:
			s.leftover(w, r)
			s.serveReadyz(w, r, h)
		case h != nil:
			(*h).ServeHTTP(w, r)
			s.leftover(w, r)
		default:
			s.leftover(w, r)
			joinapi.WriteStatus(w, http.StatusServiceUnavailable, 1, "the API server is starting")
		}
	})
}

// holdAtMost is how long a request of this machine's kubelet waits for the API
// server before it gets 503 like any other.
const holdAtMost = 30 * time.Second

// ownNode reports whether a request says that it is the kubelet's of this machine.
// Whoever says so wrongly waits, that is all.
func (s *Supervisor) ownNode(r *http.Request) bool {
	return r.TLS != nil && len(r.TLS.PeerCertificates) > 0 &&
		r.TLS.PeerCertificates[0].Subject.CommonName == joinapi.NodeUser(s.Config.NodeName)
}

// awaitOpen holds a request until the API server is ready, holdAtMost at most, and
// reports whether somebody still waits for the answer. The kubelet starts beside
// the API server, and after a refusal it would ask again only a second later.
func (s *Supervisor) awaitOpen(ctx context.Context) bool {
	select {
	case <-s.open:
		return true
	default:
	}
	timeout := time.NewTimer(holdAtMost)
	defer timeout.Stop()
	select {
	case <-s.open:
	case <-timeout.C:
	case <-ctx.Done():
		return false
	}
	return true
}

// leftover bounds what the server still does for a request whose handler is
// done: it reads what the handler left of the body, and writes the last of the
// answer. Both would wait forever, also for somebody whom the API server has
// just turned away. A connection that was taken over has its own rules.
func (s *Supervisor) leftover(w http.ResponseWriter, r *http.Request) {
	if c, _ := r.Context().Value(connKey{}).(*conn); c != nil && c.takenOver.Load() {
		return
	}
	s.deadlines(w, s.limits.body, s.limits.answer)
}

// deadlines bounds the rest of one request. The server lifts both for the next.
func (s *Supervisor) deadlines(w http.ResponseWriter, read, write time.Duration) {
	now, control := time.Now(), http.NewResponseController(w)
	// A writer that knows no deadlines is a test's.
	_ = errors.Join(control.SetReadDeadline(now.Add(read)), control.SetWriteDeadline(now.Add(write)))
}

// ping proves that a client which trusts the cluster's CA gets an answer.
func (s *Supervisor) ping(ctx context.Context, addr *net.TCPAddr, pool *x509.CertPool) error {
	target := net.JoinHostPort(s.Config.LoopbackAddress(), strconv.Itoa(addr.Port))
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool, Time: s.Now},
		DisableKeepAlives: true,
	}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+target+joinapi.PathPing, nil)
	if err != nil {
		return err
	}
	res, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return fmt.Errorf("the supervisor does not answer itself: %w", err)
	}
	_, err = io.Copy(io.Discard, io.LimitReader(res.Body, 1<<10))
	if err = errors.Join(err, res.Body.Close()); err != nil {
		return fmt.Errorf("the supervisor does not answer itself: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("the supervisor answers itself with %s", res.Status)
	}
	return nil
}

// stop ends the server within drainTimeout, connections that were hijacked
// for exec and port-forward included.
func stop(server *http.Server, l *listener, failed <-chan error) error {
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	err := server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = nil
	}
	err = errors.Join(err, server.Close())
	l.closeConns()
	if served := <-failed; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, fmt.Errorf("supervisor: %w", served))
	}
	return err
}
