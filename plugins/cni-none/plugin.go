// Command cni-none is the cleat plugin that leaves the pod network to somebody
// else.
package main

import (
	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/pluginsdk/cni"
)

func main() {}

func init() { cni.Register(plan) }

// plan touches nothing, not even what another plan left behind: a CNI that is
// installed separately may use the same names.
func plan(hostabi.CNIRequest) (hostabi.CNIPlan, error) {
	return hostabi.CNIPlan{
		Driver:      hostabi.CNIDriverNone,
		Description: "no network from cleat; the node is ready once a CNI has written its configuration",
	}, nil
}
