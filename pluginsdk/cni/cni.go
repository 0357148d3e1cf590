// Package cni is the SDK of the extension point cni: how pods reach each other.
package cni

import (
	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/pluginsdk/plan"
)

// Register makes handler the plugin's decision; call it from an init function.
// A handler that returns plan.ErrNotMine leaves the network to the next plugin.
func Register(handler plan.Handler[hostabi.CNIRequest, hostabi.CNIPlan]) {
	plan.Register(hostabi.ExportCNIPlan, handler)
}
