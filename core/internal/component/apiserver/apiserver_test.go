package apiserver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/pki"
	"github.com/cleat-dev/cleat/core/kernel/kerneltest"
)

// port stands for the supervisor: it answers /readyz to known clients only.
type port struct {
	component *Component
	files     Files
	open      atomic.Bool
	healthy   atomic.Bool
	asked     atomic.Int32
}

func newPort(t *testing.T, run func(ctx context.Context) error) *port {
	t.Helper()
	dir := t.TempDir()
	id, err := pki.NewIdentity(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	p := &port{files: Files{
		KubeletClient: Pair{in("client.crt"), in("client.key")}, ServerCA: in("server-ca.crt"),
		AuthenticationConfig: in("etc/authentication.yaml"),
	}}
	serving := Pair{in("serving.crt"), in("serving.key")}
	if _, err := id.Server.EnsureLeaf(serving.Cert, serving.Key, pki.Leaf{CommonName: "server", Server: true, IPs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}, time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := id.Client.EnsureLeaf(p.files.KubeletClient.Cert, p.files.KubeletClient.Key, pki.Leaf{CommonName: "kube-apiserver", Client: true}, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.files.ServerCA, id.Server.CertPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	cert, err := tls.LoadX509KeyPair(serving.Cert, serving.Key)
	if err != nil {
		t.Fatal(err)
	}
	clients := x509.NewCertPool()
	clients.AppendCertsFromPEM(id.Client.CertPEM())
	server := httptest.NewUnstartedServer(p)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients}
	server.StartTLS()
	t.Cleanup(server.Close)
	address, ok := server.Listener.Addr().(*net.TCPAddr)
	if !ok {
		t.Fatalf("address %v", server.Listener.Addr())
	}
	cfg := &config.Config{Options: config.Options{BindAddress: "127.0.0.1", HTTPSListenPort: address.Port}}
	p.component = New(cfg, p.files, func() { p.open.Store(true) }, run)
	return p
}

func (p *port) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path != "/readyz":
		http.NotFound(w, r)
	case r.URL.Query().Get("exclude") != "units":
		http.Error(w, "[-]unit-kubelet failed: reason withheld", http.StatusInternalServerError) // it waits for this unit
	case p.asked.Add(1) < 3 || !p.healthy.Load():
		http.Error(w, "[+]ping ok\n[-]etcd failed: reason withheld\nreadyz check failed", http.StatusInternalServerError)
	}
}

func TestReadyWhenReadyzSaysSo(t *testing.T) {
	var p *port
	p = newPort(t, func(ctx context.Context) error {
		text, err := os.ReadFile(p.files.AuthenticationConfig)
		if err != nil || string(text) != authenticationConfig {
			t.Errorf("authentication configuration: %q, %v", text, err)
		}
		<-ctx.Done()
		return nil
	})
	p.healthy.Store(true)
	stop := kerneltest.Run(t, p.component)
	if !p.open.Load() {
		t.Error("the unit is ready and the port was not told to open")
	}
	if got := p.asked.Load(); got < 3 {
		t.Errorf("ready after %d answers, the first two of which were failures", got)
	}
	if err := p.component.Check(t.Context()); err != nil {
		t.Errorf("Check: %v", err)
	}
	p.healthy.Store(false)
	if err := p.component.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "etcd failed") {
		t.Errorf("Check: got %v, want what the API server complains about", err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	info, err := os.Stat(p.files.AuthenticationConfig)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("authentication configuration: %v, %v", info, err)
	}
}

func TestFailureIsTheUnits(t *testing.T) {
	failure := errors.New("no such flag")
	p := newPort(t, func(context.Context) error { return failure })
	if err := p.component.Run(t.Context(), func() { t.Error("ready was called") }); !errors.Is(err, failure) {
		t.Errorf("got %v, want %v", err, failure)
	}
}

func TestMissingFilesAreNamed(t *testing.T) {
	for _, missing := range []func(Files) string{
		func(f Files) string { return f.ServerCA },
		func(f Files) string { return f.KubeletClient.Key },
	} {
		p := newPort(t, func(context.Context) error { t.Error("the API server was run"); return nil })
		file := missing(p.files)
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		for what, err := range map[string]error{
			"Run":   p.component.Run(t.Context(), func() { t.Error("ready was called") }),
			"Check": p.component.Check(t.Context()),
		} {
			if err == nil || !strings.Contains(err.Error(), file) {
				t.Errorf("%s: got %v, want an error that names %s", what, err, file)
			}
		}
	}
}
