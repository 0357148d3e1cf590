package apiserver

import (
	"bytes"
	"math/rand"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/apitesting/fuzzer"
	metafuzzer "k8s.io/apimachinery/pkg/apis/meta/fuzzer"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	corefuzzer "k8s.io/kubernetes/pkg/apis/core/fuzzer"

	"github.com/cleat-dev/cleat/hostabi"
)

// TestFieldsAreThoseOfTheJSON fills objects at random and reads every path they
// have, and some they have not.
func TestFieldsAreThoseOfTheJSON(t *testing.T) {
	const rounds = 40
	random := fuzzer.FuzzerFor(fuzzer.MergeFuzzerFuncs(metafuzzer.Funcs, corefuzzer.Funcs), rand.NewSource(1), serializer.NewCodecFactory(legacyscheme.Scheme))
	for _, empty := range []runtime.Object{
		&corev1.Pod{}, &corev1.Secret{}, &corev1.Node{}, &corev1.Service{}, &corev1.PersistentVolume{}, &corev1.Event{},
		&appsv1.Deployment{}, &networkingv1.NetworkPolicy{}, &rbacv1.ClusterRole{},
	} {
		for round := range rounds {
			object := empty.DeepCopyObject()
			if round > 0 { // the first is left empty
				random.Fill(object)
			}
			all, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
			if err != nil {
				t.Fatal(err)
			}
			checkPaths(t, object, all, all, nil)
			if t.Failed() {
				return
			}
		}
	}
}

// checkPaths reads the path of node and all below it.
func checkPaths(t *testing.T, object runtime.Object, all map[string]any, node any, path []hostabi.PathSegment) {
	t.Helper()
	if len(path) > 0 {
		for _, way := range [][]hostabi.PathSegment{path, append(path[:len(path):len(path)], hostabi.PathSegment{Key: "absent"}), append(path[:len(path):len(path)], hostabi.PathSegment{Each: true})} {
			got, n, err := readFields(nil, object, way)
			if err != nil {
				t.Fatalf("%v: %v", way, err)
			}
			want, m, err := readFields(nil, &unstructured.Unstructured{Object: all}, way)
			if err != nil || n != m || !bytes.Equal(want, got) {
				t.Errorf("%T %v: %d values, %v: %q, in the JSON there are %d: %q", object, way, n, err, got, m, want)
				return
			}
		}
	}
	switch v := node.(type) {
	case map[string]any:
		for key, below := range v {
			checkPaths(t, object, all, below, append(path[:len(path):len(path)], hostabi.PathSegment{Key: key}))
		}
	case []any:
		for _, below := range v[:min(len(v), 2)] {
			checkPaths(t, object, all, below, append(path[:len(path):len(path)], hostabi.PathSegment{Each: true}))
		}
	}
}
