// Package noderole is the unit that labels the server's own Node as one of the
// control plane, which is what `kubectl get nodes` shows as its role. A kubelet may
// not give itself that label.
package noderole

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/cleat-dev/cleat/core/kernel"
)

// Label is the label; its value is that of k3s.
const (
	Label = "node-role.kubernetes.io/control-plane"
	value = "true"

	again = time.Second // after a failed write
)

// Component is the unit. Make it with New.
type Component struct {
	node       string
	kubeconfig string
}

// New makes the unit of a Node. kubeconfig is an administrator's.
func New(node, kubeconfig string) *Component {
	return &Component{node: node, kubeconfig: kubeconfig}
}

// Run keeps the label on the Node until ctx is done, also on one that is made anew.
// It is ready when the Node has it.
func (c *Component) Run(ctx context.Context, ready func()) error {
	config, err := clientcmd.BuildConfigFromFlags("", c.kubeconfig)
	if err != nil {
		return fmt.Errorf("read kubeconfig %s: %w", c.kubeconfig, err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	return c.follow(ctx, client, ready)
}

func (c *Component) follow(ctx context.Context, client kubernetes.Interface, ready func()) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": map[string]string{Label: value}}})
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0,
		informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector("metadata.name", c.node).String()
		}))
	look := func(obj any) {
		node, ok := obj.(*corev1.Node)
		if !ok || node.Name != c.node {
			return
		}
		if _, has := node.Labels[Label]; has {
			ready()
			return
		}
		// It fails only when ctx is done; the unit's status shows what it waits for.
		_ = kernel.Poll(ctx, again, func(ctx context.Context) error {
			_, err := client.CoreV1().Nodes().Patch(ctx, c.node, types.MergePatchType, patch, metav1.PatchOptions{})
			if apierrors.IsNotFound(err) {
				return nil // a Node that is made anew is another event
			}
			return err
		})
	}
	if _, err := factory.Core().V1().Nodes().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    look,
		UpdateFunc: func(_, obj any) { look(obj) },
	}); err != nil {
		return err
	}
	inner, cancel := context.WithCancel(ctx)
	defer factory.Shutdown()
	defer cancel()
	factory.StartWithContext(inner)
	<-ctx.Done()
	return nil
}
