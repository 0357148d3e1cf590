package servicelb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"k8s.io/client-go/kubernetes"

	"github.com/cleat-dev/cleat/core/internal/grants"
	"github.com/cleat-dev/cleat/core/internal/leader"
	"github.com/cleat-dev/cleat/core/kernel"
)

// name is the unit's, its role's, its lease's, and that of the writer of what it
// writes.
const name = "cleat-servicelb"

// Lease is the lease of the server whose turn it is.
const Lease = name

// Options are what the unit needs from its surroundings.
type Options struct {
	Off        bool   // --disable=servicelb: clear what was set, then do nothing
	Admin      string // an administrator's kubeconfig, to grant the permissions with
	Kubeconfig string // of the cloud controller's identity, which the unit works under
	User       string // that identity's name
	// Networks are those of pods and services: no node has an address in them,
	// whatever it says.
	Networks []netip.Prefix
	// Elect calls run when it is this server's turn, with a context that ends with
	// the turn. Standby tells that it is another's.
	Elect   func(ctx context.Context, run func(context.Context) error) error
	Standby func() bool
	Log     *slog.Logger
}

// Component is the unit. Make it with New.
type Component struct {
	Options
	synced atomic.Bool // the caches are filled and every Service was looked at once
}

// New makes the unit.
func New(o Options) *Component { return &Component{Options: o} }

func permissions() []grants.Rule {
	return []grants.Rule{
		{Resource: "services", Verbs: []string{"list", "watch"}},
		{Resource: "services", Subresource: "status", Verbs: []string{"patch"}},
		{Resource: "nodes", Verbs: []string{"list", "watch"}},
		{Group: "discovery.k8s.io", Resource: "endpointslices", Verbs: []string{"list", "watch"}},
		{Resource: "events", Verbs: []string{"create", "patch"}},
		{Group: "coordination.k8s.io", Resource: "leases", Verbs: []string{"create"}},
		{Group: "coordination.k8s.io", Resource: "leases", Name: Lease, Verbs: []string{"get", "update"}},
	}
}

// Run gives Services their nodes until ctx is done. It is ready once every Service
// was looked at, or another server does that.
func (c *Component) Run(ctx context.Context, ready func()) error {
	client, _, err := grants.Obtain(ctx, grants.Request{
		Admin: c.Admin, Own: c.Kubeconfig, User: c.User, Role: name, Rules: permissions(), Log: c.Log,
	})
	if err != nil {
		return err
	}
	if c.Off {
		return c.rest(ctx, client, ready)
	}
	return kernel.RunProbed(ctx, ready, func(ctx context.Context) error { return c.inTurn(ctx, client) },
		50*time.Millisecond, func(context.Context) error {
			if c.synced.Load() || c.Standby() {
				return nil
			}
			return errors.New("not every Service was looked at yet")
		})
}

// inTurn works whenever it is this server's turn. To lose it is no fault: the
// addresses stay as they are meanwhile.
func (c *Component) inTurn(ctx context.Context, client kubernetes.Interface) error {
	for {
		err := c.Elect(ctx, func(ctx context.Context) error {
			defer c.synced.Store(false)
			return c.control(ctx, client)
		})
		if !errors.Is(err, leader.ErrLost) {
			return err
		}
		c.Log.Warn("another server gives Services their nodes from now on", "error", err)
	}
}

// rest clears the addresses that this unit once wrote, and waits for the end.
func (c *Component) rest(ctx context.Context, client kubernetes.Interface, ready func()) error {
	err := kernel.Poll(ctx, time.Second, func(ctx context.Context) error { return clearAll(ctx, client) })
	if err != nil {
		return fmt.Errorf("clear the addresses of Services: %w", err)
	}
	ready()
	<-ctx.Done()
	return nil
}
