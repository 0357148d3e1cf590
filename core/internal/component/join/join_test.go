package join

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/cleat-dev/cleat/core/internal/joinapi"
	"github.com/cleat-dev/cleat/core/internal/pki"
	"github.com/cleat-dev/cleat/core/internal/token"
)

func TestJoinAndRestart(t *testing.T) {
	s := newFakeServer(t, loopbackLeaf(), time.Now())
	m := newMachine(t, s.URL+"/", s.token())
	j := m.must()
	if c, err := j.NodeConfig(); err != nil || c.CNI != "cni-flannel" {
		t.Errorf("%+v, %v", c, err)
	}
	f := j.Files()
	for path, user := range map[string]string{f.Kubelet: "system:node:n1", f.KubeProxy: "system:kube-proxy", f.Network: "cleat-network"} {
		c, err := clientcmd.BuildConfigFromFlags("", path)
		if err != nil || c.Host != s.URL || c.CAFile != f.ServerCA {
			t.Fatalf("%s: %+v, %v", path, c, err)
		}
		pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil || pair.Leaf.Subject.CommonName != user {
			t.Errorf("%s: %v", path, err)
		}
	}
	serving, err := tls.LoadX509KeyPair(f.ServingKubelet.Cert, f.ServingKubelet.Key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := serving.Leaf.Verify(x509.VerifyOptions{Roots: s.id.Server.Pool(), DNSName: "10.1.2.3"}); err != nil {
		t.Error(err)
	}
	for path, mode := range map[string]fs.FileMode{
		m.opts.PasswordFile: 0o600, f.Kubelet: 0o600, f.KubeProxy: 0o600, f.Network: 0o600,
		f.ClientKubelet.Key: 0o600, f.ServingKubelet.Key: 0o600, f.ClientKubeProxy.Key: 0o600, f.ClientNetwork.Key: 0o600,
		f.ClientKubelet.Cert: 0o644, f.ServerCA: 0o644, f.ClientCA: 0o644,
	} {
		if info, err := os.Stat(path); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v; want %v", path, info, err, mode)
		}
	}
	if s.secret {
		t.Error("credentials were sent before the server was checked")
	}

	before := files(t, m)
	s.takeAsked()
	m.must()
	if asked := s.takeAsked(); !slices.Equal(asked, []string{joinapi.PathCACerts, joinapi.PathConfig, joinapi.PathClientCA}) {
		t.Errorf("a restart asked for %v", asked)
	}
	if !reflect.DeepEqual(before, files(t, m)) {
		t.Error("a restart wrote")
	}
	// A new address needs a new serving certificate, for the same key.
	m.opts.Config.NodeIP = []string{"10.1.2.4"}
	m.must()
	if asked := s.takeAsked(); !slices.Contains(asked, joinapi.PathServingKubelet) || slices.Contains(asked, joinapi.PathClientKubelet) {
		t.Errorf("a new address asked for %v", asked)
	}
	m.opts.Now = func() time.Time { return time.Now().Add(pki.LeafLife * 2 / 3) }
	m.must()
	if asked := s.takeAsked(); len(asked) != 7 {
		t.Errorf("at renewal it asked for %v", asked)
	}
	after := files(t, m)
	for path, text := range before {
		if strings.HasSuffix(path, ".key") && after[path] != text {
			t.Errorf("%s changed", path)
		}
	}
}

func TestRefusals(t *testing.T) {
	s := newFakeServer(t, loopbackLeaf(), time.Now())
	other, err := pki.NewAuthority("other", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	wrongHash := s.token()
	wrongHash.CAHash = strings.Repeat("0", 64)
	wrongPassword := s.token()
	wrongPassword.Password = "guess"
	status := func(path string, code int, text string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != path {
				return false
			}
			joinapi.WriteStatus(w, code, 0, text)
			return true
		}
	}
	answer := func(path, text string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == path {
				_, _ = w.Write([]byte(text))
			}
			return r.URL.Path == path
		}
	}
	bootstrap := s.token()
	bootstrap.Bootstrap, bootstrap.Username, bootstrap.Password = true, "abcdef", "0123456789guess0"
	for _, c := range []struct {
		name string
		tok  token.Token
		hook func(http.ResponseWriter, *http.Request) bool
		want string
	}{
		{"hash", wrongHash, nil, "another cluster's"},
		{"password", wrongPassword, nil, "refuses the token: wrong: was it rotated?"},
		{"bootstrap token", bootstrap, nil, "refuses the token: wrong: has it expired?"},
		{"expired bootstrap token", bootstrap, status(joinapi.PathConfig, 401, "bootstrap token abcdef expired at noon"), "abcdef expired at noon"},
		{"not allowed", s.token(), status(joinapi.PathClientKubelet, 403, "no node may be called server-1"), "server-1"},
		{"strange server", s.token(), status(joinapi.PathConfig, 404, "nothing here"), "404 Not Found: it is no cleat server"},
		{"redirect", s.token(), func(w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, "https://elsewhere.invalid/", http.StatusFound)
			return true
		}, "no cleat server"},
		{"no CA", s.token(), answer(joinapi.PathCACerts, "hello"), "CA certificates"},
		{"config", s.token(), answer(joinapi.PathConfig, "{}"), "clusterCIDR"},
		{"client CA", s.token(), answer(joinapi.PathClientCA, "x"), "client CA"},
		{"foreign certificate", s.token(), answer(joinapi.PathClientKubelet, string(other.CertPEM())), "does not fit"},
	} {
		s.setHook(c.hook)
		m := newMachine(t, s.URL, c.tok)
		_, err := m.start()
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), s.URL) {
			t.Errorf("%s: %v, want %q and the server", c.name, err, c.want)
		}
		if err != nil && (strings.Contains(err.Error(), clusterPassword) || strings.Contains(err.Error(), "guess")) {
			t.Errorf("%s: the error shows the password: %v", c.name, err)
		}
	}
	if s.secret {
		t.Error("credentials were sent before the server was checked")
	}
}

