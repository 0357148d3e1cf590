package node

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/extension"
	"github.com/cleat-dev/cleat/core/internal/bootstraptoken"
	"github.com/cleat-dev/cleat/core/internal/component/apiserver"
	"github.com/cleat-dev/cleat/core/internal/component/controllermanager"
	"github.com/cleat-dev/cleat/core/internal/component/datastore"
	"github.com/cleat-dev/cleat/core/internal/component/pki"
	"github.com/cleat-dev/cleat/core/internal/component/scheduler"
	"github.com/cleat-dev/cleat/core/internal/component/servicelb"
	"github.com/cleat-dev/cleat/core/internal/component/supervisor"
	embedapiserver "github.com/cleat-dev/cleat/core/internal/embed/apiserver"
	embedcontrollers "github.com/cleat-dev/cleat/core/internal/embed/controllermanager"
	embedscheduler "github.com/cleat-dev/cleat/core/internal/embed/scheduler"
	"github.com/cleat-dev/cleat/core/internal/healthprobe"
	"github.com/cleat-dev/cleat/core/internal/leader"
	"github.com/cleat-dev/cleat/core/internal/paths"
	"github.com/cleat-dev/cleat/core/kernel"
	"github.com/cleat-dev/cleat/hostabi"
)

// newAPIServer makes the API server's unit: its objects in the datastore, its
// admission from the plugins, its requests from the supervisor.
func newAPIServer(cfg *config.Config, data paths.Data, keys pki.Files, plugins extension.Admission, store *datastore.Component, super *supervisor.Supervisor, egress embedapiserver.Egress, units func() []kernel.Status) (*apiserver.Component, error) {
	files := apiserverFiles(keys, data)
	args, err := apiserver.Args(cfg, files)
	if err != nil {
		return nil, err
	}
	address := &net.TCPAddr{IP: net.ParseIP(cfg.BindAddress), Port: cfg.HTTPSListenPort}
	program, err := embedapiserver.New(args, address, plugins)
	if err != nil {
		return nil, err
	}
	return apiserver.New(cfg, files, super.Open, func(ctx context.Context) error {
		plan := store.Plan()
		return program.Run(ctx, embedapiserver.Datastore{
			Endpoints:          []string{datastore.Endpoint},
			CompactionInterval: time.Duration(plan.Compaction.IntervalSeconds) * time.Second,
			Kine:               plan.Driver == hostabi.DatastoreDriverKine,
		}, super, egress, unitChecks(units))
	}), nil
}

// bootstrapTokens looks a bootstrap token up as whom the kubeconfig names, who may see
// all Secrets. The file is there before anybody can ask.
func bootstrapTokens(kubeconfig string) func(ctx context.Context, id string) (secret, refusal string, err error) {
	client := sync.OnceValues(func() (kubernetes.Interface, error) {
		config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
		if err != nil {
			return nil, err
		}
		config.QPS = -1 // a rack that joins at once asks often; the supervisor bounds it
		return kubernetes.NewForConfig(config)
	})
	return func(ctx context.Context, id string) (secret, refusal string, err error) {
		c, err := client()
		if err != nil {
			return "", "", err
		}
		return bootstraptoken.Lookup(ctx, c, id, time.Now())
	}
}

// unitChecks makes each unit a line of /readyz.
func unitChecks(units func() []kernel.Status) []embedapiserver.Check {
	var checks []embedapiserver.Check
	for i, u := range units() {
		checks = append(checks, embedapiserver.Check{
			ID: healthprobe.UnitPrefix + u.Unit, Group: healthprobe.UnitGroup,
			Probe: func() error { return unitNotReady(units()[i]) },
		})
	}
	return checks
}

// unitNotReady says why a unit is not ready, nil if it is.
func unitNotReady(u kernel.Status) error {
	if u.State == kernel.StateReady {
		return nil
	}
	text := string(u.State)
	if len(u.WaitingFor) > 0 {
		text += " for " + strings.Join(u.WaitingFor, ", ")
	}
	for _, more := range []string{u.Progress, u.ProbeError, u.Error} {
		if more != "" {
			text += ": " + more
		}
	}
	return errors.New(text)
}

type runFunc = func(ctx context.Context) error

func newScheduler(cfg *config.Config, keys pki.Files, store *datastore.Component) (run runFunc, standby func() bool, err error) {
	program, err := embedscheduler.New(scheduler.Args(cfg, scheduler.Files{
		Kubeconfig: keys.Scheduler, ServingCert: keys.Loopback.Cert, ServingKey: keys.Loopback.Key,
	}))
	if err != nil {
		return nil, nil, err
	}
	run, standby = once(store, keys.Scheduler, "kube-scheduler", cfg.NodeName, program.Run)
	return run, standby, nil
}

func newControllerManager(cfg *config.Config, keys pki.Files, store *datastore.Component) (run runFunc, standby func() bool, err error) {
	program, err := embedcontrollers.New(controllermanager.Args(cfg, controllermanager.Files{
		Kubeconfig: keys.ControllerManager, ServiceAccountKey: keys.ServiceAccount,
		ServerCA: keys.ServerCA.Cert, ServerCAKey: keys.ServerCA.Key,
		ClientCA: keys.ClientCA.Cert, ClientCAKey: keys.ClientCA.Key,
		ServingCert: keys.Loopback.Cert, ServingKey: keys.Loopback.Key,
	}))
	if err != nil {
		return nil, nil, err
	}
	run, standby = once(store, keys.ControllerManager, "kube-controller-manager", cfg.NodeName, program.Run)
	return run, standby, nil
}

// newServiceLB makes the unit that gives Services of type LoadBalancer addresses of
// nodes. It shares the cloud controller's identity, of which it is a part in others.
func newServiceLB(cfg *config.Config, keys pki.Files, store *datastore.Component, logger *slog.Logger) *servicelb.Component {
	elect, standby := election(store, keys.CloudController, servicelb.Lease, cfg.NodeName)
	var own []netip.Prefix
	for _, cidr := range slices.Concat(cfg.ClusterCIDR, cfg.ServiceCIDR) {
		if p, err := netip.ParsePrefix(cidr); err == nil { // Validate has looked at it
			own = append(own, p)
		}
	}
	return servicelb.New(servicelb.Options{
		Off:   slices.Contains(cfg.Disable, "servicelb"),
		Admin: keys.Deployer, Kubeconfig: keys.CloudController, User: pki.UserCloudController,
		Networks: own,
		Elect:    elect, Standby: standby,
		Log: logger,
	})
}

// once makes run the work of one server at a time where several may share the
// datastore; the others stand by.
func once(store *datastore.Component, kubeconfig, lease, nodeName string, run runFunc) (runFunc, func() bool) {
	elect, standby := election(store, kubeconfig, lease, nodeName)
	return func(ctx context.Context) error { return elect(ctx, run) }, standby
}

// election calls what it is given at once where this server is alone with its
// datastore, else when it has the lease.
func election(store *datastore.Component, kubeconfig, lease, nodeName string) (elect func(context.Context, runFunc) error, standby func() bool) {
	gate := leader.NewGate(kubeconfig, lease, nodeName)
	return func(ctx context.Context, run runFunc) error {
		if !store.Plan().Shared {
			return run(ctx)
		}
		return gate.Run(ctx, run)
	}, gate.Standby
}
