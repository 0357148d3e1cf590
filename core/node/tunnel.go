package node

import (
	"log/slog"
	"net/http"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/component/tunnel"
	embedapiserver "github.com/cleat-dev/cleat/core/internal/embed/apiserver"
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
