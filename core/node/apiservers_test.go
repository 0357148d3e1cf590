package node

import (
	"slices"
	"testing"

	discoveryv1 "k8s.io/api/discovery/v1"
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
