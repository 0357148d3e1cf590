package bootstrap

import "context"

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
