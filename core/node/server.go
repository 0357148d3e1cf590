// Package node joins the units of a server: which there are, what each needs,
// and which plugin, embedded program or other unit it gets its answers from.
package node

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/collector"
	"github.com/cleat-dev/cleat/core/internal/component/apiserver"
	"github.com/cleat-dev/cleat/core/internal/component/bootstrap"
	"github.com/cleat-dev/cleat/core/internal/component/cloudcontroller"
	"github.com/cleat-dev/cleat/core/internal/component/controllermanager"
	"github.com/cleat-dev/cleat/core/internal/component/datastore"
	"github.com/cleat-dev/cleat/core/internal/component/deployer"
	"github.com/cleat-dev/cleat/core/internal/component/lookup"
	"github.com/cleat-dev/cleat/core/internal/component/nodeevents"
	"github.com/cleat-dev/cleat/core/internal/component/noderole"
	"github.com/cleat-dev/cleat/core/internal/component/pki"
	"github.com/cleat-dev/cleat/core/internal/component/plugins"
	"github.com/cleat-dev/cleat/core/internal/component/scheduler"
	"github.com/cleat-dev/cleat/core/internal/component/supervisor"
	embedcloud "github.com/cleat-dev/cleat/core/internal/embed/cloudcontroller"
	"github.com/cleat-dev/cleat/core/internal/embed/etcd"
	"github.com/cleat-dev/cleat/core/internal/embed/kine"
	"github.com/cleat-dev/cleat/core/internal/embed/quirks"
	"github.com/cleat-dev/cleat/core/internal/etcdstore"
	"github.com/cleat-dev/cleat/core/internal/paths"
	certs "github.com/cleat-dev/cleat/core/internal/pki"
	"github.com/cleat-dev/cleat/core/internal/sdnotify"
	"github.com/cleat-dev/cleat/core/internal/serverstatus"
	"github.com/cleat-dev/cleat/core/internal/statuspage"
	"github.com/cleat-dev/cleat/core/internal/token"
	"github.com/cleat-dev/cleat/core/internal/version"
	"github.com/cleat-dev/cleat/core/kernel"
	"github.com/cleat-dev/cleat/hostabi"
)

// RunServer runs a server, with its own node unless --disable-agent, until ctx
// is done or a unit fails. cfg is complete: loaded, detected and validated.
func RunServer(ctx context.Context, cfg *config.Config, logger *slog.Logger) (err error) {
	started := time.Now()
	// First of all: whoever finds the manager's variables speaks for the process.
	manager, err := sdnotify.Take()
	if err != nil {
		return err
	}
	unlock, err := lockNode(ctx, paths.Data(cfg.DataDir), paths.RunDir)
	if err != nil {
		return err
	}
	defer unlock()
	if err := quirks.BridgeLogs(logger, quirks.LogOptions{Debug: cfg.Debug, Verbosity: cfg.Verbosity}); err != nil {
		return err
	}
	k, parts, err := newServer(cfg, started, logger)
	if err != nil {
		return err
	}
	stopFollowing := collector.Follow(ctx, k.WaitReady, logger)
	defer stopFollowing()
	stopTelling := tellService(k, manager, logger)
	defer func() { stopTelling(err) }()
	if err := quirks.Settle(); err != nil {
		return err
	}
	quirks.CatchFatal(kernel.Label, func(unit, said string) { k.Fail(unit, errors.New(said)) })
	if err := quirks.AddMetrics(serverstatus.Metrics(parts.report.Status)); err != nil {
		return err
	}
	closeStatus, err := serveStatus(ctx, k, parts.report.Status, parts.plugins.serve, serveLinks(cfg, parts.page))
	if err != nil {
		return err
	}
	defer closeStatus()
	stopAnnouncing := announce(ctx, k, cfg, started, logger)
	defer stopAnnouncing()
	return k.Run(ctx)
}

// parts are what the local socket serves of a server.
type parts struct {
	plugins *pluginSide
	report  *serverstatus.Reporter
	page    *statuspage.Page
}

