package node

import (
	"context"
	"fmt"
	"log/slog"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/extension"
	"github.com/cleat-dev/cleat/core/internal/component/containerd"
	"github.com/cleat-dev/cleat/core/internal/component/images"
	"github.com/cleat-dev/cleat/core/internal/component/join"
	"github.com/cleat-dev/cleat/core/internal/component/kubelet"
	"github.com/cleat-dev/cleat/core/internal/component/kubeproxy"
	"github.com/cleat-dev/cleat/core/internal/component/network"
	"github.com/cleat-dev/cleat/core/internal/component/nodefacts"
	embedcontainerd "github.com/cleat-dev/cleat/core/internal/embed/containerd"
	"github.com/cleat-dev/cleat/core/internal/embed/flannel"
	embedkubelet "github.com/cleat-dev/cleat/core/internal/embed/kubelet"
	embedproxy "github.com/cleat-dev/cleat/core/internal/embed/kubeproxy"
	"github.com/cleat-dev/cleat/core/internal/embed/payload"
	"github.com/cleat-dev/cleat/core/internal/embed/quirks"
	"github.com/cleat-dev/cleat/core/internal/extract"
	"github.com/cleat-dev/cleat/core/internal/netpolicy"
	"github.com/cleat-dev/cleat/core/internal/paths"
	"github.com/cleat-dev/cleat/core/kernel"
	"github.com/cleat-dev/cleat/hostabi"
)

// nodeNeeds is what a node's units get from outside the node.
type nodeNeeds struct {
	join     *join.Join
	joinUnit *kernel.Unit
	cni      extension.CNI
	// deploy takes the manifests of a network plan; nil where no deployer runs.
	deploy  func(ctx context.Context, manifests []hostabi.PlanManifest) error
	plugins *kernel.Unit // cni may be asked
}

// addNode adds the units that make this machine a node of the cluster. They
// reach the server only through its port, as a node on another machine does.
func addNode(k *kernel.Kernel, cfg *config.Config, data paths.Data, logger *slog.Logger, needs nodeNeeds) error {
	programs, err := payload.Bin()
	if err != nil {
		return err
	}
	archive, err := payload.Images()
	if err != nil {
		return err
	}

	containerdUnit := k.Add("containerd", &containerd.Component{
		Config: cfg, Data: data, Log: logger,
		BinDir: extract.BinDir(data.Payload(), programs.Digest),
		Start: func(ctx context.Context, configPath string) error {
			kernel.Report(ctx, "unpacking runc, the shim and the CNI plugins")
			binDir, err := extract.Extract(ctx, data.Payload(), programs.Digest, programs.Open)
			if err != nil {
				return err
			}
			if err := quirks.PrependPath(binDir); err != nil {
				return err
			}
			return embedcontainerd.Run(ctx, configPath)
		},
	})
	imagesUnit := k.Add("images", &images.Component{
		Data: data, Log: logger, Snapshotter: cfg.Snapshotter,
		Endpoint: containerd.Endpoint(cfg),
		Payload:  []images.Payload{{Name: archive.Name, Digest: archive.Digest, Open: archive.Open}},
	}, containerdUnit)

	// What the cluster decides is known once the node has joined.
	inCluster := func() (*config.Config, error) {
		cluster, err := needs.join.NodeConfig()
		if err != nil {
			return nil, err
		}
		return cfg.InCluster(cluster)
	}
	newKubelet := func(cfg *config.Config) (*embedkubelet.Kubelet, error) {
		return embedkubelet.New(kubelet.Configuration(cfg, data, containerd.Endpoint(cfg), containerd.ImageEndpoint(cfg)), kubelet.Args(cfg, data))
	}
	if _, err := newKubelet(cfg); err != nil {
		return err
	}
	kubeletUnit := k.Add("kubelet", kubelet.New(cfg, data, func(ctx context.Context) error {
		cfg, err := inCluster()
		if err != nil {
			return err
		}
		program, err := newKubelet(cfg)
		if err != nil {
			return err
		}
		return program.Run(ctx)
	}), needs.joinUnit, containerdUnit, imagesUnit)

	k.Add("nodefacts", nodefacts.New(cfg, data.Kubeconfig("kubelet"), logger), kubeletUnit) // it writes on the Node

	k.Add("network", &network.Component{
		Config: cfg, InCluster: inCluster, Data: data, Log: logger,
		CNI: needs.cni, ProxyMode: kubeproxy.Mode(cfg), Deploy: needs.deploy,
		Flannel: flannelDriver{kubeconfig: data.Kubeconfig("network"), nodeName: cfg.NodeName, logger: logger},
		Policy:  policyDriver{kubeconfig: data.Kubeconfig("network"), nodeName: cfg.NodeName, logger: logger},
		Client:  func() (kubernetes.Interface, error) { return clientFor(data.Kubeconfig("kubelet")) },

		AllNodes: func() (kubernetes.Interface, error) { return clientFor(data.Kubeconfig("network")) },
	}, needs.joinUnit, needs.plugins) // it waits for its Node itself, while the kubelet starts

	if cfg.DisableKubeProxy {
		return nil
	}
	newProxy := func(cfg *config.Config) (*embedproxy.Proxy, error) {
		return embedproxy.New(kubeproxy.Args(cfg, data.Kubeconfig("kubeproxy")))
	}
	if _, err := newProxy(cfg); err != nil {
		return err
	}
	k.Add("kubeproxy", kubeproxy.New(func() (bool, error) {
		cfg, err := inCluster()
		return err == nil && !cfg.DisableKubeProxy, err
	}, func(ctx context.Context) error {
		cfg, err := inCluster()
		if err != nil {
			return err
		}
		program, err := newProxy(cfg)
		if err != nil {
			return err
		}
		return program.Run(ctx)
	}), needs.joinUnit, kubeletUnit) // it asks for its Node, and again only a second later
	return nil
}

// flannelDriver runs the flannel library with the network's own identity, which
// may see all nodes; the kubelet's may not.
type flannelDriver struct {
	kubeconfig, nodeName string
	logger               *slog.Logger
}

func (d flannelDriver) Run(ctx context.Context, plan hostabi.FlannelPlan, ready func()) error {
	return flannel.Run(ctx, flannel.Options{Kubeconfig: d.kubeconfig, NodeName: d.nodeName, Plan: plan, Log: d.logger}, ready)
}

func (d flannelDriver) Clean(ctx context.Context, plan hostabi.FlannelPlan) error {
	return flannel.Clean(ctx, plan)
}

// policyDriver enforces NetworkPolicies with the network's own identity, which may
// see the pods of all nodes.
type policyDriver struct {
	kubeconfig, nodeName string
	logger               *slog.Logger
}

func (policyDriver) Guard(ctx context.Context, facts network.PolicyFacts) error {
	return netpolicy.Guard(ctx, facts.Local, facts.Bridge)
}

func (d policyDriver) Run(ctx context.Context, facts network.PolicyFacts, ready func()) error {
	client, err := clientFor(d.kubeconfig)
	if err != nil {
		return err
	}
	return netpolicy.Run(ctx, netpolicy.Options{
		Client: client, Node: d.nodeName, Local: facts.Local, Bridge: facts.Bridge,
		Attachments: paths.CNIResults, Log: d.logger,
	}, ready)
}

func (policyDriver) Clean(ctx context.Context) error { return netpolicy.Clean(ctx) }

func clientFor(kubeconfig string) (kubernetes.Interface, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", kubeconfig, err)
	}
	config.ContentType = runtime.ContentTypeProtobuf // all pods of a cluster are much to read as JSON
	return kubernetes.NewForConfig(config)
}
