package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/pluginsdk/deployer"
	"github.com/cleat-dev/cleat/pluginsdk/plan"
)

const (
	chartGroup  = "helm.cattle.io"
	chartKind   = "HelmChart"
	configKind  = "HelmChartConfig"
	chartReader = chartGroup + "/v1"
)

// helmChart is a HelmChart or HelmChartConfig, as k3s has them.
type helmChart struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
	} `json:"metadata"`
	Spec json.RawMessage `json:"spec"`
}

// chartSpec is what of a HelmChart's spec has an effect here.
type chartSpec struct {
	Chart           string         `json:"chart"`
	Repo            string         `json:"repo"`
	ChartContent    string         `json:"chartContent"`
	ValuesContent   string         `json:"valuesContent"`
	Set             map[string]any `json:"set"`
	TargetNamespace string         `json:"targetNamespace"`
	CreateNamespace bool           `json:"createNamespace"`
}

// known are the fields of chartSpec; idle are those that are about the job that
// k3s installs a chart with, or about fetching it.
func known() []string {
	return []string{"chart", "repo", "chartContent", "valuesContent", "set", "targetNamespace", "createNamespace"}
}

func idle() []string {
	return []string{
		"version", "helmVersion", "bootstrap", "jobImage", "backOffLimit", "timeout", "failurePolicy", "podSecurityContext", "securityContext",
		"dockerRegistrySecret", "authSecret", "authPassCredentials", "insecureSkipTLSVerify", "plainHTTP", "repoCA", "repoCAConfigMap",
	}
}

// renderObjects renders the HelmChart objects of a text file.
func renderObjects(req hostabi.DeployRequest, c config) (hostabi.DeployResult, error) {
	if !strings.Contains(req.Content, chartGroup) {
		return hostabi.DeployResult{}, plan.ErrNotMine
	}
	documents, err := deployer.RenderYAML(substitute(req.Content, req.Variables))
	if err != nil {
		return hostabi.DeployResult{}, plan.ErrNotMine // whose it is will say what is wrong with it
	}
	charts, configs, err := divide(documents)
	if err != nil {
		return hostabi.DeployResult{}, err
	}
	if len(charts)+len(configs) == 0 {
		return hostabi.DeployResult{}, plan.ErrNotMine
	}
	var out collector
	for _, chart := range charts {
		if err := out.chart(chart, configs[chart.Metadata.Name], c); err != nil {
			return hostabi.DeployResult{}, at(chartKind+" "+chart.Metadata.Name, err)
		}
		delete(configs, chart.Metadata.Name)
	}
	for name := range configs {
		return hostabi.DeployResult{}, fmt.Errorf("%s %s: the file has no %s of that name: put both into one file", configKind, name, chartKind)
	}
	return out.result(), nil
}

// divide sorts the documents of a file. One that has charts has nothing else.
func divide(documents []json.RawMessage) (charts []helmChart, configs map[string]helmChart, err error) {
	configs = map[string]helmChart{}
	other := ""
	for n, document := range documents {
		var o helmChart
		if string(document) == "null" {
			continue
		}
		err := json.Unmarshal(document, &o)
		switch {
		case err != nil || o.APIVersion != chartReader || o.Kind != chartKind && o.Kind != configKind:
			if other == "" {
				other = fmt.Sprintf("document %d (%s %s)", n+1, o.Kind, o.Metadata.Name)
			}
		case o.Metadata.Name == "":
			return nil, nil, fmt.Errorf("document %d: metadata.name of the %s is missing", n+1, o.Kind)
		case o.Kind == configKind:
			configs[o.Metadata.Name] = o
		case slices.ContainsFunc(charts, func(c helmChart) bool { return c.Metadata.Name == o.Metadata.Name }):
			return nil, nil, fmt.Errorf("document %d: %s %s is in the file twice", n+1, o.Kind, o.Metadata.Name)
		default:
			charts = append(charts, o)
		}
	}
	if other != "" && len(charts)+len(configs) > 0 {
		return nil, nil, fmt.Errorf("%s is no %s: a file with charts holds nothing else, so put it into a file of its own", other, chartKind)
	}
	return charts, configs, nil
}

// chart renders one HelmChart, with its HelmChartConfig if there is one.
func (c *collector) chart(chart, override helmChart, cfg config) error {
	spec, err := c.spec(chart, chartKind)
	if err != nil {
		return err
	}
	if spec.ChartContent == "" {
		return fmt.Errorf("spec.chart is %q, and charts are not fetched: run `%s`, put the .tgz into the manifests directory as %s.tgz and the values into %s.values.yaml, or put it into spec.chartContent in base64",
			spec.Chart, pullCommand(spec), chart.Metadata.Name, chart.Metadata.Name)
	}
	r := release{name: chart.Metadata.Name, namespace: defaultNamespace, archive: spec.ChartContent, createNamespace: spec.CreateNamespace}
	for _, namespace := range []string{spec.TargetNamespace, chart.Metadata.Namespace, cfg.Namespaces[r.name]} {
		if namespace != "" {
			r.namespace = namespace
			break
		}
	}
	if r.values, err = parseValues(spec.ValuesContent); err != nil {
		return at("spec.valuesContent", err)
	}
	if override.Kind != "" {
		more, err := c.spec(override, configKind)
		if err != nil {
			return err
		}
		values, err := parseValues(more.ValuesContent)
		if err != nil {
			return at("spec.valuesContent of the "+configKind, err)
		}
		r.values = merge(r.values, values)
	}
	for _, path := range sortedKeys(spec.Set) {
		if err := setValue(r.values, path, spec.Set[path]); err != nil {
			return fmt.Errorf("spec.set: %w", err)
		}
	}
	return c.release(r)
}

// spec reads a spec and says what of it has no effect.
func (c *collector) spec(chart helmChart, kind string) (chartSpec, error) {
	var spec chartSpec
	var fields map[string]json.RawMessage
	if len(chart.Spec) == 0 {
		return spec, nil
	}
	if err := json.Unmarshal(chart.Spec, &fields); err != nil {
		return spec, fmt.Errorf("spec of the %s: %w", kind, err)
	}
	if err := json.Unmarshal(chart.Spec, &spec); err != nil {
		return spec, fmt.Errorf("spec of the %s: %w", kind, err)
	}
	for _, field := range sortedKeys(fields) {
		switch {
		case field == "valuesSecrets":
			return spec, fmt.Errorf("spec.%s: the values in secrets are not read: put them into spec.valuesContent, or into a file of their own with the chart's .tgz", field)
		case !slices.Contains(known(), field) && !slices.Contains(idle(), field):
			c.warnings = append(c.warnings, fmt.Sprintf("%s %s: spec.%s has no effect", kind, chart.Metadata.Name, field))
		}
	}
	return spec, nil
}

func pullCommand(spec chartSpec) string {
	command := "helm pull " + spec.Chart
	if spec.Repo != "" {
		command += " --repo " + spec.Repo
	}
	return command
}
