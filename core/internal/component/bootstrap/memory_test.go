package bootstrap

import (
	"context"
	"errors"
	"maps"
	"strings"
	"sync"
)

type entry struct {
	value string
	rev   int64
}

// memory is a Store that keeps the contract in memory.
type memory struct {
	mu   sync.Mutex
	rev  int64
	keys map[string]entry
}

func newMemory() *memory { return &memory{keys: map[string]entry{}} }

func (m *memory) copy() map[string]entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.keys)
}

func (m *memory) put(key string, value []byte) {
	m.rev++
	m.keys[key] = entry{string(value), m.rev}
}

func (m *memory) Get(_ context.Context, key string) ([]byte, int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.keys[key]
	if !ok {
		return nil, 0, nil
	}
	return []byte(e.value), e.rev, nil
}

func (m *memory) List(_ context.Context, prefix string, limit int) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var keys []string
	for k := range m.keys {
		if strings.HasPrefix(k, prefix) && len(keys) < limit {
			keys = append(keys, k)
		}
	}
	return keys, nil
}

func (m *memory) Create(ctx context.Context, key string, value []byte) (bool, error) {
	return m.Update(ctx, key, value, 0)
}

func (m *memory) Update(_ context.Context, key string, value []byte, rev int64) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.keys[key].rev != rev {
		return false, nil
	}
	m.put(key, value)
	return true, nil
}

// gate holds every Create until all callers have come to it.
type gate struct {
	*memory
	mu   sync.Mutex
	left int
	open chan struct{}
}

func (g *gate) Create(ctx context.Context, key string, value []byte) (bool, error) {
	g.mu.Lock()
	if g.left--; g.left == 0 {
		close(g.open)
	}
	g.mu.Unlock()
	select {
	case <-g.open:
	case <-ctx.Done():
		return false, ctx.Err()
	}
	return g.memory.Create(ctx, key, value)
}

// broken fails one kind of call.
type broken struct {
	*memory
	call string
}

func (b *broken) fail(call string) error {
	if b.call == call {
		return errors.New("no route to " + call)
	}
	return nil
}

func (b *broken) Get(ctx context.Context, key string) ([]byte, int64, error) {
	if err := b.fail("get"); err != nil {
		return nil, 0, err
	}
	return b.memory.Get(ctx, key)
}

func (b *broken) List(ctx context.Context, prefix string, limit int) ([]string, error) {
	if err := b.fail("list"); err != nil {
		return nil, err
	}
	return b.memory.List(ctx, prefix, limit)
}

func (b *broken) Create(ctx context.Context, key string, value []byte) (bool, error) {
	if err := b.fail("create"); err != nil {
		return false, err
	}
	return b.memory.Create(ctx, key, value)
}

func (b *broken) Update(ctx context.Context, key string, value []byte, rev int64) (bool, error) {
	if err := b.fail("update"); err != nil {
		return false, err
	}
	return b.memory.Update(ctx, key, value, rev)
}
