// Package grants gives a part of the server its permissions. They are no packaged
// manifest, for they must hold before the deployer runs, and without it: an
// administrator's credentials write them, and the part waits, as itself, until the
// API server agrees.
package grants

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	rbacv1ac "k8s.io/client-go/applyconfigurations/rbac/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	firstWait = 100 * time.Millisecond
	lastWait  = 2 * time.Second
)

// Rule is one rule of a cluster role.
type Rule struct {
	Group, Resource, Subresource string
	Name                         string // of the only object, "" for all
	Verbs                        []string
}

func (r Rule) resource() string {
	if r.Subresource != "" {
		return r.Resource + "/" + r.Subresource
	}
	return r.Resource
}

// Request says who is to be allowed what.
type Request struct {
	Admin string // path of an administrator's kubeconfig
	Own   string // path of the kubeconfig of the identity
	User  string // the identity's name
	Role  string // of the cluster role and its binding, and of the client
	Rules []Rule
	Log   *slog.Logger
}

// Obtain writes the role and its binding, waits until the identity has all of it
// and returns the identity's client. It tries until ctx is done: the API server may
// be short of its own start-up hooks.
func Obtain(ctx context.Context, r Request) (kubernetes.Interface, *rest.Config, error) {
	admin, _, err := load(r.Admin, r.Role)
	if err != nil {
		return nil, nil, err
	}
	own, config, err := load(r.Own, r.Role)
	if err != nil {
		return nil, nil, err
	}
	if err := r.persist(ctx, "grant permissions", func(ctx context.Context) error { return r.grant(ctx, admin) }); err != nil {
		return nil, nil, err
	}
	if err := r.persist(ctx, "wait for permissions", func(ctx context.Context) error { return r.allowed(ctx, own) }); err != nil {
		return nil, nil, err
	}
	return own, config, nil
}

func load(path, agent string) (kubernetes.Interface, *rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		return nil, nil, fmt.Errorf("read kubeconfig %s: %w", path, err)
	}
	config.UserAgent = agent
	// A node that comes or goes may change every Service; the default is 5 a second.
	config.QPS, config.Burst = 100, 200
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, nil, fmt.Errorf("make a client from %s: %w", path, err)
	}
	return client, config, nil
}

// persist does a step again and again until it succeeds or ctx is done.
func (r Request) persist(ctx context.Context, what string, step func(context.Context) error) error {
	last := ""
	for pause := firstWait; ; pause = min(2*pause, lastWait) {
		err := step(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err.Error() != last {
			last = err.Error()
			r.Log.Debug(what, "error", err)
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%s: %w (last: %w)", what, ctx.Err(), err)
		case <-timer.C:
		}
	}
}

// grant is forced: the permissions of a part of the server are not up for editing.
func (r Request) grant(ctx context.Context, client kubernetes.Interface) error {
	options := metav1.ApplyOptions{FieldManager: r.Role, Force: true}
	role := rbacv1ac.ClusterRole(r.Role)
	for _, rule := range r.Rules {
		policy := rbacv1ac.PolicyRule().WithAPIGroups(rule.Group).WithResources(rule.resource()).WithVerbs(rule.Verbs...)
		if rule.Name != "" {
			policy.WithResourceNames(rule.Name)
		}
		role.WithRules(policy)
	}
	if _, err := client.RbacV1().ClusterRoles().Apply(ctx, role, options); err != nil {
		return fmt.Errorf("apply cluster role %s: %w", r.Role, err)
	}
	binding := rbacv1ac.ClusterRoleBinding(r.Role).
		WithRoleRef(rbacv1ac.RoleRef().WithAPIGroup("rbac.authorization.k8s.io").WithKind("ClusterRole").WithName(r.Role)).
		WithSubjects(rbacv1ac.Subject().WithAPIGroup("rbac.authorization.k8s.io").WithKind("User").WithName(r.User))
	if _, err := client.RbacV1().ClusterRoleBindings().Apply(ctx, binding, options); err != nil {
		return fmt.Errorf("apply cluster role binding %s: %w", r.Role, err)
	}
	return nil
}

// allowed asks the API server, as the identity itself, whether it may do all it
// has to: the authorizer learns of a new role a moment after it is stored.
func (r Request) allowed(ctx context.Context, client kubernetes.Interface) error {
	for _, rule := range r.Rules {
		for _, verb := range rule.Verbs {
			review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
				ResourceAttributes: &authorizationv1.ResourceAttributes{
					Group: rule.Group, Resource: rule.Resource, Subresource: rule.Subresource, Name: rule.Name, Verb: verb,
				},
			}}
			answer, err := client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
			if err != nil {
				return fmt.Errorf("ask whether %s may %s %s: %w", r.User, verb, rule.resource(), err)
			}
			if !answer.Status.Allowed {
				return fmt.Errorf("%s may not %s %s (yet): %s", r.User, verb, rule.resource(), answer.Status.Reason)
			}
		}
	}
	return nil
}
