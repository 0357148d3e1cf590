package supervisor

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/joinapi"
	"github.com/cleat-dev/cleat/core/internal/pki"
	"github.com/cleat-dev/cleat/core/internal/serverstatus"
	"github.com/cleat-dev/cleat/core/internal/statuspage"
	"github.com/cleat-dev/cleat/core/internal/token"
)

const (
	clusterPassword = "cluster-password"
	agentPassword   = "password-of-agents"
	bootstrapID     = "abcdef"
	bootstrapSecret = "0123456789abcdeg"
	nodePassword    = "0123456789abcdef"
)

// memory is a Store in memory.
type memory struct {
	mu   sync.Mutex
	keys map[string][]byte
	fail error
	open atomic.Int32 // Runs that use it
}

func (m *memory) Close() error { m.open.Add(-1); return nil }

func (m *memory) Get(_ context.Context, key string) ([]byte, int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok := m.keys[key]
	if !ok {
		return nil, 0, m.fail
	}
	return v, 1, m.fail
}

func (m *memory) Create(_ context.Context, key string, value []byte) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.keys[key]; ok || m.fail != nil {
		return false, m.fail
	}
	m.keys[key] = value
	return true, nil
}

func (m *memory) Update(_ context.Context, key string, value []byte, _ int64) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.keys[key]; !ok || m.fail != nil {
		return false, m.fail
	}
	m.keys[key] = value
	return true, nil
}

func (m *memory) remove(key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.keys, key)
	return m.fail
}

func (m *memory) setFail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = err
}

func (m *memory) copy() map[string][]byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.keys)
}

// harness is a running supervisor.
type harness struct {
	*Supervisor
	t     testing.TB
	id    *pki.Identity
	store *memory
	log   journal
	url   string
	stop  func() error

	mu              sync.Mutex
	servers, agents token.Token
	rotateErr       error
}

