// Package scheduler is the unit of kube-scheduler.
package scheduler

import (
	"context"
	"time"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/componentargs"
	"github.com/cleat-dev/cleat/core/internal/healthprobe"
	"github.com/cleat-dev/cleat/core/kernel"
)

const readyzURL = "https://127.0.0.1:10259/readyz"

// Args are the arguments of the embedded scheduler. Leader election is not
// among them: core/node holds the lease where several servers share a store,
// because upstream's ends the process when it is told to stop.
func Args(cfg *config.Config, kubeconfig string) []string {
	return componentargs.Merge(map[string]string{
		"authentication-kubeconfig": kubeconfig,
		"authorization-kubeconfig":  kubeconfig,
		"bind-address":              "127.0.0.1",
		"kube-api-burst":            "1000",
		"kube-api-qps":              "500",
		"kubeconfig":                kubeconfig,
		"leader-elect":              "false",
		"profiling":                 "false",
		"secure-port":               "10259",
	}, cfg.KubeSchedulerArg)
}

// Component is the unit. Make it with New.
type Component struct {
	run     func(ctx context.Context) error
	standby func() bool
	probe   *healthprobe.Prober
}

// New returns the unit; run runs the scheduler until its context is done.
// standby tells that another server does so at the moment, which is well too.
func New(run func(ctx context.Context) error, standby func() bool) *Component {
	return &Component{run: run, standby: standby, probe: healthprobe.New(readyzURL, nil)}
}

// Run runs the scheduler; it is ready when its caches are filled.
func (c *Component) Run(ctx context.Context, ready func()) error {
	defer c.probe.Close()
	return kernel.RunProbed(ctx, ready, c.run, 50*time.Millisecond, c.Check)
}

// Check asks the scheduler how it is.
func (c *Component) Check(ctx context.Context) error {
	if c.standby() {
		return nil
	}
	return c.probe.Check(ctx)
}
