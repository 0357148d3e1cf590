// Package cloudcontroller is the unit that makes nodes usable which registered
// as machines of an external cloud: it sets their addresses and provider IDs
// and clears their uninitialized taint. What does that is passed in.
//
// Its permissions are not a packaged manifest: nodes must become usable before
// the deployer runs, and without it. The unit grants them to its own identity
// with an administrator's credentials, waits until the API server agrees, and
// works as that identity from then on.
package cloudcontroller

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

	"github.com/cleat-dev/cleat/core/config"
)

// UserName is the identity in the unit's client certificate.
const UserName = "cleat-cloud-controller"

const (
	firstWait = 100 * time.Millisecond
	lastWait  = 2 * time.Second
)

// RunFunc initializes nodes with the given client until ctx is done. nodeName
// and nodeIPs are this machine's. It calls synced once it knows the nodes.
type RunFunc func(ctx context.Context, config *rest.Config, nodeName string, nodeIPs []string, synced func()) error

// CloudController is the component. Make one with New.
type CloudController struct {
	cfg        *config.Config
	admin      string
	kubeconfig string
	run        RunFunc
	log        *slog.Logger
}

// New returns the component. admin is the path of an administrator's
// kubeconfig, used once to grant the permissions; kubeconfig is the path of the
// kubeconfig of UserName. Both are read when Run starts.
func New(cfg *config.Config, admin, kubeconfig string, run RunFunc, log *slog.Logger) *CloudController {
	return &CloudController{cfg: cfg, admin: admin, kubeconfig: kubeconfig, run: run, log: log}
}

// Run initializes nodes until ctx is done. It calls ready when the identity has
// its permissions and the nodes are known.
func (c *CloudController) Run(ctx context.Context, ready func()) error {
	admin, _, err := load(c.admin)
	if err != nil {
		return err
	}
	own, config, err := load(c.kubeconfig)
	if err != nil {
		return err
	}
	if err := c.persist(ctx, "grant permissions", func(ctx context.Context) error { return grant(ctx, admin) }); err != nil {
		return err
	}
	if err := c.persist(ctx, "wait for permissions", func(ctx context.Context) error { return allowed(ctx, own) }); err != nil {
		return err
	}
	return c.run(ctx, config, c.cfg.NodeName, c.cfg.NodeIP, ready)
}

func load(path string) (kubernetes.Interface, *rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		return nil, nil, fmt.Errorf("read kubeconfig %s: %w", path, err)
	}
	config.UserAgent = UserName
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, nil, fmt.Errorf("make a client from %s: %w", path, err)
	}
	return client, config, nil
}

// persist does a step again and again until it succeeds or ctx is done: the API
// server may be short of its own start-up hooks.
func (c *CloudController) persist(ctx context.Context, what string, step func(context.Context) error) error {
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
			c.log.Debug(what, "error", err)
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

// permission is one rule of the role, and what is asked about to see that it holds.
type permission struct {
	group, resource, subresource string
	verbs                        []string
}

func permissions() []permission {
	return []permission{
		{resource: "nodes", verbs: []string{"get", "list", "watch", "update", "patch"}},
		{resource: "nodes", subresource: "status", verbs: []string{"patch"}},
		{resource: "events", verbs: []string{"create", "patch", "update"}},
	}
}

func (p permission) name() string {
	if p.subresource != "" {
		return p.resource + "/" + p.subresource
	}
	return p.resource
}

// grant writes the role and its binding. It is forced: the permissions of a part
// of the server are not up for editing.
func grant(ctx context.Context, client kubernetes.Interface) error {
	options := metav1.ApplyOptions{FieldManager: UserName, Force: true}
	role := rbacv1ac.ClusterRole(UserName)
	for _, p := range permissions() {
		role.WithRules(rbacv1ac.PolicyRule().WithAPIGroups(p.group).WithResources(p.name()).WithVerbs(p.verbs...))
	}
	if _, err := client.RbacV1().ClusterRoles().Apply(ctx, role, options); err != nil {
		return fmt.Errorf("apply cluster role %s: %w", UserName, err)
	}
	binding := rbacv1ac.ClusterRoleBinding(UserName).
		WithRoleRef(rbacv1ac.RoleRef().WithAPIGroup("rbac.authorization.k8s.io").WithKind("ClusterRole").WithName(UserName)).
		WithSubjects(rbacv1ac.Subject().WithAPIGroup("rbac.authorization.k8s.io").WithKind("User").WithName(UserName))
	if _, err := client.RbacV1().ClusterRoleBindings().Apply(ctx, binding, options); err != nil {
		return fmt.Errorf("apply cluster role binding %s: %w", UserName, err)
	}
	return nil
}

// allowed asks the API server, as the identity itself, whether it may do all it
// has to: the authorizer learns of a new role a moment after it is stored.
func allowed(ctx context.Context, client kubernetes.Interface) error {
	for _, p := range permissions() {
		for _, verb := range p.verbs {
			review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
				ResourceAttributes: &authorizationv1.ResourceAttributes{
					Group: p.group, Resource: p.resource, Subresource: p.subresource, Verb: verb,
				},
			}}
			answer, err := client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
			if err != nil {
				return fmt.Errorf("ask whether %s may %s %s: %w", UserName, verb, p.name(), err)
			}
			if !answer.Status.Allowed {
				return fmt.Errorf("%s may not %s %s (yet): %s", UserName, verb, p.name(), answer.Status.Reason)
			}
		}
	}
	return nil
}
