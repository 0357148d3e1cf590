// Package crd holds the custom resources of the cleat.dev API group: their
// definitions as the API server wants them and their Go types.
package crd

import (
	"context"
	_ "embed"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"
)

//go:embed addon.yaml
var addonYAML []byte

//go:embed plugin.yaml
var pluginYAML []byte

// EstablishTimeout bounds how long the API server may take to serve a new
// custom resource; it usually needs some hundred milliseconds.
const EstablishTimeout = 30 * time.Second

const establishPoll = 50 * time.Millisecond

// DefinitionGVR addresses CustomResourceDefinitions in the dynamic client.
func DefinitionGVR() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
}

// Definitions returns the CustomResourceDefinitions of the API group.
func Definitions() ([]*unstructured.Unstructured, error) {
	var definitions []*unstructured.Unstructured
	for _, text := range [][]byte{addonYAML, pluginYAML} {
		d := &unstructured.Unstructured{}
		if err := yaml.UnmarshalStrict(text, &d.Object); err != nil {
			return nil, fmt.Errorf("decode an embedded definition: %w", err)
		}
		definitions = append(definitions, d)
	}
	return definitions, nil
}

// Ensure applies the definitions of the named resources, or of all, as
// fieldManager and returns once the API server serves them. It does not retry
// a failed request.
func Ensure(ctx context.Context, client dynamic.Interface, fieldManager string, resources ...string) error {
	definitions, err := Definitions()
	if err != nil {
		return err
	}
	definitions = slices.DeleteFunc(definitions, func(d *unstructured.Unstructured) bool {
		return len(resources) > 0 && !slices.ContainsFunc(resources, func(r string) bool { return d.GetName() == r+"."+Group })
	})
	resource := client.Resource(DefinitionGVR())
	for _, d := range definitions {
		// Forced: the schema is this program's own, nobody else's edit of it may stand.
		if _, err := resource.Apply(ctx, d.GetName(), d, metav1.ApplyOptions{FieldManager: fieldManager, Force: true}); err != nil {
			return fmt.Errorf("apply custom resource definition %s: %w", d.GetName(), err)
		}
	}
	for _, d := range definitions {
		if err := WaitEstablished(ctx, client, d.GetName()); err != nil {
			return err
		}
	}
	return nil
}

// WaitEstablished returns once the named definition's resource is served, or
// an error after EstablishTimeout.
func WaitEstablished(ctx context.Context, client dynamic.Interface, name string) error {
	resource := client.Resource(DefinitionGVR())
	last := "the definition has no conditions yet"
	err := wait.PollUntilContextTimeout(ctx, establishPoll, EstablishTimeout, true, func(ctx context.Context) (bool, error) {
		d, err := resource.Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return false, err
		}
		if err != nil {
			last = err.Error()
			return false, nil
		}
		established, why := Established(d)
		last = why
		return established, nil
	})
	if err != nil {
		return fmt.Errorf("wait for custom resource definition %s to be established (%s): %w", name, last, err)
	}
	return nil
}

// Established reports whether a CustomResourceDefinition's resource is served,
// and if not, what its conditions say about it.
func Established(d *unstructured.Unstructured) (ok bool, why string) {
	conditions, _, _ := unstructured.NestedSlice(d.Object, "status", "conditions")
	why = "the definition has no conditions yet"
	for _, c := range conditions {
		condition, isMap := c.(map[string]any)
		if !isMap {
			continue
		}
		status, message := condition["status"], condition["message"]
		switch condition["type"] {
		case "Established":
			if status == "True" {
				return true, ""
			}
			why = fmt.Sprintf("not established: %v", message)
		case "NamesAccepted":
			if status == "False" {
				return false, fmt.Sprintf("names not accepted: %v", message)
			}
		}
	}
	return false, why
}
