package lookup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/cleat-dev/cleat/core/extension"
	"github.com/cleat-dev/cleat/hostabi"
)

// Store is where the plugins' state is kept; package etcdstore has one.
type Store interface {
	// Get reads a key; a missing one is (nil, 0, nil).
	Get(ctx context.Context, key string) ([]byte, int64, error)
	// Create writes a key that does not exist, Update one whose revision still
	// is rev; false means that somebody else was first.
	Create(ctx context.Context, key string, value []byte) (bool, error)
	Update(ctx context.Context, key string, value []byte, rev int64) (bool, error)
	Close() error
}

const (
	statePrefix   = "/cleat/plugin-state/"
	maxStateBytes = hostabi.MaxStateBytes
	stateAttempts = 20 // when several servers write at once
)

// state keeps one record for each plugin: all its keys, so that a hook's
// writes come together or not at all.
type state struct {
	open func() (Store, error)

	mu    sync.Mutex
	store Store
}

func (s *state) connect() (Store, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.store == nil {
		store, err := s.open()
		if err != nil {
			return nil, err
		}
		s.store = store
	}
	return s.store, nil
}

func (s *state) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.store != nil {
		_ = s.store.Close() // the datastore itself stops later
		s.store = nil
	}
}

func (s *state) read(ctx context.Context, plugin string) (values map[string][]byte, rev int64, store Store, err error) {
	if store, err = s.connect(); err != nil {
		return nil, 0, nil, err
	}
	text, rev, err := store.Get(ctx, statePrefix+plugin)
	if err != nil {
		return nil, 0, nil, err
	}
	values = map[string][]byte{}
	if len(text) > 0 {
		if err := json.Unmarshal(text, &values); err != nil {
			return nil, 0, nil, fmt.Errorf("state of plugin %s in the datastore is damaged: %w", plugin, err)
		}
	}
	return values, rev, store, nil
}

func (s *state) get(ctx context.Context, plugin, key string) ([]byte, error) {
	values, _, _, err := s.read(ctx, plugin)
	return values[key], err
}

func (s *state) set(ctx context.Context, plugin string, changes map[string][]byte) error {
	for range stateAttempts {
		values, rev, store, err := s.read(ctx, plugin)
		if err != nil {
			return err
		}
		for key, value := range changes {
			if len(value) == 0 {
				delete(values, key)
				continue
			}
			values[key] = value
		}
		text, err := json.Marshal(values)
		if err != nil {
			return err
		}
		if len(values) > hostabi.MaxStateKeys || len(text) > maxStateBytes {
			return fmt.Errorf("%w: %d keys, %d bytes; the most is %d and %d",
				extension.ErrFull, len(values), len(text), hostabi.MaxStateKeys, maxStateBytes)
		}
		write := func() (bool, error) { return store.Update(ctx, statePrefix+plugin, text, rev) }
		if rev == 0 {
			write = func() (bool, error) { return store.Create(ctx, statePrefix+plugin, text) }
		}
		if ok, err := write(); ok || err != nil {
			return err
		}
	}
	return errors.New("others keep writing the plugin's state; try again")
}
