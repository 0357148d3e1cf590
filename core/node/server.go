package node

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/component/apiserver"
	"github.com/cleat-dev/cleat/core/internal/component/bootstrap"
	"github.com/cleat-dev/cleat/core/internal/component/cloudcontroller"
	"github.com/cleat-dev/cleat/core/internal/component/controllermanager"
	"github.com/cleat-dev/cleat/core/internal/component/datastore"
	"github.com/cleat-dev/cleat/core/internal/component/deployer"
	"github.com/cleat-dev/cleat/core/internal/component/join"
	"github.com/cleat-dev/cleat/core/internal/component/lookup"
	"github.com/cleat-dev/cleat/core/internal/component/nodeevents"
	"github.com/cleat-dev/cleat/core/internal/component/nodepasswords"
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
	"github.com/cleat-dev/cleat/core/internal/serverstatus"
	"github.com/cleat-dev/cleat/core/internal/statuspage"
	"github.com/cleat-dev/cleat/core/internal/token"
	"github.com/cleat-dev/cleat/core/internal/version"
	"github.com/cleat-dev/cleat/core/kernel"
	"github.com/cleat-dev/cleat/hostabi"
)

// newServer is the boot order of a server. Building it starts nothing, but it
// refuses arguments that an embedded component would refuse. started is when the
// process began.
func newServer(cfg *config.Config, started time.Time, logger *slog.Logger) (*kernel.Kernel, *parts, error) {
	quirks.ShowForeignFlags()
	quirks.FollowCertificates(certs.LookEvery(cfg.CertificateLifetime))
	data := paths.Data(cfg.DataDir)
	k := kernel.New(kernel.Options{Logger: logger})

	files := pki.FilesOf(data)
	plugged := newPluginSide(cfg, data, files.Deployer, func() (lookup.Store, error) { return etcdstore.New(datastore.Endpoint) }, logger)
	host := plugins.New(plugged.open, nil)
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

	all := &parts{}
	var told *nodeevents.Component
	page := statuspage.New(statuspage.Options{
		Status: func() serverstatus.Status { return all.report.Status() },
		Events: func(ctx context.Context) ([]serverstatus.Event, error) { return told.Recent(ctx) },
	})
	tunnels := newServerTunnels(cfg, logger)
	super := supervisor.New(supervisor.Options{
		Config: cfg, CertFile: files.Serving.Cert, KeyFile: files.Serving.Key,
		Version:      version.Kubernetes,
		ServingNames: pki.ServingNames,
		Log:          logger,
		Cluster: func() (*certs.Identity, error) {
			cluster, err := boot.Result()
			return cluster.Identity, err
		},
		Tokens: func() (servers, agents token.Token, err error) {
			cluster, err := boot.Result()
			return cluster.Token, cluster.Agent, err
		},
		Rotate:         boot.Rotate,
		BootstrapToken: bootstrapTokens(files.Supervisor),
		Store:          func() (supervisor.Store, error) { return etcdstore.New(datastore.Endpoint) },
		Servers:        apiServers(files.Deployer),
		Units:          ofThisMachine(k.Status),
		Page:           page,
		Tunnel:         tunnels.serve,

		NetworkLock: plugged.networkLock, NetworkPlugin: plugged.networkPlugin,
	})
	supervisorUnit := k.Add("supervisor", super, pkiUnit)

	api, err := newAPIServer(cfg, data, files, host, store, super, tunnels.egress, ofThisMachine(k.Status))
	if err != nil {
		return nil, nil, err
	}
	apiserverUnit := k.Add("apiserver", api, append([]*kernel.Unit{datastoreUnit, pluginsUnit}, tunnels.add(k, supervisorUnit)...)...)

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
	k.Add("nodepasswords", nodepasswords.New(nodepasswords.Options{
		Kubeconfig: files.Supervisor, Log: logger,
		Store: func() (nodepasswords.Store, error) { return etcdstore.New(datastore.Endpoint) },
	}), apiserverUnit)
	k.Add("lookup", plugged.lookup, apiserverUnit, pluginsUnit)
	k.Add("pluginstatus", plugged.status, apiserverUnit, pluginsUnit)

	all.report = newReporter(cfg, started, k, serverstatus.Sources{
		Datastore: func() (serverstatus.Datastore, bool) {
			plan := store.Plan()
			return serverstatus.Datastore{Driver: plan.Driver, Description: plan.Description, Shared: plan.Shared}, plan.Driver != ""
		},
		Plugins: plugged.report,
		Addons:  func() []serverstatus.Addon { return reportedAddons(deploy) },
	})
	all.serve = []func(*http.ServeMux){plugged.serve, serveLinks(cfg, page)}
	told = nodeevents.New(nodeevents.Options{
		Kubeconfig: files.Deployer, Node: cfg.NodeName, Marker: data.Running(), Status: all.report.Status, Log: logger,
	})
	k.Add("nodeevents", told, apiserverUnit)

	if cfg.DisableAgent {
		all.serve = append(all.serve, serveRotation(keys.Rotate))
		return k, all, nil
	}
	k.Add("noderole", noderole.New(cfg.NodeName, files.Deployer), apiserverUnit)
	joined := join.New(join.Options{
		Config: cfg, Data: data, Log: logger,
		Server: func() (string, error) { return cfg.ServerURL(), nil },
		Token: func() (token.Token, error) {
			cluster, err := boot.Result()
			return cluster.Token, err
		},
		Version:      version.Kubernetes,
		PasswordFile: paths.NodePassword,
	})
	all.serve = append(all.serve, serveRotation(keys.Rotate, joined.Rotate))
	joinUnit := k.Add("join", joined, supervisorUnit)
	if tunnels.unit != nil {
		others, err := newPeers(cfg, data, joined, store, files.Deployer, logger)
		if err != nil {
			return nil, nil, err
		}
		k.Add(unitPeers, others, apiserverUnit, joinUnit)
	}
	return k, all, addNode(k, cfg, data, logger, nodeNeeds{
		join: joined, joinUnit: joinUnit,
		cni: host, plugins: pluginsUnit,
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
