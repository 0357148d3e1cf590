package node

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/component/join"
	"github.com/cleat-dev/cleat/core/internal/component/loadbalancer"
	"github.com/cleat-dev/cleat/core/internal/component/plugins"
	"github.com/cleat-dev/cleat/core/internal/embed/quirks"
	"github.com/cleat-dev/cleat/core/internal/paths"
	certs "github.com/cleat-dev/cleat/core/internal/pki"
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

	files := join.FilesOf(data)
	balancer := loadbalancer.New(loadbalancer.Options{
		Config: cfg, Data: data, Log: logger, Server: cfg.Server,
		Authority: files.ServerCA, Cert: files.ClientKubelet.Cert, Key: files.ClientKubelet.Key,
	})
	balancerUnit := k.Add("loadbalancer", balancer)
	joined := join.New(join.Options{
		Config: cfg, Data: data, Log: logger,
		// Not through the balancer, so that an error names the server it is about.
		Server:       func() (string, error) { return balancer.Best(), nil },
		Balancer:     balancer.URL(),
		Token:        func() (token.Token, error) { return token.Parse(cfg.Token) },
		Version:      version.Kubernetes,
		PasswordFile: paths.NodePassword,
		// Every client of this process is made later.
		Joined: func(life time.Duration) { quirks.FollowCertificates(certs.LookEvery(life)) },
	})
	joinUnit := k.Add("join", joined, balancerUnit)

	plugged := &networkPlugin{data: data, log: logger, cluster: joined.NodeConfig, fetch: joined.Fetch}
	host := plugins.New(plugged.open, plugged.follow)
	pluginsUnit := k.Add("plugins", host, joinUnit)

	servers := func() (urls []string, changed <-chan struct{}) {
		addresses, changed := balancer.Servers()
		for _, a := range addresses {
			urls = append(urls, "https://"+a)
		}
		return urls, changed
	}
	tunnels, err := newNodeTunnel(cfg, data, joined, servers, logger)
	if err != nil {
		return nil, nil, err
	}
	k.Add("tunnel", tunnels, joinUnit)

	report := newReporter(cfg, started, k, serverstatus.Sources{
		Datastore: func() (serverstatus.Datastore, bool) { return serverstatus.Datastore{}, false },
		Plugins:   plugged.report,
		Addons:    func() []serverstatus.Addon { return nil },
	})
	return k, &parts{
			report: report, serve: []func(*http.ServeMux){serveRotation(joined.Rotate)},
			metrics: []prometheus.Collector{balancer.Metrics()},
		}, addNode(k, cfg, data, logger, nodeNeeds{
			join: joined, joinUnit: joinUnit,
			cni: host, plugins: pluginsUnit,
			// The servers have the same plan from the same plugin, and deploy it.
			deploy: func(context.Context, []hostabi.PlanManifest) error { return nil },
		})
}
