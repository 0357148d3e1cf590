package deployer

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utiljson "k8s.io/apimachinery/pkg/util/json"

	"github.com/cleat-dev/cleat/core/internal/crd"
)

// maxObjects bounds a file's objects. It is half of what an inventory can hold,
// which lists the old and the new ones while a file is being replaced.
const maxObjects = crd.MaxObjects / 2

// objectKey tells objects apart. It lacks the version: the same object may be
// written in several.
type objectKey struct {
	group, kind, namespace, name string
}

func (k objectKey) String() string {
	s := k.kind
	if k.group != "" {
		s += "." + k.group
	}
	if k.namespace != "" {
		return s + " " + k.namespace + "/" + k.name
	}
	return s + " " + k.name
}

func keyOf(r crd.ObjectRef) objectKey {
	return objectKey{group: r.Group, kind: r.Kind, namespace: r.Namespace, name: r.Name}
}

func refOf(o *unstructured.Unstructured) crd.ObjectRef {
	gvk := o.GroupVersionKind()
	return crd.ObjectRef{
		Group: gvk.Group, Version: gvk.Version, Kind: gvk.Kind,
		Namespace: o.GetNamespace(), Name: o.GetName(), UID: o.GetUID(),
	}
}

// decodeObjects turns what a plugin returned into objects; a list becomes its items.
func decodeObjects(raw []json.RawMessage) ([]*unstructured.Unstructured, error) {
	var out []*unstructured.Unstructured
	for i, r := range raw {
		o := &unstructured.Unstructured{}
		if err := utiljson.Unmarshal(r, &o.Object); err != nil {
			return nil, fmt.Errorf("object %d of %d: %w", i+1, len(raw), err)
		}
		if len(o.Object) == 0 || bytes.Equal(r, []byte("null")) {
			continue
		}
		// A type may hold items without being a list: only *List kinds are taken apart.
		if kind := o.GetKind(); o.IsList() && len(kind) > 4 && kind[len(kind)-4:] == "List" || o.GetKind() == "List" {
			list, err := o.ToList()
			if err != nil {
				return nil, fmt.Errorf("object %d of %d: take apart %s: %w", i+1, len(raw), o.GetKind(), err)
			}
			for j := range list.Items {
				out = append(out, &list.Items[j])
			}
		} else {
			out = append(out, o)
		}
		if len(out) > maxObjects {
			return nil, fmt.Errorf("more than %d objects: split the file", maxObjects)
		}
	}
	for i, o := range out {
		if err := checkObject(o); err != nil {
			return nil, fmt.Errorf("object %d of %d: %w", i+1, len(out), err)
		}
	}
	return out, nil
}

func checkObject(o *unstructured.Unstructured) error {
	switch {
	case o.GetKind() == "":
		return errors.New("kind is missing")
	case o.GetAPIVersion() == "":
		return fmt.Errorf("apiVersion of %s %q is missing", o.GetKind(), o.GetName())
	case o.GetName() == "":
		return fmt.Errorf("metadata.name of a %s is missing: generateName cannot be used in a manifest", o.GetKind())
	}
	if _, _, err := unstructured.NestedStringMap(o.Object, "metadata", "labels"); err != nil {
		return fmt.Errorf("labels of %s %q: %w", o.GetKind(), o.GetName(), err)
	}
	if _, err := schema.ParseGroupVersion(o.GetAPIVersion()); err != nil {
		return fmt.Errorf("apiVersion of %s %q: %w", o.GetKind(), o.GetName(), err)
	}
	if o.GroupVersionKind().Group == crd.Group && o.GetKind() == crd.AddonKind {
		return fmt.Errorf("%s %q: addons are the deployer's own records and cannot be in a manifest", o.GetKind(), o.GetName())
	}
	return nil
}

