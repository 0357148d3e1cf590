package render

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	valueutil "helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/loader/archive"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	chartutil "helm.sh/helm/v4/pkg/chart/v2/util"
	"helm.sh/helm/v4/pkg/engine"
	"helm.sh/helm/v4/pkg/ignore"

	"github.com/cleat-dev/cleat/core/internal/render/memtree"
	"github.com/cleat-dev/cleat/hostabi"
)

const (
	chartFile        = "Chart.yaml"
	maxReleaseLength = 53 // what Helm leaves of a name for what charts append
)

// helmChart renders the chart in files: those of its directory, or one .tgz.
func helmChart(files map[string][]byte, req hostabi.HelmRequest, kubeVersion string) (hostabi.HelmResult, error) {
	if err := checkRelease(req); err != nil {
		return hostabi.HelmResult{}, err
	}
	values := map[string]any{}
	if len(req.Values) > 0 {
		if err := json.Unmarshal(req.Values, &values); err != nil {
			return hostabi.HelmResult{}, fmt.Errorf("the values are not an object: %w", err)
		}
	}
	files, err := chartFiles(files)
	if err != nil {
		return hostabi.HelmResult{}, err
	}
	c, err := loadChart(files)
	if err != nil {
		return hostabi.HelmResult{}, err
	}
	caps, err := capabilities(kubeVersion)
	if err != nil {
		return hostabi.HelmResult{}, err
	}
	if err := checkChart(c, caps); err != nil {
		return hostabi.HelmResult{}, err
	}
	result := hostabi.HelmResult{Name: c.Name(), Version: c.Metadata.Version}
	if c.Metadata.Deprecated {
		result.Warnings = append(result.Warnings, fmt.Sprintf("chart %s says that it is deprecated", c.Name()))
	}
	if err := chartutil.ProcessDependencies(c, values); err != nil {
		return hostabi.HelmResult{}, fmt.Errorf("dependencies of %s: %w", c.Name(), err)
	}
	out := &collector{budget: newBudget(), result: result}
	if err := out.definitions(c, caps); err != nil {
		return hostabi.HelmResult{}, err
	}
	release := common.ReleaseOptions{Name: req.Release, Namespace: req.Namespace, Revision: 1, IsInstall: true}
	// Helm's own check of the schema would follow references to files and URLs.
	top, err := valueutil.ToRenderValuesWithSchemaValidation(c, values, release, caps, true)
	if err != nil {
		return hostabi.HelmResult{}, fmt.Errorf("values of %s: %w", c.Name(), err)
	}
	if table, err := top.Table("Values"); err != nil {
		return hostabi.HelmResult{}, fmt.Errorf("values of %s: %w", c.Name(), err)
	} else if err := checkSchemas(c, table); err != nil {
		return hostabi.HelmResult{}, err
	}
	rendered, err := engine.Engine{CustomTemplateFuncs: templateFunctions()}.Render(c, top)
	if err != nil {
		return hostabi.HelmResult{}, err
	}
	maps.DeleteFunc(rendered, func(name, _ string) bool { return path.Base(name) == "NOTES.txt" })
	if err := out.manifests(rendered); err != nil {
		return hostabi.HelmResult{}, err
	}
	return out.result, nil
}

var releaseName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)

func checkRelease(req hostabi.HelmRequest) error {
	if len(req.Release) > maxReleaseLength || !releaseName.MatchString(req.Release) {
		return fmt.Errorf("release name %q: want 1 to %d lower-case letters, digits and dashes: rename the file", req.Release, maxReleaseLength)
	}
	if len(req.Namespace) > 63 || !releaseName.MatchString(req.Namespace) {
		return fmt.Errorf("namespace %q of release %s is no name of a namespace", req.Namespace, req.Release)
	}
	return nil
}

