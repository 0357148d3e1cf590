package apiserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	auditinternal "k8s.io/apiserver/pkg/apis/audit"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/warning"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/apis/core"
	_ "k8s.io/kubernetes/pkg/apis/core/install"

	"github.com/cleat-dev/cleat/core/extension"
	"github.com/cleat-dev/cleat/hostabi"
)

// plugins is a plugin host that wants resources and answers with decide.
type plugins struct {
	resources []string
	decide    func(req *extension.AdmissionRequest) (extension.AdmissionResult, error)
	asked     []string // "mutate" or "validate"
}

func (p *plugins) Handles(_ hostabi.Operation, _, _, resource, _ string) bool {
	return slices.Contains(p.resources, resource)
}

func (p *plugins) Mutate(_ context.Context, req *extension.AdmissionRequest) (extension.AdmissionResult, error) {
	p.asked = append(p.asked, "mutate")
	return p.decide(req)
}

func (p *plugins) Validate(_ context.Context, req *extension.AdmissionRequest) (extension.AdmissionResult, error) {
	p.asked = append(p.asked, "validate")
	return p.decide(req)
}

func allow(*extension.AdmissionRequest) (extension.AdmissionResult, error) {
	return extension.AdmissionResult{Allowed: true}, nil
}

// newAdmission makes the admission plugin as the chain does. Of the namespaces
// given, the cache knows none: it is not started.
func newAdmission(t *testing.T, p *plugins, namespaces ...runtime.Object) *pluginAdmission {
	t.Helper()
	made, err := newAdmissionFactory(p)(nil)
	if err != nil {
		t.Fatal(err)
	}
	a, ok := made.(*pluginAdmission)
	if !ok {
		t.Fatalf("the factory made a %T", made)
	}
	client := fake.NewClientset(namespaces...)
	if a.ValidateInitialization() == nil {
		t.Error("a chain that forgot to initialise the plugin passes")
	}
	a.SetExternalKubeClientSet(client)
	a.SetExternalKubeInformerFactory(informers.NewSharedInformerFactory(client, 0))
	if err := a.ValidateInitialization(); err != nil {
		t.Fatal(err)
	}
	return a
}

func objects() admission.ObjectInterfaces {
	return admission.NewObjectInterfacesFromScheme(legacyscheme.Scheme)
}

func pod() *core.Pod {
	return &core.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop", Labels: map[string]string{"app": "web"}},
		Spec:       core.PodSpec{Containers: []core.Container{{Name: "c", Image: "nginx:1"}}},
	}
}

func attributes(op admission.Operation, object, old runtime.Object) admission.Attributes {
	return admission.NewAttributesRecord(object, old, corev1.SchemeGroupVersion.WithKind("Pod"), "shop", "web",
		corev1.SchemeGroupVersion.WithResource("pods"), "", op, nil, true,
		&user.DefaultInfo{Name: "ann", Groups: []string{"dev"}})
}

func TestNoMatchReadsNothing(t *testing.T) {
	p := &plugins{resources: []string{"secrets"}, decide: allow}
	a := newAdmission(t, p)
	attrs := attributes(admission.Create, pod(), nil)
	// Object interfaces of nil would panic if anything were converted.
	if err := errors.Join(a.Admit(t.Context(), attrs, nil), a.Validate(t.Context(), attrs, nil)); err != nil {
		t.Error(err)
	}
	if len(p.asked) != 0 {
		t.Errorf("asked to %v", p.asked)
	}
	if n := testing.AllocsPerRun(100, func() { _ = a.Admit(t.Context(), attrs, nil) }); n != 0 {
		t.Errorf("a request that no plugin wants costs %v allocations", n)
	}
}

