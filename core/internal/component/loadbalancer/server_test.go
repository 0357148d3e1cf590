package loadbalancer

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/joinapi"
	"github.com/cleat-dev/cleat/core/internal/paths"
	"github.com/cleat-dev/cleat/core/internal/pki"
)

// patience is far longer than anything here takes on a quiet machine.
const patience = 30 * time.Second

// farewell is what a server says to a raw connection that stops sending.
const farewell = "bye"

// raw begins a connection that is no TLS: what follows comes back as it is.
const raw = 'R'

// fakeServer is a server of the cluster: it answers checks over TLS, says its name,
// and echoes raw connections.
type fakeServer struct {
	t       testing.TB
	name    string
	address string
	cert    tls.Certificate

	notReady atomic.Bool
	hangs    atomic.Bool
	release  chan struct{} // ends requests that hang
	listed   atomic.Pointer[[]byte]
	askers   chan string // the users that asked for the list

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	stop  func()
}

// cluster is the authorities of some servers.
type cluster struct {
	t  testing.TB
	id *pki.Identity
}

func newCluster(t testing.TB) *cluster {
	t.Helper()
	id, err := pki.NewIdentity(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return &cluster{t, id}
}

func (c *cluster) pair(authority *pki.Authority, leaf pki.Leaf) tls.Certificate {
	c.t.Helper()
	dir := c.t.TempDir()
	cert, key := filepath.Join(dir, "crt"), filepath.Join(dir, "key")
	if _, err := authority.EnsureLeaf(cert, key, leaf, time.Now()); err != nil {
		c.t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		c.t.Fatal(err)
	}
	return pair
}

// server starts a server on a port of its own.
func (c *cluster) server(name string) *fakeServer {
	c.t.Helper()
	s := &fakeServer{
		t: c.t, name: name, address: "127.0.0.1:0", release: make(chan struct{}), askers: make(chan string, 100), conns: map[net.Conn]struct{}{},
		cert: c.pair(c.id.Server, pki.Leaf{CommonName: "kube-apiserver", Server: true, IPs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}),
	}
	s.start()
	c.t.Cleanup(func() { close(s.release); s.kill() })
	return s
}

// start opens the server's port, which is the same each time.
func (s *fakeServer) start() {
	s.t.Helper()
	inner, err := net.Listen("tcp", s.address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.address = inner.Addr().String()
	web := &queue{Listener: inner, conns: make(chan net.Conn), done: make(chan struct{})}
	server := &http.Server{
		Handler:   http.HandlerFunc(s.serve),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{s.cert}, ClientAuth: tls.RequestClientCert},
		ErrorLog:  slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
	var all sync.WaitGroup
	all.Go(func() { _ = server.ServeTLS(web, "", "") })
	all.Go(func() {
		for {
			conn, err := inner.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns[conn] = struct{}{}
			s.mu.Unlock()
			all.Go(func() { s.sort(conn, web) })
		}
	})
	s.stop = sync.OnceFunc(func() {
		inner.Close()
		close(web.done)
		s.drop()
		server.Close()
		all.Wait()
	})
}

// drop closes the connections there are.
func (s *fakeServer) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.Close()
	}
	clear(s.conns)
}

// kill is what the kernel does for a process that died.
func (s *fakeServer) kill() { s.stop() }

func (s *fakeServer) sort(conn net.Conn, web *queue) {
	reader := bufio.NewReader(conn)
	first, err := reader.Peek(1)
	if err != nil {
		conn.Close()
		return
	}
	if first[0] == raw {
		_, err := io.Copy(conn, reader)
		if err == nil {
			_, _ = io.WriteString(conn, farewell)
		}
		conn.Close()
		return
	}
	select {
	case web.conns <- &peeked{conn, reader}:
	case <-web.done:
	}
}