func TestWaitsAndSaysWhy(t *testing.T) {
	s := newFakeServer(t, loopbackLeaf(), time.Now())
	t.Run("nobody there", func(t *testing.T) {
		newMachine(t, closedPort(t), s.token()).waitsWith("cannot be reached")
	})
	t.Run("another name", func(t *testing.T) {
		n := newFakeServer(t, pki.Leaf{CommonName: "x", Server: true, DNSNames: []string{"elsewhere"}}, time.Now())
		newMachine(t, n.URL, n.token()).waitsWith("--tls-san")
	})
	t.Run("another CA", func(t *testing.T) {
		n := newFakeServer(t, loopbackLeaf(), time.Now())
		n.shown = s.id.Server
		newMachine(t, n.URL, s.token()).waitsWith("was not signed by the CA it shows")
	})
	t.Run("clock", func(t *testing.T) {
		for offset, word := range map[time.Duration]string{-48 * time.Hour: "behind the server's", 500 * 24 * time.Hour: "ahead of the server's"} {
			m := newMachine(t, s.URL, s.token())
			m.opts.Now = func() time.Time { return time.Now().Add(offset) }
			m.waitsWith(word)
		}
	})
	t.Run("old certificate", func(t *testing.T) {
		n := newFakeServer(t, loopbackLeaf(), time.Now().Add(-400*24*time.Hour))
		newMachine(t, n.URL, n.token()).waitsWith("outside its time")
	})
	t.Run("taken name, then free", func(t *testing.T) {
		const line = "node name is taken: delete the Node"
		var free atomic.Bool
		s.setHook(func(w http.ResponseWriter, r *http.Request) bool {
			if free.Load() || r.URL.Path != joinapi.PathConfig {
				return false
			}
			if got := r.Header.Get(joinapi.HeaderNodeName); got != "n1" {
				t.Errorf("the settings were asked for by %q", got)
			}
			joinapi.WriteStatus(w, http.StatusConflict, 0, line)
			return true
		})
		m := newMachine(t, s.URL, s.token())
		m.logs.on(line, func() { free.Store(true) })
		m.must()
		s.setHook(nil)
	})
	t.Run("bootstrap tokens are not looked up yet", func(t *testing.T) {
		s.setHook(func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != joinapi.PathConfig {
				return false
			}
			joinapi.WriteStatus(w, http.StatusServiceUnavailable, 2, "bootstrap tokens cannot be checked yet")
			return true
		})
		tok := s.token()
		tok.Bootstrap, tok.Username, tok.Password = true, "abcdef", "0123456789abcdef"
		newMachine(t, s.URL, tok).waitsWith("cannot be checked yet")
		s.setHook(nil)
	})
	t.Run("not ready, then ready", func(t *testing.T) {
		refuse := 3
		s.setHook(func(w http.ResponseWriter, _ *http.Request) bool {
			if refuse == 0 {
				return false
			}
			refuse--
			joinapi.WriteStatus(w, http.StatusServiceUnavailable, 1, "starting")
			return true
		})
		m := newMachine(t, s.URL, s.token())
		m.must()
		var said int
		for _, line := range m.logs.all() {
			if strings.Contains(line, "starting") {
				said++
			}
		}
		if said != 1 {
			t.Errorf("the same cause was logged %d times", said)
		}
		s.setHook(nil)
	})
}

