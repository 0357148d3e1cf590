package supervisor

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cleat-dev/cleat/core/internal/nodepassword"
)

// Store is the little of a datastore that node passwords need. Revisions are the
// datastore's; 0 means that the key does not exist.
type Store interface {
	// Get reads a key; a missing one is (nil, 0, nil).
	Get(ctx context.Context, key string) (value []byte, rev int64, err error)
	// Create writes a key that does not exist; of many callers at once, one
	// gets true.
	Create(ctx context.Context, key string, value []byte) (created bool, err error)
	// Update writes a key whose revision still is rev.
	Update(ctx context.Context, key string, value []byte, rev int64) (updated bool, err error)
}

const (
	// maxKnown is more nodes than a cluster may have; names cost a holder of the
	// token nothing, so memory of them has an end.
	maxKnown = 8192
	// seenEvery is how exact a record is about when its machine came last. A machine
	// that joins asks five times in a second.
	seenEvery = time.Minute
	// tries is how often a record may change while it is looked at.
	tries = 5
)

// errTaken says that another machine had the node's name first.
var errTaken = errors.New("node name is taken")

// passwords gives each node name to whoever comes first with it.
type passwords struct {
	store Store
	now   func() time.Time
	mu    sync.Mutex
	// known are the digests of record and password that have matched, by node:
	// a node asks for several certificates in a row.
	known map[string][sha256.Size]byte
}

func newPasswords(store Store, now func() time.Time) *passwords {
	return &passwords{store: store, now: now, known: map[string][sha256.Size]byte{}}
}

// check returns nil if name is the caller's, from now on if it was nobody's,
// errTaken if it is somebody else's, and other errors of the datastore. The record
// says afterwards that its machine has just come, so that it is not taken for that
// of a node which is gone.
func (p *passwords) check(ctx context.Context, name, password string) error {
	key := nodepassword.Prefix + name
	for range tries {
		text, rev, err := p.store.Get(ctx, key)
		if err != nil {
			return err
		}
		if rev == 0 {
			created, err := p.create(ctx, key, name, password)
			if created || err != nil {
				return err
			}
			continue
		}
		record, err := nodepassword.Parse(text)
		if err != nil {
			return fmt.Errorf("node password record %s: %w", key, err)
		}
		if err := p.match(name, password, record); err != nil {
			return err
		}
		now := p.now().UTC().Truncate(time.Second)
		if now.Sub(record.Seen).Abs() < seenEvery {
			return nil
		}
		record.Seen = now
		if text, err = record.Marshal(); err != nil {
			return err
		}
		if updated, err := p.store.Update(ctx, key, text, rev); updated || err != nil {
			return err
		}
	}
	return fmt.Errorf("node password record %s changes all the time", key)
}

func (p *passwords) create(ctx context.Context, key, name, password string) (bool, error) {
	record, err := nodepassword.New(password, p.now())
	if err != nil {
		return false, err
	}
	text, err := record.Marshal()
	if err != nil {
		return false, err
	}
	created, err := p.store.Create(ctx, key, text)
	if created && err == nil {
		p.remember(name, record.Digest(password))
	}
	return created, err
}

func (p *passwords) match(name, password string, record nodepassword.Record) error {
	digest := record.Digest(password)
	if p.remembers(name, digest) {
		return nil
	}
	ok, err := record.Matches(password)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("%w: another machine joined as %q before, or this one lost its node password: delete the Node if that machine is gone (cleat kubectl delete node %s), restore the password file of the node, or choose another --node-name", errTaken, name, name)
	}
	p.remember(name, digest)
	return nil
}

func (p *passwords) remember(name string, digest [sha256.Size]byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.known) >= maxKnown {
		clear(p.known)
	}
	p.known[name] = digest
}

func (p *passwords) remembers(name string, digest [sha256.Size]byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	have, ok := p.known[name]
	return ok && subtle.ConstantTimeCompare(have[:], digest[:]) == 1
}
