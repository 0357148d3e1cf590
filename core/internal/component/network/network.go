// Package network asks the CNI plugin how the pods of this node reach each
// other and carries out its plan: sysctls, the driver (flannel, bridge or
// none) and the CNI configuration. It asks again when a fact about the node
// changes. What it set up stays when the process ends, so that pods keep
// their network.
package network

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/extension"
	"github.com/cleat-dev/cleat/core/internal/paths"
	"github.com/cleat-dev/cleat/core/kernel"
	"github.com/cleat-dev/cleat/hostabi"
)

const (
	// resyncInterval is how often facts of the machine are read again and
	// rules that somebody may have flushed are set again.
	resyncInterval = 15 * time.Second
	// callTimeout bounds the plugin and everything done to the machine at once.
	callTimeout = 30 * time.Second
)

// Flannel runs the flannel library.
type Flannel interface {
	// Run keeps this node part of the flannel network until ctx is done. It
	// calls ready once routes and rules are set.
	Run(ctx context.Context, plan hostabi.FlannelPlan, ready func()) error
	// Clean removes the packet filter rules that Run with this plan left, and routes
	// that do not go with a link of its own.
	Clean(ctx context.Context, plan hostabi.FlannelPlan) error
}

// Component is the unit "network".
type Component struct {
	Config *config.Config
	// InCluster is Config with the cluster's choices. It is called when the unit
	// runs; nil leaves Config as it is.
	InCluster func() (*config.Config, error)
	Data      paths.Data
	// Client may read and watch this node. It is called when the unit runs.
	Client func() (kubernetes.Interface, error)
	// AllNodes may list the nodes. It is called while this node has no pod CIDR.
	AllNodes func() (kubernetes.Interface, error)
	CNI      extension.CNI
	// ProxyMode is a hostabi.ProxyMode constant: what kube-proxy uses.
	ProxyMode string
	Flannel   Flannel
	// Policy enforces NetworkPolicies if a plan asks for it. Nil = plans are told
	// not to.
	Policy NetworkPolicy
	// Deploy takes the manifests of a plan. Nil = a plan with manifests fails.
	Deploy func(ctx context.Context, manifests []hostabi.PlanManifest) error
	Log    *slog.Logger

	host         host          // nil = this machine
	dir          string        // of the CNI configuration, "" = paths.CNIConfDir
	lookEvery    time.Duration // 0 = lookInterval
	health       health
	policyHealth health
	nodeHealth   health
}

// Check reports why a driver does not run at the moment, and that the Node is gone.
func (c *Component) Check(context.Context) error {
	err := c.policyHealth.get()
	if err != nil {
		err = fmt.Errorf("NetworkPolicies: %w", err)
	}
	return errors.Join(c.nodeHealth.get(), c.health.get(), err)
}

// Run is ready when a plan is carried out: its driver runs and its CNI
// configuration is written.
func (c *Component) Run(ctx context.Context, ready func()) error {
	if c.InCluster != nil {
		cfg, err := c.InCluster()
		if err != nil {
			return fmt.Errorf("network: %w", err)
		}
		c.Config = cfg
	}
	client, err := c.Client()
	if err != nil {
		return fmt.Errorf("network: %w", err)
	}
	nodes, stopWatch := watchNode(ctx, client, c.Config.NodeName)
	defer stopWatch()
	wait := &shortage{client: client, all: c.AllNodes, ranges: c.Config.ClusterCIDR, interval: cmp.Or(c.lookEvery, lookInterval), log: c.Log}

	x, err := c.newExecutor()
	if err != nil {
		return err
	}
	defer x.stopDriver()

	tick := time.NewTicker(resyncInterval)
	defer tick.Stop()
	kernel.Waiting(ctx, fmt.Errorf("node %q is not registered", c.Config.NodeName))
	var node *corev1.Node
	for {
		select {
		case <-ctx.Done():
			return nil
		case latest := <-nodes:
			c.noteGone(latest == nil)
			if latest == nil {
				continue
			}
			node = latest
		case <-x.driverUp():
			if err := x.finish(); err != nil {
				return err
			}
			kernel.Waiting(ctx, nil)
			ready()
			continue
		case <-wait.due():
			node = wait.look(ctx, node)
		case <-tick.C:
			x.resync(ctx)
		}
		if node == nil {
			continue
		}
		if err := c.replan(ctx, x, node, wait); err != nil {
			return err
		}
		if len(node.Spec.PodCIDRs) > 0 {
			node = wait.end(ctx, node)
		}
	}
}

