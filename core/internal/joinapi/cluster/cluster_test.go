// Package cluster_test tests the protocol with both of its ends.
package cluster_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/component/bootstrap"
	"github.com/cleat-dev/cleat/core/internal/component/join"
	"github.com/cleat-dev/cleat/core/internal/component/pki"
	"github.com/cleat-dev/cleat/core/internal/component/supervisor"
	"github.com/cleat-dev/cleat/core/internal/paths"
	certs "github.com/cleat-dev/cleat/core/internal/pki"
	"github.com/cleat-dev/cleat/core/internal/statuspage"
	"github.com/cleat-dev/cleat/core/internal/token"
)

// This is where both ends of the protocol meet: the four units of a server's
// lower half, joined as a server joins them, over loopback.

// store is a datastore in memory.
type store struct {
	mu   sync.Mutex
	keys map[string][]byte
}

func (s *store) Get(_ context.Context, key string) ([]byte, int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v, ok := s.keys[key]; ok {
		return v, 1, nil
	}
	return nil, 0, nil
}

func (s *store) List(_ context.Context, prefix string, limit int) (keys []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range maps.Keys(s.keys) {
		if strings.HasPrefix(k, prefix) && len(keys) < limit {
			keys = append(keys, k)
		}
	}
	return keys, nil
}

func (s *store) Create(_ context.Context, key string, value []byte) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.keys[key]; ok {
		return false, nil
	}
	s.keys[key] = value
	return true, nil
}

func (s *store) Update(_ context.Context, key string, value []byte, _ int64) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[key] = value
	return true, nil
}

type runner interface {
	Run(ctx context.Context, ready func()) error
}

// run starts a unit, waits until it is ready and stops it with the test.
func run(t *testing.T, name string, u runner) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- u.Run(ctx, func() { close(ready) }) }()
	select {
	case <-ready:
		t.Cleanup(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	case err := <-done:
		cancel()
		t.Fatalf("%s: %v", name, err)
	case <-time.After(time.Minute):
		cancel()
		t.Fatalf("%s is not ready after a minute", name)
	}
}

type server struct {
	cfg  *config.Config
	data paths.Data
	boot *bootstrap.Bootstrap
	pki  *pki.PKI
	sup  *supervisor.Supervisor
}

// boot brings up a server's lower half.
func boot(t *testing.T, s *store) *server {
	t.Helper()
	n := &server{cfg: &config.Config{}, data: paths.Data(filepath.Join(t.TempDir(), "data"))}
	n.cfg.Options = config.Options{
		BindAddress: "127.0.0.1", HTTPSListenPort: freePort(t), NodeName: "server-1", NodeIP: []string{"192.0.2.1"}, ClusterDomain: "cluster.local",
		ClusterCIDR: []string{"10.42.0.0/16"}, ServiceCIDR: []string{"10.43.0.0/16"}, CNI: "cni-flannel", Token: "s3cret",
	}
	quiet := slog.New(slog.DiscardHandler)
	n.boot = bootstrap.New(bootstrap.Options{Config: n.cfg, Data: n.data, Log: quiet, Store: func() (bootstrap.Store, error) { return s, nil }})
	run(t, "bootstrap", n.boot)
	n.pki = pki.New(pki.Options{Config: n.cfg, Data: n.data, Log: quiet, Identity: func() (*certs.Identity, error) {
		r, err := n.boot.Result()
		return r.Identity, err
	}})
	run(t, "pki", n.pki)
	serving := n.pki.Files().Serving
	n.sup = supervisor.New(supervisor.Options{
		Config: n.cfg, CertFile: serving.Cert, KeyFile: serving.Key, Version: "v1.36.3+cleat1", Log: quiet, ServingNames: pki.ServingNames,
		Store: func() (supervisor.Store, error) { return s, nil },
		Page:  statuspage.New(statuspage.Options{}),
		Cluster: func() (*certs.Identity, token.Token, error) {
			r, err := n.boot.Result()
			return r.Identity, r.Token, err
		},
	})
	run(t, "supervisor", n.sup)
	// Stands where the API server will: it says who came.
	n.sup.SetHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		subject := r.TLS.PeerCertificates[0].Subject
		fmt.Fprintf(w, "%s in %v", subject.CommonName, subject.Organization)
	}))
	return n
}

