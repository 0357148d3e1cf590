// Package deployer is the SDK of the extension point deployer: what a file of the manifests directory holds.
package deployer

import (
	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/pluginsdk/plan"
)

// Register makes handler the plugin's decision; call it from an init function.
// A handler that returns plan.ErrNotMine leaves the file to the next plugin.
func Register(handler plan.Handler[hostabi.DeployRequest, hostabi.DeployResult]) {
	plan.Register(hostabi.ExportDeployerRender, handler)
}
