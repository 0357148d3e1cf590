package supervisor

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/cleat-dev/cleat/core/internal/joinapi"
	"github.com/cleat-dev/cleat/core/internal/token"
)

// groupAdmins may do everything in the cluster.
const groupAdmins = "system:masters"

// caller is who sent a request to the supervisor's own routes.
type caller struct {
	kind callerKind
	name string // of the node, or of the user, for messages; of who is barred, why
}

type callerKind int

const (
	nobody    callerKind = iota // no credentials, or wrong ones
	guesser                     // was wrong too often to be listened to
	undecided                   // came with a bootstrap token that cannot be looked up yet
	barred                      // holds a bootstrap token that may not be used any more
	stranger                    // somebody the cluster knows who is no node
	holder                      // holds a token that joins nodes
	server                      // holds the servers' own token
	node                        // a node with its own certificate
)

// caller finds out who sent r. Credentials in the header count before a
// certificate, so a wrong token is an error however good the certificate.
func (a *api) caller(r *http.Request) caller {
	byCert := a.certified(r)
	if r.Header.Get("Authorization") == "" {
		return byCert
	}
	// A node that is a member already, and this machine, are never held up by
	// what others behind the same address guess.
	remote, known := remoteOf(r)
	held := byCert.kind != node && known && !a.isLocal(r)
	if held && !a.guesses.take(sourceOf(remote)) {
		return caller{kind: guesser}
	}
	c := a.byPassword(r)
	if held && c.kind != nobody {
		a.guesses.right(sourceOf(remote))
	}
	return c
}

// byPassword finds out whose user and password r has.
func (a *api) byPassword(r *http.Request) caller {
	user, password, ok := r.BasicAuth()
	if !ok {
		return caller{kind: nobody}
	}
	servers, agents, err := a.Tokens()
	if err != nil {
		a.Log.Error("the join tokens are not at hand", "error", err)
		return caller{kind: nobody}
	}
	// All comparisons are made always, so time tells nothing.
	isNode, isServer := token.Equal(user, token.UserNode), token.Equal(user, token.UserServer)
	isServers, isAgents := token.Equal(password, servers.Password), token.Equal(password, agents.Password)
	switch {
	case isServer && isServers && servers.Password != "":
		return caller{server, user}
	case isNode && (isServers && servers.Password != "" || isAgents && agents.Password != ""):
		return caller{holder, user}
	case token.IsBootstrap(user, password):
		return a.byBootstrapToken(r.Context(), user, password)
	}
	return caller{kind: nobody}
}

// byBootstrapToken looks a bootstrap token up in the cluster. What is wrong with
// one is only told to who holds it.
func (a *api) byBootstrapToken(ctx context.Context, id, secret string) caller {
	ctx, cancel := context.WithTimeout(ctx, a.limits.lookUp)
	defer cancel()
	have, refusal, err := a.BootstrapToken(ctx, id)
	switch isRight := token.Equal(secret, have); {
	case err != nil:
		a.Log.Debug("bootstrap token not looked up", "id", id, "error", err)
		return caller{kind: undecided}
	case !isRight:
		return caller{kind: nobody}
	case refusal != "":
		return caller{barred, refusal}
	}
	return caller{holder, "system:bootstrap:" + id}
}

// clientCert is the client certificate if the cluster vouches for it, else nil.
func (a *api) clientCert(r *http.Request) *x509.Certificate {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil
	}
	cert := r.TLS.PeerCertificates[0]
	between := x509.NewCertPool()
	for _, c := range r.TLS.PeerCertificates[1:] {
		between.AddCert(c)
	}
	_, err := cert.Verify(x509.VerifyOptions{
		Roots: a.clients, Intermediates: between, CurrentTime: a.Now(),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return nil
	}
	return cert
}

// certified is the caller that the client certificate names.
func (a *api) certified(r *http.Request) caller {
	cert := a.clientCert(r)
	if cert == nil {
		return caller{kind: nobody}
	}
	name, isNode := strings.CutPrefix(cert.Subject.CommonName, joinapi.UserNodePrefix)
	if isNode && slices.Contains(cert.Subject.Organization, joinapi.GroupNodes) && joinapi.CheckNodeName(name) == nil {
		return caller{node, name}
	}
	return caller{stranger, cert.Subject.CommonName}
}

// admit answers callers that may not use the own routes and reports whether
// the rest of the handler is to run.
func (a *api) admit(w http.ResponseWriter, r *http.Request) (caller, bool) {
	c := a.caller(r)
	switch c.kind {
	case holder, server, node:
		return c, true
	case undecided:
		joinapi.WriteStatus(w, http.StatusServiceUnavailable, 2, "bootstrap tokens cannot be checked yet, because the API server does not answer: try again soon, or join with the token of the server's node-token file")
	case stranger:
		joinapi.WriteStatus(w, http.StatusForbidden, 0, fmt.Sprintf("user %.100q is no node: use the join token or a node's own certificate", c.name))
	case guesser:
		joinapi.WriteStatus(w, http.StatusTooManyRequests, 1, "too many wrong join tokens came from this address: try again in a second")
	default:
		why := "the join token is missing or wrong"
		if c.kind == barred {
			why = c.name
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="cleat"`)
		joinapi.WriteStatus(w, http.StatusUnauthorized, 0, why)
	}
	return c, false
}

// mayRotate answers callers who are members, but may not change the token, and
// reports whether the rest of the handler is to run.
func mayRotate(w http.ResponseWriter, c caller) bool {
	if c.kind != server {
		joinapi.WriteStatus(w, http.StatusForbidden, 0, fmt.Sprintf("user %.100q may join nodes: it takes the user server and the servers' own token to change that token", c.name))
	}
	return c.kind == server
}

// mayWatch answers callers that may not see how the server is, and reports
// whether the rest of the handler is to run. The join token lets nobody watch.
func (a *api) mayWatch(w http.ResponseWriter, r *http.Request) bool {
	cert := a.clientCert(r)
	switch {
	case cert != nil && slices.Contains(cert.Subject.Organization, groupAdmins), a.Page.Admits(r):
		return true
	case cert != nil:
		joinapi.WriteStatus(w, http.StatusForbidden, 0, fmt.Sprintf("user %.100q is no administrator", cert.Subject.CommonName))
	default:
		// No scheme that makes a browser ask for a password.
		w.Header().Set("WWW-Authenticate", "Cleat-Link")
		joinapi.WriteStatus(w, http.StatusUnauthorized, 0, "open the link that `cleat ui` prints on the server, or use an administrator's certificate")
	}
	return false
}

func remoteOf(r *http.Request) (netip.Addr, bool) {
	remote, err := netip.ParseAddrPort(r.RemoteAddr)
	return remote.Addr().Unmap(), err == nil
}

// isLocal reports whether r comes from this very machine.
func (s *Supervisor) isLocal(r *http.Request) bool {
	remote, ok := remoteOf(r)
	to, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return ok && s.local(remote, addrOf(to))
}

// sameMachine is true of a loopback address, and of the address that was asked.
func sameMachine(remote, asked netip.Addr) bool { return remote.IsLoopback() || remote == asked }
