package node

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/cleat-dev/cleat/core/internal/joinapi"
)

// apiServersSlice is the name, in namespace default, of the endpoints of the service
// "kubernetes".
const apiServersSlice = "kubernetes"

// apiServers returns what lists the cluster's servers that are alive, IP:port:
// the endpoints of the service "kubernetes", which the API servers keep over the
// datastore they share. They are read from the API server's cache.
func apiServers(kubeconfig string) func(ctx context.Context) ([]string, error) {
	return func(ctx context.Context) ([]string, error) {
		client, err := clientFor(kubeconfig)
		if err != nil {
			return nil, err
		}
		slice, err := client.DiscoveryV1().EndpointSlices(metav1.NamespaceDefault).Get(ctx, apiServersSlice, metav1.GetOptions{ResourceVersion: "0"})
		if err != nil {
			return nil, err
		}
		return serversOf(slice)
	}
}

// followAPIServers calls take with that list, at once and when it changes, until ctx
// is done.
func followAPIServers(ctx context.Context, client kubernetes.Interface, take func(servers []string, err error)) error {
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(metav1.NamespaceDefault),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector("metadata.name", apiServersSlice).String()
		}))
	look := func(obj any) {
		slice, ok := obj.(*discoveryv1.EndpointSlice)
		if ok && slice.Name == apiServersSlice {
			take(serversOf(slice))
		}
	}
	if _, err := factory.Discovery().V1().EndpointSlices().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    look,
		UpdateFunc: func(_, obj any) { look(obj) },
	}); err != nil {
		return err
	}
	factory.StartWithContext(ctx)
	<-ctx.Done()
	factory.Shutdown()
	return nil
}

func serversOf(slice *discoveryv1.EndpointSlice) ([]string, error) {
	var servers []string
	for _, p := range slice.Ports {
		if p.Name == nil || *p.Name != "https" || p.Port == nil {
			continue
		}
		for _, e := range slice.Endpoints {
			for _, address := range e.Addresses {
				ip, err := netip.ParseAddr(address)
				if err != nil {
					return nil, fmt.Errorf("the endpoints of the service kubernetes: %w", err)
				}
				servers = append(servers, joinapi.ServerAt(ip, uint16(*p.Port)))
			}
		}
	}
	slices.Sort(servers)
	return servers, nil
}
