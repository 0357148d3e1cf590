package apiserver

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"

	"github.com/google/uuid"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/initializer"
	auditinternal "k8s.io/apiserver/pkg/apis/audit"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/warning"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"

	"github.com/cleat-dev/cleat/core/extension"
	"github.com/cleat-dev/cleat/hostabi"
)

// admissionName is how the chain, its metrics and --disable-admission-plugins
// know the plugin host.
const admissionName = "CleatPlugins"

// pluginAdmission stands in the API server's chain and asks the plugin host.
type pluginAdmission struct {
	plugins    extension.Admission
	namespaces corelisters.NamespaceLister
	client     kubernetes.Interface
	synced     func() bool
}

var (
	_ admission.MutationInterface                  = (*pluginAdmission)(nil)
	_ admission.ValidationInterface                = (*pluginAdmission)(nil)
	_ initializer.WantsExternalKubeInformerFactory = (*pluginAdmission)(nil)
	_ initializer.WantsExternalKubeClientSet       = (*pluginAdmission)(nil)
)

func newAdmissionFactory(plugins extension.Admission) admission.Factory {
	return func(io.Reader) (admission.Interface, error) {
		return &pluginAdmission{plugins: plugins}, nil
	}
}

// SetExternalKubeInformerFactory takes the namespace cache the chain shares.
func (p *pluginAdmission) SetExternalKubeInformerFactory(f informers.SharedInformerFactory) {
	ns := f.Core().V1().Namespaces()
	p.namespaces = ns.Lister()
	p.synced = ns.Informer().HasSynced
}

// SetExternalKubeClientSet takes the client for namespaces the cache has not seen yet.
func (p *pluginAdmission) SetExternalKubeClientSet(c kubernetes.Interface) { p.client = c }

// ValidateInitialization refuses a chain that forgot to initialise the plugin.
func (p *pluginAdmission) ValidateInitialization() error {
	if p.plugins == nil || p.namespaces == nil || p.client == nil {
		return fmt.Errorf("%s needs a plugin host, a namespace lister and a client", admissionName)
	}
	return nil
}

// Handles is true for all operations: which resources matter is the index's answer.
func (p *pluginAdmission) Handles(admission.Operation) bool { return true }

// Admit runs the mutating plugins and writes what they changed into the object.
func (p *pluginAdmission) Admit(ctx context.Context, a admission.Attributes, o admission.ObjectInterfaces) error {
	if !p.wanted(a) {
		return nil
	}
	res, err := p.plugins.Mutate(ctx, p.request(ctx, a, o))
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	if err := p.conclude(ctx, a, res); err != nil {
		return err
	}
	if res.Object == nil {
		return nil
	}
	return writeBack(a, o, res.Object)
}

// Validate runs the validating plugins.
func (p *pluginAdmission) Validate(ctx context.Context, a admission.Attributes, o admission.ObjectInterfaces) error {
	if !p.wanted(a) {
		return nil
	}
	res, err := p.plugins.Validate(ctx, p.request(ctx, a, o))
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	return p.conclude(ctx, a, res)
}

// wanted is the path of every request: one look-up, nothing allocated.
func (p *pluginAdmission) wanted(a admission.Attributes) bool {
	r := a.GetResource()
	return p.plugins.Handles(hostabi.Operation(a.GetOperation()), r.Group, r.Version, r.Resource, a.GetSubresource())
}

// request is what plugins may see of the attributes.
func (p *pluginAdmission) request(ctx context.Context, a admission.Attributes, o admission.ObjectInterfaces) *extension.AdmissionRequest {
	kind, resource := a.GetKind(), a.GetResource()
	r := &asked{attributes: a, interfaces: o, AdmissionRequest: extension.AdmissionRequest{
		ID:          newID(),
		Operation:   hostabi.Operation(a.GetOperation()),
		Group:       resource.Group,
		Version:     resource.Version,
		Kind:        kind.Kind,
		Resource:    resource.Resource,
		Subresource: a.GetSubresource(),
		Namespace:   a.GetNamespace(),
		Name:        a.GetName(),
		DryRun:      a.IsDryRun(),
	}}
	if u := a.GetUserInfo(); u != nil {
		r.UserName, r.UserUID, r.UserGroups, r.UserExtra = u.GetName(), u.GetUID(), u.GetGroups(), u.GetExtra()
	}
	r.Object = func() (map[string]any, error) { return content(r.versioned()) }
	r.OldObject = func() (map[string]any, error) { return content(versioned(a.GetOldObject(), a, o)) }
	r.Read = func(dst []byte, path []hostabi.PathSegment) ([]byte, uint32, error) {
		object, err := r.versioned()
		if err != nil {
			return nil, 0, err
		}
		return readFields(dst, object, path)
	}
	r.NamespaceLabels = func() (map[string]string, error) { return p.namespaceLabels(ctx, a) }
	return &r.AdmissionRequest
}

