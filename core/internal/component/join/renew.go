package join

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cleat-dev/cleat/core/internal/joinapi"
	"github.com/cleat-dev/cleat/core/internal/pki"
)

// visitEvery is how often a member that needs no certificate asks the server all
// the same, to learn of authorities that changed.
const visitEvery = 12 * time.Hour

// Check fails when the node's certificates cannot be renewed and one is about to end.
func (j *Join) Check(context.Context) error { return j.keeper.Check() }

// Rotate has every certificate of the node issued anew, for the keys there are.
func (j *Join) Rotate(ctx context.Context) error { return j.keeper.Rotate(ctx) }

// renew asks the server for the certificates that are due, or for all.
func (m *member) renew(ctx context.Context, all bool) error {
	due, err := m.due()
	if err != nil {
		return err
	}
	switch {
	case all:
		_, err = m.ask(ctx, pki.Asked)
		return err
	case due:
		_, err = m.ask(ctx, "")
		return err
	case m.now().Sub(m.visited).Abs() < visitEvery:
		return nil
	}
	if _, err := m.ask(ctx, ""); err != nil && ctx.Err() == nil {
		// No certificate waits for it, so once in a visitEvery will do.
		m.visited = m.now()
		m.log.Warn("the server could not be asked whether its authorities changed", "server", m.client.base, "error", err)
	}
	return nil
}

// due reports whether a certificate has to be made anew. It asks nobody.
func (m *member) due() (bool, error) {
	var known [2][]byte
	for i, file := range []string{m.files.ServerCA, m.files.ClientCA} {
		text, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		known[i] = text
	}
	signers, err := authoritiesOf(known[0], known[1])
	if err != nil {
		return false, fmt.Errorf("%w: remove %s and %s to get them anew", err, m.files.ServerCA, m.files.ClientCA)
	}
	for _, c := range m.certificates() {
		_, _, why, err := m.stale(c, signers[c.leaf.Server])
		if err != nil || why != "" {
			return why != "", err
		}
	}
	return false, nil
}

// ask joins as the member that this machine may be: the token may have been changed
// since, or have ended. Who is refused as a member shows the token.
func (m *member) ask(ctx context.Context, because string) (*joinapi.NodeConfig, error) {
	m.client.asMember = m.isMember()
	defer func() { m.client.asMember = false }()
	config, err := m.join(ctx, because)
	if no := (refused{}); m.client.asMember && errors.As(err, &no) {
		m.client.asMember = false
		config, err = m.join(ctx, because)
	}
	return config, err
}

// isMember reports whether the kubelet's certificate is good at the moment.
func (m *member) isMember() bool {
	cert, err := pki.ReadLeaf(m.files.ClientKubelet.Cert)
	now := m.now()
	return err == nil && now.After(cert.NotBefore) && now.Before(cert.NotAfter)
}
