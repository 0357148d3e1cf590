// Package flannel runs the flannel library in this process: one backend
// (vxlan or host-gw, for IPv4, IPv6 or both) and the packet filter rules that go with it.
// The CNI configuration is somebody else's work.
package flannel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/flannel-io/flannel/pkg/backend"
	"github.com/flannel-io/flannel/pkg/backend/hostgw"
	"github.com/flannel-io/flannel/pkg/backend/vxlan"
	"github.com/flannel-io/flannel/pkg/ip"
	"github.com/flannel-io/flannel/pkg/lease"
	"github.com/flannel-io/flannel/pkg/subnet"
	"github.com/flannel-io/flannel/pkg/trafficmngr"
	"github.com/flannel-io/flannel/pkg/trafficmngr/iptables"
	"github.com/flannel-io/flannel/pkg/trafficmngr/nftables"
	"github.com/vishvananda/netlink"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/cleat-dev/cleat/hostabi"
)

const (
	// resyncInterval is how often rules are checked and set again.
	resyncInterval = 60 * time.Second
	// linkInterval is how often the vxlan link is looked for.
	linkInterval = 5 * time.Second
	// joinTimeout bounds the wait for flannel's goroutines at the end. They
	// watch their context; one that is stuck must not keep the node.
	joinTimeout = 5 * time.Second
	defaultVNI  = 1
)

// Options are what Run needs.
type Options struct {
	Kubeconfig string // of an identity that may see all nodes and patch the status of its own
	NodeName   string
	Plan       hostabi.FlannelPlan
	Log        *slog.Logger
}

// Run makes this node part of the flannel network until ctx is done. It waits
// until the node has a pod CIDR, and calls ready when the link and the rules
// are set. They stay when Run ends: pods keep their network. When somebody
// removed the link, Run returns an error and is to be called again.
func Run(ctx context.Context, o Options, ready func()) error {
	rest, err := clientcmd.BuildConfigFromFlags("", o.Kubeconfig)
	if err != nil {
		return fmt.Errorf("flannel: kubeconfig %s: %w", o.Kubeconfig, err)
	}
	client, err := kubernetes.NewForConfig(rest)
	if err != nil {
		return fmt.Errorf("flannel: %w", err)
	}
	return run(ctx, client, o, ready)
}

func run(ctx context.Context, client kubernetes.Interface, o Options, ready func()) error {
	cfg, err := subnetConfig(o.Plan)
	if err != nil {
		return fmt.Errorf("flannel: %w", err)
	}
	nodes, err := watchNodes(ctx, client, o.NodeName, cfg)
	if err != nil {
		return fmt.Errorf("flannel: %w", err)
	}
	defer nodes.close()
	nodeIPs, err := nodes.waitForPodCIDR(ctx)
	if err != nil {
		return fmt.Errorf("flannel: %w", err)
	}
	external, err := externalInterface(o.Plan.Interface, nodeIPs, cfg)
	if err != nil {
		return fmt.Errorf("flannel: %w", err)
	}
	if cfg.Backend, err = settings(o.Plan, external.Iface.MTU); err != nil {
		return fmt.Errorf("flannel: %w", err)
	}
	network, err := register(ctx, nodes, external, cfg)
	if err != nil {
		return fmt.Errorf("flannel: %s: %w", o.Plan.Backend, err)
	}
	if err := nodes.sweep(o.Plan, external.Iface.Index); err != nil {
		o.Log.Warn("what leads to nodes that left stays", "error", err)
	}

	// Two contexts: the watch of leases ends before what consumes it.
	netCtx, cancelNet := context.WithCancel(context.WithoutCancel(ctx))
	defer cancelNet()
	rules := newRules(o.Plan, cfg, network.Lease())
	if err := rules.set(netCtx); err != nil {
		return fmt.Errorf("flannel: rules: %w", err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		network.Run(netCtx)
	}()
	ready()
	o.Log.Debug("flannel runs", "subnet", network.Lease().Subnet.String(), "interface", external.Iface.Name, "mtu", network.MTU())

	err = keep(ctx, o, rules, ended)
	nodes.close()
	cancelNet()
	timer := time.NewTimer(joinTimeout)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
		err = errors.Join(err, fmt.Errorf("flannel: not ended within %s", joinTimeout))
	}
	return err
}

