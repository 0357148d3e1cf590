package apiserver

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apischedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	schedulingv1 "k8s.io/kubernetes/pkg/apis/scheduling/v1"
	"k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac/bootstrappolicy"
)

// LateHooks are the checks of /readyz behind two hooks of upstream's that wait for
// a second before they first look. What they would create is there before, see
// found, so whoever only needs that need not wait for them.
var LateHooks = []string{"poststarthook/rbac/bootstrap-roles", "poststarthook/scheduling/bootstrap-system-priority-classes"}

const (
	foundingHook     = "cleat/founding" // a line of /readyz, after "poststarthook/"
	foundingClients  = 8                // objects created at once
	foundingPatience = 30 * time.Second // as long as upstream's hooks
)

// found is a hook that creates what every component needs to be let in and is not
// there: upstream's roles, bindings and priority classes. Those that are there it
// leaves as they are; upstream's own hooks bring them up to date. It never fails,
// because that would end the API server, which upstream's hooks do if it must be.
func found(hook genericapiserver.PostStartHookContext) error {
	config := rest.CopyConfig(hook.LoopbackClientConfig)
	config.QPS = -1 // no limit
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("client of the founding hook: %w", err)
	}
	ctx, cancel := context.WithTimeout(hook.Context, foundingPatience)
	defer cancel()
	for {
		err := foundAll(ctx, client)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			slog.Warn("roles and priority classes were not created at once, the API server goes on trying", "reason", err)
			return nil
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// foundAll creates what is missing and returns the first error.
func foundAll(ctx context.Context, client kubernetes.Interface) error {
	missing, err := missingObjects(ctx, client)
	if err != nil {
		return err
	}
	var creating sync.WaitGroup
	limit := make(chan struct{}, foundingClients)
	failed := make(chan error, len(missing))
	for _, create := range missing {
		limit <- struct{}{}
		creating.Go(func() {
			defer func() { <-limit }()
			if err := create(ctx); err != nil && !apierrors.IsAlreadyExists(err) {
				failed <- err
			}
		})
	}
	creating.Wait()
	close(failed)
	return <-failed
}

// missingObjects returns a function for each object that is not there.
func missingObjects(ctx context.Context, client kubernetes.Interface) ([]func(context.Context) error, error) {
	var missing []func(context.Context) error
	rbac, all := client.RbacV1(), metav1.ListOptions{}

	there, err := namesIn(rbac.ClusterRoles().List(ctx, all))
	if err != nil {
		return nil, err
	}
	missing = append(missing, without(there, bootstrappolicy.ClusterRoles(), rbac.ClusterRoles().Create)...)
	if there, err = namesIn(rbac.ClusterRoleBindings().List(ctx, all)); err != nil {
		return nil, err
	}
	missing = append(missing, without(there, bootstrappolicy.ClusterRoleBindings(), rbac.ClusterRoleBindings().Create)...)
	for namespace, roles := range bootstrappolicy.NamespaceRoles() {
		if there, err = namesIn(rbac.Roles(namespace).List(ctx, all)); err != nil {
			return nil, err
		}
		missing = append(missing, in(client, namespace, without(there, roles, rbac.Roles(namespace).Create))...)
	}
	for namespace, bindings := range bootstrappolicy.NamespaceRoleBindings() {
		if there, err = namesIn(rbac.RoleBindings(namespace).List(ctx, all)); err != nil {
			return nil, err
		}
		missing = append(missing, in(client, namespace, without(there, bindings, rbac.RoleBindings(namespace).Create))...)
	}
	classes := client.SchedulingV1().PriorityClasses()
	if there, err = namesIn(classes.List(ctx, all)); err != nil {
		return nil, err
	}
	for _, class := range schedulingv1.SystemPriorityClasses() {
		missing = append(missing, without(there, []apischedulingv1.PriorityClass{*class}, classes.Create)...)
	}
	return missing, nil
}

// namesIn returns the names of a list's items.
func namesIn(list runtime.Object, err error) (map[string]bool, error) {
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	err = meta.EachListItem(list, func(item runtime.Object) error {
		object, err := meta.Accessor(item)
		if err == nil {
			names[object.GetName()] = true
		}
		return err
	})
	return names, err
}

// without returns a function for each wanted object whose name is not there.
func without[T any, P interface {
	*T
	metav1.Object
}](there map[string]bool, wanted []T, create func(context.Context, *T, metav1.CreateOptions) (*T, error),
) []func(context.Context) error {
	var missing []func(context.Context) error
	for _, object := range wanted {
		if !there[P(&object).GetName()] {
			missing = append(missing, func(ctx context.Context) error {
				_, err := create(ctx, &object, metav1.CreateOptions{})
				return err
			})
		}
	}
	return missing
}

// in has the functions create the namespace as well, if it is not there yet.
func in(client kubernetes.Interface, namespace string, missing []func(context.Context) error) []func(context.Context) error {
	for i, create := range missing {
		missing[i] = func(ctx context.Context) error {
			err := create(ctx)
			if !apierrors.IsNotFound(err) {
				return err
			}
			_, err = client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
			if err != nil && !apierrors.IsAlreadyExists(err) {
				return err
			}
			return create(ctx)
		}
	}
	return missing
}
