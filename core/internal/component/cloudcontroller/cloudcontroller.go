// Package cloudcontroller is the unit that makes nodes usable which registered
// as machines of an external cloud: it sets their addresses and provider IDs
// and clears their uninitialized taint. What does that is passed in.
package cloudcontroller

import (
	"context"
	"log/slog"

	"k8s.io/client-go/rest"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/grants"
)

// UserName is the identity in the unit's client certificate.
const UserName = "cleat-cloud-controller"

// RunFunc initializes nodes with the given client until ctx is done. nodeName
// and nodeIPs are this machine's. It calls synced once it knows the nodes.
type RunFunc func(ctx context.Context, config *rest.Config, nodeName string, nodeIPs []string, log *slog.Logger, synced func()) error

// CloudController is the component. Make one with New.
type CloudController struct {
	cfg        *config.Config
	admin      string
	kubeconfig string
	run        RunFunc
	log        *slog.Logger
}

// New returns the component. admin is the path of an administrator's
// kubeconfig, used once to grant the permissions; kubeconfig is the path of the
// kubeconfig of UserName. Both are read when Run starts.
func New(cfg *config.Config, admin, kubeconfig string, run RunFunc, log *slog.Logger) *CloudController {
	return &CloudController{cfg: cfg, admin: admin, kubeconfig: kubeconfig, run: run, log: log}
}

// Run initializes nodes until ctx is done. It calls ready when the identity has
// its permissions and the nodes are known.
func (c *CloudController) Run(ctx context.Context, ready func()) error {
	_, config, err := grants.Obtain(ctx, grants.Request{
		Admin: c.admin, Own: c.kubeconfig, User: UserName, Role: UserName, Rules: permissions(), Log: c.log,
	})
	if err != nil {
		return err
	}
	return c.run(ctx, config, c.cfg.NodeName, c.cfg.NodeIP, c.log, ready)
}

func permissions() []grants.Rule {
	return []grants.Rule{
		{Resource: "nodes", Verbs: []string{"get", "list", "watch", "update", "patch"}},
		{Resource: "nodes", Subresource: "status", Verbs: []string{"patch"}},
		{Resource: "events", Verbs: []string{"create", "patch", "update"}},
	}
}
