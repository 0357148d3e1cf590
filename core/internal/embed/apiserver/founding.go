package apiserver

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/component-helpers/auth/rbac/reconciliation"
	schedulingv1 "k8s.io/kubernetes/pkg/apis/scheduling/v1"
	rbacrest "k8s.io/kubernetes/pkg/registry/rbac/rest"
	"k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac/bootstrappolicy"
)

// Two of upstream's hooks make what every component needs to be let in, roles
// with their bindings and priority classes. They look for the first time after a
// second and go one by one; until then the API server is not healthy, and the
// controller manager, which asks for that once a second, waits up to three. So they
// are replaced by hooks of the same names that begin at once.

// schedulingHook is upstream's name, which it does not export.
const schedulingHook = "scheduling/bootstrap-system-priority-classes"

const (
	foundingClients  = 8                // objects looked at at once
	foundingPatience = 30 * time.Second // as long as upstream's hooks
)

// founder makes sure of one kind of thing. Objects that are there are brought up to
// date, as upstream does: what somebody added to a role stays.
type founder func(ctx context.Context, client kubernetes.Interface) error

func founders() map[string]founder {
	return map[string]founder{rbacrest.PostStartHookName: foundRoles, schedulingHook: foundPriorityClasses}
}

// hook tries until it succeeds. An error ends the API server.
func (f founder) hook(start genericapiserver.PostStartHookContext) error {
	config := rest.CopyConfig(start.LoopbackClientConfig)
	config.QPS = -1 // no limit
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("client of the founding hooks: %w", err)
	}
	return f.try(start, client, foundingPatience)
}

func (f founder) try(ctx context.Context, client kubernetes.Interface, patience time.Duration) error {
	enough := time.After(patience)
	for {
		err := f(ctx, client)
		if err == nil || ctx.Err() != nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-enough:
			return fmt.Errorf("after %s: %w", patience, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func foundRoles(ctx context.Context, client kubernetes.Interface) error {
	var all []func() error
	role := func(r reconciliation.RuleOwner, c reconciliation.RuleOwnerModifier) {
		all = append(all, func() error {
			_, err := (&reconciliation.ReconcileRoleOptions{Role: r, Client: c, Confirm: true}).Run()
			return err
		})
	}
	binding := func(b reconciliation.RoleBinding, c reconciliation.RoleBindingModifier) {
		all = append(all, func() error {
			_, err := (&reconciliation.ReconcileRoleBindingOptions{RoleBinding: b, Client: c, Confirm: true}).Run()
			return err
		})
	}
	rbac, namespaces := client.RbacV1(), client.CoreV1().Namespaces()
	for _, r := range slices.Concat(bootstrappolicy.ClusterRoles(), bootstrappolicy.ControllerRoles()) {
		role(reconciliation.ClusterRoleRuleOwner{ClusterRole: &r}, reconciliation.ClusterRoleModifier{Client: rbac.ClusterRoles()})
	}
	for _, b := range slices.Concat(bootstrappolicy.ClusterRoleBindings(), bootstrappolicy.ControllerRoleBindings()) {
		binding(reconciliation.ClusterRoleBindingAdapter{ClusterRoleBinding: &b}, reconciliation.ClusterRoleBindingClientAdapter{Client: rbac.ClusterRoleBindings()})
	}
	for _, roles := range bootstrappolicy.NamespaceRoles() {
		for _, r := range roles {
			role(reconciliation.RoleRuleOwner{Role: &r}, reconciliation.RoleModifier{Client: rbac, NamespaceClient: namespaces})
		}
	}
	for _, bindings := range bootstrappolicy.NamespaceRoleBindings() {
		for _, b := range bindings {
			binding(reconciliation.RoleBindingAdapter{RoleBinding: &b}, reconciliation.RoleBindingClientAdapter{Client: rbac, NamespaceClient: namespaces})
		}
	}
	return together(ctx, all)
}

func foundPriorityClasses(ctx context.Context, client kubernetes.Interface) error {
	var all []func() error
	classes := client.SchedulingV1().PriorityClasses()
	for _, class := range schedulingv1.SystemPriorityClasses() {
		all = append(all, func() error {
			_, err := classes.Get(ctx, class.Name, metav1.GetOptions{})
			if !apierrors.IsNotFound(err) {
				return err
			}
			_, err = classes.Create(ctx, class, metav1.CreateOptions{})
			if apierrors.IsAlreadyExists(err) {
				return nil // another server was faster
			}
			return err
		})
	}
	return together(ctx, all)
}

// together runs all functions, some at once, and returns the first error.
func together(ctx context.Context, all []func() error) error {
	var running sync.WaitGroup
	limit := make(chan struct{}, foundingClients)
	failed := make(chan error, len(all))
	for _, f := range all {
		select {
		case limit <- struct{}{}:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		running.Go(func() {
			defer func() { <-limit }()
			if err := f(); err != nil {
				failed <- err
			}
		})
	}
	running.Wait()
	close(failed)
	return <-failed
}