func (s *fakeServer) serve(w http.ResponseWriter, r *http.Request) {
	if s.hangs.Load() {
		select {
		case <-s.release:
		case <-r.Context().Done():
		}
		return
	}
	switch r.URL.Path {
	case joinapi.PathReady:
		if s.notReady.Load() {
			joinapi.WriteStatus(w, http.StatusServiceUnavailable, 1, "the API server is starting")
		}
	case joinapi.PathServers:
		user := ""
		if len(r.TLS.PeerCertificates) > 0 {
			user = r.TLS.PeerCertificates[0].Subject.CommonName
		}
		select {
		case s.askers <- user:
		default:
		}
		if text := s.listed.Load(); text != nil {
			_, _ = w.Write(*text)
			return
		}
		joinapi.WriteStatus(w, http.StatusServiceUnavailable, 1, "not yet")
	default:
		_, _ = io.WriteString(w, s.name)
	}
}

// queue is a listener that is given its connections.
type queue struct {
	net.Listener
	conns chan net.Conn
	done  chan struct{}
}

func (q *queue) Accept() (net.Conn, error) {
	select {
	case c := <-q.conns:
		return c, nil
	case <-q.done:
		return nil, net.ErrClosed
	}
}

type peeked struct {
	net.Conn
	reader *bufio.Reader
}

func (p *peeked) Read(b []byte) (int, error) { return p.reader.Read(b) }

// freePort is a port that nobody listens on.
func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	address, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		t.Fatalf("%T", l.Addr())
	}
	return address.Port
}

// balancer makes a component whose --server is fallback, and which is told of its
// servers by take.
func (c *cluster) balancer(fallback string) *Component {
	c.t.Helper()
	dir := c.t.TempDir()
	cfg := &config.Config{}
	cfg.LBServerPort, cfg.NodeIP = freePort(c.t), []string{"10.0.0.1"}
	b := New(Options{
		Config: cfg, Data: paths.Data(dir), Server: "https://" + fallback, Authority: filepath.Join(dir, "ca.crt"),
		Cert: filepath.Join(dir, "node.crt"), Key: filepath.Join(dir, "node.key"), Log: slog.New(slog.NewTextHandler(c.t.Output(), nil)),
	})
	return b
}

// trust writes the authority where the balancer looks for it.
func (c *cluster) trust(b *Component) {
	c.t.Helper()
	if err := os.WriteFile(b.Authority, c.id.Server.CertPEM(), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// states are the servers of a balancer that are in a state.
func states(b *Component, state State) []string {
	var all []string
	for _, s := range b.pool.look() {
		if s.state == state {
			all = append(all, s.address)
		}
	}
	slices.Sort(all)
	return all
}

func current(b *Component) string {
	b.pool.mu.Lock()
	defer b.pool.mu.Unlock()
	if b.pool.current == nil {
		return ""
	}
	return b.pool.current.address
}

// eventually waits until f is true, looking again whenever the balancer changes.
func eventually(t testing.TB, b *Component, what string, f func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("not after %v: %s; the servers are %+v", patience, what, b.pool.look())
		}
	}
}

// dial opens a raw connection through the balancer and proves that it carries.
func dial(t testing.TB, b *Component) *net.TCPConn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", b.address(), patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		t.Fatalf("%T", conn)
	}
	if err := echo(tcp, string(raw)+"hello"); err != nil {
		t.Fatal(err)
	}
	return tcp
}

func echo(conn net.Conn, text string) error {
	if _, err := io.WriteString(conn, text); err != nil {
		return err
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(conn, got); err != nil {
		return err
	}
	if string(got) != text {
		return errors.New("another text came back: " + string(got))
	}
	return nil
}

// closed reports that a connection has been ended by the other side.
func closed(conn net.Conn) error {
	n, err := conn.Read(make([]byte, 1))
	var timeout net.Error
	switch {
	case err == nil:
		return errors.New("a byte came instead of the end")
	case errors.As(err, &timeout) && timeout.Timeout():
		return errors.New("it is still open")
	case n > 0:
		return errors.New("bytes came before the end")
	}
	return nil
}
