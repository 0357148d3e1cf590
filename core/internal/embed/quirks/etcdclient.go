package quirks

import (
	"context"
	"fmt"
	"strings"
	"sync"
	_ "unsafe" // for linkname

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	_ "k8s.io/apiserver/pkg/storage/storagebackend/factory" // has the variable
)

// newETCD3Client makes the API server's clients of its datastore.
//
//go:linkname newETCD3Client k8s.io/apiserver/pkg/storage/storagebackend/factory.newETCD3Client
var newETCD3Client func(storagebackend.TransportConfig) (*kubernetes.Client, error)

// ShareDatastoreClient lets an API server that runs from now on talk to kine over
// one connection. By itself it makes one for each kind of object, some eighty
// (kubernetes/kubernetes#111476), each with buffers and goroutines at both ends,
// and kine looks after each ten times a second. It is not for etcd, whose
// compaction asks a client for its endpoints, which these do not tell.
var ShareDatastoreClient = sync.OnceFunc(func() {
	s := &sharedClients{open: newETCD3Client, clients: map[string]*sharedClient{}}
	newETCD3Client = s.get
})

// sharedClients are the open clients by their servers.
type sharedClients struct {
	open func(storagebackend.TransportConfig) (*kubernetes.Client, error)

	mu      sync.Mutex
	clients map[string]*sharedClient
}

type sharedClient struct {
	client *kubernetes.Client
	users  int
}

// get returns a client that shares its connection where it may. Closing it closes
// the connection if it was the last.
func (s *sharedClients) get(c storagebackend.TransportConfig) (*kubernetes.Client, error) {
	key := fmt.Sprintf("%q", []string{strings.Join(c.ServerList, ","), c.CertFile, c.KeyFile, c.TrustedCAFile})
	s.mu.Lock()
	defer s.mu.Unlock()
	shared := s.clients[key]
	if shared == nil {
		client, err := s.open(c)
		if err != nil {
			return nil, err
		}
		shared = &sharedClient{client: client}
		s.clients[key] = shared
	}
	shared.users++

	// The client has no connection of its own. Of its parts only Watcher and
	// Lease have a Close; it calls both.
	own := clientv3.NewCtxClient(context.Background())
	own.Cluster, own.KV, own.Auth, own.Maintenance = shared.client.Cluster, shared.client.KV, shared.client.Auth, shared.client.Maintenance
	own.Watcher = &sharedWatcher{Watcher: shared.client.Watcher, close: sync.OnceValue(func() error { return s.drop(key, shared) })}
	own.Lease = sharedLease{shared.client.Lease}
	client := &kubernetes.Client{Client: own}
	client.Kubernetes = client
	return client, nil
}

// drop closes what nobody uses any more.
func (s *sharedClients) drop(key string, shared *sharedClient) error {
	s.mu.Lock()
	shared.users--
	last := shared.users == 0
	if last && s.clients[key] == shared {
		delete(s.clients, key)
	}
	s.mu.Unlock()
	if !last {
		return nil
	}
	return shared.client.Close()
}

type sharedWatcher struct {
	clientv3.Watcher

	close func() error
}

func (w *sharedWatcher) Close() error { return w.close() }

type sharedLease struct{ clientv3.Lease }

func (sharedLease) Close() error { return nil }
