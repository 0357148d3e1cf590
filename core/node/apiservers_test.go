package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/cleat-dev/cleat/core/kernel"
	"github.com/cleat-dev/cleat/core/kernel/kerneltest"
)

func TestServersOf(t *testing.T) {
	https, other, port := "https", "metrics", int32(6443)
	slice := &discoveryv1.EndpointSlice{
		Ports:     []discoveryv1.EndpointPort{{Name: &other, Port: &port}, {Name: &https, Port: &port}},
		Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"fd00::1"}}, {Addresses: []string{"10.0.0.2"}}},
	}
	got, err := serversOf(slice)
	if want := []string{"10.0.0.2:6443", "[fd00::1]:6443"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
	slice.Endpoints[0].Addresses[0] = "server.example"
	if got, err := serversOf(slice); err == nil {
		t.Errorf("a name gave %v", got)
	}
}

func TestFollowAPIServers(t *testing.T) {
	kerneltest.NoLeaks(t)
	slice := func(name, address string) *discoveryv1.EndpointSlice {
		https, port := "https", int32(6443)
		return &discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: name},
			Ports:      []discoveryv1.EndpointPort{{Name: &https, Port: &port}},
			Endpoints:  []discoveryv1.Endpoint{{Addresses: []string{address}}},
		}
	}
	client := fake.NewClientset(slice("web-x7k2p", "192.0.2.9"), slice("kubernetes", "192.0.2.1"))
	ctx, cancel := context.WithCancel(t.Context())
	lists, ended := make(chan []string), make(chan error, 1)
	go func() {
		ended <- followAPIServers(ctx, client, func(servers []string, err error) {
			if err != nil {
				servers = []string{"an error"}
			}
			if slices.Contains(servers, "192.0.2.9:6443") {
				t.Error("endpoints of another service are taken for servers")
			}
			select {
			case lists <- servers:
			case <-ctx.Done():
			}
		})
	}()
	// The fake forgets what changes between its list and its watch.
	become := func(address string, want ...string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		err := kernel.Poll(ctx, 50*time.Millisecond, func(ctx context.Context) error {
			if _, err := client.DiscoveryV1().EndpointSlices(metav1.NamespaceDefault).Update(ctx, slice("kubernetes", address), metav1.UpdateOptions{}); err != nil {
				return err
			}
			select {
			case got := <-lists:
				if !slices.Equal(got, want) {
					return fmt.Errorf("it became %v", got)
				}
				return nil
			default:
				return errors.New("no list came")
			}
		})
		if err != nil {
			t.Errorf("%s: %v, want %v", address, err, want)
		}
	}
	if got := <-lists; !slices.Equal(got, []string{"192.0.2.1:6443"}) {
		t.Errorf("the first list is %v", got)
	}
	become("192.0.2.2", "192.0.2.2:6443")
	become("server.example", "an error")
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
