// Package plugins is the unit that opens the plugin host: the lock verified,
// every plugin compiled or found in the compile cache. To the units that need
// it, it is the extension points.
package plugins

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/cleat-dev/cleat/core/extension"
	"github.com/cleat-dev/cleat/core/kernel"
	"github.com/cleat-dev/cleat/hostabi"
)

// Host is an open plugin host.
type Host interface {
	extension.Datastore
	extension.CNI
	extension.Deployer
	extension.Admission
	// Close waits for the calls under way and gives back all memory.
	Close(ctx context.Context) error
}

// errNotReady cannot be seen where the boot order holds.
var errNotReady = errors.New("the plugins are not loaded yet; this unit should need the unit plugins")

// Component is the unit. Make it with New.
type Component struct {
	open   func(ctx context.Context) (Host, error)
	follow func(ctx context.Context)
	host   atomic.Pointer[Host]
}

// New returns the unit; open opens the host that the lock describes. follow, unless
// nil, is called while the host is open and keeps it up with the lock until its
// context is done.
func New(open func(ctx context.Context) (Host, error), follow func(ctx context.Context)) *Component {
	if follow == nil {
		follow = func(ctx context.Context) { <-ctx.Done() }
	}
	return &Component{open: open, follow: follow}
}

// Run opens the host and closes it when ctx is done.
func (c *Component) Run(ctx context.Context, ready func()) error {
	kernel.Report(ctx, "verifying and loading the plugins of the lock")
	host, err := c.open(ctx)
	if err != nil {
		return err
	}
	c.host.Store(&host)
	ready()
	c.follow(ctx)
	// The units that asked have returned; what is left is memory.
	return host.Close(context.WithoutCancel(ctx))
}

func (c *Component) loaded() (Host, error) {
	if h := c.host.Load(); h != nil {
		return *h, nil
	}
	return nil, errNotReady
}

// PlanDatastore implements extension.Datastore.
func (c *Component) PlanDatastore(ctx context.Context, req hostabi.DatastoreRequest) (hostabi.DatastorePlan, error) {
	host, err := c.loaded()
	if err != nil {
		return hostabi.DatastorePlan{}, err
	}
	return host.PlanDatastore(ctx, req)
}

// PlanNetwork implements extension.CNI.
func (c *Component) PlanNetwork(ctx context.Context, req hostabi.CNIRequest) (hostabi.CNIPlan, error) {
	host, err := c.loaded()
	if err != nil {
		return hostabi.CNIPlan{}, err
	}
	return host.PlanNetwork(ctx, req)
}

// Claims implements extension.Deployer; nothing is claimed before the host is open.
func (c *Component) Claims() []hostabi.DeployerManifest {
	host, err := c.loaded()
	if err != nil {
		return nil
	}
	return host.Claims()
}

// Render implements extension.Deployer.
func (c *Component) Render(ctx context.Context, in extension.DeployInput) (hostabi.DeployResult, bool, error) {
	host, err := c.loaded()
	if err != nil {
		return hostabi.DeployResult{}, false, err
	}
	return host.Render(ctx, in)
}

// Handles implements extension.Admission. Before the host is open it claims
// every request, so that none passes unasked.
func (c *Component) Handles(op hostabi.Operation, group, version, resource, subresource string) bool {
	host, err := c.loaded()
	return err != nil || host.Handles(op, group, version, resource, subresource)
}

// Mutate implements extension.Admission.
func (c *Component) Mutate(ctx context.Context, req *extension.AdmissionRequest) (extension.AdmissionResult, error) {
	host, err := c.loaded()
	if err != nil {
		return extension.AdmissionResult{}, err
	}
	return host.Mutate(ctx, req)
}

// Validate implements extension.Admission.
func (c *Component) Validate(ctx context.Context, req *extension.AdmissionRequest) (extension.AdmissionResult, error) {
	host, err := c.loaded()
	if err != nil {
		return extension.AdmissionResult{}, err
	}
	return host.Validate(ctx, req)
}
