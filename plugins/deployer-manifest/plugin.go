// Command deployer-manifest is the cleat plugin that deploys YAML and JSON
// files.
package main

import (
	"strings"

	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/pluginsdk/deployer"
	"github.com/cleat-dev/cleat/pluginsdk/plan"
)

func main() {}

func init() { deployer.Register(render) }

func render(req hostabi.DeployRequest) (hostabi.DeployResult, error) {
	if !claims(req.File) {
		return hostabi.DeployResult{}, plan.ErrNotMine
	}
	text, warnings := substitute(req.Content, req.Variables)
	documents, err := deployer.RenderYAML(text)
	if err != nil {
		return hostabi.DeployResult{}, err
	}
	c := collector{warnings: warnings}
	for i, document := range documents {
		if err := c.document(i+1, document); err != nil {
			return hostabi.DeployResult{}, err
		}
	}
	return c.result(), nil
}

func claims(file string) bool {
	file = strings.ToLower(file)
	return strings.HasSuffix(file, ".yaml") || strings.HasSuffix(file, ".yml") || strings.HasSuffix(file, ".json")
}
