// Command golden-deployer is the golden guest of the point deployer: it deploys
// the documents of files that end in .golden.yaml.
package main

import (
	"encoding/json"
	"strings"

	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/pluginsdk/deployer"
	"github.com/cleat-dev/cleat/pluginsdk/plan"
)

func main() {}

func init() { deployer.Register(render) }

func render(req hostabi.DeployRequest) (hostabi.DeployResult, error) {
	if !strings.HasSuffix(req.File, ".golden.yaml") {
		return hostabi.DeployResult{}, plan.ErrNotMine
	}
	documents, err := deployer.RenderYAML(req.Content)
	if err != nil {
		return hostabi.DeployResult{}, err
	}
	result := hostabi.DeployResult{Objects: []json.RawMessage{}}
	for _, d := range documents {
		if string(d) != "null" {
			result.Objects = append(result.Objects, d)
		}
	}
	if len(result.Objects) == 0 {
		result.Warnings = []string{req.File + ": has no objects"}
	}
	return result, nil
}
