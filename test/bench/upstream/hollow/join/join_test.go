package join

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestParseToken(t *testing.T) {
	hash := strings.Repeat("0a", 32)
	if got, err := ParseToken("K10" + hash + "::server:se:cret\n"); err != nil || got != (Token{hash, "se:cret"}) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, text := range []string{
		"", "secret", "K10" + hash, "K10" + hash + "::secret", "K10" + hash + "::server:", "K10::server:secret",
		"K10" + hash[2:] + "::server:secret", "K10" + strings.Repeat("zz", 32) + "::server:secret", hash + "::server:secret",
	} {
		if got, err := ParseToken(text); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %+v, %v, want an error that does not show it", text, got, err)
		}
	}
}

// supervisor answers as a server's supervisor does. It signs with one key of its own,
// for the key that it is asked to certify or, when swap is set, for that key.
type supervisor struct {
	*httptest.Server
	key     *ecdsa.PrivateKey
	swap    atomic.Pointer[ecdsa.PublicKey]
	secrets atomic.Int32 // requests with a password
}

func newSupervisor(t *testing.T) *supervisor {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s := &supervisor{key: key}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /cacerts", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(s.ca()) })
	mux.HandleFunc("POST /v1-cleat/client-kubelet.crt", func(w http.ResponseWriter, r *http.Request) {
		cert, err := s.sign(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		_, _ = w.Write(cert)
	})
	s.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, _, ok := r.BasicAuth(); ok {
			s.secrets.Add(1)
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *supervisor) ca() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}

func (s *supervisor) token(password string) Token {
	sum := sha256.Sum256(s.ca())
	return Token{hex.EncodeToString(sum[:]), password}
}

func (s *supervisor) sign(r *http.Request) ([]byte, error) {
	user, password, _ := r.BasicAuth()
	if name := r.Header.Get("Cleat-Node-Name"); user != "node" || password != "secret" || name != "hollow-1" || len(r.Header.Get("Cleat-Node-Password")) != 32 {
		return nil, fmt.Errorf("user %q, node %q", user, name)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(body)
	if block == nil {
		return nil, fmt.Errorf("no PEM: %q", body)
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, err
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, err
	}
	public := csr.PublicKey
	if other := s.swap.Load(); other != nil {
		public = other
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "system:node:hollow-1"},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, leaf, public, s.key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

func TestCertificate(t *testing.T) {
	s := newSupervisor(t)
	server, err := Connect(t.Context(), s.URL, s.token("secret"))
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	pair, err := server.Certificate(t.Context(), NewNode("hollow-1"), Kubelet)
	if err != nil || len(pair.Cert) == 0 || len(pair.Key) == 0 {
		t.Fatalf("%+v, %v", pair, err)
	}
	if _, err := server.Certificate(t.Context(), NewNode("hollow-2"), Kubelet); err == nil || !strings.Contains(err.Error(), "403") || !strings.Contains(err.Error(), "hollow-2") {
		t.Errorf("a refusal: %v", err)
	}
	s.swap.Store(&s.key.PublicKey)
	if _, err := server.Certificate(t.Context(), NewNode("hollow-1"), Kubelet); err == nil || !strings.Contains(err.Error(), "private key") {
		t.Errorf("a certificate for another key: %v", err)
	}
}

func TestConnectRefuses(t *testing.T) {
	s := newSupervisor(t)
	other := Token{strings.Repeat("0", 64), "secret"}
	if _, err := Connect(t.Context(), s.URL, other); err == nil || !strings.Contains(err.Error(), "CA of the token") {
		t.Errorf("another cluster: %v", err)
	}
	for _, url := range []string{"http://127.0.0.1:6443", "127.0.0.1:6443", "https://127.0.0.1:6443/x"} {
		if _, err := Connect(t.Context(), url, other); err == nil || !strings.Contains(err.Error(), "https://host:port") {
			t.Errorf("%s: %v", url, err)
		}
	}
	if n := s.secrets.Load(); n != 0 {
		t.Errorf("the password was sent %d times before the server was checked", n)
	}
}