// prepare labels the objects as the addon's, settles their namespaces and sorts
// them for applying. scope tells whether a kind is namespaced; known is false
// for a kind the cluster does not serve (yet). The input is not written.
func prepare(objects []*unstructured.Unstructured, addon string, scope func(schema.GroupVersionKind) (namespaced, known bool)) ([]*unstructured.Unstructured, error) {
	out := make([]*unstructured.Unstructured, 0, len(objects))
	seen := make(map[objectKey]bool, len(objects))
	for _, o := range objects {
		o = o.DeepCopy()
		// What the server assigns has no place in an apply; a file made with
		// `kubectl get -o yaml` has all of it.
		for _, field := range []string{"uid", "resourceVersion", "generation", "managedFields", "creationTimestamp", "selfLink", "deletionTimestamp"} {
			unstructured.RemoveNestedField(o.Object, "metadata", field)
		}
		unstructured.RemoveNestedField(o.Object, "status")
		if namespaced, known := scope(o.GroupVersionKind()); known && namespaced && o.GetNamespace() == "" {
			o.SetNamespace(metav1.NamespaceDefault)
		} else if known && !namespaced && o.GetNamespace() != "" {
			unstructured.RemoveNestedField(o.Object, "metadata", "namespace")
		}
		labels := o.GetLabels()
		if labels == nil {
			labels = map[string]string{}
		}
		labels[crd.AddonLabel] = addon
		o.SetLabels(labels)
		key := keyOf(refOf(o))
		if seen[key] {
			return nil, fmt.Errorf("%s is in the file twice: keep one", key)
		}
		seen[key] = true
		out = append(out, o)
	}
	slices.SortStableFunc(out, func(a, b *unstructured.Unstructured) int {
		return cmp.Compare(rank(refOf(a)), rank(refOf(b)))
	})
	return out, nil
}

// rank orders objects so that what others refer to comes first. Pruning goes
// the other way.
func rank(r crd.ObjectRef) int {
	switch r.Group + "/" + r.Kind {
	case "/Namespace":
		return 0
	case "apiextensions.k8s.io/CustomResourceDefinition":
		return 1
	case "/ResourceQuota", "/LimitRange", "scheduling.k8s.io/PriorityClass", "node.k8s.io/RuntimeClass",
		"storage.k8s.io/StorageClass", "networking.k8s.io/IngressClass":
		return 2
	case "/ServiceAccount", "/Secret", "/ConfigMap", "/PersistentVolume", "/PersistentVolumeClaim":
		return 3
	case "rbac.authorization.k8s.io/ClusterRole", "rbac.authorization.k8s.io/Role":
		return 4
	case "rbac.authorization.k8s.io/ClusterRoleBinding", "rbac.authorization.k8s.io/RoleBinding":
		return 5
	case "/Service", "networking.k8s.io/NetworkPolicy":
		return 6
	case "admissionregistration.k8s.io/MutatingWebhookConfiguration", "admissionregistration.k8s.io/ValidatingWebhookConfiguration",
		"admissionregistration.k8s.io/ValidatingAdmissionPolicyBinding", "admissionregistration.k8s.io/MutatingAdmissionPolicyBinding",
		"apiregistration.k8s.io/APIService":
		return 9 // before what serves them they would only break requests
	case "admissionregistration.k8s.io/ValidatingAdmissionPolicy", "admissionregistration.k8s.io/MutatingAdmissionPolicy":
		return 8
	}
	return 7
}

// definesKinds reports whether applying the object makes new kinds known.
func definesKinds(r crd.ObjectRef) bool {
	return r.Group == "apiextensions.k8s.io" && r.Kind == "CustomResourceDefinition" ||
		r.Group == "apiregistration.k8s.io" && r.Kind == "APIService"
}

// isProtected reports whether an object is the system's own and never deleted,
// whatever an inventory says.
func isProtected(r crd.ObjectRef) bool {
	if r.Group != "" || r.Kind != "Namespace" {
		return false
	}
	switch r.Name {
	case metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic, "kube-node-lease":
		return true
	}
	return false
}
