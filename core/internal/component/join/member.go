package join

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/cleat-dev/cleat/core/internal/atomicfile"
	"github.com/cleat-dev/cleat/core/internal/joinapi"
	"github.com/cleat-dev/cleat/core/internal/kubeconfig"
	"github.com/cleat-dev/cleat/core/internal/pki"
)

// member is one machine's dealings with its server.
type member struct {
	client   *client
	server   func() (string, error)
	node     joinapi.NodeRequest
	files    Files
	balancer string // what the kubeconfigs name, "" for the server
	log      *slog.Logger
	now      func() time.Time

	version string // of this machine's Kubernetes
	warned  bool   // of the clocks

	visited time.Time // when the server was last asked, for renewals
}

func (m *member) close() { m.client.close() }

// turn makes the client one of the server that is to be asked now.
func (m *member) turn() error {
	server, err := m.server()
	if err != nil {
		return err
	}
	c, err := newClient(server, m.client.token, m.client.own, m.now)
	if err != nil || c.base == m.client.base {
		return err
	}
	c.asMember = m.client.asMember
	m.client.close()
	m.client = c
	return nil
}

// join does all of it once. What is good on disk stays as it is, unless there is a
// reason in because to have every certificate made anew.
func (m *member) join(ctx context.Context, because string) (*joinapi.NodeConfig, error) {
	if err := m.turn(); err != nil {
		return nil, permanent{err}
	}
	serverCA, err := m.client.authorities(ctx)
	if err != nil {
		return nil, err
	}
	if err := m.trust(serverCA); err != nil {
		return nil, permanent{err}
	}
	if s := m.client.skewed(); s != "" && !m.warned {
		m.warned = true
		m.log.Warn(s + ": set the clock before certificates fail")
	}
	text, err := m.client.config(ctx, m.node)
	if err != nil {
		return nil, err
	}
	config, err := joinapi.ParseNodeConfig(text)
	if err != nil {
		return nil, permanent{err}
	}
	if err := checkSkew(m.version, config.Version); err != nil {
		return nil, permanent{err}
	}
	clientCA, err := m.client.get(ctx, joinapi.PathClientCA)
	if err != nil {
		return nil, err
	}
	signers, err := authoritiesOf(serverCA, clientCA)
	if err != nil {
		return nil, permanent{err}
	}
	if err := m.writeAuthorities(serverCA, clientCA); err != nil {
		return nil, permanent{err}
	}
	for _, c := range m.certificates() {
		if err := m.ensure(ctx, c, signers[c.leaf.Server], because); err != nil {
			return nil, err
		}
	}
	if err := m.writeKubeconfigs(); err != nil {
		return nil, permanent{err}
	}
	m.visited = m.now()
	return &config, nil
}

// trust pins the server's CA after it was compared with the token's hash or,
// when the token has none, with the CA of the first time.
func (m *member) trust(serverCA []byte) error {
	if err := m.client.token.CheckCA(serverCA); err != nil {
		return err
	}
	if m.client.token.CAHash == "" {
		known, err := os.ReadFile(m.files.ServerCA)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			m.log.Warn("the token has no CA hash, so the server is taken at its word this first time: join with the full token (K10…) to have it checked")
		case err != nil:
			return err
		case !bytes.Equal(known, serverCA):
			return fmt.Errorf("the server shows another CA than the first time, kept in %s: join with the full token (K10…), or remove the file if the cluster was made anew", m.files.ServerCA)
		}
	}
	return m.client.pin(serverCA)
}

// authoritiesOf are the certificates that sign, by whether they sign servers.
func authoritiesOf(serverCA, clientCA []byte) (map[bool][]*x509.Certificate, error) {
	server, err := pki.ParseCertificates(serverCA)
	if err != nil {
		return nil, fmt.Errorf("the server's CA certificates: %w", err)
	}
	client, err := pki.ParseCertificates(clientCA)
	if err != nil {
		return nil, fmt.Errorf("the server's client CA certificates: %w", err)
	}
	return map[bool][]*x509.Certificate{true: server[:1], false: client[:1]}, nil
}

func (m *member) writeAuthorities(serverCA, clientCA []byte) error {
	if err := os.MkdirAll(filepath.Dir(m.files.ServerCA), 0o700); err != nil {
		return err
	}
	if _, err := atomicfile.WriteIfChanged(m.files.ServerCA, serverCA, 0o644); err != nil {
		return err
	}
	_, err := atomicfile.WriteIfChanged(m.files.ClientCA, clientCA, 0o644)
	return err
}

