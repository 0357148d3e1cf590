package render

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	release "helm.sh/helm/v4/pkg/release/v1"
	releaseutil "helm.sh/helm/v4/pkg/release/v1/util"
	"sigs.k8s.io/yaml"

	"github.com/cleat-dev/cleat/hostabi"
)

// collector gathers what a chart renders to.
type collector struct {
	budget *budget
	result hostabi.HelmResult
}

// head is what is looked at in an object.
type head struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name        string            `json:"name"`
		Annotations map[string]string `json:"annotations"`
	} `json:"metadata"`
	Items []json.RawMessage `json:"items"`
	Spec  json.RawMessage   `json:"spec"`
}

// object parses one YAML document; nil for one without content.
func (c *collector) object(document string) (json.RawMessage, head, error) {
	raw, err := yaml.YAMLToJSON([]byte(document))
	if err != nil {
		return nil, head{}, err
	}
	if bytes.Equal(raw, []byte("null")) {
		return nil, head{}, nil
	}
	if err := c.budget.spend(len(raw)); err != nil {
		return nil, head{}, err
	}
	var h head
	if len(raw) == 0 || raw[0] != '{' {
		return nil, head{}, errNoMap
	}
	if err := json.Unmarshal(raw, &h); err != nil {
		return nil, head{}, err
	}
	if h.Kind == "" || h.APIVersion == "" {
		return nil, head{}, errNoMap
	}
	return raw, h, nil
}

// definitions takes the files of crds/, of each object the first, and tells the
// templates of the kinds they define.
func (c *collector) definitions(ch *chart.Chart, caps *common.Capabilities) error {
	seen := map[string]bool{}
	for _, file := range ch.CRDObjects() {
		for _, document := range splitDocuments(string(file.File.Data)) {
			raw, h, err := c.object(document)
			if err != nil {
				return fmt.Errorf("%s: %w", file.Filename, err)
			}
			key := h.Kind + "/" + h.Metadata.Name
			if raw == nil || seen[key] {
				continue
			}
			seen[key] = true
			c.result.CRDs = append(c.result.CRDs, raw)
			caps.APIVersions = append(caps.APIVersions, definedVersions(h.Spec)...)
		}
	}
	return nil
}

// definedVersions are the versions that a CustomResourceDefinition brings, as
// templates ask for them.
func definedVersions(spec json.RawMessage) []string {
	var s struct {
		Group string `json:"group"`
		Names struct {
			Kind string `json:"kind"`
		} `json:"names"`
		Versions []struct {
			Name   string `json:"name"`
			Served bool   `json:"served"`
		} `json:"versions"`
	}
	if len(spec) == 0 || json.Unmarshal(spec, &s) != nil {
		return nil // whatever it is, it defines nothing
	}
	var out []string
	for _, v := range s.Versions {
		if v.Served {
			out = append(out, s.Group+"/"+v.Name, s.Group+"/"+v.Name+"/"+s.Names.Kind)
		}
	}
	return out
}

// splitDocuments divides YAML as Helm does.
func splitDocuments(text string) []string {
	entries := releaseutil.SplitManifests(text)
	keys := make([]string, 0, len(entries))
	for key := range entries {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
	out := make([]string, len(keys))
	for i, key := range keys {
		out[i] = entries[key]
	}
	return out
}

// manifests takes what the templates rendered to, by template.
func (c *collector) manifests(rendered map[string]string) error {
	total := 0
	for name, text := range rendered {
		if total += len(text); total > 2*hostabi.MaxMessageBytes {
			return errTooMuch
		}
		c.warnUnknownHooks(name, text)
	}
	slices.Sort(c.result.Warnings)
	hooks, objects, err := releaseutil.SortManifests(rendered, nil, releaseutil.InstallOrder)
	if err != nil {
		return err
	}
	for _, m := range objects {
		raw, h, err := c.object(m.Content)
		if err == nil && raw != nil {
			err = c.add(raw, h)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", m.Name, err)
		}
	}
	slices.SortStableFunc(hooks, func(a, b *release.Hook) int { return cmp.Compare(a.Weight, b.Weight) })
	for _, hook := range hooks {
		var events []string
		for _, event := range hook.Events {
			if event != release.HookTest {
				events = append(events, event.String())
			}
		}
		if len(events) == 0 {
			continue
		}
		raw, _, err := c.object(hook.Manifest)
		if err != nil {
			return fmt.Errorf("%s: %w", hook.Path, err)
		}
		c.result.Hooks = append(c.result.Hooks, hostabi.HelmHook{Events: events, Object: raw})
	}
	return nil
}

// add takes an object, or the objects of a list.
func (c *collector) add(raw json.RawMessage, h head) error {
	if !strings.HasSuffix(h.Kind, "List") || h.Items == nil {
		c.result.Objects = append(c.result.Objects, raw)
		return nil
	}
	for i, item := range h.Items {
		inside, ih, err := c.object(string(item))
		if err != nil {
			return fmt.Errorf("items[%d]: %w", i, err)
		}
		if inside != nil {
			if err := c.add(inside, ih); err != nil {
				return err
			}
		}
	}
	return nil
}

// warnUnknownHooks says which objects Helm leaves out because it does not know
// what their hook annotation means.
func (c *collector) warnUnknownHooks(name, text string) {
	if !strings.Contains(text, release.HookAnnotation) || strings.HasPrefix(path.Base(name), "_") {
		return
	}
	for _, document := range splitDocuments(text) {
		var h head
		if yaml.Unmarshal([]byte(document), &h) != nil {
			continue // SortManifests says what is wrong with it
		}
		for event := range strings.SplitSeq(h.Metadata.Annotations[release.HookAnnotation], ",") {
			event = strings.ToLower(strings.TrimSpace(event))
			if h.Metadata.Annotations[release.HookAnnotation] != "" && !knownHook(event) {
				c.result.Warnings = append(c.result.Warnings,
					fmt.Sprintf("%s: %s %s is left out: Helm has no hook %q", name, h.Kind, h.Metadata.Name, event))
				break
			}
		}
	}
}

func knownHook(event string) bool {
	switch release.HookEvent(event) {
	case release.HookPreInstall, release.HookPostInstall, release.HookPreDelete, release.HookPostDelete, release.HookPreUpgrade,
		release.HookPostUpgrade, release.HookPreRollback, release.HookPostRollback, release.HookTest, "test-success":
		return true
	}
	return false
}
