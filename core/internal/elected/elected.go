// Package elected is the unit of a program that one of several servers runs at
// a time.
package elected

import (
	"context"
	"time"

	"github.com/cleat-dev/cleat/core/internal/healthprobe"
	"github.com/cleat-dev/cleat/core/kernel"
)

// Component is the unit. Make it with New.
type Component struct {
	run     func(ctx context.Context) error
	standby func() bool
	probe   *healthprobe.Prober
}

// New returns the unit of a program that answers for itself at url, on a
// loopback address. run runs it until its context is done; standby tells that
// another server does so at the moment, which is well too.
func New(url string, run func(ctx context.Context) error, standby func() bool) *Component {
	return &Component{run: run, standby: standby, probe: healthprobe.New(url, nil)}
}

// Run runs the program; it is ready when Check is content.
func (c *Component) Run(ctx context.Context, ready func()) error {
	defer c.probe.Close()
	return kernel.RunProbed(ctx, ready, c.run, 50*time.Millisecond, c.Check)
}

// Check asks the program how it is, if it is this server's turn.
func (c *Component) Check(ctx context.Context) error {
	if c.standby() {
		return nil
	}
	return c.probe.Check(ctx)
}
