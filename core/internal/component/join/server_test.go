package join

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/joinapi"
	"github.com/cleat-dev/cleat/core/internal/paths"
	"github.com/cleat-dev/cleat/core/internal/pki"
	"github.com/cleat-dev/cleat/core/internal/token"
)

const (
	clusterPassword = "cluster-password"
	nodeConfig      = `{"clusterCIDR":["10.42.0.0/16"],"serviceCIDR":["10.43.0.0/16"],"clusterDomain":"cluster.local","cni":"cni-flannel","version":"v1.36.3"}`
)

// fakeServer answers as the protocol says; hook may answer first.
type fakeServer struct {
	*httptest.Server
	t      *testing.T
	id     *pki.Identity
	shown  *pki.Authority // what /cacerts shows
	mu     sync.Mutex
	hook   func(w http.ResponseWriter, r *http.Request) bool
	asked  []string
	now    func() time.Time  // when certificates are signed
	locked bool              // the token is not good any more
	secret bool              // credentials came to /cacerts
	shows  map[string]string // path -> the user of the certificate that came with it
}

func newFakeServer(t *testing.T, serving pki.Leaf, now time.Time) *fakeServer {
	t.Helper()
	id, err := pki.NewIdentity(now)
	if err != nil {
		t.Fatal(err)
	}
	s := &fakeServer{t: t, id: id, shown: id.Server, shows: map[string]string{}, now: time.Now}
	keyPEM, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	key, err := pki.ParseKey(keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	certPEM, err := id.Server.Sign(key.Public(), serving, now)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	s.Server = httptest.NewUnstartedServer(s)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequestClientCert}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func loopbackLeaf() pki.Leaf {
	return pki.Leaf{CommonName: "kube-apiserver", Server: true, IPs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}
}

func (s *fakeServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, r.URL.Path)
	s.shows[r.URL.Path] = ""
	for _, c := range r.TLS.PeerCertificates {
		s.shows[r.URL.Path] = c.Subject.CommonName
	}
	_, password, ok := r.BasicAuth()
	if r.URL.Path == joinapi.PathCACerts && (ok || r.Header.Get(joinapi.HeaderNodePassword) != "") {
		s.secret = true
	}
	if s.hook != nil && s.hook(w, r) {
		return
	}
	// As the supervisor: what the header says counts before the certificate.
	isMember := !ok && s.shows[r.URL.Path] == joinapi.NodeUser("n1")
	if r.URL.Path != joinapi.PathCACerts && !isMember && (s.locked || password != clusterPassword) {
		joinapi.WriteStatus(w, http.StatusUnauthorized, 0, "wrong")
		return
	}
	var body string
	switch r.URL.Path {
	case joinapi.PathCACerts:
		body = string(s.shown.CertPEM())
	case joinapi.PathConfig:
		body = nodeConfig
	case joinapi.PathClientCA:
		body = string(s.id.Client.CertPEM())
	default:
		body = s.sign(r)
	}
	if _, err := io.WriteString(w, body); err != nil {
		s.t.Error(err)
	}
}

func (s *fakeServer) sign(r *http.Request) string {
	node, err := joinapi.ReadNodeRequest(r.Header)
	if err != nil {
		s.t.Error(err)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Error(err)
	}
	csr, err := pki.ParseRequest(body)
	if err != nil {
		s.t.Error(err)
		return ""
	}
	authority := s.id.Client
	leaf := pki.Leaf{CommonName: joinapi.NodeUser(node.Name), Organization: []string{joinapi.GroupNodes}, Client: true}
	switch r.URL.Path {
	case joinapi.PathServingKubelet:
		leaf.Server, leaf.Client, leaf.DNSNames, leaf.IPs = true, false, []string{node.Name}, node.IPs
		authority = s.id.Server
	case joinapi.PathClientKubeProxy:
		leaf.CommonName, leaf.Organization = joinapi.UserKubeProxy, nil
	case joinapi.PathClientNetwork:
		leaf.CommonName, leaf.Organization = joinapi.UserNetwork, nil
	}
	text, err := authority.Sign(csr.PublicKey, leaf, s.now())
	if err != nil {
		s.t.Error(err)
	}
	return string(text)
}

func (s *fakeServer) setHook(f func(w http.ResponseWriter, r *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hook = f
}

// changeToken makes the server refuse the token that nodes joined with.
func (s *fakeServer) changeToken() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.locked = true
}

func (s *fakeServer) takeAsked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := s.asked
	s.asked = nil
	return asked
}

func (s *fakeServer) token() token.Token {
	hash, err := token.HashCA(s.id.Server.CertPEM())
	if err != nil {
		s.t.Fatal(err)
	}
	return token.Token{CAHash: hash, Username: token.UserServer, Password: clusterPassword}
}

// machine is one node to be.
type machine struct {
	t    *testing.T
	opts Options
	logs *lines
}

func newMachine(t *testing.T, url string, tok token.Token) *machine {
	cfg := &config.Config{}
	cfg.NodeName, cfg.NodeIP = "n1", []string{"10.1.2.3"}
	dir := t.TempDir()
	logs := &lines{}
	return &machine{t: t, logs: logs, opts: Options{
		Config: cfg, Data: paths.Data(filepath.Join(dir, "data")), Version: "v1.36.3", PasswordFile: filepath.Join(dir, "etc", "node", "password"),
		Server: func() (string, error) { return url, nil },
		Token:  func() (token.Token, error) { return tok, nil },
		Log:    slog.New(logs),
	}}
}

// start runs the unit until it is ready or fails.
func (m *machine) start() (*Join, error) {
	ctx, cancel := context.WithTimeout(m.t.Context(), time.Minute)
	defer cancel()
	j := New(m.opts)
	if _, err := j.NodeConfig(); err == nil {
		m.t.Error("settings before ready")
	}
	err := j.Run(ctx, cancel)
	if err == nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		m.t.Fatalf("not ready within a minute: %v", m.logs.all())
	}
	return j, err
}

func (m *machine) must() *Join {
	m.t.Helper()
	j, err := m.start()
	if err != nil {
		m.t.Fatal(err)
	}
	return j
}

// waitsWith starts, wants a warning with word, and stops.
func (m *machine) waitsWith(word string) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), time.Minute)
	defer cancel()
	m.logs.on(word, cancel)
	if err := New(m.opts).Run(ctx, func() { m.t.Error("ready") }); err != nil {
		m.t.Fatal(err)
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		m.t.Errorf("no warning with %q in %v", word, m.logs.all())
	}
}

// lines is a log that can be waited for.
type lines struct {
	mu   sync.Mutex
	text []string
	word string
	call func()
}

func (l *lines) Enabled(context.Context, slog.Level) bool { return true }
func (l *lines) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *lines) WithGroup(string) slog.Handler            { return l }
func (l *lines) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString(r.Message)
	r.Attrs(func(a slog.Attr) bool { b.WriteString(" " + a.String()); return true })
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, b.String())
	if l.call != nil && strings.Contains(b.String(), l.word) {
		l.call()
	}
	return nil
}

func (l *lines) on(word string, call func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.word, l.call = word, call
}

func (l *lines) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.text)
}

func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "https://" + l.Addr().String()
}