// newServer is the boot order of a server. Building it starts nothing, but it
// refuses arguments that an embedded component would refuse. started is when the
// process began.
func newServer(cfg *config.Config, started time.Time, logger *slog.Logger) (*kernel.Kernel, *parts, error) {
	quirks.ShowForeignFlags()
	data := paths.Data(cfg.DataDir)
	k := kernel.New(kernel.Options{Logger: logger})

	files := pki.FilesOf(data)
	plugged := newPluginSide(cfg, data, files.Deployer, func() (lookup.Store, error) { return etcdstore.New(datastore.Endpoint) }, logger)
	host := plugins.New(plugged.open)
	pluginsUnit := k.Add("plugins", host)

	// The two need each other's answers: bootstrap reads the datastore, and the
	// datastore is not written before bootstrap has seen that the token fits.
	boot := bootstrap.New(bootstrap.Options{
		Config: cfg, Data: data, Log: logger,
		Store: func() (bootstrap.Store, error) { return etcdstore.New(datastore.Endpoint) },
	})
	store := datastore.New(cfg, data, host, map[string]datastore.Driver{
		hostabi.DatastoreDriverKine: kine.Driver(logger),
		hostabi.DatastoreDriverEtcd: etcd.Driver(logger),
	}, boot.MayWrite)
	datastoreUnit := k.Add("datastore", store, pluginsUnit)
	bootstrapUnit := k.Add("bootstrap", boot, datastoreUnit)

	keys := pki.New(pki.Options{
		Config: cfg, Data: data, Log: logger,
		Identity: func() (*certs.Identity, error) {
			cluster, err := boot.Result()
			return cluster.Identity, err
		},
	})
	pkiUnit := k.Add("pki", keys, bootstrapUnit)

	all := &parts{plugins: plugged}
	var told *nodeevents.Component
	all.page = statuspage.New(statuspage.Options{
		Status: func() serverstatus.Status { return all.report.Status() },
		Events: func(ctx context.Context) ([]serverstatus.Event, error) { return told.Recent(ctx) },
	})
	super := supervisor.New(supervisor.Options{
		Config: cfg, CertFile: files.Serving.Cert, KeyFile: files.Serving.Key,
		Version:      version.Kubernetes,
		ServingNames: pki.ServingNames,
		Log:          logger,
		Cluster: func() (*certs.Identity, token.Token, error) {
			cluster, err := boot.Result()
			return cluster.Identity, cluster.Token, err
		},
		Store: func() (supervisor.Store, error) { return etcdstore.New(datastore.Endpoint) },
		Units: k.Status,
		Page:  all.page,
	})
	supervisorUnit := k.Add("supervisor", super, pkiUnit)

	api, err := newAPIServer(cfg, data, files, host, store, super, k.Status)
	if err != nil {
		return nil, nil, err
	}
	apiserverUnit := k.Add("apiserver", api, datastoreUnit, pluginsUnit, supervisorUnit)

	if !cfg.DisableScheduler {
		run, standby, err := newScheduler(cfg, files, store)
		if err != nil {
			return nil, nil, err
		}
		k.Add("scheduler", scheduler.New(run, standby), apiserverUnit)
	}
	run, standby, err := newControllerManager(cfg, files, store)
	if err != nil {
		return nil, nil, err
	}
	k.Add("controllermanager", controllermanager.New(run, standby), apiserverUnit)
	if !cfg.DisableCloudController {
		k.Add("cloudcontroller", cloudcontroller.New(cfg, files.Deployer, files.CloudController, embedcloud.Run, logger), apiserverUnit)
	}
	k.Add("servicelb", newServiceLB(cfg, files, store, logger), apiserverUnit)
	deploy := deployer.New(cfg, data, host, files.Deployer, logger)
	k.Add("deployer", deploy, apiserverUnit, pluginsUnit)
	k.Add("lookup", plugged.lookup, apiserverUnit, pluginsUnit)
	k.Add("pluginstatus", plugged.status, apiserverUnit, pluginsUnit)

	all.report = newReporter(cfg, started, k, store, plugged, deploy)
	told = nodeevents.New(nodeevents.Options{
		Kubeconfig: files.Deployer, Node: cfg.NodeName, Marker: data.Running(), Status: all.report.Status, Log: logger,
	})
	k.Add("nodeevents", told, apiserverUnit)

	if cfg.DisableAgent {
		return k, all, nil
	}
	k.Add("noderole", noderole.New(cfg.NodeName, files.Deployer), apiserverUnit)
	return k, all, addNode(k, cfg, data, logger, nodeNeeds{
		plugins: pluginsUnit, server: supervisorUnit,
		cni:       host,
		serverURL: func() (string, error) { return cfg.ServerURL(), nil },
		token: func() (token.Token, error) {
			cluster, err := boot.Result()
			return cluster.Token, err
		},
		deploy: func(_ context.Context, manifests []hostabi.PlanManifest) error {
			return deploy.SetPlanManifests(manifests)
		},
	})
}

// apiserverFiles are the paths of the API server among those of the cluster.
func apiserverFiles(f pki.Files, data paths.Data) apiserver.Files {
	return apiserver.Files{
		Serving: apiserver.Pair(f.Serving), KubeletClient: apiserver.Pair(f.KubeletClient), ProxyClient: apiserver.Pair(f.FrontProxy),
		ServerCA: f.ServerCA.Cert, ClientCA: f.ClientCA.Cert, RequestHeaderCA: f.RequestHeaderCA.Cert,
		ServiceAccountKey:    f.ServiceAccount,
		AuthenticationConfig: data.ServerEtc("authentication.yaml"),
	}
}
