package datastore

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// probeKey is written and read back to prove that the store takes writes. It is
// outside /registry, where the API server keeps its objects.
const probeKey = "/cleat/probe"

func newClient(endpoint string) (*clientv3.Client, error) {
	client, err := clientv3.New(clientv3.Config{
		Endpoints:   []string{endpoint},
		DialTimeout: 5 * time.Second,
		Logger:      zap.NewNop(), // it retries by itself; what matters reaches us as errors
	})
	if err != nil {
		return nil, fmt.Errorf("datastore client: %w", err)
	}
	return client, nil
}

// roundTrip writes now under probeKey and reads it back. The write is one of
// the two transactions kine understands: create, or update of a known revision.
func roundTrip(ctx context.Context, client *clientv3.Client, now time.Time) error {
	value := now.UTC().Format(time.RFC3339Nano)
	before, err := client.Get(ctx, probeKey)
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	revision := int64(0)
	if len(before.Kvs) > 0 {
		revision = before.Kvs[0].ModRevision
	}
	written, err := client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(probeKey), "=", revision)).
		Then(clientv3.OpPut(probeKey, value)).
		Else(clientv3.OpGet(probeKey)).
		Commit()
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	after, err := client.Get(ctx, probeKey)
	if err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	if len(after.Kvs) == 0 {
		return fmt.Errorf("what was written under %s is not there", probeKey)
	}
	// Another server of the same cluster may have written in between.
	if written.Succeeded && after.Kvs[0].ModRevision < written.Header.Revision {
		return fmt.Errorf("read back revision %d of %s after writing %d", after.Kvs[0].ModRevision, probeKey, written.Header.Revision)
	}
	return nil
}
