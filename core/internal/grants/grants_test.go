package grants

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

func request() Request {
	return Request{User: "u", Role: "r", Log: slog.New(slog.DiscardHandler), Rules: []Rule{
		{Resource: "services", Subresource: "status", Verbs: []string{"patch"}},
		{Group: "coordination.k8s.io", Resource: "leases", Name: "l", Verbs: []string{"get", "update"}},
	}}
}

// TestGrant: what an administrator took out of the role comes back.
func TestGrant(t *testing.T) {
	client := fake.NewClientset()
	for range 2 {
		if err := request().grant(t.Context(), client); err != nil {
			t.Fatal(err)
		}
		role, err := client.RbacV1().ClusterRoles().Get(t.Context(), "r", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		want := []rbacv1.PolicyRule{
			{APIGroups: []string{""}, Resources: []string{"services/status"}, Verbs: []string{"patch"}},
			{APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, ResourceNames: []string{"l"}, Verbs: []string{"get", "update"}},
		}
		if diff := cmp.Diff(want, role.Rules); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		binding, err := client.RbacV1().ClusterRoleBindings().Get(t.Context(), "r", metav1.GetOptions{})
		if err != nil || len(binding.Subjects) != 1 || binding.Subjects[0].Kind != "User" || binding.Subjects[0].Name != "u" || binding.RoleRef.Name != "r" {
			t.Errorf("binding %+v, %v", binding, err)
		}
		role.Rules = nil
		if _, err := client.RbacV1().ClusterRoles().Update(t.Context(), role, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAllowed asks about each verb of each rule and waits for the last one.
func TestAllowed(t *testing.T) {
	client := fake.NewClientset()
	var asked []string
	refused := "update"
	client.PrependReactor("create", "selfsubjectaccessreviews", func(action clienttesting.Action) (bool, runtime.Object, error) {
		review := action.(clienttesting.CreateAction).GetObject().(*authorizationv1.SelfSubjectAccessReview)
		a := review.Spec.ResourceAttributes
		asked = append(asked, strings.Join([]string{a.Group, a.Resource, a.Subresource, a.Name, a.Verb}, "|"))
		review.Status.Allowed = a.Verb != refused
		return true, review, nil
	})
	err := request().allowed(t.Context(), client)
	if err == nil || !strings.Contains(err.Error(), "u may not update leases") {
		t.Errorf("got %v", err)
	}
	refused = ""
	if err := request().persist(t.Context(), "x", func(ctx context.Context) error { return request().allowed(ctx, client) }); err != nil {
		t.Error(err)
	}
	want := []string{"|services|status||patch", "coordination.k8s.io|leases||l|get", "coordination.k8s.io|leases||l|update"}
	if diff := cmp.Diff(append(want, want...), asked); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestPersistEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	err := request().persist(ctx, "step", func(context.Context) error { cancel(); return errors.New("no") })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