func (n *server) join(t *testing.T, name, ip, etc string) *join.Join {
	t.Helper()
	cfg := *n.cfg
	cfg.NodeName, cfg.NodeIP = name, []string{ip}
	return join.New(join.Options{
		Version: "v1.37.0", Config: &cfg, Data: paths.Data(t.TempDir()), PasswordFile: filepath.Join(etc, "node", "password"), Log: slog.New(slog.DiscardHandler),
		Server: func() (string, error) { return n.cfg.ServerURL(), nil },
		Token: func() (token.Token, error) {
			text, err := os.ReadFile(n.data.NodeToken())
			if err != nil {
				return token.Token{}, err
			}
			return token.Parse(string(text))
		},
	})
}

func TestServerAndItsOwnNode(t *testing.T) {
	s := &store{keys: map[string][]byte{}}
	n := boot(t, s)
	etc := t.TempDir()
	own := n.join(t, "server-1", "192.0.2.1", etc)
	run(t, "join", own)
	if c, err := own.NodeConfig(); err != nil || c.CNI != "cni-flannel" || c.Version != "v1.36.3+cleat1" {
		t.Errorf("%+v, %v", c, err)
	}
	node, made := own.Files(), n.pki.Files()
	for path, want := range map[string]string{
		node.Kubelet:           "system:node:server-1 in [system:nodes]",
		node.KubeProxy:         "system:kube-proxy in []",
		node.Network:           "cleat-network in []",
		made.Admin:             "system:admin in [system:masters]",
		made.Scheduler:         "system:kube-scheduler in []",
		made.ControllerManager: "system:kube-controller-manager in []",
		made.CloudController:   "cleat-cloud-controller in []",
		made.Deployer:          "cleat-deployer in [system:masters]",
		made.Supervisor:        "cleat-supervisor in [system:masters]",
	} {
		if got := whoami(t, path); got != want {
			t.Errorf("%s is %q, want %q", filepath.Base(path), got, want)
		}
	}
	// The API server's way into the kubelet: both certificates fit each other.
	handshake(t, node, made)

	run(t, "second node", n.join(t, "node-2", "192.0.2.9", t.TempDir()))
	impostor := n.join(t, "node-2", "192.0.2.9", t.TempDir())
	if err := impostor.Run(t.Context(), func() { t.Error("ready") }); err == nil || !strings.Contains(err.Error(), "node name is taken") {
		t.Errorf("a second machine of the same name: %v", err)
	}
}

// A second server on the same datastore is the same cluster: a node that knows
// the first joins at the second.
func TestTwoServersAreOneCluster(t *testing.T) {
	s := &store{keys: map[string][]byte{}}
	one, two := boot(t, s), boot(t, s)
	mixed := &server{cfg: two.cfg, data: one.data}
	j := mixed.join(t, "node-1", "192.0.2.9", t.TempDir())
	run(t, "join", j)
	c, err := clientcmd.BuildConfigFromFlags(one.cfg.ServerURL(), j.Files().Kubelet)
	if err != nil {
		t.Fatal(err)
	}
	if got := ask(t, c); got != "system:node:node-1 in [system:nodes]" {
		t.Errorf("at the other server the node is %q", got)
	}
}

func whoami(t *testing.T, kubeconfig string) string {
	t.Helper()
	c, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	return ask(t, c)
}

func ask(t *testing.T, c *rest.Config) string {
	t.Helper()
	client, err := rest.HTTPClientFor(c)
	if err != nil {
		t.Fatal(err)
	}
	defer client.CloseIdleConnections()
	res, err := client.Get(c.Host + "/whoami")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func handshake(t *testing.T, node join.Files, made pki.Files) {
	t.Helper()
	load := func(cert, key, ca string) *tls.Config {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(ca)
		if err != nil {
			t.Fatal(err)
		}
		pool, err := certs.ParsePool(text)
		if err != nil {
			t.Fatal(err)
		}
		return &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: pool, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, ServerName: "192.0.2.1"}
	}
	kubelet := load(node.ServingKubelet.Cert, node.ServingKubelet.Key, node.ClientCA)
	apiserver := load(made.KubeletClient.Cert, made.KubeletClient.Key, made.ServerCA.Cert)
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	done := make(chan error, 1)
	go func() { done <- tls.Server(a, kubelet).HandshakeContext(t.Context()) }()
	if err := tls.Client(b, apiserver).HandshakeContext(t.Context()); err != nil {
		t.Errorf("the API server at the kubelet: %v", err)
	}
	if err := <-done; err != nil {
		t.Errorf("the kubelet of the API server: %v", err)
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	addr, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		t.Fatalf("%T", l.Addr())
	}
	return addr.Port
}
