// Command flannel is flannel's daemon for the benchmark: what flanneld does with
// -kube-subnet-mgr and the vxlan backend, out of flannel's own packages. flanneld
// itself imports a cloud's SDK that the Go module proxy does not serve.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/flannel-io/flannel/pkg/backend"
	_ "github.com/flannel-io/flannel/pkg/backend/vxlan" // the backend that the configuration names
	"github.com/flannel-io/flannel/pkg/ip"
	"github.com/flannel-io/flannel/pkg/subnet/kube"
	"github.com/flannel-io/flannel/pkg/trafficmngr/nftables"
)

// ruleResync is flanneld's -iptables-resync, in seconds.
const ruleResync = 5

type options struct {
	kubeconfig string
	network    string // of all pods, CIDR
	config     string // file that gets flannel's network configuration
	subnetFile string
	conflist   string
}

func main() {
	var o options
	flag.StringVar(&o.kubeconfig, "kubeconfig", "", "kubeconfig `file`; the variable NODE_NAME names the node")
	flag.StringVar(&o.network, "network", "", "`CIDR` of all pods")
	flag.StringVar(&o.config, "net-config", "/run/flannel/net-conf.json", "`file` to write flannel's configuration to")
	flag.StringVar(&o.subnetFile, "subnet-file", "/run/flannel/subnet.env", "`file` to write the node's subnet to")
	flag.StringVar(&o.conflist, "conflist", "/etc/cni/net.d/10-flannel.conflist", "`file` to write the CNI configuration to, when the network is up")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "flannel:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	config, err := json.Marshal(map[string]any{
		"Network": o.network, "EnableIPv4": true, "EnableNFTables": true, "Backend": map[string]any{"Type": "vxlan"},
	})
	if err != nil {
		return err
	}
	if err := write(o.config, config); err != nil {
		return err
	}
	manager, err := kube.NewSubnetManager(ctx, "", o.kubeconfig, "flannel.alpha.coreos.com", o.config, false)
	if err != nil {
		return err
	}
	cfg, err := manager.GetNetworkConfig(ctx)
	if err != nil {
		return err
	}
	link, err := ip.GetDefaultGatewayInterface()
	if err != nil {
		return err
	}
	addrs, err := ip.GetInterfaceIP4Addrs(link)
	if err != nil || len(addrs) == 0 {
		return errors.Join(fmt.Errorf("link %s has no IPv4 address", link.Name), err)
	}
	external := &backend.ExternalInterface{Iface: link, IfaceAddr: addrs[0], ExtAddr: addrs[0]}
	be, err := backend.NewManager(ctx, manager, external).GetBackend(cfg.BackendType)
	if err != nil {
		return err
	}
	var running sync.WaitGroup
	network, err := be.RegisterNetwork(ctx, &running, cfg)
	if err != nil {
		return err
	}
	rules := &nftables.NFTablesManager{}
	if err := rules.Init(ctx); err != nil {
		return err
	}
	lease := network.Lease()
	none := ip.IP6Net{}
	if err := rules.SetupAndEnsureMasqRules(ctx, cfg.Network, lease.Subnet, cfg.Network, none, none, none, lease, ruleResync, false); err != nil {
		return err
	}
	rules.SetupAndEnsureForwardRules(ctx, cfg.Network, none, ruleResync)
	if err := manager.HandleSubnetFile(o.subnetFile, cfg, true, lease.Subnet, none, network.MTU()); err != nil {
		return err
	}
	running.Go(func() { network.Run(ctx) })
	if err := manager.CompleteLease(ctx, lease, &running); err != nil {
		return err
	}
	list, err := conflist(lease.Subnet.String(), cfg.Network.String(), network.MTU())
	if err != nil {
		return err
	}
	if err := write(o.conflist, list); err != nil {
		return err
	}
	<-ctx.Done()
	running.Wait()
	return nil
}

// conflist is what flannel's CNI plugin would make of the subnet file: the plugins
// bridge, host-local and portmap.
func conflist(pods, network string, mtu int) ([]byte, error) {
	type object = map[string]any
	return json.Marshal(object{
		"cniVersion": "1.0.0", "name": "cbr0",
		"plugins": []any{
			object{
				"type": "bridge", "bridge": "cni0", "isDefaultGateway": true, "hairpinMode": true, "forceAddress": true,
				"ipMasq": false, "mtu": mtu,
				"ipam": object{
					"type": "host-local", "ranges": [][]object{{{"subnet": pods}}}, "routes": []object{{"dst": network}},
					"dataDir": "/var/lib/cni/networks",
				},
			},
			object{"type": "portmap", "capabilities": object{"portMappings": true}, "backend": "nftables"},
		},
	})
}

// write replaces a file in one step: containerd watches the directory.
func write(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	temporary := filepath.Join(filepath.Dir(path), "."+filepath.Base(path))
	if err := os.WriteFile(temporary, content, 0o644); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}
