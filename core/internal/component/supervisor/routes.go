package supervisor

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/cleat-dev/cleat/core/internal/joinapi"
	"github.com/cleat-dev/cleat/core/internal/pki"
)

// maxHashing bounds how many passwords of nodes are looked at at once: each costs a
// hash that is slow on purpose.
const maxHashing = 4

// api answers the supervisor's own routes.
type api struct {
	*Supervisor
	id       *pki.Identity
	clients  *x509.CertPool
	nodes    *passwords
	reserved *x509.Certificate // never signed: holds the servers' names to match against
	config   []byte
	list     serverList
	table    map[string]route
	guesses  *throttle
	inFlight atomic.Int64
	hashing  chan struct{}
}

func (s *Supervisor) routes(id *pki.Identity, store Store) (*api, error) {
	reserved, err := s.reserved()
	if err != nil {
		return nil, err
	}
	config, err := json.Marshal(s.nodeConfig())
	if err != nil {
		return nil, fmt.Errorf("node config: %w", err)
	}
	a := &api{
		Supervisor: s, id: id, clients: id.Client.Pool(),
		nodes: newPasswords(store, s.Now), reserved: reserved, config: config,
		table: map[string]route{}, guesses: newThrottle(s.limits, s.Now),
		hashing: make(chan struct{}, maxHashing),
		list:    serverList{reading: make(chan struct{}, 1)},
	}
	for _, to := range table() {
		a.table[to.path] = to
	}
	return a, nil
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
		DisableNetworkPolicy: s.Config.DisableNetworkPolicy,
		EgressSelectorMode:   s.Config.EgressSelectorMode,

		DisableCloudController: s.Config.DisableCloudController,
	}
}

// ServeHTTP finds the route and does what all of them have in common.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !a.isLocal(r) {
		if a.inFlight.Add(1) > int64(a.limits.inFlight) {
			a.inFlight.Add(-1)
			joinapi.WriteStatus(w, http.StatusTooManyRequests, 1, "too many requests at once: try again in a second")
			return
		}
		defer a.inFlight.Add(-1)
	}
	to, ok := a.table[r.URL.Path]
	if !ok {
		if _, ok := a.admit(w, r); ok {
			joinapi.WriteStatus(w, http.StatusNotFound, 0, fmt.Sprintf("this server has no %.100q", r.URL.Path))
		}
		return
	}
	if r.Method != to.method && (to.method != http.MethodGet || r.Method != http.MethodHead) {
		w.Header().Set("Allow", to.method)
		joinapi.WriteStatus(w, http.StatusMethodNotAllowed, 0, to.path+" wants "+to.method)
		return
	}
	var who caller
	switch to.who {
	case anyone:
	case watchers:
		if !a.mayWatch(w, r) {
			return
		}
	default:
		if who, ok = a.admit(w, r); !ok {
			return
		}
	}
	if to.who == nodes && who.kind != node {
		joinapi.WriteStatus(w, http.StatusForbidden, 0, to.path+" wants a node's own certificate, without the join token")
		return
	}
	if to.who == servers && !mayRotate(w, who) {
		return
	}
	name, named := r.Header[joinapi.HeaderNodeName]
	if who.kind == node && (to.who == self || named) && !slices.Equal(name, []string{who.name}) {
		joinapi.WriteStatus(w, http.StatusForbidden, 0, fmt.Sprintf("node %q may not speak for node %.100q", who.name, strings.Join(name, ", ")))
		return
	}
	// A body without a length is cut when it is read; where none is read, none is let in.
	if r.ContentLength > to.body || r.ContentLength != 0 && to.body == 0 {
		joinapi.WriteStatus(w, http.StatusRequestEntityTooLarge, 0, fmt.Sprintf("%s takes a body of at most %d bytes", to.path, to.body))
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, to.body)
	to.serve(a, w, r)
}

func text(w http.ResponseWriter, body string) {
	w.Header().Set("Content-Type", "text/plain")
	// The client is gone if this fails.
	_, _ = io.WriteString(w, body)
}

func (a *api) servePing(w http.ResponseWriter, _ *http.Request) { text(w, "pong") }

func (a *api) serveServerCA(w http.ResponseWriter, _ *http.Request) {
	text(w, string(a.id.Server.CertPEM()))
}

func (a *api) serveClientCA(w http.ResponseWriter, _ *http.Request) {
	text(w, string(a.id.Client.CertPEM()))
}