// keep returns nil when ctx is done, and an error when the network is gone.
func keep(ctx context.Context, o Options, rules *rules, ended <-chan struct{}) error {
	resync := time.NewTicker(resyncInterval)
	defer resync.Stop()
	look := time.NewTicker(linkInterval)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ended:
			return errors.New("flannel: the backend ended by itself")
		case <-resync.C:
			if err := rules.again(ctx); err != nil && ctx.Err() == nil {
				o.Log.Warn("flannel rules not set again", "error", err)
			}
		case <-look.C:
			if o.Plan.Backend != hostabi.FlannelVXLAN {
				continue
			}
			for _, name := range linkNames(o.Plan) {
				if _, err := netlink.LinkByName(name); errors.As(err, &netlink.LinkNotFoundError{}) {
					return fmt.Errorf("flannel: somebody removed the link %s", name)
				}
			}
		}
	}
}

// linkNames are the vxlan links of a plan: one for each family.
func linkNames(plan hostabi.FlannelPlan) (names []string) {
	if plan.Network != "" {
		names = append(names, fmt.Sprintf("flannel.%d", vni(plan)))
	}
	if plan.NetworkV6 != "" {
		names = append(names, fmt.Sprintf("flannel-v6.%d", vni(plan)))
	}
	return names
}

func vni(plan hostabi.FlannelPlan) int {
	if plan.VNI == 0 {
		return defaultVNI
	}
	return plan.VNI
}

// subnetConfig is flannel's network configuration for a plan, without the settings
// of its backend.
func subnetConfig(plan hostabi.FlannelPlan) (*subnet.Config, error) {
	cfg := &subnet.Config{EnableNFTables: plan.NFTables, BackendType: plan.Backend}
	if plan.Network != "" || plan.NetworkV6 == "" {
		_, network, err := net.ParseCIDR(plan.Network)
		if err != nil || network.IP.To4() == nil {
			return nil, fmt.Errorf("network: %q is no IPv4 CIDR", plan.Network)
		}
		cfg.EnableIPv4, cfg.Network = true, ip.FromIPNet(network)
	}
	if plan.NetworkV6 != "" {
		_, network, err := net.ParseCIDR(plan.NetworkV6)
		if err != nil || network.IP.To4() != nil {
			return nil, fmt.Errorf("network_v6: %q is no IPv6 CIDR", plan.NetworkV6)
		}
		cfg.EnableIPv6, cfg.IPv6Network = true, ip.FromIP6Net(network)
	}
	return cfg, nil
}

// moreOverhead is by how many bytes vxlan over IPv6 is larger than over IPv4,
// which is all that flannel subtracts.
const moreOverhead = 20

// settings are those of the backend, on a link of this MTU.
func settings(plan hostabi.FlannelPlan, mtu int) (json.RawMessage, error) {
	if plan.NetworkV6 != "" {
		mtu -= moreOverhead
	}
	return json.Marshal(map[string]any{"Type": plan.Backend, "VNI": vni(plan), "Port": plan.Port, "MTU": mtu})
}

// externalLink finds the link that carries the traffic between nodes, by name or,
// without one, that of the default route.
func externalLink(name string, cfg *subnet.Config) (link *net.Interface, err error) {
	switch {
	case name != "":
		if link, err = net.InterfaceByName(name); err != nil {
			return nil, fmt.Errorf("interface %q: %w", name, err)
		}
		return link, nil
	case cfg.EnableIPv4:
		link, err = ip.GetDefaultGatewayInterface()
	default:
		link, err = ip.GetDefaultV6GatewayInterface()
	}
	if err != nil {
		return nil, fmt.Errorf("link of the default route: %w", err)
	}
	return link, nil
}

