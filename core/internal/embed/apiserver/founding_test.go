package apiserver

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"
	rbacrest "k8s.io/kubernetes/pkg/registry/rbac/rest"
	schedulingrest "k8s.io/kubernetes/pkg/registry/scheduling/rest"
)

func foundAll(t *testing.T, client kubernetes.Interface) {
	t.Helper()
	for name, f := range founders() {
		if err := f(t.Context(), client); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
}

// written are the objects that the API server was asked to create or to change.
func written(t *testing.T, client *fake.Clientset) []string {
	t.Helper()
	var all []string
	for _, a := range client.Actions() {
		if c, ok := a.(k8stesting.CreateAction); ok { // as an update is, too
			object, err := meta.Accessor(c.GetObject())
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, strings.Join([]string{a.GetVerb(), a.GetResource().Resource, a.GetNamespace(), object.GetName()}, " "))
		}
	}
	slices.Sort(all)
	client.ClearActions()
	return all
}

func TestFounding(t *testing.T) {
	client := fake.NewClientset()
	foundAll(t, client)
	first := written(t, client)
	for _, want := range []string{
		"create clusterroles  cluster-admin", "create clusterroles  system:node", "create clusterroles  system:controller:node-controller",
		"create clusterrolebindings  system:kube-scheduler", "create clusterrolebindings  system:controller:node-controller",
		"create roles kube-system extension-apiserver-authentication-reader",
		"create rolebindings kube-system system::extension-apiserver-authentication-reader",
		"create rolebindings kube-public system:controller:bootstrap-signer",
		"create priorityclasses  system-cluster-critical", "create priorityclasses  system-node-critical",
	} {
		if !slices.Contains(first, want) {
			t.Errorf("no %q among\n%s", want, strings.Join(first, "\n"))
		}
	}
	foundAll(t, client)
	if again := written(t, client); len(again) > 0 {
		t.Errorf("written although nothing is missing: %q", again)
	}

	// One role is gone, of another a rule, and a third has one of somebody's.
	roles := client.RbacV1().ClusterRoles()
	if err := roles.Delete(t.Context(), "system:basic-user", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	change := func(name string, to func(*rbacv1.ClusterRole)) {
		role, err := roles.Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		to(role)
		if _, err := roles.Update(t.Context(), role, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	change("system:discovery", func(r *rbacv1.ClusterRole) { r.Rules = nil })
	change("system:kube-scheduler", func(r *rbacv1.ClusterRole) {
		r.Rules = append(r.Rules, rbacv1.PolicyRule{APIGroups: []string{"example.com"}, Resources: []string{"queues"}, Verbs: []string{"get"}})
	})
	client.ClearActions()
	foundAll(t, client)
	if got, want := written(t, client), []string{"create clusterroles  system:basic-user", "update clusterroles  system:discovery"}; !slices.Equal(got, want) {
		t.Errorf("written %q, want %q", got, want)
	}
}

func TestFoundingTriesAgain(t *testing.T) {
	no := errors.New("no")
	client := fake.NewClientset()
	left := 3
	client.PrependReactor("create", "clusterrolebindings", func(k8stesting.Action) (bool, runtime.Object, error) {
		left--
		return left >= 0, nil, no
	})
	if err := founder(foundRoles).try(t.Context(), client, time.Minute); err != nil {
		t.Errorf("got %v although it would work in the end", err)
	}
	refusing := fake.NewClientset()
	refusing.PrependReactor("get", "priorityclasses", func(k8stesting.Action) (bool, runtime.Object, error) { return true, nil, no })
	if err := founder(foundPriorityClasses).try(t.Context(), refusing, 150*time.Millisecond); !errors.Is(err, no) {
		t.Errorf("got %v, want the reason", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := founder(foundPriorityClasses).try(ended, refusing, time.Minute); err != nil {
		t.Errorf("got %v from an API server that is told to stop", err)
	}
}

// TestFoundersReplaceUpstreams keeps the names from going stale: a hook of another
// name would run beside upstream's.
func TestFoundersReplaceUpstreams(t *testing.T) {
	roles, _, err := rbacrest.RESTStorageProvider{}.PostStartHook()
	if err != nil {
		t.Fatal(err)
	}
	classes, _, err := schedulingrest.RESTStorageProvider{}.PostStartHook()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{roles, classes} {
		if founders()[name] == nil {
			t.Errorf("nothing replaces upstream's hook %q", name)
		}
	}
}
