package etcd

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"

	"github.com/cleat-dev/cleat/hostabi"
)

// authority signs certificates for tests.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.cert, a.key = template, newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.file = writePEM(t, filepath.Join(a.dir, name+".crt"), "CERTIFICATE", der)
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func writePEM(t *testing.T, path, kind string, der []byte) string {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// issue writes a certificate for 127.0.0.1 and its key.
func (a *authority) issue(t *testing.T, dir, name string) (cert, key string) {
	t.Helper()
	private := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, private.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return writePEM(t, filepath.Join(dir, name+".crt"), "CERTIFICATE", der), writePEM(t, filepath.Join(dir, name+".key"), "PRIVATE KEY", keyDER)
}

func TestTLS(t *testing.T) {
	trusted, other := newAuthority(t, "trusted"), newAuthority(t, "other")
	serverCert, serverKey := trusted.issue(t, t.TempDir(), "server")
	_, endpoints := cluster(t, 1, transport.TLSInfo{
		CertFile: serverCert, KeyFile: serverKey, TrustedCAFile: trusted.file, ClientCertAuth: true,
	})
	dir := t.TempDir()
	cert, key := trusted.issue(t, dir, "client")
	socket, stop := start(t, hostabi.DatastorePlan{Endpoint: endpoints[0], TLS: hostabi.TLSFiles{CAFile: trusted.file, CertFile: cert, KeyFile: key}})
	put := func(socket string) func(ctx context.Context) error {
		client := dial(t, socket)
		return func(ctx context.Context) error {
			_, err := client.Put(ctx, "/test/a", "x")
			return err
		}
	}
	eventually(t, put(socket))

	// The next connection uses the files as they are then.
	other.issue(t, dir, "client")
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := put(socket)(ctx); err == nil {
		t.Error("a certificate of another authority is let in")
	}
	trusted.issue(t, dir, "client")
	eventually(t, put(socket))
	if err := stop(); err != nil {
		t.Error(err)
	}

	for name, files := range map[string]hostabi.TLSFiles{
		"no client certificate":             {CAFile: trusted.file},
		"an authority that did not sign it": {CAFile: other.file, CertFile: cert, KeyFile: key},
	} {
		m, err := newMembers(hostabi.DatastorePlan{Endpoint: endpoints[0], TLS: files}, quiet())
		if err != nil {
			t.Fatal(err)
		}
		socket, stop := startMembers(t, m)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if err := put(socket)(ctx); err == nil {
			t.Errorf("%s: etcd is reached", name)
		}
		cancel()
		if err := stop(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPlansThatCannotWork(t *testing.T) {
	a := newAuthority(t, "a")
	cert, key := a.issue(t, a.dir, "client")
	_, otherKey := a.issue(t, t.TempDir(), "other")
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		endpoint string
		files    hostabi.TLSFiles
		why      string
	}{
		{"", hostabi.TLSFiles{}, "no list of URLs"},
		{"sqlite:///secret", hostabi.TLSFiles{}, "no list of URLs"},
		{"https://u:secret@127.0.0.1:2379", hostabi.TLSFiles{}, "no list of URLs"},
		{"https://127.0.0.1", hostabi.TLSFiles{}, "no list of URLs"},
		{"https://127.0.0.1:1,", hostabi.TLSFiles{}, "no list of URLs"},
		{"https://127.0.0.1:1/path", hostabi.TLSFiles{}, "no list of URLs"},
		{"https://127.0.0.1:1", hostabi.TLSFiles{CAFile: "/does/not/exist"}, "authorities of etcd: open /does/not/exist"},
		{"https://127.0.0.1:1", hostabi.TLSFiles{CAFile: empty}, "holds no certificate"},
		{"https://127.0.0.1:1", hostabi.TLSFiles{CertFile: cert, KeyFile: "/does/not/exist"}, "certificate for etcd"},
		{"https://127.0.0.1:1", hostabi.TLSFiles{CertFile: cert, KeyFile: otherKey}, "certificate for etcd"},
	} {
		err := Driver(quiet())(t.Context(), filepath.Join(t.TempDir(), "kine.sock"), hostabi.DatastorePlan{Endpoint: tt.endpoint, TLS: tt.files})
		if err == nil || !strings.Contains(err.Error(), tt.why) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s %+v: got %v, want %q", tt.endpoint, tt.files, err, tt.why)
		}
	}
	// Files that TLS does not use are not looked at.
	if _, err := newMembers(hostabi.DatastorePlan{Endpoint: "http://127.0.0.1:1", TLS: hostabi.TLSFiles{CAFile: empty, CertFile: cert, KeyFile: key}}, quiet()); err != nil {
		t.Error(err)
	}
}
