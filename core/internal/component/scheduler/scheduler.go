// Package scheduler is the unit of kube-scheduler.
package scheduler

import (
	"context"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/componentargs"
	"github.com/cleat-dev/cleat/core/internal/elected"
)

const readyzURL = "https://127.0.0.1:10259/readyz"

// Files are the paths the scheduler reads.
type Files struct {
	Kubeconfig              string
	ServingCert, ServingKey string // of its port on loopback
}

// Args are the arguments of the embedded scheduler. Leader election is not
// among them: core/node holds the lease where several servers share a store,
// because upstream's ends the process when it is told to stop.
func Args(cfg *config.Config, f Files) []string {
	return componentargs.Merge(map[string]string{
		"authentication-kubeconfig": f.Kubeconfig,
		"authorization-kubeconfig":  f.Kubeconfig,
		"bind-address":              "127.0.0.1",
		"kube-api-burst":            "1000",
		"kube-api-qps":              "500",
		"kubeconfig":                f.Kubeconfig,
		"leader-elect":              "false",
		"profiling":                 "false",
		"secure-port":               "10259",
		"tls-cert-file":             f.ServingCert,
		"tls-private-key-file":      f.ServingKey,
	}, cfg.KubeSchedulerArg)
}

// New returns the unit; run runs the scheduler until its context is done. It is
// ready when the scheduler's caches are filled, or while another server
// schedules, which standby tells.
func New(run func(ctx context.Context) error, standby func() bool) *elected.Component {
	return elected.New(readyzURL, run, standby)
}
