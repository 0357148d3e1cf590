package supervisor

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/crypto/scrypt"

	"github.com/cleat-dev/cleat/core/internal/joinapi"
)

// Store is the little of a datastore that node passwords need.
type Store interface {
	// Get reads a key; a missing one is (nil, 0, nil).
	Get(ctx context.Context, key string) (value []byte, rev int64, err error)
	// Create writes a key that does not exist; of many callers at once, one
	// gets true.
	Create(ctx context.Context, key string, value []byte) (created bool, err error)
}

const (
	scryptN, scryptR, scryptP = 1 << 14, 8, 1
	scryptSalt, scryptKey     = 16, 32

	// maxKnown is more nodes than a cluster may have; names cost a holder of the
	// token nothing, so memory of them has an end.
	maxKnown = 8192
)

// errTaken says that another machine had the node's name first.
var errTaken = errors.New("node name is taken")

// hashed is what the datastore keeps of a node's password. The costs are fixed
// by Version, so that a hostile record cannot choose them.
type hashed struct {
	Version int    `json:"version"` // 1: scrypt N=16384 r=8 p=1
	Salt    []byte `json:"salt"`
	Hash    []byte `json:"hash"`
}

// passwords gives each node name to whoever comes first with it.
type passwords struct {
	store Store
	mu    sync.Mutex
	// known are the digests of record and password that have matched, by node:
	// a node asks for several certificates in a row.
	known map[string][sha256.Size]byte
}

func newPasswords(store Store) *passwords {
	return &passwords{store: store, known: map[string][sha256.Size]byte{}}
}

// check returns nil if name is the caller's, from now on if it was nobody's,
// errTaken if it is somebody else's, and other errors of the datastore.
func (p *passwords) check(ctx context.Context, name, password string) error {
	key := joinapi.NodePasswordPrefix + name
	record, rev, err := p.store.Get(ctx, key)
	if err != nil {
		return err
	}
	if rev == 0 {
		if record, err = hash(password); err != nil {
			return err
		}
		created, err := p.store.Create(ctx, key, record)
		if err != nil {
			return err
		}
		if created {
			p.remember(name, record, password)
			return nil
		}
		if record, _, err = p.store.Get(ctx, key); err != nil {
			return err
		}
	}
	if p.remembered(name, record, password) {
		return nil
	}
	ok, err := matches(record, password)
	if err != nil {
		return fmt.Errorf("node password record %s: %w", key, err)
	}
	if !ok {
		return fmt.Errorf("%w: another machine joined as %q first, or this one lost its node password: restore the password file of that node, or choose another --node-name", errTaken, name)
	}
	p.remember(name, record, password)
	return nil
}

func digest(record []byte, password string) [sha256.Size]byte {
	inner := sha256.Sum256(record)
	return sha256.Sum256(append(inner[:], password...))
}

func (p *passwords) remember(name string, record []byte, password string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.known) >= maxKnown {
		clear(p.known)
	}
	p.known[name] = digest(record, password)
}

func (p *passwords) remembered(name string, record []byte, password string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	have, ok := p.known[name]
	want := digest(record, password)
	return ok && subtle.ConstantTimeCompare(have[:], want[:]) == 1
}

func hash(password string) ([]byte, error) {
	h := hashed{Version: 1, Salt: make([]byte, scryptSalt)}
	rand.Read(h.Salt) // never fails: crypto/rand ends the process instead
	var err error
	if h.Hash, err = scrypt.Key([]byte(password), h.Salt, scryptN, scryptR, scryptP, scryptKey); err != nil {
		return nil, fmt.Errorf("hash a node password: %w", err)
	}
	return json.Marshal(h)
}

func matches(record []byte, password string) (bool, error) {
	var h hashed
	if err := json.Unmarshal(record, &h); err != nil {
		return false, err
	}
	if h.Version != 1 || len(h.Salt) != scryptSalt || len(h.Hash) != scryptKey {
		return false, fmt.Errorf("version %d is not known", h.Version)
	}
	got, err := scrypt.Key([]byte(password), h.Salt, scryptN, scryptR, scryptP, scryptKey)
	if err != nil {
		return false, err
	}
	return subtle.ConstantTimeCompare(got, h.Hash) == 1, nil
}