// externalInterface is the external link with an address of each family: the node's if
// the link has that, else its first.
func externalInterface(name string, nodeIPs []net.IP, cfg *subnet.Config) (*backend.ExternalInterface, error) {
	link, err := externalLink(name, cfg)
	if err != nil {
		return nil, err
	}
	// IfaceName stays empty: with it, the vxlan backend makes a removed link
	// again by itself, and there indexes an empty list of the addresses of a family
	// that it does not serve, which ends the process. keep notices the removal instead.
	external := &backend.ExternalInterface{Iface: link}
	if cfg.EnableIPv4 {
		if external.IfaceAddr, err = address(link, "IPv4", ip.GetInterfaceIP4Addrs, nodeIPs); err != nil {
			return nil, err
		}
		external.ExtAddr = external.IfaceAddr
	}
	if cfg.EnableIPv6 {
		if external.IfaceV6Addr, err = address(link, "IPv6", ip.GetInterfaceIP6Addrs, nodeIPs); err != nil {
			return nil, err
		}
		external.ExtV6Addr = external.IfaceV6Addr
	}
	return external, nil
}

func address(link *net.Interface, family string, of func(*net.Interface) ([]net.IP, error), nodeIPs []net.IP) (net.IP, error) {
	addrs, err := of(link)
	if err != nil || len(addrs) == 0 {
		return nil, errors.Join(fmt.Errorf("interface %q has no %s address", link.Name, family), err)
	}
	for _, a := range addrs {
		if slices.ContainsFunc(nodeIPs, a.Equal) {
			return a, nil
		}
	}
	return addrs[0], nil
}

// register makes the link and publishes this node's lease.
func register(ctx context.Context, nodes *nodes, external *backend.ExternalInterface, cfg *subnet.Config) (backend.Network, error) {
	newBackend := vxlan.New
	if cfg.BackendType == hostabi.FlannelHostGW {
		newBackend = hostgw.New
	}
	be, err := newBackend(nodes, external)
	if err != nil {
		return nil, err
	}
	// Only backends that start programs use the group.
	return be.RegisterNetwork(ctx, &sync.WaitGroup{}, cfg)
}

// rules are the packet filter rules of a network.
type rules struct {
	traffic    trafficmngr.TrafficManager
	nft        bool
	masquerade bool
	cfg        *subnet.Config
	lease      *lease.Lease
}

func newRules(plan hostabi.FlannelPlan, cfg *subnet.Config, l *lease.Lease) *rules {
	r := &rules{nft: plan.NFTables, masquerade: plan.Masquerade, cfg: cfg, lease: l}
	if plan.NFTables {
		r.traffic = &nftables.NFTablesManager{}
	} else {
		// It starts goroutines that set rules and check them until the
		// context is done.
		r.traffic = &iptables.IPTablesManager{}
	}
	return r
}

func (r *rules) set(ctx context.Context) error {
	if err := r.traffic.Init(ctx); err != nil {
		return err
	}
	return r.fill(ctx)
}

// again sets nftables rules anew, in one transaction for each chain; the
// iptables manager does so by itself.
func (r *rules) again(ctx context.Context) error {
	if !r.nft {
		return nil
	}
	return r.set(ctx)
}

func (r *rules) fill(ctx context.Context) error {
	period := int(resyncInterval / time.Second)
	if r.masquerade {
		// The previous network is given as the present one: what it left is
		// in chains that are emptied anyway.
		if err := r.traffic.SetupAndEnsureMasqRules(ctx,
			r.cfg.Network, r.lease.Subnet, r.cfg.Network,
			r.cfg.IPv6Network, r.lease.IPv6Subnet, r.cfg.IPv6Network,
			r.lease, period, false); err != nil {
			return err
		}
	}
	r.traffic.SetupAndEnsureForwardRules(ctx, r.cfg.Network, r.cfg.IPv6Network, period)
	return nil
}
