package apiserver

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
	k8stesting "k8s.io/client-go/testing"
	rbacrest "k8s.io/kubernetes/pkg/registry/rbac/rest"
	schedulingrest "k8s.io/kubernetes/pkg/registry/scheduling/rest"
)

// created are the objects that a fake API server was asked to create.
func created(client *fake.Clientset) []string {
	var all []string
	for _, a := range client.Actions() {
		if c, ok := a.(k8stesting.CreateAction); ok {
			name, err := runtime.DefaultUnstructuredConverter.ToUnstructured(c.GetObject())
			if err != nil {
				continue
			}
			meta, _ := name["metadata"].(map[string]any)
			all = append(all, c.GetResource().Resource+" "+c.GetNamespace()+" "+meta["name"].(string))
		}
	}
	slices.Sort(all)
	return all
}

func TestFoundingCreatesWhatIsMissing(t *testing.T) {
	client := fake.NewClientset()
	if err := foundAll(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	first := created(client)
	for _, want := range []string{
		"clusterroles  cluster-admin", "clusterroles  system:node", "clusterrolebindings  system:kube-scheduler",
		"roles kube-system extension-apiserver-authentication-reader", "rolebindings kube-system system::extension-apiserver-authentication-reader",
		"rolebindings kube-public system:controller:bootstrap-signer", "priorityclasses  system-cluster-critical", "priorityclasses  system-node-critical",
	} {
		if !slices.Contains(first, want) {
			t.Errorf("%q was not created; created were\n%s", want, strings.Join(first, "\n"))
		}
	}
	client.ClearActions()
	if err := foundAll(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	if again := created(client); len(again) > 0 {
		t.Errorf("created although they are there: %q", again)
	}
	if err := client.RbacV1().ClusterRoles().Delete(t.Context(), "view", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	client.ClearActions()
	if err := foundAll(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	if again := created(client); !slices.Equal(again, []string{"clusterroles  view"}) {
		t.Errorf("created %q, want the one that was deleted", again)
	}
}

func TestFoundingReportsWhatFails(t *testing.T) {
	for _, verb := range []string{"list", "create"} {
		client := fake.NewClientset()
		no := errors.New("no " + verb)
		client.PrependReactor(verb, "clusterrolebindings", func(k8stesting.Action) (bool, runtime.Object, error) { return true, nil, no })
		if err := foundAll(t.Context(), client); !errors.Is(err, no) {
			t.Errorf("got %v, want %v", err, no)
		}
	}
}

// TestLateHooksAreUpstreams keeps the names from going stale: with a name that
// upstream does not know, the unit would wait for the hook again.
func TestLateHooksAreUpstreams(t *testing.T) {
	name, _, err := rbacrest.RESTStorageProvider{}.PostStartHook()
	if err != nil || LateHooks[0] != "poststarthook/"+name {
		t.Errorf("upstream calls the hook %q (%v), LateHooks %q", name, err, LateHooks[0])
	}
	name, _, err = schedulingrest.RESTStorageProvider{}.PostStartHook()
	if err != nil || LateHooks[1] != "poststarthook/"+name {
		t.Errorf("upstream calls the hook %q (%v), LateHooks %q", name, err, LateHooks[1])
	}
}

// TestFoundingGivesUpQuietly: an API server that cannot be asked is the business
// of upstream's hooks.
func TestFoundingGivesUpQuietly(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	hook := genericapiserver.PostStartHookContext{Context: ctx, LoopbackClientConfig: &rest.Config{Host: "http://127.0.0.1:1"}}
	if err := found(hook); err != nil {
		t.Errorf("got %v, which would end the API server", err)
	}
}
