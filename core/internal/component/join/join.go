// Package join makes a machine a node: it checks the server, proves that it
// holds the token, and brings home the certificates, kubeconfigs and settings
// that kubelet, kube-proxy and network start with. The server's own node goes
// the same way as any other.
package join

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"sync"
	"time"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/joinapi"
	"github.com/cleat-dev/cleat/core/internal/paths"
	"github.com/cleat-dev/cleat/core/internal/renewal"
	"github.com/cleat-dev/cleat/core/internal/token"
	"github.com/cleat-dev/cleat/core/kernel"
)

const (
	firstDelay = 250 * time.Millisecond
	maxDelay   = 10 * time.Second
	repeatLog  = 30 * time.Second // how often an unchanged cause is logged
)

// Options are what the unit needs from its surroundings. The functions are
// called when Run begins.
type Options struct {
	Config *config.Config
	Data   paths.Data
	Server func() (string, error)      // https://host:port of a supervisor; asked before each attempt
	Token  func() (token.Token, error) // what the machine joins with
	// Balancer is the URL at which the node's programs find the API server; "" is
	// the server's own.
	Balancer string
	// PasswordFile holds this machine's node password; it is made if missing.
	// It lies outside the data directory, so that a node that was wiped is
	// still known.
	PasswordFile string
	// Joined is told, before the unit is ready, how long the shortest-lived of the
	// certificates is valid; nil is not told.
	Joined  func(life time.Duration)
	Version string // of this machine's Kubernetes, v1.36.3…
	Log     *slog.Logger
	Now     func() time.Time // nil is time.Now
}

// Join is the unit.
type Join struct {
	Options
	files  Files
	keeper *renewal.Keeper
	member *member // of Run and what it calls

	mu     sync.Mutex
	config *joinapi.NodeConfig
}

// New makes the unit.
func New(o Options) *Join {
	if o.Now == nil {
		o.Now = time.Now
	}
	j := &Join{Options: o, files: FilesOf(o.Data)}
	j.keeper = renewal.New(renewal.Options{
		Certificates: []string{j.files.ClientKubelet.Cert, j.files.ServingKubelet.Cert, j.files.ClientKubeProxy.Cert, j.files.ClientNetwork.Cert},
		Renew:        func(ctx context.Context, all bool) error { return j.member.renew(ctx, all) },
		Log:          o.Log, Now: func() time.Time { return j.Now() },
	})
	return j
}

// Files names what the unit brings home. The paths are known from the start,
// the files exist once the unit is ready.
func (j *Join) Files() Files { return j.files }

// NodeConfig is what the server said of the cluster; it is an error to ask
// before the unit is ready.
func (j *Join) NodeConfig() (joinapi.NodeConfig, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.config == nil {
		return joinapi.NodeConfig{}, errors.New("join: not ready yet")
	}
	return *j.config, nil
}

// Run joins, trying again as long as waiting may help, calls ready, and renews
// certificates until ctx ends.
func (j *Join) Run(ctx context.Context, ready func()) error {
	m, err := j.newMember()
	if err != nil {
		return fmt.Errorf("join: %w", err)
	}
	defer m.close()
	config, err := j.untilJoined(ctx, m)
	if err != nil || config == nil {
		return err
	}
	j.mu.Lock()
	j.config = config
	j.mu.Unlock()
	if j.Joined != nil {
		j.Joined(renewal.Shortest(j.keeper.Certificates))
	}
	j.member = m
	ready()
	j.keeper.Run(ctx)
	return nil
}

// untilJoined returns nil, nil when ctx ended first.
func (j *Join) untilJoined(ctx context.Context, m *member) (*joinapi.NodeConfig, error) {
	var said string
	var at time.Time
	// Each attempt has a port of its own in its error; the cause is the same.
	ownPort := regexp.MustCompile(`:\d+->`)
	for delay := firstDelay; ; delay = min(2*delay, maxDelay) {
		config, err := m.ask(ctx, "")
		if err == nil {
			return config, nil
		}
		if ctx.Err() != nil {
			return nil, nil
		}
		if final := (permanent{}); errors.As(err, &final) {
			return nil, fmt.Errorf("join %s: %w", m.client.base, err)
		}
		kernel.Waiting(ctx, err)
		if text := ownPort.ReplaceAllString(err.Error(), "->"); text != said || j.Now().Sub(at) >= repeatLog {
			j.Log.Warn("cannot join yet", "server", m.client.base, "error", err)
			said, at = text, j.Now()
		}
		// Nodes of a cluster that lost power together do not come in step.
		timer := time.NewTimer(delay/2 + rand.N(delay))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, nil
		case <-timer.C:
		}
	}
}

// permanent is an error that trying again does not mend.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// Permanent reports whether err, of Fetch, is one that trying again does not mend.
func Permanent(err error) bool { return errors.As(err, &permanent{}) }

// newMember prepares what every attempt needs.
func (j *Join) newMember() (*member, error) {
	server, err := j.Server()
	if err != nil {
		return nil, err
	}
	tok, err := j.Token()
	if err != nil {
		return nil, err
	}
	node := joinapi.NodeRequest{Name: j.Config.NodeName}
	if err := joinapi.CheckNodeName(node.Name); err != nil {
		return nil, fmt.Errorf("--node-name: %w", err)
	}
	for _, text := range j.Config.NodeIP {
		ip, err := netip.ParseAddr(text)
		if err == nil {
			ip = ip.Unmap()
			err = joinapi.CheckNodeIP(ip)
		}
		if err != nil {
			return nil, fmt.Errorf("--node-ip %q: %w", text, err)
		}
		node.IPs = append(node.IPs, ip)
	}
	if len(node.IPs) > joinapi.MaxNodeIPs {
		return nil, fmt.Errorf("--node-ip: %d addresses, want at most %d", len(node.IPs), joinapi.MaxNodeIPs)
	}
	if node.Password, err = ensurePassword(j.PasswordFile); err != nil {
		return nil, err
	}
	client, err := newClient(server, tok, j.files.ClientKubelet, j.Now)
	if err != nil {
		return nil, err
	}
	return &member{
		client: client, server: j.Server, node: node, files: j.files, balancer: j.Balancer,
		log: j.Log, now: j.Now, version: j.Version,
	}, nil
}
