package supervisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"crypto/x509"

	"github.com/cleat-dev/cleat/core/internal/joinapi"
	"github.com/cleat-dev/cleat/core/internal/pki"
	"github.com/cleat-dev/cleat/core/internal/token"
)

// maxSigning bounds how many certificates are made at once: each costs a slow
// hash of the node's password.
const maxSigning = 4

// api answers the supervisor's own routes.
type api struct {
	*Supervisor
	id       *pki.Identity
	password string
	clients  *x509.CertPool
	nodes    *passwords
	reserved *x509.Certificate // never signed: holds the servers' names to match against
	config   []byte
	signing  chan struct{}
}

func isOwn(r *http.Request) bool {
	p := r.URL.Path
	return p == joinapi.PathPing || p == joinapi.PathCACerts || strings.HasPrefix(p, joinapi.Prefix)
}

func (s *Supervisor) routes(id *pki.Identity, tok token.Token, store Store) (http.Handler, error) {
	reserved, err := s.reserved()
	if err != nil {
		return nil, err
	}
	config, err := json.Marshal(s.nodeConfig())
	if err != nil {
		return nil, fmt.Errorf("node config: %w", err)
	}
	return &api{
		Supervisor: s, id: id, password: tok.Password, clients: id.Client.Pool(),
		nodes: newPasswords(store), reserved: reserved, config: config,
		signing: make(chan struct{}, maxSigning),
	}, nil
}

func (s *Supervisor) nodeConfig() joinapi.NodeConfig {
	return joinapi.NodeConfig{
		Version:              s.Version,
		ClusterCIDR:          s.Config.ClusterCIDR,
		ServiceCIDR:          s.Config.ServiceCIDR,
		ClusterDNS:           s.Config.ClusterDNS,
		ClusterDomain:        s.Config.ClusterDomain,
		ServiceNodePortRange: s.Config.ServiceNodePortRange,
		CNI:                  s.Config.CNI,
		FlannelBackend:       s.Config.FlannelBackend,
		DisableKubeProxy:     s.Config.DisableKubeProxy,
	}
}

// ServeHTTP is the table of routes: exact paths, one method each.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var handle func(http.ResponseWriter, *http.Request)
	method, private := http.MethodGet, true
	switch r.URL.Path {
	case joinapi.PathPing:
		handle, private = text("pong"), false
	case joinapi.PathCACerts:
		handle, private = text(string(a.id.Server.CertPEM())), false
	case joinapi.PathServerCA:
		handle = text(string(a.id.Server.CertPEM()))
	case joinapi.PathClientCA:
		handle = text(string(a.id.Client.CertPEM()))
	case joinapi.PathConfig:
		handle = a.serveConfig
	case joinapi.PathReady:
		handle = a.serveReady
	case joinapi.PathServingKubelet, joinapi.PathClientKubelet, joinapi.PathClientKubeProxy, joinapi.PathClientNetwork:
		method = http.MethodPost
	default:
		if _, ok := a.admit(w, r); ok {
			joinapi.WriteStatus(w, http.StatusNotFound, 0, "this server has no "+r.URL.Path)
		}
		return
	}
	if r.Method != method && (method != http.MethodGet || r.Method != http.MethodHead) {
		w.Header().Set("Allow", method)
		joinapi.WriteStatus(w, http.StatusMethodNotAllowed, 0, r.URL.Path+" wants "+method)
		return
	}
	var who caller
	if private {
		var ok bool
		if who, ok = a.admit(w, r); !ok {
			return
		}
	}
	if method == http.MethodPost {
		a.serveCertificate(w, r, who)
		return
	}
	handle(w, r)
}

func text(body string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		// The client is gone if this fails.
		_, _ = io.WriteString(w, body)
	}
}

func (a *api) serveConfig(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(a.config)
}

func (a *api) serveReady(w http.ResponseWriter, r *http.Request) {
	if a.api.Load() == nil {
		joinapi.WriteStatus(w, http.StatusServiceUnavailable, 1, "the API server is starting")
		return
	}
	text("ok")(w, r)
}

// serveCertificate signs one of a node's certificates.
func (a *api) serveCertificate(w http.ResponseWriter, r *http.Request, who caller) {
	req, err := joinapi.ReadNodeRequest(r.Header)
	if err != nil {
		joinapi.WriteStatus(w, http.StatusBadRequest, 0, err.Error())
		return
	}
	if who.kind == node && who.name != req.Name {
		joinapi.WriteStatus(w, http.StatusForbidden, 0, fmt.Sprintf("node %q may not ask for certificates of node %q", who.name, req.Name))
		return
	}
	csr, status, err := readCSR(w, r)
	if err != nil {
		joinapi.WriteStatus(w, status, 0, err.Error())
		return
	}
	authority, leaf, err := a.leafFor(r, req, csr)
	if err != nil {
		joinapi.WriteStatus(w, http.StatusForbidden, 0, err.Error())
		return
	}
	select {
	case a.signing <- struct{}{}:
		defer func() { <-a.signing }()
	case <-r.Context().Done():
		return
	}
	switch err := a.nodes.check(r.Context(), req.Name, req.Password); {
	case errors.Is(err, errTaken):
		a.Log.Warn("node refused", "node", req.Name, "from", r.RemoteAddr, "error", err)
		joinapi.WriteStatus(w, http.StatusForbidden, 0, err.Error())
		return
	case err != nil:
		a.Log.Warn("node password not checked", "node", req.Name, "error", err)
		joinapi.WriteStatus(w, http.StatusServiceUnavailable, 2, "the datastore does not answer")
		return
	}
	certPEM, err := authority.Sign(csr.PublicKey, leaf, a.Now())
	if err != nil {
		a.Log.Error("certificate not issued", "node", req.Name, "user", leaf.CommonName, "error", err)
		joinapi.WriteStatus(w, http.StatusInternalServerError, 0, err.Error())
		return
	}
	a.Log.Debug("certificate issued", "node", req.Name, "user", leaf.CommonName, "serving", leaf.Server, "from", r.RemoteAddr)
	text(string(certPEM))(w, r)
}

func readCSR(w http.ResponseWriter, r *http.Request) (csr *x509.CertificateRequest, status int, err error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, joinapi.MaxRequestBody))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return nil, http.StatusRequestEntityTooLarge, fmt.Errorf("certificate request: more than %d bytes", tooLarge.Limit)
	}
	if err != nil {
		return nil, http.StatusBadRequest, fmt.Errorf("certificate request: %w", err)
	}
	if csr, err = pki.ParseRequest(body); err != nil {
		return nil, http.StatusBadRequest, fmt.Errorf("certificate request: %w", err)
	}
	return csr, 0, nil
}