func TestRequest(t *testing.T) {
	var got extension.AdmissionRequest
	var object, old map[string]any
	var labels map[string]string
	var image []byte
	p := &plugins{resources: []string{"pods"}, decide: func(req *extension.AdmissionRequest) (extension.AdmissionResult, error) {
		got = *req
		var errs [4]error
		image, _, errs[3] = req.Read(nil, []hostabi.PathSegment{{Key: "spec"}, {Key: "containers"}, {Each: true}, {Key: "image"}})
		object, errs[0] = req.Object()
		old, errs[1] = req.OldObject()
		labels, errs[2] = req.NamespaceLabels()
		return extension.AdmissionResult{Allowed: true}, errors.Join(errs[:]...)
	}}
	a := newAdmission(t, p, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: map[string]string{"policy": "strict"}}})
	for op, objs := range map[admission.Operation][2]runtime.Object{
		admission.Create: {pod(), nil}, admission.Update: {pod(), pod()}, admission.Delete: {nil, pod()},
	} {
		if err := a.Validate(t.Context(), attributes(op, objs[0], objs[1]), objects()); err != nil {
			t.Fatalf("%s: %v", op, err)
		}
		for what, shape := range map[string]struct {
			of   runtime.Object
			json map[string]any
		}{"object": {objs[0], object}, "old object": {objs[1], old}} {
			if shape.of == nil {
				if shape.json != nil {
					t.Errorf("%s: %s %v, want none", op, what, shape.json)
				}
				continue
			}
			image, _, err := unstructured.NestedString(firstContainer(shape.json), "image")
			if shape.json["apiVersion"] != "v1" || shape.json["kind"] != "Pod" || image != "nginx:1" || err != nil {
				t.Errorf("%s: %s %v is not a v1 Pod in JSON's shape", op, what, shape.json)
			}
		}
		want, err := hostabi.AppendValue(nil, "nginx:1")
		if err != nil {
			t.Fatal(err)
		}
		if objs[0] == nil {
			want = nil
		}
		if !bytes.Equal(image, want) {
			t.Errorf("%s: read %q, want %q", op, image, want)
		}
		if labels["policy"] != "strict" {
			t.Errorf("%s: labels %v of a namespace that only the API knows", op, labels)
		}
		if got.ID == "" {
			t.Errorf("%s: a request without an id", op)
		}
		got.ID, got.Object, got.OldObject, got.Read, got.NamespaceLabels = "", nil, nil, nil, nil
		wanted := extension.AdmissionRequest{
			Operation: hostabi.Operation(op), Version: "v1", Kind: "Pod", Resource: "pods", Namespace: "shop", Name: "web",
			UserName: "ann", UserGroups: []string{"dev"}, DryRun: true,
		}
		if diff := cmp.Diff(wanted, got); diff != "" {
			t.Errorf("%s: -want +got:\n%s", op, diff)
		}
	}
}

func firstContainer(object map[string]any) map[string]any {
	containers, _, _ := unstructured.NestedSlice(object, "spec", "containers")
	if len(containers) == 0 {
		return nil
	}
	c, _ := containers[0].(map[string]any)
	return c
}

func TestNamespaceLabels(t *testing.T) {
	p := &plugins{resources: []string{"pods", "namespaces", "nodes"}, decide: func(req *extension.AdmissionRequest) (extension.AdmissionResult, error) {
		labels, err := req.NamespaceLabels()
		return extension.AdmissionResult{Allowed: true, Warnings: []string{fmt.Sprint(labels)}}, err
	}}
	a := newAdmission(t, p)
	if err := a.Validate(t.Context(), attributes(admission.Create, pod(), nil), objects()); err == nil || !strings.Contains(err.Error(), `namespace "shop"`) {
		t.Errorf("a namespace that does not exist: got %v, want an error that names it", err)
	}
	// The API server says that a namespace is created in itself, where it is not yet.
	for resource, namespace := range map[string]string{"namespaces": "new", "nodes": ""} {
		attrs := admission.NewAttributesRecord(&core.Namespace{}, nil, corev1.SchemeGroupVersion.WithKind("Namespace"), namespace, "new",
			corev1.SchemeGroupVersion.WithResource(resource), "", admission.Create, nil, false, nil)
		if err := a.Validate(t.Context(), attrs, objects()); err != nil {
			t.Errorf("%s: %v", resource, err)
		}
	}
}