// noteGone says that the Node was deleted while its machine runs: the kubelet
// registers it only when it starts.
func (c *Component) noteGone(gone bool) {
	var err error
	if gone {
		err = fmt.Errorf("node %q was deleted: restart cleat to make this machine a node again, or stop it", c.Config.NodeName)
		c.Log.Warn("this machine is no node any more", "error", err)
	}
	c.nodeHealth.set(err)
}

func (c *Component) statePath() string { return c.Data.Agent("network.json") }

func (c *Component) newExecutor() (*executor, error) {
	h := c.host
	if h == nil {
		h = machine{}
	}
	dir := c.dir
	if dir == "" {
		dir = paths.CNIConfDir
	}
	st, err := loadState(c.statePath())
	if err != nil {
		// The record only serves to clean up after another plan.
		c.Log.Warn("record of the last network plan not usable: what another plan left behind stays", "error", err)
	}
	return &executor{
		host: h, dir: dir, state: st, flannel: c.Flannel, deploy: c.Deploy, log: c.Log, health: &c.health,
		policy: c.Policy, policyHealth: &c.policyHealth,
		protected: c.Config.Host.DefaultInterface,
	}, nil
}

// replan asks the plugin if a fact changed, and starts carrying out a new
// plan. Before the first plan is in place an error ends the unit, unless the
// node merely has no pod CIDR yet; later the old plan stays in force.
func (c *Component) replan(ctx context.Context, x *executor, node *corev1.Node, wait *shortage) error {
	request, err := c.request(x.host, node)
	if err == nil && reflect.DeepEqual(request, x.request) {
		return nil
	}
	if err == nil {
		callCtx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		var plan hostabi.CNIPlan
		if plan, err = c.CNI.PlanNetwork(callCtx, request); err == nil {
			kernel.Waiting(ctx, fmt.Errorf("the driver %q is not up yet", plan.Driver))
			err = x.begin(ctx, request, plan)
		}
	}
	switch {
	case err == nil || ctx.Err() != nil:
		return nil
	case len(node.Spec.PodCIDRs) == 0:
		x.forget()
		kernel.Waiting(ctx, wait.begin(node.Name, err))
		return nil
	case !x.done:
		return fmt.Errorf("network plan of %s: %w", c.Config.CNI, err)
	case x.begun:
		// Not again until a fact changes once more.
		x.request = request
		c.Log.Error("no new network plan, the old one stays", "plugin", c.Config.CNI, "error", err)
		return nil
	default:
		c.Log.Error("network plan not carried out, it is tried again", "plugin", c.Config.CNI, "error", err)
		return nil
	}
}

// request states the facts about the node as they are now.
func (c *Component) request(h host, node *corev1.Node) (hostabi.CNIRequest, error) {
	addresses := internalIPs(node)
	if len(addresses) == 0 {
		addresses = c.Config.NodeIP
	}
	links, err := h.Links()
	if err != nil {
		return hostabi.CNIRequest{}, fmt.Errorf("links of this machine: %w", err)
	}
	traffic := linkOf(links, addresses, c.Config.Host.DefaultInterface)
	if name := c.Config.FlannelIface; name != "" {
		i := slices.IndexFunc(links, func(l link) bool { return l.Name == name })
		if i < 0 {
			return hostabi.CNIRequest{}, fmt.Errorf("--flannel-iface %q: this machine has no such link; `ip link` lists them", name)
		}
		traffic = links[i]
	}
	return hostabi.CNIRequest{
		Plugin:         c.Config.CNI,
		FlannelBackend: c.Config.FlannelBackend,
		ClusterCIDRs:   c.Config.ClusterCIDR,
		ServiceCIDRs:   c.Config.ServiceCIDR,
		ClusterDomain:  c.Config.ClusterDomain,
		ProxyMode:      c.ProxyMode,
		Node: hostabi.CNINode{
			Name:      node.Name,
			Addresses: addresses,
			Interface: traffic.Name,
			MTU:       traffic.MTU,
			PodCIDRs:  node.Spec.PodCIDRs,
		},
		NetworkPolicy: c.Policy != nil && !c.Config.DisableNetworkPolicy,
	}, nil
}
