package node

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/component/join"
	"github.com/cleat-dev/cleat/core/internal/joinapi"
	"github.com/cleat-dev/cleat/core/internal/paths"
	"github.com/cleat-dev/cleat/core/internal/pki"
	"github.com/cleat-dev/cleat/core/internal/token"
	"github.com/cleat-dev/cleat/core/pluginhost"
	"github.com/cleat-dev/cleat/core/pluginhost/guesttest"
	"github.com/cleat-dev/cleat/hostabi"
)

// pluginServer is the half of a supervisor that hands out plugins.
type pluginServer struct {
	*httptest.Server
	ca []byte

	mu    sync.Mutex
	lock  []byte
	wasm  map[string][]byte // by the digest it is asked for
	asked []string          // digests
	hook  func(w http.ResponseWriter, r *http.Request) bool
}

func newPluginServer(t *testing.T) *pluginServer {
	t.Helper()
	authority, err := pki.NewAuthority("server-ca", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile := filepath.Join(t.TempDir(), "crt"), filepath.Join(t.TempDir(), "key")
	leaf := pki.Leaf{CommonName: "kube-apiserver", Server: true, IPs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}
	if _, err := authority.EnsureLeaf(certFile, keyFile, leaf, time.Now()); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	s := &pluginServer{ca: authority.CertPEM(), wasm: map[string][]byte{}}
	s.Server = httptest.NewUnstartedServer(s)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func (s *pluginServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.URL.Path == joinapi.PathPlugin {
		s.asked = append(s.asked, r.URL.Query().Get(joinapi.QueryDigest))
	}
	answer := s.lock
	switch wasm, ok := s.wasm[r.URL.Query().Get(joinapi.QueryDigest)]; {
	case s.hook != nil && s.hook(w, r):
		return
	case r.URL.Path == joinapi.PathPlugin && ok:
		answer = wasm
	case r.URL.Path != joinapi.PathPlugins:
		joinapi.WriteStatus(w, http.StatusNotFound, 0, "no such plugin")
		return
	}
	_, _ = w.Write(answer) // of an answer that is too long the client reads a part
}

// names makes the server's lock name these, and hand them out.
func (s *pluginServer) names(t *testing.T, plugins ...[]byte) {
	t.Helper()
	lock := lockOf(t, plugins...)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lock = lock
	for _, wasm := range plugins {
		s.wasm[pluginhost.Digest(wasm)] = wasm
	}
}

func (s *pluginServer) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *pluginServer) takeAsked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := s.asked
	s.asked = nil
	return asked
}

func lockOf(t *testing.T, plugins ...[]byte) []byte {
	t.Helper()
	lock := pluginhost.Lock{Version: pluginhost.LockVersion}
	for _, wasm := range plugins {
		found, err := pluginhost.Inspect(wasm)
		if err != nil {
			t.Fatal(err)
		}
		entry, err := pluginhost.Propose(found, "file:"+found.Manifest.Name+".wasm", lock.NextOrder())
		if err != nil {
			t.Fatal(err)
		}
		lock.Plugins = append(lock.Plugins, entry)
	}
	text, err := lock.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// guest is a plugin of that point.
func guest(name, version string, point hostabi.Point) []byte {
	hook := hostabi.ExportCNIPlan
	if point == hostabi.PointDeployer {
		hook = hostabi.ExportDeployerRender
	}
	g := guesttest.Guest{Manifest: guesttest.Cold(name, point), Hooks: map[string][]byte{hook: guesttest.I32(0)}}
	g.Manifest.Version = version
	return g.Wasm()
}

func netOf(version string) []byte { return guest("net", version, hostabi.PointCNI) }

// agentSide is an agent's networkPlugin, with join's own client.
type agentSide struct {
	*networkPlugin
	t    *testing.T
	dir  string // of fetched files
	logs bytes.Buffer
}

// newAgentSide makes one that asks whom server names.
func newAgentSide(t *testing.T, ca []byte, server func() (string, error)) *agentSide {
	t.Helper()
	dir := t.TempDir()
	data := paths.Data(filepath.Join(dir, "data"))
	a := &agentSide{t: t, dir: data.FetchedPlugins()}
	logger := slog.New(slog.NewTextHandler(&a.logs, nil))
	cfg := &config.Config{}
	cfg.NodeName = "n1"
	joined := join.New(join.Options{
		Config: cfg, Data: data, Log: logger, Server: server, Version: "v1.36.3", PasswordFile: filepath.Join(dir, "password"),
		Token: func() (token.Token, error) {
			return token.Token{Username: token.UserNode, Password: "cluster-password"}, nil
		},
	})
	trusted := joined.Files().ServerCA // as join leaves it
	if err := errors.Join(os.MkdirAll(filepath.Dir(trusted), 0o700), os.WriteFile(trusted, ca, 0o600)); err != nil {
		t.Fatal(err)
	}
	a.networkPlugin = &networkPlugin{data: data, log: logger, fetch: joined.Fetch,
		cluster: func() (joinapi.NodeConfig, error) { return joinapi.NodeConfig{CNI: "net"}, nil }}
	return a
}

func (s *pluginServer) agent(t *testing.T) *agentSide {
	t.Helper()
	return newAgentSide(t, s.ca, func() (string, error) { return s.URL, nil })
}

// start opens the host; it is closed with the test, or by stop.
func (a *agentSide) start() (stop func()) {
	a.t.Helper()
	host, err := a.openHost(a.t.Context(), nil)
	if err != nil {
		a.t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		if err := host.Close(context.WithoutCancel(a.t.Context())); err != nil {
			a.t.Error(err)
		}
	})
	a.t.Cleanup(stop)
	return stop
}

// refuses wants the start to fail with all of the words.
func (a *agentSide) refuses(words ...string) {
	a.t.Helper()
	_, err := a.openHost(a.t.Context(), nil)
	for _, word := range words {
		if err == nil || !strings.Contains(err.Error(), word) {
			a.t.Errorf("%v, want %q", err, word)
		}
	}
	if a.host.Load() != nil {
		a.t.Error("the host is open")
	}
}

// kept are the names of what lies among the fetched files.
func (a *agentSide) kept() []string {
	a.t.Helper()
	entries, err := os.ReadDir(a.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		a.t.Fatal(err)
	}
	names := []string{}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// wantKept wants the files of these plugins and no others.
func (a *agentSide) wantKept(plugins ...[]byte) {
	a.t.Helper()
	want := []string{}
	for _, wasm := range plugins {
		want = append(want, pluginhost.Digest(wasm)+wasmExt)
	}
	slices.Sort(want)
	if got := a.kept(); !slices.Equal(got, want) {
		a.t.Errorf("kept are %v, want %v", got, want)
	}
}

// runs wants this plugin, alone, to be the one that decides.
func (a *agentSide) runs(wasm []byte) {
	a.t.Helper()
	report := a.report()
	if len(report) != 1 || report[0].Name != "net" || report[0].Digest != shortDigest(pluginhost.Digest(wasm)) {
		a.t.Errorf("the agent runs %+v, want %s", report, pluginhost.Digest(wasm))
	}
}

// settle tidies until nothing is left to remove, as the agent does each second.
func (a *agentSide) settle() {
	a.t.Helper()
	for deadline := time.Now().Add(time.Minute); !a.tidy(); {
		if time.Now().After(deadline) {
			a.t.Fatal("a plugin that was replaced is still in use")
		}
	}
}

// lines counts the lines of the log that have the words.
func (a *agentSide) lines(words string) int {
	n := 0
	for line := range strings.Lines(a.logs.String()) {
		if strings.Contains(line, words) {
			n++
		}
	}
	return n
}
