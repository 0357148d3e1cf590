package datastore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cleat-dev/cleat/core/internal/etcdstore"
)

// probeKey is written and read back to prove that the store takes writes. It is
// outside /registry, where the API server keeps its objects.
const probeKey = "/cleat/probe"

// roundTrip writes now under probeKey and reads it back.
func roundTrip(ctx context.Context, store *etcdstore.Store, now time.Time) error {
	value := []byte(now.UTC().Format(time.RFC3339Nano))
	_, before, err := store.Get(ctx, probeKey)
	if err != nil {
		return err
	}
	var written bool
	if before == 0 {
		written, err = store.Create(ctx, probeKey, value)
	} else {
		written, err = store.Update(ctx, probeKey, value, before)
	}
	if err != nil {
		return err
	}
	_, after, err := store.Get(ctx, probeKey)
	switch {
	case err != nil:
		return err
	case after == 0:
		return fmt.Errorf("what was written under %s is not there", probeKey)
	case after <= before:
		return fmt.Errorf("%s still has revision %d after a write", probeKey, after)
	case !written:
		return errors.New("another server wrote at the same moment")
	}
	return nil
}