// asked is a request with its object, which is converted once and only when a
// plugin looks at it.
type asked struct {
	extension.AdmissionRequest
	attributes admission.Attributes
	interfaces admission.ObjectInterfaces

	converted bool
	object    runtime.Object
	err       error
}

func (r *asked) versioned() (runtime.Object, error) {
	if !r.converted {
		r.converted = true
		r.object, r.err = versioned(r.attributes.GetObject(), r.attributes, r.interfaces)
	}
	return r.object, r.err
}

// namespaceLabels asks the cache first and the API where the cache lags behind
// a namespace made a moment ago.
func (p *pluginAdmission) namespaceLabels(ctx context.Context, a admission.Attributes) (map[string]string, error) {
	name := a.GetNamespace()
	// A Namespace is its own namespace here, and is in none.
	if name == "" || a.GetResource().GroupResource() == corev1.Resource("namespaces") {
		return nil, nil
	}
	if p.synced() {
		ns, err := p.namespaces.Get(name)
		if err == nil {
			return ns.Labels, nil
		}
		if !apierrors.IsNotFound(err) {
			return nil, fmt.Errorf("labels of namespace %q: %w", name, err)
		}
	}
	ns, err := p.client.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("labels of namespace %q: %w", name, err)
	}
	return ns.Labels, nil
}

// conclude turns a result into warnings, audit annotations and an error.
func (p *pluginAdmission) conclude(ctx context.Context, a admission.Attributes, res extension.AdmissionResult) error {
	for _, w := range res.Warnings {
		warning.AddWarning(ctx, "", w)
	}
	if !audited(ctx) {
		res.AuditAnnotations = nil // nobody would read them, and checking their keys takes longer than most plugins
	}
	for key, value := range res.AuditAnnotations {
		plugin, name, _ := strings.Cut(key, "/")
		// Refused is a key of another shape, and another value for one that is
		// set, as when a plugin notes two things while it mutates and validates.
		// Neither says anything about the request.
		if err := a.AddAnnotation(plugin+".cleat.dev/"+name, value); err != nil {
			slog.WarnContext(ctx, "an audit annotation is missing", "plugin", plugin, "annotation", name, "error", err)
		}
	}
	if res.Allowed {
		return nil
	}
	message := fmt.Sprintf("plugin %s: %s", res.Plugin, res.Message)
	if res.Code == 0 || res.Code == http.StatusForbidden {
		return admission.NewForbidden(a, fmt.Errorf("%s", message))
	}
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status:  metav1.StatusFailure,
		Code:    res.Code,
		Reason:  apierrors.NewGenericServerResponse(int(res.Code), "", schema.GroupResource{}, "", "", 0, false).ErrStatus.Reason,
		Message: message,
	}}
}

// audited reports whether the audit log will have an event of the request.
func audited(ctx context.Context) bool {
	event := audit.AuditContextFrom(ctx)
	return event != nil && event.GetEventLevel().GreaterOrEqual(auditinternal.LevelMetadata)
}

// versioned gives obj in the version the client asked in.
func versioned(obj runtime.Object, a admission.Attributes, o admission.ObjectInterfaces) (runtime.Object, error) {
	if obj == nil {
		return nil, nil
	}
	out, err := admission.ConvertToGVK(obj, a.GetKind(), o)
	if err != nil {
		return nil, fmt.Errorf("convert to %s: %w", a.GetKind(), err)
	}
	return out, nil
}

// content is the JSON shape of an object, nil for none.
func content(object runtime.Object, err error) (map[string]any, error) {
	if object == nil || err != nil {
		return nil, err
	}
	if u, ok := object.(*unstructured.Unstructured); ok {
		return u.Object, nil
	}
	return runtime.DefaultUnstructuredConverter.ToUnstructured(object)
}

// newID is a random UUID. Nothing depends on its being hard to guess, so it does
// not wait for the system.
func newID() string {
	var id uuid.UUID
	binary.LittleEndian.PutUint64(id[:8], rand.Uint64())
	binary.LittleEndian.PutUint64(id[8:], rand.Uint64())
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80 // version 4, as RFC 9562 has it
	return id.String()
}

// writeBack decodes changed, in the requested version, into the request's object.
func writeBack(a admission.Attributes, o admission.ObjectInterfaces, changed map[string]any) error {
	if u, ok := a.GetObject().(*unstructured.Unstructured); ok {
		u.Object = changed
		o.GetObjectDefaulter().Default(u)
		return nil
	}
	typed, err := o.GetObjectCreater().New(a.GetKind())
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(changed, typed); err != nil {
		return apierrors.NewInternalError(fmt.Errorf("a plugin left a %s that does not decode: %w", a.GetKind().Kind, err))
	}
	o.GetObjectDefaulter().Default(typed)
	if err := o.GetObjectConvertor().Convert(typed, a.GetObject(), nil); err != nil {
		return apierrors.NewInternalError(err)
	}
	return nil
}
