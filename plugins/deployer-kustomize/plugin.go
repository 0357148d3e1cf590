// Command deployer-kustomize is the cleat plugin that deploys kustomizations.
package main

import (
	"encoding/json"
	"fmt"

	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/pluginsdk/deployer"
	"github.com/cleat-dev/cleat/pluginsdk/plan"
)

func main() {}

func init() { deployer.Register(render) }

func render(req hostabi.DeployRequest) (hostabi.DeployResult, error) {
	if req.Kind != hostabi.DeployKindDirectory {
		return hostabi.DeployResult{}, plan.ErrNotMine
	}
	objects, err := deployer.RenderKustomize(hostabi.KustomizeRequest{})
	if err != nil {
		return hostabi.DeployResult{}, err
	}
	result := hostabi.DeployResult{Objects: objects}
	if len(objects) == 0 {
		result.Objects = []json.RawMessage{}
		result.Warnings = []string{fmt.Sprintf("the kustomization in %s has no objects", req.File)}
	}
	return result, nil
}