// A token without a hash trusts once, and holds on to what it trusted.
func TestShortToken(t *testing.T) {
	s := newFakeServer(t, loopbackLeaf(), time.Now())
	m := newMachine(t, s.URL, token.Token{Password: clusterPassword})
	m.must()
	if !strings.Contains(strings.Join(m.logs.all(), "\n"), "no CA hash") {
		t.Error("no warning about the missing hash")
	}
	m.must()
	impostor := newFakeServer(t, loopbackLeaf(), time.Now())
	m.opts.Server = func() (string, error) { return impostor.URL, nil }
	if _, err := m.start(); err == nil || !strings.Contains(err.Error(), "server-ca.crt") {
		t.Errorf("%v", err)
	}
	if asked := impostor.takeAsked(); len(asked) != 1 {
		t.Errorf("the impostor was asked for %v", asked)
	}
	// The full token says that it is right.
	m.opts.Token = func() (token.Token, error) { return impostor.token(), nil }
	m.must()
}

// A node goes on when its token is rotated or ends, as long as the server knows it by
// its certificate.
func TestTokenEndsBeforeTheCertificate(t *testing.T) {
	s := newFakeServer(t, loopbackLeaf(), time.Now())
	m := newMachine(t, s.URL, s.token())
	m.must()
	old := s.token()
	old.Password = "rotated"
	m.opts.Token = func() (token.Token, error) { return old, nil }
	m.opts.Config.NodeIP = []string{"10.1.2.4"} // so that a certificate is asked for
	s.takeAsked()
	m.must()
	if asked := s.takeAsked(); !slices.Equal(asked, []string{joinapi.PathCACerts, joinapi.PathConfig, joinapi.PathClientCA, joinapi.PathServingKubelet}) {
		t.Errorf("asked for %v", asked)
	}
	// A certificate that is not good either is no way in.
	s.setHook(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != joinapi.PathCACerts {
			joinapi.WriteStatus(w, http.StatusUnauthorized, 0, "wrong")
		}
		return r.URL.Path != joinapi.PathCACerts
	})
	if _, err := m.start(); err == nil || !strings.Contains(err.Error(), "was it rotated?") {
		t.Errorf("%v", err)
	}
}

func TestBadSurroundings(t *testing.T) {
	for want, change := range map[string]func(*machine){
		"--node-name":        func(m *machine) { m.opts.Config.NodeName = "N" },
		"--node-ip":          func(m *machine) { m.opts.Config.NodeIP = []string{"127.0.0.1"} },
		"https://host:port":  func(m *machine) { m.opts.Server = func() (string, error) { return "http://x", nil } },
		"node password of 5": func(m *machine) { writePassword(m, "short") },
		"want a file":        func(m *machine) { writePassword(m, strings.Repeat("x", 5000)) },
		"no token":           func(m *machine) { m.opts.Token = func() (token.Token, error) { return token.Token{}, os.ErrNotExist } },
	} {
		m := newMachine(t, "https://127.0.0.1:1", token.Token{Password: "x"})
		change(m)
		_, err := m.start()
		if want == "no token" {
			want = os.ErrNotExist.Error()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestDamagedFilesAreNamed(t *testing.T) {
	s := newFakeServer(t, loopbackLeaf(), time.Now())
	m := newMachine(t, s.URL, s.token())
	f := m.must().Files()
	for _, path := range []string{f.ClientKubelet.Key, f.ClientKubelet.Cert} {
		keep, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := m.start(); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("damaged %s: %v", path, err)
		}
		if err := os.WriteFile(path, keep, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestStopWhileWaiting(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	m := newMachine(t, closedPort(t), token.Token{Password: "x"})
	m.logs.on("cannot join yet", cancel)
	if err := New(m.opts).Run(ctx, func() { t.Error("ready") }); err != nil {
		t.Error(err)
	}
}

func writePassword(m *machine, text string) {
	if err := os.MkdirAll(filepath.Dir(m.opts.PasswordFile), 0o700); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(m.opts.PasswordFile, []byte(text), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

func files(t *testing.T, m *machine) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(string(m.opts.Data), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		all[path] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// A node whose first server is dead joins by another, and its programs are told of
// the balancer, whoever answered.
func TestJoinsByAnotherServer(t *testing.T) {
	s := newFakeServer(t, loopbackLeaf(), time.Now())
	dead := newFakeServer(t, loopbackLeaf(), time.Now())
	dead.Close()
	m := newMachine(t, s.URL, s.token())
	servers := []string{dead.URL, dead.URL, s.URL}
	m.opts.Server = func() (string, error) {
		server := servers[0]
		if len(servers) > 1 {
			servers = servers[1:]
		}
		return server, nil
	}
	m.opts.Balancer = "https://127.0.0.1:6444"
	f := m.must().Files()
	for _, path := range []string{f.Kubelet, f.KubeProxy, f.Network} {
		if c, err := clientcmd.BuildConfigFromFlags("", path); err != nil || c.Host != m.opts.Balancer {
			t.Errorf("%s: %v, %v", path, c, err)
		}
	}
}
