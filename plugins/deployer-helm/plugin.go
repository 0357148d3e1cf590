// Command deployer-helm is the cleat plugin that deploys Helm charts.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/pluginsdk/deployer"
	"github.com/cleat-dev/cleat/pluginsdk/plan"
)

const (
	defaultNamespace = "default"
	companion        = "*.values.yaml"
)

// config is the plugin's configuration.
type config struct {
	Namespaces       map[string]string `json:"namespaces"`
	CreateNamespaces bool              `json:"create_namespaces"`
}

// release is a chart to be rendered.
type release struct {
	name            string
	namespace       string
	createNamespace bool
	archive         string // base64; empty = the input of the hook
	values          map[string]any
}

func main() {}

func init() { deployer.Register(render) }

func render(req hostabi.DeployRequest) (hostabi.DeployResult, error) {
	var c config
	if err := plan.Config(&c); err != nil {
		return hostabi.DeployResult{}, err
	}
	switch req.Kind {
	case hostabi.DeployKindArchive, hostabi.DeployKindDirectory:
		return renderChart(req, c)
	}
	return renderObjects(req, c)
}

// renderChart renders an archive or directory.
func renderChart(req hostabi.DeployRequest, c config) (hostabi.DeployResult, error) {
	r := release{name: req.Addon, namespace: defaultNamespace}
	if namespace := c.Namespaces[r.name]; namespace != "" {
		r.namespace, r.createNamespace = namespace, c.CreateNamespaces
	}
	var err error
	if r.values, err = parseValues(substitute(req.Companions[companion], req.Variables)); err != nil {
		return hostabi.DeployResult{}, at(strings.Replace(companion, "*", req.Addon, 1), err)
	}
	var out collector
	if err := out.release(r); err != nil {
		return hostabi.DeployResult{}, err
	}
	return out.result(), nil
}

// at says where an error is from. An error number stays as it is: then the host
// knows what is wrong and tells the operator.
func at(where string, err error) error {
	if errno, ok := err.(hostabi.Errno); ok {
		return errno
	}
	return fmt.Errorf("%s: %w", where, err)
}

// substitute replaces %{NAME}% by the variables of the cluster.
func substitute(text string, variables map[string]string) string {
	var pairs []string
	for name, value := range variables {
		pairs = append(pairs, "%{"+name+"}%", value)
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// parseValues reads YAML values; no text is no values.
func parseValues(text string) (map[string]any, error) {
	if strings.TrimSpace(text) == "" {
		return map[string]any{}, nil
	}
	documents, err := deployer.RenderYAML(text)
	if err != nil {
		return nil, err
	}
	values := map[string]any{}
	for _, document := range documents {
		v, err := decode(document)
		if err != nil {
			return nil, err
		}
		switch v := v.(type) {
		case nil:
		case map[string]any:
			values = merge(values, v)
		default:
			return nil, errors.New("values must be an object, such as replicas: 2")
		}
	}
	return values, nil
}

// decode keeps numbers as they are written.
func decode(raw json.RawMessage) (any, error) {
	d := json.NewDecoder(strings.NewReader(string(raw)))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("decode JSON: %w", err)
	}
	return v, nil
}

// merge lays the values of b over those of a, as Helm does: objects are merged,
// anything else is replaced, and null takes the chart's own value away.
func merge(a, b map[string]any) map[string]any {
	out := make(map[string]any, len(a)+len(b))
	for key, value := range a {
		out[key] = value
	}
	for key, value := range b {
		below, isObject := value.(map[string]any)
		own, wasObject := out[key].(map[string]any)
		if isObject && wasObject {
			out[key] = merge(own, below)
		} else {
			out[key] = value
		}
	}
	return out
}
