package node

import (
	"context"
	"log/slog"
	"time"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/component/join"
	"github.com/cleat-dev/cleat/core/internal/component/plugins"
	"github.com/cleat-dev/cleat/core/internal/embed/quirks"
	"github.com/cleat-dev/cleat/core/internal/paths"
	"github.com/cleat-dev/cleat/core/internal/serverstatus"
	"github.com/cleat-dev/cleat/core/internal/token"
	"github.com/cleat-dev/cleat/core/internal/version"
	"github.com/cleat-dev/cleat/core/kernel"
	"github.com/cleat-dev/cleat/hostabi"
)

// newAgent is the boot order of an agent: the lower half of a server's, and a
// network plugin that comes from the server.
func newAgent(cfg *config.Config, started time.Time, logger *slog.Logger) (*kernel.Kernel, *parts, error) {
	quirks.ShowForeignFlags()
	data := paths.Data(cfg.DataDir)
	k := kernel.New(kernel.Options{Logger: logger})

	joined := join.New(join.Options{
		Config: cfg, Data: data, Log: logger,
		Server:       func() (string, error) { return cfg.Server, nil },
		Token:        func() (token.Token, error) { return token.Parse(cfg.Token) },
		Version:      version.Kubernetes,
		PasswordFile: paths.NodePassword,
	})
	joinUnit := k.Add("join", joined)

	plugged := &networkPlugin{cfg: cfg, data: data, log: logger, join: joined}
	host := plugins.New(plugged.open, plugged.follow)
	pluginsUnit := k.Add("plugins", host, joinUnit)

	report := newReporter(cfg, started, k, serverstatus.Sources{
		Datastore: func() (serverstatus.Datastore, bool) { return serverstatus.Datastore{}, false },
		Plugins:   plugged.report,
		Addons:    func() []serverstatus.Addon { return nil },
	})
	return k, &parts{report: report}, addNode(k, cfg, data, logger, nodeNeeds{
		join: joined, joinUnit: joinUnit,
		cni: host, plugins: pluginsUnit,
		// The servers have the same plan from the same plugin, and deploy it.
		deploy: func(context.Context, []hostabi.PlanManifest) error { return nil },
	})
}
