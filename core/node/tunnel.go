package node

import (
	"log/slog"
	"net/http"

	"k8s.io/client-go/kubernetes"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/component/join"
	"github.com/cleat-dev/cleat/core/internal/component/kubelet"
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
	unit := tunnel.NewServer(cfg.EgressSelectorMode, cfg.NodeName, logger)
	return serverTunnels{unit: unit, serve: unit.Serve, egress: unit}
}

// add adds the unit and returns what the API server needs with it.
func (t serverTunnels) add(k *kernel.Kernel, supervisor *kernel.Unit) []*kernel.Unit {
	if t.unit == nil {
		return []*kernel.Unit{supervisor}
	}
	return []*kernel.Unit{supervisor, k.Add("tunnel", t.unit, supervisor)}
}

// newAgentTunnel is the unit that keeps a tunnel open to each of servers.
func newAgentTunnel(cfg *config.Config, data paths.Data, joined *join.Join, servers func() ([]string, <-chan struct{}), logger *slog.Logger) (*tunnel.Client, error) {
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
