// Package join makes a name a node of a cleat cluster, as far as the server is
// concerned: it checks the server against the token and has it sign certificates
// for keys made here. It says what core/internal/joinapi says in its own words,
// because it is in another module.
package join

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	maxAnswer      = 256 << 10
	requestTimeout = 30 * time.Second // four certificates are signed at a time; the rest wait
)

// Certificates that a node asks for, by the path that signs them.
const (
	Kubelet   = "client-kubelet.crt"
	KubeProxy = "client-kube-proxy.crt"
	Network   = "client-network.crt"
)

// Token is a full token, whose hash tells the server.
type Token struct {
	hash     string // SHA-256 of the server CA's PEM text, hex
	password string
}

// ParseToken reads a token of the form K10<hash>::<user>:<password>.
func ParseToken(text string) (Token, error) {
	rest, full := strings.CutPrefix(strings.TrimSpace(text), "K10")
	hash, credentials, cut := strings.Cut(rest, "::")
	_, password, named := strings.Cut(credentials, ":")
	if sum, err := hex.DecodeString(hash); !full || !cut || !named || password == "" || err != nil || len(sum) != sha256.Size {
		return Token{}, errors.New("token: want K10<64 hex digits>::<user>:<password>, as in the server's token file") // it is a secret
	}
	return Token{hash, password}, nil
}

// Server is a server that the token belongs to.
type Server struct {
	URL   string // https://host:port
	CA    []byte // PEM
	token Token
	http  *http.Client
}

// Connect asks the server for its CA and compares it with the token.
func Connect(ctx context.Context, server string, token Token) (*Server, error) {
	if u, err := url.Parse(server); err != nil || u.Scheme != "https" || u.Host == "" || u.Path != "" {
		return nil, fmt.Errorf("server %q: want https://host:port", server)
	}
	// Nothing secret is sent, and the answer is checked.
	s := &Server{URL: server, token: token, http: client(&tls.Config{InsecureSkipVerify: true})}
	defer s.http.CloseIdleConnections()
	ca, err := s.send(ctx, http.MethodGet, "/cacerts", nil, nil)
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(ca); hex.EncodeToString(sum[:]) != token.hash {
		return nil, fmt.Errorf("%s/cacerts is not the CA of the token", server)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("%s/cacerts has no certificate", server)
	}
	return &Server{URL: server, CA: ca, token: token, http: client(&tls.Config{RootCAs: pool})}, nil
}

func client(config *tls.Config) *http.Client {
	return &http.Client{Timeout: requestTimeout, Transport: &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}}
}

// Close ends the connections.
func (s *Server) Close() { s.http.CloseIdleConnections() }

// Pair is a client certificate and its key, PEM.
type Pair struct{ Cert, Key []byte }

// Node is a node's name and the secret that shows it is the same one again.
type Node struct{ Name, Password string }

// NewNode makes up a password of 32 hex digits for a name.
func NewNode(name string) Node {
	secret := make([]byte, 16)
	rand.Read(secret) // never fails
	return Node{name, hex.EncodeToString(secret)}
}

// Certificate makes a key and has the server sign a certificate for it. which is
// one of the constants.
func (s *Server) Certificate(ctx context.Context, node Node, which string) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return Pair{}, err
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return Pair{}, err
	}
	pair := Pair{Key: pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret})}
	csr := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	pair.Cert, err = s.send(ctx, http.MethodPost, "/v1-cleat/"+which, csr, func(r *http.Request) {
		r.SetBasicAuth("node", s.token.password)
		r.Header.Set("Cleat-Node-Name", node.Name)
		r.Header.Set("Cleat-Node-Password", node.Password)
	})
	if err != nil {
		return Pair{}, err
	}
	if _, err := tls.X509KeyPair(pair.Cert, pair.Key); err != nil {
		return Pair{}, fmt.Errorf("%s for %s: %w", which, node.Name, err)
	}
	return pair, nil
}

func (s *Server) send(ctx context.Context, method, path string, body []byte, prepare func(*http.Request)) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, s.URL+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if prepare != nil {
		prepare(req)
	}
	res, err := s.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %.500s", res.Status, answer)
	}
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	return answer, nil
}
