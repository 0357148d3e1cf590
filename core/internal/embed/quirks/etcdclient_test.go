package quirks

import (
	"errors"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"k8s.io/apiserver/pkg/storage/storagebackend"
)

func TestSharedClients(t *testing.T) {
	var opened []*kubernetes.Client
	var refuse error
	s := &sharedClients{clients: map[string]*sharedClient{}, open: func(c storagebackend.TransportConfig) (*kubernetes.Client, error) {
		if refuse != nil {
			return nil, refuse
		}
		client, err := kubernetes.New(clientv3.Config{Endpoints: c.ServerList}) // dials when it is used
		if err == nil {
			opened = append(opened, client)
		}
		return client, err
	}}
	get := func(server string) *kubernetes.Client {
		t.Helper()
		client, err := s.get(storagebackend.TransportConfig{ServerList: []string{server}})
		if err != nil {
			t.Fatal(err)
		}
		return client
	}
	a, b, other := get("unix:///a.sock"), get("unix:///a.sock"), get("unix:///b.sock")
	if len(opened) != 2 {
		t.Fatalf("%d connections for two servers", len(opened))
	}
	if a.KV != b.KV || a.KV == other.KV || a.Client == b.Client || a.Kubernetes != kubernetes.Interface(a) {
		t.Error("clients of one server do not share what they should")
	}
	closed := func(i int) bool { return opened[i].Ctx().Err() != nil }
	_ = a.Close()
	_ = a.Close() // twice is once
	if closed(0) || closed(1) {
		t.Error("closing one client closed another's connection")
	}
	_ = b.Close()
	if !closed(0) || closed(1) {
		t.Errorf("after the last client: closed %v, the other server's %v; want true, false", closed(0), closed(1))
	}
	if get("unix:///a.sock"); len(opened) != 3 {
		t.Error("a closed connection was given away again")
	}
	refuse = errors.New("no")
	if _, err := s.get(storagebackend.TransportConfig{ServerList: []string{"unix:///c.sock"}}); !errors.Is(err, refuse) {
		t.Errorf("got %v, want the error of opening", err)
	}
	for _, client := range opened {
		_ = client.Close()
	}
}