// chartFiles returns a chart's files by their path below its directory, with
// those of packed charts in it.
func chartFiles(files map[string][]byte) (map[string][]byte, error) {
	u := &unpacker{}
	if _, directory := files[chartFile]; directory {
		kept, err := withoutIgnored(files)
		if err != nil {
			return nil, err
		}
		for name, content := range kept {
			if len(content) > maxFileBytes {
				return nil, fmt.Errorf("%s is %d bytes, at most %d", name, len(content), maxFileBytes)
			}
			if err := u.take(len(content)); err != nil {
				return nil, err
			}
		}
		return u.unpackNested(kept, 0)
	}
	if len(files) != 1 {
		return nil, fmt.Errorf("%s is missing", chartFile)
	}
	for _, packed := range files {
		return u.unpack(packed, 0)
	}
	return nil, nil
}

// withoutIgnored leaves out what .helmignore names.
func withoutIgnored(files map[string][]byte) (map[string][]byte, error) {
	rules := ignore.Empty()
	if text, ok := files[ignore.HelmIgnore]; ok {
		var err error
		if rules, err = ignore.Parse(bytes.NewReader(text)); err != nil {
			return nil, fmt.Errorf("%s: %w", ignore.HelmIgnore, err)
		}
	}
	rules.AddDefaults()
	tree, err := memtree.New(files)
	if err != nil {
		return nil, err
	}
	ignored := func(name string) bool {
		info, err := tree.Stat(name)
		return err == nil && rules.Ignore(name, info)
	}
	kept := make(map[string][]byte, len(files))
	for name, content := range files {
		out := false
		for at := name; at != "." && !out; at = path.Dir(at) {
			out = ignored(at)
		}
		if !out {
			kept[name] = content
		}
	}
	return kept, nil
}

// loadChart parses a chart. The files are given to Helm in the order of their
// names, on which the order of subcharts with equal objects depends.
func loadChart(files map[string][]byte) (*chart.Chart, error) {
	var list []*archive.BufferedFile
	for _, name := range slices.Sorted(maps.Keys(files)) {
		content := bytes.TrimPrefix(files[name], []byte("\xef\xbb\xbf"))
		list = append(list, &archive.BufferedFile{Name: name, Data: content})
	}
	c, err := loader.LoadFiles(list)
	if err != nil {
		return nil, err
	}
	sortDependencies(c)
	return c, nil
}

// sortDependencies undoes the order of a map, in which Helm loads subcharts.
func sortDependencies(c *chart.Chart) {
	list := slices.Clone(c.Dependencies())
	slices.SortStableFunc(list, func(a, b *chart.Chart) int {
		return strings.Compare(a.Name()+" "+a.Metadata.Version, b.Name()+" "+b.Metadata.Version)
	})
	for _, d := range list {
		sortDependencies(d)
	}
	c.SetDependencies(list...)
}

// checkChart says why a chart cannot be deployed at all.
func checkChart(c *chart.Chart, caps *common.Capabilities) error {
	m := c.Metadata
	switch {
	case m.APIVersion != chart.APIVersionV1 && m.APIVersion != chart.APIVersionV2:
		return fmt.Errorf("apiVersion of chart %s is %q, want v1 or v2", c.Name(), m.APIVersion)
	case m.Type == "library":
		return fmt.Errorf("%s is a library chart, which other charts use: it deploys nothing by itself", c.Name())
	}
	return checkBelow(c, caps)
}

// checkBelow checks a chart and what it depends on.
func checkBelow(c *chart.Chart, caps *common.Capabilities) error {
	if want := c.Metadata.KubeVersion; want != "" && !chartutil.IsCompatibleRange(want, caps.KubeVersion.String()) {
		return fmt.Errorf("chart %s wants Kubernetes %s, this is %s: use another version of the chart", c.Name(), want, caps.KubeVersion.Version)
	}
	for _, d := range c.Metadata.Dependencies {
		if !slices.ContainsFunc(c.Dependencies(), func(have *chart.Chart) bool { return have.Name() == d.Name }) {
			return fmt.Errorf("chart %s depends on %s %s, which is not in its charts/: run `helm dependency build` before it is packed", c.Name(), d.Name, d.Version)
		}
	}
	for _, d := range c.Dependencies() {
		if err := checkBelow(d, caps); err != nil {
			return err
		}
	}
	return nil
}

var errNoMap = errors.New("not an object with apiVersion and kind")