func TestMutation(t *testing.T) {
	p := &plugins{resources: []string{"pods"}, decide: func(req *extension.AdmissionRequest) (extension.AdmissionResult, error) {
		object, err := req.Object()
		if err != nil {
			return extension.AdmissionResult{}, err
		}
		object = runtime.DeepCopyJSON(object)
		if err := unstructured.SetNestedField(object, false, "spec", "automountServiceAccountToken"); err != nil {
			return extension.AdmissionResult{}, err
		}
		unstructured.RemoveNestedField(object, "metadata", "labels", "app")
		return extension.AdmissionResult{Allowed: true, Object: object}, nil
	}}
	object := pod()
	if err := newAdmission(t, p).Admit(t.Context(), attributes(admission.Create, object, nil), objects()); err != nil {
		t.Fatal(err)
	}
	if mount := object.Spec.AutomountServiceAccountToken; mount == nil || *mount {
		t.Errorf("automountServiceAccountToken is %v in the object that is stored, want false", mount)
	}
	if len(object.Labels) != 0 {
		t.Errorf("a label that was removed is there: %v", object.Labels)
	}
	if len(object.Spec.Containers) != 1 || object.Spec.Containers[0].Image != "nginx:1" {
		t.Errorf("containers %v", object.Spec.Containers)
	}
	if object.Spec.RestartPolicy != core.RestartPolicyAlways {
		t.Errorf("restart policy %q: a field that a plugin leaves empty gets no default", object.Spec.RestartPolicy)
	}
}

func TestMutationOfCustomResources(t *testing.T) {
	gvk := schema.GroupVersionKind{Group: "example.org", Version: "v1", Kind: "Boat"}
	boat := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"length": int64(7)}}}
	boat.SetGroupVersionKind(gvk)
	p := &plugins{resources: []string{"boats"}, decide: func(req *extension.AdmissionRequest) (extension.AdmissionResult, error) {
		object, err := req.Object()
		if err != nil {
			return extension.AdmissionResult{}, err
		}
		object = runtime.DeepCopyJSON(object)
		return extension.AdmissionResult{Allowed: true, Object: object}, unstructured.SetNestedField(object, "red", "spec", "colour")
	}}
	attrs := admission.NewAttributesRecord(boat, nil, gvk, "shop", "b", gvk.GroupVersion().WithResource("boats"), "", admission.Create, nil, false, nil)
	if err := newAdmission(t, p).Admit(t.Context(), attrs, objects()); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"length": int64(7), "colour": "red"}
	if diff := cmp.Diff(want, boat.Object["spec"]); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestMutationThatDoesNotDecode(t *testing.T) {
	p := &plugins{resources: []string{"pods"}, decide: func(*extension.AdmissionRequest) (extension.AdmissionResult, error) {
		return extension.AdmissionResult{Allowed: true, Object: map[string]any{"spec": "all of it"}}, nil
	}}
	object := pod()
	err := newAdmission(t, p).Admit(t.Context(), attributes(admission.Create, object, nil), objects())
	if !apierrors.IsInternalError(err) || !strings.Contains(err.Error(), "Pod that does not decode") {
		t.Errorf("got %v, want an internal error that names the kind", err)
	}
	if diff := cmp.Diff(pod(), object); diff != "" {
		t.Errorf("the object changed all the same:\n%s", diff)
	}
}