// serveConfig is for the node that the headers name, if they name one.
func (a *api) serveConfig(w http.ResponseWriter, r *http.Request) {
	if _, named := r.Header[joinapi.HeaderNodeName]; named {
		req, err := joinapi.ReadNodeRequest(r.Header)
		if err != nil {
			joinapi.WriteStatus(w, http.StatusBadRequest, 0, err.Error())
			return
		}
		if err := a.checkName(r, req.Name); err != nil {
			joinapi.WriteStatus(w, http.StatusForbidden, 0, err.Error())
			return
		}
		if !a.owned(w, r, req) {
			return
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(a.config)
}

func (a *api) servePlugins(w http.ResponseWriter, _ *http.Request) {
	lock, err := a.NetworkLock()
	if err != nil {
		a.Log.Warn("a node was not told of the network plugin", "error", err)
		joinapi.WriteStatus(w, http.StatusServiceUnavailable, 1, "this server cannot say which plugin decides the network; its log says why")
		return
	}
	text(w, string(lock))
}

func (a *api) servePlugin(w http.ResponseWriter, r *http.Request) {
	wasm, err := a.NetworkPlugin(r.Context(), r.URL.Query().Get(joinapi.QueryDigest))
	if err != nil {
		joinapi.WriteStatus(w, http.StatusNotFound, 0, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/wasm")
	_, _ = w.Write(wasm)
}

func (a *api) servePage(w http.ResponseWriter, r *http.Request)        { a.Page.ServeFile(w, r) }
func (a *api) servePageSession(w http.ResponseWriter, r *http.Request) { a.Page.ServeSession(w, r) }
func (a *api) servePageStream(w http.ResponseWriter, r *http.Request)  { a.Page.ServeStream(w, r) }

// serveTunnel hands the connection on. The request ends with that, so it is none
// of those that are counted at once.
func (a *api) serveTunnel(w http.ResponseWriter, r *http.Request) {
	if a.Tunnel == nil {
		joinapi.WriteStatus(w, http.StatusNotFound, 0, "this server takes no tunnels (--egress-selector-mode "+a.Config.EgressSelectorMode+")")
		return
	}
	a.Tunnel(w, r, a.certified(r).name)
}

// serveCertificate signs one of a node's certificates.
func (a *api) serveCertificate(w http.ResponseWriter, r *http.Request) {
	req, err := joinapi.ReadNodeRequest(r.Header)
	if err != nil {
		joinapi.WriteStatus(w, http.StatusBadRequest, 0, err.Error())
		return
	}
	csr, status, err := readCSR(r)
	if err != nil {
		joinapi.WriteStatus(w, status, 0, err.Error())
		return
	}
	authority, leaf, err := a.leafFor(r, req, csr)
	if err != nil {
		joinapi.WriteStatus(w, http.StatusForbidden, 0, err.Error())
		return
	}
	if !a.owned(w, r, req) {
		return
	}
	leaf.Life = a.Config.CertificateLifetime
	certPEM, err := authority.Sign(csr.PublicKey, leaf, a.Now())
	if err != nil {
		a.Log.Error("certificate not issued", "node", req.Name, "user", leaf.CommonName, "error", err)
		joinapi.WriteStatus(w, http.StatusInternalServerError, 0, err.Error())
		return
	}
	a.Log.Debug("certificate issued", "node", req.Name, "user", leaf.CommonName, "serving", leaf.Server, "from", r.RemoteAddr)
	text(w, string(certPEM))
}

// owned answers who comes with a node's name that is another's and reports whether the
// rest of the handler is to run. The name is the caller's if it was nobody's.
func (a *api) owned(w http.ResponseWriter, r *http.Request, req joinapi.NodeRequest) bool {
	select {
	case a.hashing <- struct{}{}:
		defer func() { <-a.hashing }()
	case <-r.Context().Done():
		return false
	}
	switch err := a.nodes.check(r.Context(), req.Name, req.Password); {
	case errors.Is(err, errTaken):
		a.Log.Warn("node refused", "node", req.Name, "from", r.RemoteAddr, "error", err)
		joinapi.WriteStatus(w, http.StatusConflict, 0, err.Error())
		return false
	case err != nil:
		a.Log.Warn("node password not checked", "node", req.Name, "error", err)
		joinapi.WriteStatus(w, http.StatusServiceUnavailable, 2, "the datastore does not answer")
		return false
	}
	return true
}

func readCSR(r *http.Request) (csr *x509.CertificateRequest, status int, err error) {
	body, err := io.ReadAll(r.Body) // bounded by the route
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return nil, http.StatusRequestEntityTooLarge, fmt.Errorf("certificate request: more than %d bytes", tooLarge.Limit)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, http.StatusRequestTimeout, errors.New("certificate request: it did not come in time")
	}
	if err != nil {
		return nil, http.StatusBadRequest, fmt.Errorf("certificate request: %w", err)
	}
	if csr, err = pki.ParseRequest(body); err != nil {
		return nil, http.StatusBadRequest, fmt.Errorf("certificate request: %w", err)
	}
	return csr, 0, nil
}
