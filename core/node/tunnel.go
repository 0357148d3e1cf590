package node

import (
	"context"
	"log/slog"
	"net/http"
	"slices"

	"k8s.io/client-go/kubernetes"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/component/datastore"
	"github.com/cleat-dev/cleat/core/internal/component/join"
	"github.com/cleat-dev/cleat/core/internal/component/kubelet"
	"github.com/cleat-dev/cleat/core/internal/component/peers"
	"github.com/cleat-dev/cleat/core/internal/component/tunnel"
	embedapiserver "github.com/cleat-dev/cleat/core/internal/embed/apiserver"
	"github.com/cleat-dev/cleat/core/internal/paths"
	"github.com/cleat-dev/cleat/core/kernel"
)

// serverTunnels is the unit that nodes open their tunnels to, and what others get
// of it; all of it is nil with --egress-selector-mode disabled.
type serverTunnels struct {
	unit   *tunnel.Server
	serve  func(w http.ResponseWriter, r *http.Request, node string)
	egress embedapiserver.Egress
}

func newServerTunnels(cfg *config.Config, logger *slog.Logger) serverTunnels {
	if cfg.EgressSelectorMode == config.EgressDisabled {
		return serverTunnels{}
	}
	own := cfg.NodeName
	if cfg.DisableAgent {
		own = "" // a node of that name is another machine
	}
	unit := tunnel.NewServer(cfg.EgressSelectorMode, own, logger)
	return serverTunnels{unit: unit, serve: unit.Serve, egress: unit}
}

// add adds the unit and returns what the API server needs with it.
func (t serverTunnels) add(k *kernel.Kernel, supervisor *kernel.Unit) []*kernel.Unit {
	if t.unit == nil {
		return []*kernel.Unit{supervisor}
	}
	return []*kernel.Unit{supervisor, k.Add("tunnel", t.unit, supervisor)}
}

// newNodeTunnel keeps a tunnel open from this machine's node to each of servers.
func newNodeTunnel(cfg *config.Config, data paths.Data, joined *join.Join, servers func() ([]string, <-chan struct{}), logger *slog.Logger) (*tunnel.Client, error) {
	port, err := kubelet.Port(cfg)
	if err != nil {
		return nil, err
	}
	files := joined.Files()
	return tunnel.NewClient(tunnel.ClientOptions{
		NodeName: cfg.NodeName, Addresses: cfg.NodeIP, KubeletPort: port,
		Cluster: joined.NodeConfig, Servers: servers,
		CertFile: files.ClientKubelet.Cert, KeyFile: files.ClientKubelet.Key, CAFile: files.ServerCA,
		Kubernetes: func() (kubernetes.Interface, error) { return clientFor(data.Kubeconfig("kubelet")) },
		Log:        logger,
	}), nil
}

// unitPeers tells of other machines, so that /readyz, which tells of this one, does
// without it.
const unitPeers = "peers"

// newPeers is the unit that keeps a tunnel open from a server's node to each other server.
func newPeers(cfg *config.Config, data paths.Data, joined *join.Join, store *datastore.Component, kubeconfig string, logger *slog.Logger) (*peers.Component, error) {
	return peers.New(peers.Options{
		Address: cfg.AdvertiseAddress, Log: logger,
		Shared: func() bool { return store.Plan().Shared },
		Follow: func(ctx context.Context, take func(servers []string, err error)) error {
			client, err := clientFor(kubeconfig)
			if err != nil {
				return err
			}
			return followAPIServers(ctx, client, take)
		},
		Tunnel: func(servers func() ([]string, <-chan struct{})) (peers.Tunnel, error) {
			return newNodeTunnel(cfg, data, joined, servers, logger)
		},
	})
}

// ofThisMachine leaves out of status what another machine can make unhealthy.
func ofThisMachine(status func() []kernel.Status) func() []kernel.Status {
	return func() []kernel.Status {
		return slices.DeleteFunc(status(), func(u kernel.Status) bool { return u.Unit == unitPeers })
	}
}
