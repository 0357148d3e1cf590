package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// Store is the little of a datastore that bootstrap needs. Revisions are the
// datastore's; 0 means that the key does not exist.
type Store interface {
	// Get reads a key; a missing one is (nil, 0, nil).
	Get(ctx context.Context, key string) (value []byte, rev int64, err error)
	// List gives up to limit keys that begin with prefix (which ends in "/").
	List(ctx context.Context, prefix string, limit int) (keys []string, err error)
	// Create writes a key that does not exist; of many callers at once, one
	// gets true.
	Create(ctx context.Context, key string, value []byte) (created bool, err error)
	// Update writes a key whose revision still is rev.
	Update(ctx context.Context, key string, value []byte, rev int64) (updated bool, err error)
}

const dialTimeout = 10 * time.Second

// EtcdStore is a Store over the etcd protocol, as etcd and kine speak it.
type EtcdStore struct {
	client *clientv3.Client
}

// NewEtcdStore makes a store for an endpoint such as unix:///run/cleat/kine.sock.
// It connects when it is first used.
func NewEtcdStore(endpoint string) (*EtcdStore, error) {
	client, err := clientv3.New(clientv3.Config{
		Endpoints:   []string{endpoint},
		DialTimeout: dialTimeout,
		Logger:      zap.NewNop(), // its errors come back from every call
	})
	if err != nil {
		return nil, fmt.Errorf("datastore client for %s: %w", endpoint, err)
	}
	return &EtcdStore{client: client}, nil
}

// Close ends the connection.
func (s *EtcdStore) Close() error {
	if err := s.client.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// Get implements Store.
func (s *EtcdStore) Get(ctx context.Context, key string) ([]byte, int64, error) {
	res, err := s.client.Get(ctx, key)
	if err != nil {
		return nil, 0, fmt.Errorf("datastore: get %s: %w", key, err)
	}
	if len(res.Kvs) == 0 {
		return nil, 0, nil
	}
	return res.Kvs[0].Value, res.Kvs[0].ModRevision, nil
}

// List implements Store.
func (s *EtcdStore) List(ctx context.Context, prefix string, limit int) ([]string, error) {
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

// Create implements Store.
func (s *EtcdStore) Create(ctx context.Context, key string, value []byte) (bool, error) {
	res, err := s.client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(key), "=", 0)).
		Then(clientv3.OpPut(key, string(value))).
		Commit()
	if err != nil {
		return false, fmt.Errorf("datastore: create %s: %w", key, err)
	}
	return res.Succeeded, nil
}

// Update implements Store.
func (s *EtcdStore) Update(ctx context.Context, key string, value []byte, rev int64) (bool, error) {
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
