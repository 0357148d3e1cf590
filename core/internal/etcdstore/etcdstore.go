// Package etcdstore reads and writes single keys over the etcd protocol, in the
// few request shapes that kine understands as well as etcd.
package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

// Store is a connection to a datastore. Revisions are the datastore's; 0 means
// that the key does not exist.
type Store struct {
	client *clientv3.Client
}

// New makes a store for an endpoint such as unix:///run/cleat/kine.sock.
// It connects when it is first used.
func New(endpoint string) (*Store, error) {
	client, err := clientv3.New(clientv3.Config{
		Endpoints:   []string{endpoint},
		DialTimeout: 10 * time.Second,
		// The datastore's socket appears a moment after the first dial; grpc
		// would come back after a whole second.
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.5, MaxDelay: time.Second},
			MinConnectTimeout: 5 * time.Second,
		})},
		Logger: zap.NewNop(), // its errors come back from every call
	})
	if err != nil {
		return nil, fmt.Errorf("datastore client for %s: %w", endpoint, err)
	}
	return &Store{client: client}, nil
}

// Close ends the connection.
func (s *Store) Close() error {
	if err := s.client.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// Get reads a key; a missing one is (nil, 0, nil).
func (s *Store) Get(ctx context.Context, key string) ([]byte, int64, error) {
	res, err := s.client.Get(ctx, key)
	if err != nil {
		return nil, 0, fmt.Errorf("datastore: get %s: %w", key, err)
	}
	if len(res.Kvs) == 0 {
		return nil, 0, nil
	}
	return res.Kvs[0].Value, res.Kvs[0].ModRevision, nil
}

// List gives up to limit keys that begin with prefix, which ends in "/".
func (s *Store) List(ctx context.Context, prefix string, limit int) ([]string, error) {
	res, err := s.client.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly(), clientv3.WithLimit(int64(limit)))
	if err != nil {
		return nil, fmt.Errorf("datastore: list %s: %w", prefix, err)
	}
	keys := make([]string, 0, len(res.Kvs))
	for _, kv := range res.Kvs {
		keys = append(keys, string(kv.Key))
	}
	return keys, nil
}

// Create writes a key that does not exist; of many callers at once, one gets true.
func (s *Store) Create(ctx context.Context, key string, value []byte) (bool, error) {
	res, err := s.client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(key), "=", 0)).
		Then(clientv3.OpPut(key, string(value))).
		Commit()
	if err != nil {
		return false, fmt.Errorf("datastore: create %s: %w", key, err)
	}
	return res.Succeeded, nil
}

// Update writes a key whose revision still is rev.
func (s *Store) Update(ctx context.Context, key string, value []byte, rev int64) (bool, error) {
	// kine knows an update by its shape, the read on failure included.
	res, err := s.client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(key), "=", rev)).
		Then(clientv3.OpPut(key, string(value))).
		Else(clientv3.OpGet(key)).
		Commit()
	if err != nil {
		return false, fmt.Errorf("datastore: update %s: %w", key, err)
	}
	return res.Succeeded, nil
}

// Delete removes a key whose revision still is rev.
func (s *Store) Delete(ctx context.Context, key string, rev int64) (bool, error) {
	// kine knows a deletion by its shape too.
	res, err := s.client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(key), "=", rev)).
		Then(clientv3.OpDelete(key)).
		Else(clientv3.OpGet(key)).
		Commit()
	if err != nil {
		return false, fmt.Errorf("datastore: delete %s: %w", key, err)
	}
	return res.Succeeded, nil
}
