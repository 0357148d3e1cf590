package crd

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func TestDefinitions(t *testing.T) {
	definitions, err := Definitions()
	if err != nil {
		t.Fatal(err)
	}
	if len(definitions) != 2 {
		t.Fatalf("got %d definitions, want 2", len(definitions))
	}
	if got, want := definitions[1].GetName(), PluginResource+"."+Group; got != want {
		t.Errorf("name %q, want %q", got, want)
	}
	d := definitions[0]
	if got, want := d.GetName(), AddonResource+"."+Group; got != want {
		t.Errorf("name %q, want %q", got, want)
	}
	kind, _, _ := unstructured.NestedString(d.Object, "spec", "names", "kind")
	if kind != AddonKind {
		t.Errorf("kind %q, want %q", kind, AddonKind)
	}
	versions, _, _ := unstructured.NestedSlice(d.Object, "spec", "versions")
	if got := versions[0].(map[string]any)["name"]; got != Version {
		t.Errorf("version %v, want %v", got, Version)
	}
	status := []string{"schema", "openAPIV3Schema", "properties", "status", "properties"}
	for path, want := range map[string]int64{"objects/maxItems": MaxObjects, "lastError/maxLength": MaxErrorLength} {
		got, _, err := unstructured.NestedFieldNoCopy(versions[0].(map[string]any), append(status, split(path)...)...)
		if err != nil || asInt(got) != want {
			t.Errorf("schema %s = %v (%v), the constant says %d", path, got, err, want)
		}
	}
}

func split(path string) []string {
	for i := range path {
		if path[i] == '/' {
			return []string{path[:i], path[i+1:]}
		}
	}
	return []string{path}
}

func asInt(v any) int64 {
	switch n := v.(type) {
	case int64:
		return n
	case float64:
		return int64(n)
	}
	return -1
}

func TestAddonRoundTrip(t *testing.T) {
	want := &Addon{
		TypeMeta:   metav1.TypeMeta{APIVersion: Group + "/" + Version, Kind: AddonKind},
		ObjectMeta: metav1.ObjectMeta{Name: "coredns", Namespace: AddonNamespace},
		Spec:       AddonSpec{Source: "/x/coredns.yaml", Checksum: "ab", Server: "n1"},
		Status: AddonStatus{
			ObservedChecksum: "ab",
			Objects:          []ObjectRef{{Group: "apps", Version: "v1", Kind: "Deployment", Namespace: "kube-system", Name: "coredns", UID: "u1"}},
			Conditions:       []metav1.Condition{{Type: ConditionApplied, Status: metav1.ConditionTrue, Reason: "AppliedManifest"}},
		},
	}
	u, err := want.ToUnstructured()
	if err != nil {
		t.Fatal(err)
	}
	got, err := FromUnstructured(u)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("round trip (-want +got):\n%s", diff)
	}
}

func TestEstablished(t *testing.T) {
	definition := func(conditions ...any) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{"status": map[string]any{"conditions": conditions}}}
	}
	condition := func(kind, status string) any {
		return map[string]any{"type": kind, "status": status, "message": "because"}
	}
	for name, tc := range map[string]struct {
		in  *unstructured.Unstructured
		ok  bool
		why string
	}{
		"served":     {in: definition(condition("NamesAccepted", "True"), condition("Established", "True")), ok: true},
		"not yet":    {in: definition(condition("Established", "False")), why: "not established: because"},
		"names":      {in: definition(condition("NamesAccepted", "False")), why: "names not accepted: because"},
		"fresh":      {in: &unstructured.Unstructured{Object: map[string]any{}}, why: "the definition has no conditions yet"},
		"hostile":    {in: definition("text", int64(7)), why: "the definition has no conditions yet"},
		"wrong type": {in: &unstructured.Unstructured{Object: map[string]any{"status": "x"}}, why: "the definition has no conditions yet"},
	} {
		t.Run(name, func(t *testing.T) {
			ok, why := Established(tc.in)
			if ok != tc.ok || why != tc.why {
				t.Errorf("got %v %q, want %v %q", ok, why, tc.ok, tc.why)
			}
		})
	}
}