// journal is a log that can be read while it is written.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// start runs a supervisor whose limits are changed first. Only 127.0.0.1 counts as
// this machine, so that the rest of 127.0.0.0/8 can play strangers.
func start(t testing.TB, change ...func(*limits)) *harness {
	t.Helper()
	id, err := pki.NewIdentity(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cfg := &config.Config{}
	cfg.BindAddress, cfg.ServiceCIDR, cfg.ClusterCIDR = "127.0.0.1", []string{"10.43.0.0/16"}, []string{"10.42.0.0/16"}
	cfg.ClusterDomain, cfg.CNI, cfg.CertificateLifetime = "cluster.local", "cni-flannel", certificateLife
	h := &harness{
		t: t, id: id, store: &memory{keys: map[string][]byte{}},
		servers: token.Token{Username: token.UserServer, Password: clusterPassword},
		agents:  token.Token{Username: token.UserNode, Password: agentPassword},
	}
	cfg.EgressSelectorMode = config.EgressAgent
	h.Supervisor = New(Options{
		Config: cfg, CertFile: filepath.Join(dir, "s.crt"), KeyFile: filepath.Join(dir, "s.key"), Version: "v1.36.3+test",
		Cluster: func() (*pki.Identity, error) { return id, nil },
		Tokens: func() (servers, agents token.Token, err error) {
			h.mu.Lock()
			defer h.mu.Unlock()
			return h.servers, h.agents, nil
		},
		Rotate: func(_ context.Context, next token.Token) error {
			h.mu.Lock()
			defer h.mu.Unlock()
			if h.rotateErr == nil {
				h.servers.Password = next.Password
			}
			return h.rotateErr
		},
		BootstrapToken: func(ctx context.Context, id string) (secret, refusal string, err error) {
			switch id {
			case bootstrapID:
				return bootstrapSecret, "", nil
			case "server": // a token may be called so
				return bootstrapSecret, "", nil
			case "longag":
				return bootstrapSecret, "bootstrap token longag expired", nil
			case "nobody":
				return "", "there is none", nil
			case "toosoo":
				return "", "", errors.New("connection refused")
			}
			return "", "", nil
		},
		Store: func() (Store, error) { h.store.open.Add(1); return h.store, nil },
		ServingNames: func(*config.Config) ([]string, []netip.Addr, error) {
			return []string{"kubernetes", "server-1", "*.api.example"}, []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil
		},
		Servers:     func(context.Context) ([]string, error) { return []string{"192.0.2.1:6443"}, nil },
		NetworkLock: func() ([]byte, error) { return []byte("version = 1"), nil },
		NetworkPlugin: func(_ context.Context, digest string) ([]byte, error) {
			if digest == strings.Repeat("0", 64) {
				return nil, errors.New("no plugin has this digest")
			}
			return []byte("wasm"), nil
		},
		Page: statuspage.New(statuspage.Options{
			Status:    func() serverstatus.Status { return serverstatus.Status{Node: "server-1"} },
			Events:    func(context.Context) ([]serverstatus.Event, error) { return nil, nil },
			StreamFor: time.Nanosecond, // for who reads a stream to its end
		}),
		Tunnel: func(w http.ResponseWriter, _ *http.Request, node string) { w.Header().Set("Tunnel-Of", node) },
		Log:    slog.New(slog.NewTextHandler(&h.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	h.local = func(remote, asked netip.Addr) bool {
		return remote.IsLoopback() && (remote == asked || remote.Is6() || !asked.IsValid())
	}
	for _, c := range change {
		c(&h.limits)
	}
	h.issueServing("127.0.0.1")
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- h.Run(ctx, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-done:
		cancel()
		t.Fatal(err)
	}
	h.url = "https://" + h.Addr().String()
	h.stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() {
		if err := h.stop(); err != nil {
			t.Error(err)
		}
		if n := h.store.open.Load(); n != 0 {
			t.Errorf("%d stores were left open", n)
		}
	})
	return h
}

// issueServing writes a serving certificate for 127.0.0.1 and name.
func (h *harness) issueServing(name string) {
	h.t.Helper()
	leaf := pki.Leaf{CommonName: "kube-apiserver", Server: true, DNSNames: []string{name}, IPs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}
	if _, err := h.id.Server.EnsureLeaf(h.CertFile, h.KeyFile, leaf, time.Now()); err != nil {
		h.t.Fatal(err)
	}
}

// clientCert is a TLS certificate signed by authority.
func (h *harness) clientCert(authority *pki.Authority, user string, groups ...string) *tls.Certificate {
	h.t.Helper()
	keyPEM, err := pki.NewKey()
	if err != nil {
		h.t.Fatal(err)
	}
	key, err := pki.ParseKey(keyPEM)
	if err != nil {
		h.t.Fatal(err)
	}
	certPEM, err := authority.Sign(key.Public(), pki.Leaf{CommonName: user, Organization: groups, Client: true}, time.Now())
	if err != nil {
		h.t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		h.t.Fatal(err)
	}
	return &pair
}

func (h *harness) client(cert *tls.Certificate) *http.Client {
	config := &tls.Config{RootCAs: h.id.Server.Pool()}
	if cert != nil {
		config.Certificates = []tls.Certificate{*cert}
	}
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	h.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: time.Minute}
}

// over is a client that speaks one protocol.
func (h *harness) over(protocol string, cert *tls.Certificate) *http.Client {
	c := h.client(cert)
	if transport, ok := c.Transport.(*http.Transport); ok && protocol == "HTTP/1.1" {
		transport.ForceAttemptHTTP2 = false
		transport.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	}
	return c
}

// request is what a test sends.
type request struct {
	method, path   string
	user, password string // basic auth
	cert           *tls.Certificate
	node           *joinapi.NodeRequest
	body           []byte
	header         http.Header
}

func (h *harness) do(q request) (status int, body string) {
	h.t.Helper()
	if q.method == "" {
		q.method = http.MethodGet
	}
	r, err := http.NewRequestWithContext(h.t.Context(), q.method, h.url+q.path, bytes.NewReader(q.body))
	if err != nil {
		h.t.Fatal(err)
	}
	maps.Copy(r.Header, q.header)
	if q.user != "" {
		r.SetBasicAuth(q.user, q.password)
	}
	if q.node != nil {
		q.node.Set(r.Header)
	}
	res, err := h.client(q.cert).Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	text, err := io.ReadAll(res.Body)
	if err = errors.Join(err, res.Body.Close()); err != nil {
		h.t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

// csr is a certificate request that asks for leaf.
func csr(t testing.TB, leaf pki.Leaf) []byte {
	t.Helper()
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	text, err := pki.NewRequest(key, leaf)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func dial(t testing.TB, h *harness, config *tls.Config) *tls.Conn {
	t.Helper()
	c, err := (&net.Dialer{Timeout: time.Minute}).DialContext(t.Context(), "tcp", h.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn := tls.Client(c, config)
	if err := conn.HandshakeContext(t.Context()); err != nil {
		t.Fatal(errors.Join(err, c.Close()))
	}
	return conn
}