// certificate is one row: where it comes from, where it goes, what it is to say.
type certificate struct {
	path string
	pair Pair
	leaf pki.Leaf
}

func (m *member) certificates() []certificate {
	user, nodes := joinapi.NodeUser(m.node.Name), []string{joinapi.GroupNodes}
	return []certificate{
		{joinapi.PathClientKubelet, m.files.ClientKubelet, pki.Leaf{CommonName: user, Organization: nodes, Client: true}},
		{joinapi.PathServingKubelet, m.files.ServingKubelet, pki.Leaf{
			CommonName: user, Organization: nodes, Server: true, DNSNames: []string{m.node.Name}, IPs: m.node.IPs,
		}},
		{joinapi.PathClientKubeProxy, m.files.ClientKubeProxy, pki.Leaf{CommonName: joinapi.UserKubeProxy, Client: true}},
		{joinapi.PathClientNetwork, m.files.ClientNetwork, pki.Leaf{CommonName: joinapi.UserNetwork, Client: true}},
	}
}

// stale makes the key if there is none and says why the certificate has to be made
// anew, "" if it is good.
func (m *member) stale(c certificate, signers []*x509.Certificate) (keyPEM []byte, pub crypto.PublicKey, why string, err error) {
	if keyPEM, err = pki.EnsureKey(c.pair.Key); err != nil {
		return nil, nil, "", err
	}
	key, err := pki.ParseKey(keyPEM)
	if err != nil {
		return nil, nil, "", fmt.Errorf("%s: %w", c.pair.Key, err)
	}
	switch old, err := pki.ReadLeaf(c.pair.Cert); {
	case err == nil:
		return keyPEM, key.Public(), pki.Stale(old, key.Public(), c.leaf, signers, m.now()), nil
	case errors.Is(err, fs.ErrNotExist):
		return keyPEM, key.Public(), pki.FirstIssue, nil
	default:
		return nil, nil, "", err
	}
}

// ensure keeps a good certificate or has a new one signed for the same key.
func (m *member) ensure(ctx context.Context, c certificate, signers []*x509.Certificate, because string) error {
	keyPEM, pub, why, err := m.stale(c, signers)
	if err != nil {
		return permanent{err}
	}
	if why = cmp.Or(why, because); why == "" {
		return nil
	}
	csr, err := pki.NewRequest(keyPEM, c.leaf)
	if err != nil {
		return permanent{err}
	}
	certPEM, err := m.client.certificate(ctx, c.path, m.node, csr)
	if err != nil {
		return err
	}
	certs, err := pki.ParseCertificates(certPEM)
	if err != nil {
		return fmt.Errorf("%s: the server's answer: %w", c.path, err)
	}
	// How long it lasts is the server's choice.
	if wrong := pki.Misfit(certs[0], pub, c.leaf, signers); wrong != "" {
		return permanent{fmt.Errorf("%s: the server's certificate does not fit: %s", c.path, wrong)}
	}
	if err := atomicfile.WriteFile(c.pair.Cert, certPEM, 0o644); err != nil {
		return permanent{err}
	}
	level := slog.LevelInfo
	if why == pki.FirstIssue {
		level = slog.LevelDebug
	}
	m.log.Log(ctx, level, "certificate received", "user", c.leaf.CommonName, "file", filepath.Base(c.pair.Cert), "why", why)
	return nil
}

func (m *member) writeKubeconfigs() error {
	server := m.client.base
	if m.balancer != "" {
		server = m.balancer
	}
	for _, k := range []struct {
		path, name string
		pair       Pair
	}{
		{m.files.Kubelet, "kubelet", m.files.ClientKubelet},
		{m.files.KubeProxy, "kubeproxy", m.files.ClientKubeProxy},
		{m.files.Network, "network", m.files.ClientNetwork},
	} {
		text, err := kubeconfig.Config{
			Name: k.name, Server: server,
			CAFile: m.files.ServerCA, CertFile: k.pair.Cert, KeyFile: k.pair.Key,
		}.Marshal()
		if err != nil {
			return err
		}
		if _, err := atomicfile.WriteIfChanged(k.path, text, 0o600); err != nil {
			return err
		}
	}
	return nil
}
