// Package extension is the host's side of the extension points: the Go
// interfaces through which the core asks a plugin. Package pluginhost
// implements them with WebAssembly guests; components see only these.
package extension

import (
	"context"

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
	// Render asks the deployer plugins in lock order; claimed is false when
	// no plugin knows what to do with the file.
	Render(ctx context.Context, req hostabi.DeployRequest) (res hostabi.DeployResult, claimed bool, err error)
}

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
	UserName              string
	UserGroups            []string
	DryRun                bool
	// Object and OldObject are in the JSON shape of the requested version:
	// map[string]any, []any, string, bool, int64, float64, nil. A nil map is
	// an absent object (Object on DELETE, OldObject on CREATE).
	Object, OldObject func() (map[string]any, error)
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
