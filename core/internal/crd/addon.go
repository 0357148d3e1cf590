package crd

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// Names of the API group and of the Addon resource.
const (
	Group   = "cleat.dev"
	Version = "v1"

	AddonKind     = "Addon"
	AddonResource = "addons"
	// AddonNamespace is the only namespace the deployer keeps Addons in.
	AddonNamespace = metav1.NamespaceSystem
	// AddonLabel marks an object as belonging to the Addon its value names.
	AddonLabel = Group + "/addon"
	// ConditionApplied is True when every object of the file is in the cluster
	// and everything that left the file is gone from it.
	ConditionApplied = "Applied"
)

// Limits of the Addon schema (addon.yaml), which writers must keep.
const (
	MaxObjects     = 4096
	MaxErrorLength = 4096
)

// AddonGVR addresses Addons in the dynamic client.
func AddonGVR() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: Group, Version: Version, Resource: AddonResource}
}

// Addon records which objects came from one file of a manifests directory.
type Addon struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	Spec   AddonSpec   `json:"spec"`
	Status AddonStatus `json:"status,omitzero"`
}

// AddonSpec says which file the Addon stands for.
type AddonSpec struct {
	Source   string `json:"source"`             // absolute path on Server
	Checksum string `json:"checksum,omitempty"` // SHA-256 of the content, hexadecimal
	Server   string `json:"server,omitempty"`   // node name; only this server prunes
}

// AddonStatus is the inventory and the outcome of the last attempt.
type AddonStatus struct {
	ObservedChecksum string             `json:"observedChecksum,omitempty"` // last applied without an error
	Objects          []ObjectRef        `json:"objects,omitempty"`
	LastError        string             `json:"lastError,omitempty"`
	Conditions       []metav1.Condition `json:"conditions,omitempty"`
}

// ObjectRef is one object of an inventory. UID is empty while the object has
// been announced but not yet seen in the cluster.
type ObjectRef struct {
	Group     string    `json:"group,omitempty"`
	Version   string    `json:"version"`
	Kind      string    `json:"kind"`
	Namespace string    `json:"namespace,omitempty"` // empty for a cluster-scoped object
	Name      string    `json:"name"`
	UID       types.UID `json:"uid,omitempty"`
}

// GVK is the object's group, version and kind.
func (r ObjectRef) GVK() schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: r.Group, Version: r.Version, Kind: r.Kind}
}

// FromUnstructured decodes an Addon as the dynamic client returns it.
func FromUnstructured(u *unstructured.Unstructured) (*Addon, error) {
	var a Addon
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &a); err != nil {
		return nil, fmt.Errorf("decode addon %s/%s: %w", u.GetNamespace(), u.GetName(), err)
	}
	return &a, nil
}

// ToUnstructured encodes an Addon for the dynamic client, with apiVersion and
// kind filled in.
func (a *Addon) ToUnstructured() (*unstructured.Unstructured, error) {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(a)
	if err != nil {
		return nil, fmt.Errorf("encode addon %s/%s: %w", a.Namespace, a.Name, err)
	}
	u := &unstructured.Unstructured{Object: content}
	u.SetAPIVersion(Group + "/" + Version)
	u.SetKind(AddonKind)
	return u, nil
}
