package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/pluginsdk/deployer"
)

const (
	// keepAnnotation tells cleat to leave an object when its file goes;
	// policyAnnotation is what Helm calls it.
	keepAnnotation   = "cleat.dev/keep"
	policyAnnotation = "helm.sh/resource-policy"
)

// collector gathers the objects of one or more releases.
type collector struct {
	objects  []json.RawMessage
	warnings []string
}

func (c *collector) result() hostabi.DeployResult {
	if c.objects == nil {
		c.objects = []json.RawMessage{}
	}
	return hostabi.DeployResult{Objects: c.objects, Warnings: c.warnings}
}

// release renders a chart and adds its objects.
func (c *collector) release(r release) error {
	values, err := json.Marshal(r.values)
	if err != nil {
		return fmt.Errorf("encode the values: %w", err)
	}
	rendered, err := deployer.RenderHelm(hostabi.HelmRequest{Release: r.name, Namespace: r.namespace, Values: values, Archive: r.archive})
	if err != nil {
		return err
	}
	c.warnings = append(c.warnings, rendered.Warnings...)
	if r.createNamespace && !systemNamespace(r.namespace) {
		// Kept, as Helm keeps it: others may have put things there.
		namespace := map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": r.namespace}}
		if err := c.encode(namespace, true); err != nil {
			return err
		}
	}
	for _, raw := range rendered.CRDs {
		// With a definition all objects of its kind would go.
		if err := c.add(raw, "", true); err != nil {
			return err
		}
	}
	for _, raw := range rendered.Objects {
		if err := c.add(raw, r.namespace, false); err != nil {
			return err
		}
	}
	for _, hook := range rendered.Hooks {
		if err := c.hook(hook, r.namespace); err != nil {
			return err
		}
	}
	return nil
}

func systemNamespace(name string) bool {
	return name == defaultNamespace || strings.HasPrefix(name, "kube-")
}

// hook adds an object that Helm would create and forget at an event, unless it
// is there to run something.
func (c *collector) hook(h hostabi.HelmHook, namespace string) error {
	var head struct {
		Kind     string `json:"kind"`
		Metadata struct {
			Name string `json:"name"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(h.Object, &head); err != nil {
		return fmt.Errorf("decode a hook: %w", err)
	}
	what := fmt.Sprintf("hook %s %s (%s)", head.Kind, head.Metadata.Name, strings.Join(h.Events, ", "))
	switch {
	case !slices.ContainsFunc(h.Events, installs):
		c.warnings = append(c.warnings, what+" is left out: it is for deleting or rolling back a release, which cleat does not do")
	case head.Kind == "Job" || head.Kind == "Pod":
		c.warnings = append(c.warnings, what+" is left out: hooks that run something are not run; turn it off in the values, or apply it by hand if the chart needs it")
	default:
		return c.add(h.Object, namespace, false)
	}
	return nil
}

// installs reports whether an event comes with applying a chart.
func installs(event string) bool {
	switch event {
	case "pre-install", "post-install", "pre-upgrade", "post-upgrade":
		return true
	}
	return false
}

// add adds an object. The core takes the namespace away again from kinds that
// have none.
func (c *collector) add(raw json.RawMessage, namespace string, keep bool) error {
	v, err := decode(raw)
	if err != nil {
		return err
	}
	o, ok := v.(map[string]any)
	if !ok {
		return fmt.Errorf("the chart has something that is no object: %.80s", raw)
	}
	metadata, _ := o["metadata"].(map[string]any)
	if metadata == nil {
		return fmt.Errorf("a %v of the chart has no metadata.name", o["kind"])
	}
	if given, _ := metadata["namespace"].(string); given == "" && namespace != "" {
		metadata["namespace"] = namespace
	}
	annotations, _ := metadata["annotations"].(map[string]any)
	return c.encode(o, keep || annotations[policyAnnotation] == "keep")
}

// encode adds o, which it may write.
func (c *collector) encode(o map[string]any, keep bool) error {
	if metadata, _ := o["metadata"].(map[string]any); keep && metadata != nil {
		annotations, _ := metadata["annotations"].(map[string]any)
		if annotations == nil {
			annotations = map[string]any{}
		}
		annotations[keepAnnotation] = "true"
		metadata["annotations"] = annotations
	}
	raw, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("encode an object: %w", err)
	}
	c.objects = append(c.objects, raw)
	return nil
}
