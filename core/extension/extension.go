// Package extension is the host's side of the extension points: the Go
// interfaces through which the core asks a plugin. Package pluginhost
// implements them with WebAssembly guests; components see only these.
package extension

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"

	"github.com/cleat-dev/cleat/hostabi"
)

// Datastore decides where cluster state lives.
type Datastore interface {
	// PlanDatastore asks the datastore plugins in lock order; the first that
	// claims the endpoint decides. It is an error when none claims it.
	PlanDatastore(ctx context.Context, req hostabi.DatastoreRequest) (hostabi.DatastorePlan, error)
}

// CNI decides how pods reach each other.
type CNI interface {
	// PlanNetwork asks the plugin named by req.Plugin (--cni).
	PlanNetwork(ctx context.Context, req hostabi.CNIRequest) (hostabi.CNIPlan, error)
}

// Deployer turns a file of the manifests directory into objects.
type Deployer interface {
	// Claims returns what the deployer plugins want to be offered, in lock order.
	Claims() []hostabi.DeployerManifest
	// Render asks the deployer plugins whose claims fit, in lock order; claimed
	// is false when none knows what to do with the file.
	Render(ctx context.Context, in DeployInput) (res hostabi.DeployResult, claimed bool, err error)
}

// DeployInput is a file, archive or directory of the manifests directory.
type DeployInput struct {
	hostabi.DeployRequest
	// Tree is what stays with the host: the files of a directory, or the one
	// file of an archive under its own name; nil for a text file. It does not
	// change while it is in use, and has no links.
	Tree fs.FS
}

// Renderer renders what is too heavy for a guest. It reads nothing but the tree
// it is given, and its work is bounded.
type Renderer interface {
	// Helm renders the chart in tree: a directory with Chart.yaml, or a single
	// .tgz. An error is for the operator.
	Helm(ctx context.Context, tree fs.FS, req hostabi.HelmRequest) (hostabi.HelmResult, error)
	// Kustomize builds the kustomization in tree.
	Kustomize(ctx context.Context, tree fs.FS, req hostabi.KustomizeRequest) ([]json.RawMessage, error)
}

// Cluster is what plugins may read of the cluster and keep in it.
type Cluster interface {
	// Lookup returns an object in its JSON shape, which the caller must not
	// write. The error is ErrNotFound or ErrNotReady, or says more.
	Lookup(kind hostabi.Kind, namespace, name string) (map[string]any, error)
	// LookupList returns the objects that the selector selects, in the order of
	// namespace and name; namespace "" is all. The error may be ErrBadQuery.
	LookupList(kind hostabi.Kind, namespace, selector string) ([]map[string]any, error)
	// State returns a value of a plugin's state, nil when there is none.
	State(ctx context.Context, plugin, key string) ([]byte, error)
	// SetState stores values of a plugin's state; an empty one removes its key.
	// The error is ErrFull when there would be too many keys.
	SetState(ctx context.Context, plugin string, values map[string][]byte) error
}

// What a Cluster answers.
var (
	ErrNotFound = errors.New("there is no such object")
	ErrNotReady = errors.New("the cluster cannot be asked yet")
	ErrFull     = errors.New("the plugin's state has too many keys")
	ErrBadQuery = errors.New("the selector is malformed")
)

// Admission decides requests to the API server.
type Admission interface {
	// Handles reports whether any plugin wants requests of this operation and
	// resource. It is the path of every request, so it allocates nothing.
	Handles(op hostabi.Operation, group, version, resource, subresource string) bool
	// Mutate runs the mutating plugins in lock order and returns what they
	// decided together; the request's Object is the input and is not written.
	Mutate(ctx context.Context, req *AdmissionRequest) (AdmissionResult, error)
	// Validate runs the validating plugins.
	Validate(ctx context.Context, req *AdmissionRequest) (AdmissionResult, error)
}

// AdmissionRequest is one API request, as plugins may see it. The functions
// are called at most once and only when a plugin that matched needs the value.
type AdmissionRequest struct {
	ID                    string // unique per request, for logs and audit
	Operation             hostabi.Operation
	Group, Version, Kind  string
	Resource, Subresource string
	Namespace, Name       string
	UserName, UserUID     string
	UserGroups            []string
	UserExtra             map[string][]string
	DryRun                bool
	// Object and OldObject are in the JSON shape of the requested version:
	// map[string]any, []any, string, bool, int64, float64, nil. A nil map is
	// an absent object (Object on DELETE, OldObject on CREATE).
	Object, OldObject func() (map[string]any, error)
	// Read appends what Object has at a field path, each value in the encoding of
	// the ABI: one, null for nothing there, or in the case of a path with [*] as
	// many as there are, in the order of the document. It costs less than Object;
	// nil = there is no such way. Unlike the others it may be called often. The error
	// may be hostabi.ErrValueSize.
	Read func(dst []byte, path []hostabi.PathSegment) (out []byte, values uint32, err error)
	// NamespaceLabels are the labels of Namespace, nil for cluster-scoped objects.
	NamespaceLabels func() (map[string]string, error)
}

// AdmissionResult is what the plugins decided together.
type AdmissionResult struct {
	Allowed bool
	// Plugin, Message and Code (an HTTP status, 403 unless the plugin chose)
	// describe a denial.
	Plugin  string
	Message string
	Code    int32
	// Object is the mutated object, nil if nothing changed. It is a new value.
	Object           map[string]any
	Warnings         []string
	AuditAnnotations map[string]string // keys are <plugin>/<name>
}