func TestDenial(t *testing.T) {
	for _, tt := range []struct {
		code   int32
		reason metav1.StatusReason
	}{
		{0, metav1.StatusReasonForbidden},
		{403, metav1.StatusReasonForbidden},
		{400, metav1.StatusReasonBadRequest},
		{409, metav1.StatusReasonConflict},
		{422, metav1.StatusReasonInvalid},
		{429, metav1.StatusReasonTooManyRequests},
		{418, metav1.StatusReasonUnknown},
	} {
		p := &plugins{resources: []string{"pods"}, decide: func(*extension.AdmissionRequest) (extension.AdmissionResult, error) {
			return extension.AdmissionResult{Plugin: "baseline", Message: "spec.hostNetwork is set", Code: tt.code, Object: map[string]any{}}, nil
		}}
		a := newAdmission(t, p)
		for name, phase := range map[string]func(context.Context, admission.Attributes, admission.ObjectInterfaces) error{"mutate": a.Admit, "validate": a.Validate} {
			err := phase(t.Context(), attributes(admission.Create, pod(), nil), objects())
			var status apierrors.APIStatus
			if !errors.As(err, &status) {
				t.Fatalf("%s, code %d: got %v, want a status", name, tt.code, err)
			}
			want := tt.code
			if want == 0 {
				want = 403
			}
			s := status.Status()
			if s.Code != want || s.Reason != tt.reason || s.Status != metav1.StatusFailure || !strings.Contains(s.Message, "plugin baseline: spec.hostNetwork is set") {
				t.Errorf("%s, code %d: got %d %q %q, want %d %q and the plugin's message", name, tt.code, s.Code, s.Reason, s.Message, want, tt.reason)
			}
		}
	}
}

func TestFaultIsNoVerdict(t *testing.T) {
	p := &plugins{resources: []string{"pods"}, decide: func(*extension.AdmissionRequest) (extension.AdmissionResult, error) {
		return extension.AdmissionResult{}, errors.New("the host is closed")
	}}
	a := newAdmission(t, p)
	for _, err := range []error{
		a.Admit(t.Context(), attributes(admission.Create, pod(), nil), objects()),
		a.Validate(t.Context(), attributes(admission.Create, pod(), nil), objects()),
	} {
		if !apierrors.IsInternalError(err) || !strings.Contains(err.Error(), "the host is closed") {
			t.Errorf("got %v, want an internal error", err)
		}
	}
}

// recorder keeps what a client is warned of.
type recorder struct{ warnings []string }

func (r *recorder) AddWarning(_, text string) { r.warnings = append(r.warnings, text) }

// annotated keeps the annotations that were taken.
type annotated struct {
	admission.Attributes
	taken map[string]string
}

func (a *annotated) AddAnnotation(key, value string) error {
	err := a.Attributes.AddAnnotation(key, value)
	if err == nil {
		a.taken[key] = value
	}
	return err
}

func TestWarningsAndAnnotations(t *testing.T) {
	note := "mutated"
	p := &plugins{resources: []string{"pods"}, decide: func(*extension.AdmissionRequest) (extension.AdmissionResult, error) {
		return extension.AdmissionResult{
			Allowed: true, Warnings: []string{"image has no digest"},
			AuditAnnotations: map[string]string{"admission-baseline/verdict": note, "admission-baseline/no such/key": "x"},
		}, nil
	}}
	a := newAdmission(t, p)
	var r recorder
	ctx := audit.WithAuditContext(warning.WithWarningRecorder(t.Context(), &r))
	unaudited := &annotated{attributes(admission.Create, pod(), nil), map[string]string{}}
	if err := a.Validate(ctx, unaudited, objects()); err != nil || len(unaudited.taken) > 0 {
		t.Errorf("without an audit log: %v, annotations %v", err, unaudited.taken)
	}
	r.warnings = nil
	if err := audit.AuditContextFrom(ctx).Init(audit.RequestAuditConfig{Level: auditinternal.LevelMetadata}, nil); err != nil {
		t.Fatal(err)
	}
	attrs := &annotated{attributes(admission.Create, pod(), nil), map[string]string{}}
	if err := a.Admit(ctx, attrs, objects()); err != nil {
		t.Fatalf("an annotation nobody can store became a verdict: %v", err)
	}
	note = "validated"
	if err := a.Validate(ctx, attrs, objects()); err != nil {
		t.Fatalf("an annotation that is there already became a verdict: %v", err)
	}
	if diff := cmp.Diff([]string{"image has no digest", "image has no digest"}, r.warnings); diff != "" {
		t.Errorf("warnings: -want +got:\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"admission-baseline.cleat.dev/verdict": "mutated"}, attrs.taken); diff != "" {
		t.Errorf("annotations: -want +got:\n%s", diff)
	}
}
