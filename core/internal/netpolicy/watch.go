package netpolicy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	networklisters "k8s.io/client-go/listers/networking/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/cleat-dev/cleat/core/kernel"
)

// watcher follows the pods, namespaces and policies of the whole cluster.
type watcher struct {
	factory    informers.SharedInformerFactory
	pods       corelisters.PodLister
	namespaces corelisters.NamespaceLister
	policies   networklisters.NetworkPolicyLister
	log        *slog.Logger
	told       map[string]string // policy -> version whose error was told
}

// watchCluster returns once everything was read. changed is called whenever
// something that rules depend on is another.
func watchCluster(ctx context.Context, client kubernetes.Interface, log *slog.Logger, changed func()) (*watcher, error) {
	// The role may be granted a moment later, and an informer that was refused
	// takes its time to ask again.
	if err := awaitAccess(ctx, client); err != nil {
		return nil, err
	}
	f := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(strip))
	w := &watcher{
		factory: f, log: log, told: map[string]string{},
		pods:       f.Core().V1().Pods().Lister(),
		namespaces: f.Core().V1().Namespaces().Lister(),
		policies:   f.Networking().V1().NetworkPolicies().Lister(),
	}
	handler := cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { changed() },
		DeleteFunc: func(any) { changed() },
		UpdateFunc: func(before, after any) {
			if !reflect.DeepEqual(unversioned(before), unversioned(after)) {
				changed()
			}
		},
	}
	for _, i := range []cache.SharedIndexInformer{
		f.Core().V1().Pods().Informer(), f.Core().V1().Namespaces().Informer(), f.Networking().V1().NetworkPolicies().Informer(),
	} {
		if _, err := i.AddEventHandler(handler); err != nil {
			return nil, fmt.Errorf("watch the cluster: %w", err)
		}
	}
	f.StartWithContext(ctx)
	for kind, synced := range f.WaitForCacheSync(ctx.Done()) {
		if !synced {
			f.Shutdown()
			return nil, fmt.Errorf("list of %s: %w", kind, context.Cause(ctx))
		}
	}
	return w, nil
}

// Pauses between the attempts to list.
const (
	minAccessPause = 100 * time.Millisecond
	maxAccessPause = 2 * time.Second
)

// awaitAccess waits until everything that is watched may be listed.
func awaitAccess(ctx context.Context, client kubernetes.Interface) error {
	one := metav1.ListOptions{Limit: 1}
	for pause := minAccessPause; ; pause = min(2*pause, maxAccessPause) {
		_, err1 := client.NetworkingV1().NetworkPolicies("").List(ctx, one)
		_, err2 := client.CoreV1().Pods("").List(ctx, one)
		_, err3 := client.CoreV1().Namespaces().List(ctx, one)
		err := errors.Join(err1, err2, err3)
		kernel.Waiting(ctx, err)
		if err == nil {
			return nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-timer.C:
		}
	}
}

// strip keeps of an object what rules depend on.
func strip(obj any) (any, error) {
	switch o := obj.(type) {
	case *corev1.Pod:
		kept := &corev1.Pod{ObjectMeta: stripMeta(o.ObjectMeta)}
		kept.Spec.NodeName, kept.Spec.HostNetwork = o.Spec.NodeName, o.Spec.HostNetwork
		kept.Spec.Containers = stripContainers(o.Spec.InitContainers, o.Spec.Containers)
		kept.Status.Phase, kept.Status.PodIPs = o.Status.Phase, o.Status.PodIPs
		return kept, nil
	case *corev1.Namespace:
		return &corev1.Namespace{ObjectMeta: stripMeta(o.ObjectMeta)}, nil
	case *networkingv1.NetworkPolicy:
		return &networkingv1.NetworkPolicy{ObjectMeta: stripMeta(o.ObjectMeta), Spec: o.Spec}, nil
	}
	return obj, nil
}

func stripMeta(m metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: m.Namespace, Name: m.Name, UID: m.UID, ResourceVersion: m.ResourceVersion,
		Labels: m.Labels, CreationTimestamp: m.CreationTimestamp,
	}
}

// stripContainers keeps the ports that have a name, of containers that run as long
// as the pod does.
func stripContainers(inits, containers []corev1.Container) []corev1.Container {
	inits = slices.DeleteFunc(slices.Clone(inits), func(c corev1.Container) bool {
		return c.RestartPolicy == nil || *c.RestartPolicy != corev1.ContainerRestartPolicyAlways
	})
	var out []corev1.Container
	for _, c := range slices.Concat(inits, containers) {
		named := slices.DeleteFunc(slices.Clone(c.Ports), func(p corev1.ContainerPort) bool { return p.Name == "" })
		if len(named) > 0 {
			out = append(out, corev1.Container{Ports: named})
		}
	}
	return out
}

// unversioned is a copy without what changes with every write.
func unversioned(obj any) any {
	switch o := obj.(type) {
	case *corev1.Pod:
		c := *o
		c.ResourceVersion = ""
		return c
	case *corev1.Namespace:
		c := *o
		c.ResourceVersion = ""
		return c
	case *networkingv1.NetworkPolicy:
		c := *o
		c.ResourceVersion = ""
		return c
	}
	return obj
}

func (w *watcher) stop() { w.factory.Shutdown() }

// snapshot is the cluster as it is now.
func (w *watcher) snapshot(node string, attached func(uid string) []netip.Addr) (*cluster, error) {
	all := labels.Everything()
	pods, err1 := w.pods.List(all)
	namespaces, err2 := w.namespaces.List(all)
	policies, err3 := w.policies.List(all)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	c := newCluster(node, pods, namespaces, attached)
	told := map[string]string{}
	slices.SortFunc(policies, func(a, b *networkingv1.NetworkPolicy) int { return strings.Compare(a.Name, b.Name) })
	for _, np := range policies {
		p, err := newPolicy(np)
		if err != nil {
			key := np.Namespace + "/" + np.Name
			if told[key] = np.ResourceVersion; w.told[key] != told[key] {
				w.log.Error("part of a NetworkPolicy allows nothing as it cannot be read", "policy", key, "error", err)
			}
		}
		if p != nil {
			c.policies[p.namespace] = append(c.policies[p.namespace], p)
		}
	}
	w.told = told
	return c, nil
}

// newCluster is a cluster without policies. attached are the addresses of this
// node's pods as its CNI knows them.
func newCluster(node string, pods []*corev1.Pod, namespaces []*corev1.Namespace, attached func(uid string) []netip.Addr) *cluster {
	c := &cluster{namespaces: namespaceLabels{}, policies: map[string][]*policy{}, pods: map[string][]*pod{}}
	for _, n := range namespaces {
		c.namespaces[n.Name] = n.Labels
	}
	var list []*pod
	byCNI := map[*pod]bool{}
	for _, p := range pods {
		var known []netip.Addr
		if p.Spec.NodeName == node {
			known = attached(string(p.UID))
		}
		if one := newPod(p, known); one != nil {
			list = append(list, one)
			byCNI[one] = len(known) > 0
		}
	}
	for _, p := range ownAddresses(list, func(p *pod) bool { return byCNI[p] }) {
		c.pods[p.namespace] = append(c.pods[p.namespace], p)
	}
	return c
}
