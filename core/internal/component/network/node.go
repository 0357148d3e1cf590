package network

import (
	"context"
	"net/netip"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// watchNode delivers the latest state of a node whenever it changes, nil when it
// was deleted. stop waits for the watch to end; it ends by ctx, too.
func watchNode(ctx context.Context, client kubernetes.Interface, name string) (nodes <-chan *corev1.Node, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	latest := make(chan *corev1.Node, 1)
	var mu sync.Mutex
	put := func(obj any, deleted bool) {
		if key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(obj); err != nil || key != name {
			return
		}
		var node *corev1.Node
		if !deleted {
			node, _ = obj.(*corev1.Node) // the watch has nothing else
		}
		mu.Lock()
		defer mu.Unlock()
		select {
		case <-latest: // superseded before anybody looked at it
		default:
		}
		latest <- node
	}
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0,
		informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector("metadata.name", name).String()
		}))
	// The handler is added before the informer starts, so this cannot fail.
	_, _ = factory.Core().V1().Nodes().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { put(obj, false) },
		UpdateFunc: func(_, obj any) { put(obj, false) },
		DeleteFunc: func(obj any) { put(obj, true) },
	})
	factory.StartWithContext(ctx)
	return latest, func() {
		cancel()
		factory.Shutdown()
	}
}

func internalIPs(node *corev1.Node) []string {
	var out []string
	for _, a := range node.Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			out = append(out, a.Address)
		}
	}
	return out
}

// link is a network link of this machine.
type link struct {
	Name      string
	MTU       int
	Addresses []netip.Addr
}

// linkOf returns the link that has the first of the addresses; where none has
// it, as behind address translation, the one named fallback, or no link.
func linkOf(links []link, addresses []string, fallback string) link {
	for _, text := range addresses {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			continue
		}
		if i := slices.IndexFunc(links, func(l link) bool { return slices.Contains(l.Addresses, addr) }); i >= 0 {
			return links[i]
		}
	}
	if i := slices.IndexFunc(links, func(l link) bool { return fallback != "" && l.Name == fallback }); i >= 0 {
		return links[i]
	}
	return link{}
}
