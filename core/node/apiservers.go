package node

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cleat-dev/cleat/core/internal/joinapi"
)

// apiServers returns what lists the cluster's servers that are alive, IP:port:
// the endpoints of the service "kubernetes", which the API servers keep over the
// datastore they share. They are read from the API server's cache.
func apiServers(kubeconfig string) func(ctx context.Context) ([]string, error) {
	return func(ctx context.Context) ([]string, error) {
		client, err := clientFor(kubeconfig)
		if err != nil {
			return nil, err
		}
		slice, err := client.DiscoveryV1().EndpointSlices(metav1.NamespaceDefault).Get(ctx, "kubernetes", metav1.GetOptions{ResourceVersion: "0"})
		if err != nil {
			return nil, err
		}
		return serversOf(slice)
	}
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
