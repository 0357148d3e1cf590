package deployer

import (
	"context"
	"errors"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/cleat-dev/cleat/core/internal/crd"
)

// fieldManager is the name the deployer's server-side applies go by.
const fieldManager = "cleat-deployer"

// keepAnnotation, with the value "true", keeps an object when its file or
// declaration goes.
const keepAnnotation = crd.Group + "/keep"

// Client-side limits: the deployer works one request at a time, and the API
// server's fairness is what holds it back.
const (
	clientQPS   = 100
	clientBurst = 200
)

var (
	errUnknownKind = errors.New("the cluster does not serve this kind (yet)")
	errTerminating = errors.New("the object is still being deleted")
)

// cluster is the API server as the deployer uses it.
type cluster struct {
	dynamic    dynamic.Interface
	mapper     *restmapper.DeferredDiscoveryRESTMapper
	kubernetes kubernetes.Interface
}

// connect reads the kubeconfig; it sends no request.
func connect(kubeconfig string) (*cluster, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig %s: %w", kubeconfig, err)
	}
	config.QPS, config.Burst = clientQPS, clientBurst
	config.UserAgent = fieldManager
	return newCluster(config)
}

func newCluster(config *rest.Config) (*cluster, error) {
	httpClient, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("make an HTTP client: %w", err)
	}
	dynamicClient, err := dynamic.NewForConfigAndClient(config, httpClient)
	if err != nil {
		return nil, fmt.Errorf("make a dynamic client: %w", err)
	}
	discoveryClient, err := discovery.NewDiscoveryClientForConfigAndClient(config, httpClient)
	if err != nil {
		return nil, fmt.Errorf("make a discovery client: %w", err)
	}
	clientset, err := kubernetes.NewForConfigAndClient(config, httpClient)
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	return &cluster{
		dynamic:    dynamicClient,
		mapper:     restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(discoveryClient)),
		kubernetes: clientset,
	}, nil
}

// scope tells whether a kind is namespaced, as far as discovery knows.
func (c *cluster) scope(gvk schema.GroupVersionKind) (namespaced, known bool) {
	mapping, err := c.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		return false, false
	}
	return mapping.Scope.Name() == meta.RESTScopeNameNamespace, true
}

// forgetKinds makes the next look at a kind ask the API server again.
func (c *cluster) forgetKinds() { c.mapper.Reset() }

func (c *cluster) resource(r crd.ObjectRef) (dynamic.ResourceInterface, error) {
	mapping, err := c.mapper.RESTMapping(schema.GroupKind{Group: r.Group, Kind: r.Kind}, r.Version)
	if meta.IsNoMatchError(err) {
		// Another version of the kind reaches the same object, which is what
		// pruning needs once the listed one is no longer served.
		mapping, err = c.mapper.RESTMapping(schema.GroupKind{Group: r.Group, Kind: r.Kind})
	}
	if meta.IsNoMatchError(err) {
		return nil, errUnknownKind
	}
	if err != nil {
		return nil, fmt.Errorf("look up the kind: %w", err)
	}
	resource := c.dynamic.Resource(mapping.Resource)
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		if r.Namespace == "" {
			return nil, errors.New("namespace is missing for a namespaced kind")
		}
		return resource.Namespace(r.Namespace), nil
	}
	return resource, nil
}

// applied is the outcome of applying one object.
type applied struct {
	ref  crd.ObjectRef
	took string // the conflict that was resolved in the file's favour, for an event
}

// apply brings one prepared object into the cluster. granted names the addon,
// besides its own, whose label on the live object does not stop it.
func (c *cluster) apply(ctx context.Context, o *unstructured.Unstructured, addon string, granted func(other string) error) (applied, error) {
	ref := refOf(o)
	fail := func(err error) (applied, error) {
		return applied{}, fmt.Errorf("apply %s: %w", keyOf(ref), err)
	}
	if _, known := c.scope(o.GroupVersionKind()); !known {
		return fail(fmt.Errorf("%s: %w", o.GroupVersionKind(), errUnknownKind))
	}
	resource, err := c.resource(ref)
	if err != nil {
		return fail(err)
	}
	live, err := resource.Get(ctx, ref.Name, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fail(err)
	}
	ours := false
	if err == nil {
		if live.GetDeletionTimestamp() != nil {
			return fail(errTerminating)
		}
		switch holder := live.GetLabels()[crd.AddonLabel]; holder {
		case "":
		case addon:
			ours = true
		default:
			if err := granted(holder); err != nil {
				return fail(err)
			}
			ours = true
		}
	}
	result, err := resource.Apply(ctx, ref.Name, o, metav1.ApplyOptions{FieldManager: fieldManager})
	var took string
	if apierrors.IsConflict(err) {
		if !ours {
			return fail(fmt.Errorf("%w: the object was in the cluster before the file and is looked after by another manager: remove the fields from the file, or let the file have it with `%s`",
				err, adoptCommand(ref, addon)))
		}
		took = fmt.Sprintf("%s: %v", keyOf(ref), err)
		result, err = resource.Apply(ctx, ref.Name, o, metav1.ApplyOptions{FieldManager: fieldManager, Force: true})
	}
	if err != nil {
		return fail(err)
	}
	ref.UID = result.GetUID()
	return applied{ref: ref, took: took}, nil
}

// adoptCommand is what makes an object the addon's.
func adoptCommand(ref crd.ObjectRef, addon string) string {
	kind := strings.ToLower(ref.Kind)
	if ref.Group != "" {
		kind += "." + ref.Group
	}
	command := "kubectl label " + kind + " " + ref.Name
	if ref.Namespace != "" {
		command += " -n " + ref.Namespace
	}
	return command + " " + crd.AddonLabel + "=" + addon
}

// remove deletes one object of an inventory, if it is still the object that the
// inventory means. why says what kept it from being deleted; it is no error.
func (c *cluster) remove(ctx context.Context, ref crd.ObjectRef, addon string) (why string, err error) {
	resource, err := c.resource(ref)
	if errors.Is(err, errUnknownKind) {
		return "its kind is gone, and so is the object", nil
	}
	if err != nil {
		return "", fmt.Errorf("delete %s: %w", keyOf(ref), err)
	}
	live, err := resource.Get(ctx, ref.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("delete %s: %w", keyOf(ref), err)
	}
	if why := keepReason(live, ref, addon); why != "" {
		return why, nil
	}
	uid := live.GetUID()
	foreground := metav1.DeletePropagationForeground
	err = resource.Delete(ctx, ref.Name, metav1.DeleteOptions{
		Preconditions:     &metav1.Preconditions{UID: &uid},
		PropagationPolicy: &foreground,
	})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return "", fmt.Errorf("delete %s: %w", keyOf(ref), err)
	}
	return "", nil
}

// keepReason says why a live object must not be deleted on behalf of an
// inventory entry, "" if it may be.
func keepReason(live *unstructured.Unstructured, ref crd.ObjectRef, addon string) string {
	switch holder := live.GetLabels()[crd.AddonLabel]; {
	case isProtected(ref):
		return "it is the system's own"
	case live.GetAnnotations()[keepAnnotation] == "true":
		return "its annotation " + keepAnnotation + " says so"
	case ref.UID != "" && ref.UID != live.GetUID():
		return "it was deleted and made anew by somebody else"
	case holder == "":
		return "it has no label " + crd.AddonLabel
	case holder != addon:
		return "it belongs to addon " + holder
	}
	return ""
}
