// Package bootstrap settles which cluster this server belongs to: it makes the
// certificate authorities and the service-account key of a new cluster, or
// takes over those that the datastore keeps, encrypted with the token.
//
// The rules, all decided before anything is written:
//
//	datastore  disk       what happens
//	empty      empty      a new identity is made and stored, then written to disk
//	empty      complete   the disk's identity is stored
//	empty      in part    refused: a new identity would not fit what is there
//	record     empty      the record is written to disk
//	record     equal      nothing
//	record     in part    files that are missing are written, if the others are equal
//	record     different  refused: neither side is known to be the older one
//
// Beside the record are the settings on which the servers of a cluster agree; a
// server whose own differ is refused too, unless it runs alone.
//
// A record that the token does not open is refused whatever the disk holds. So
// is a datastore with Kubernetes objects but neither record nor disk: its
// cluster's identity is elsewhere.
package bootstrap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/paths"
	"github.com/cleat-dev/cleat/core/internal/pki"
	"github.com/cleat-dev/cleat/core/internal/token"
)

// storeTimeout bounds one whole conversation with the datastore.
const storeTimeout = 30 * time.Second

// Result is what bootstrap settled. Do not log Token.
type Result struct {
	Identity *pki.Identity
	Token    token.Token // the full form, user server
	Agent    token.Token // the second one, with which only nodes join: user node; zero if there is none
	New      bool        // this start made the cluster
}

// Options are what bootstrap needs from its surroundings.
type Options struct {
	Config *config.Config
	Data   paths.Data
	// Store gives the datastore; it is called when Run begins, after the
	// datastore is ready. An io.Closer is closed when it is no longer needed.
	Store func() (Store, error)
	Log   *slog.Logger
	Now   func() time.Time // nil is time.Now
}

// Bootstrap is the unit.
type Bootstrap struct {
	Options

	rounds int             // of the key derivation; tests make it cheaper
	table  []config.Option // of what servers agree on

	rotating sync.Mutex

	mu       sync.Mutex
	result   *Result
	admitted admitted
}

// New makes the unit.
func New(o Options) *Bootstrap {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Bootstrap{Options: o, rounds: kdfRounds, table: config.Table()}
}

// admitted is what MayWrite found, so that Run does not derive the key again.
type admitted struct {
	record   []byte
	identity *pki.Identity
}

// MayWrite says why this server must not write into the datastore: it belongs
// to a cluster that the token does not open, or whose settings are others. It
// only reads.
func (b *Bootstrap) MayWrite(ctx context.Context) error {
	store, err := b.Store()
	if err != nil {
		return fmt.Errorf("open the datastore: %w", err)
	}
	if c, ok := store.(io.Closer); ok {
		defer c.Close()
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	secret, err := b.findToken()
	if err != nil {
		return err
	}
	if _, err := b.findAgentToken(); err != nil {
		return err
	}
	disk, err := readDisk(b.Data)
	if err != nil {
		return err
	}
	record, err := readRecord(ctx, store)
	if err != nil {
		return err
	}
	if err := b.resume(record, secret); err != nil {
		return err
	}
	var id *pki.Identity
	switch {
	case record == nil:
		if id, err = disk.identity(); err == nil && id == nil {
			return b.mayFound(ctx, store, secret)
		}
	case disk.seen(record, secret):
		id, err = disk.identity()
	default:
		if id, err = b.open(record, secret); err == nil {
			b.mu.Lock()
			b.admitted = admitted{record, id}
			b.mu.Unlock()
			err = b.accept(id, disk, secret)
		}
	}
	if err != nil {
		return err
	}
	_, err = b.agree(ctx, store, id)
	return err
}

// identityOf opens a record, or takes what MayWrite found in it.
func (b *Bootstrap) identityOf(record []byte, secret *secret) (*pki.Identity, error) {
	b.mu.Lock()
	known := b.admitted
	b.mu.Unlock()
	if known.identity != nil && bytes.Equal(known.record, record) {
		return known.identity, nil
	}
	return b.open(record, secret)
}

// Run settles the identity, calls ready and waits for ctx to end.
func (b *Bootstrap) Run(ctx context.Context, ready func()) error {
	store, err := b.Store()
	if err != nil {
		return fmt.Errorf("open the datastore: %w", err)
	}
	limited, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	result, err := b.settle(limited, store)
	if c, ok := store.(io.Closer); ok {
		err = errors.Join(err, c.Close())
	}
	if err != nil {
		return err
	}
	b.mu.Lock()
	b.result = result
	b.mu.Unlock()
	ready()
	<-ctx.Done()
	return nil
}

// Result is what was settled; it is an error to ask before the unit is ready.
func (b *Bootstrap) Result() (Result, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.result == nil {
		return Result{}, errors.New("bootstrap: not ready yet")
	}
	return *b.result, nil
}

func (b *Bootstrap) settle(ctx context.Context, store Store) (*Result, error) {
	secret, err := b.findToken()
	if err != nil {
		return nil, err
	}
	disk, err := readDisk(b.Data)
	if err != nil {
		return nil, err
	}
	record, err := readRecord(ctx, store)
	if err != nil {
		return nil, err
	}
	if err := b.resume(record, secret); err != nil {
		return nil, err
	}
	var id *pki.Identity
	created := false
	switch {
	case record == nil:
		id, record, created, err = b.found(ctx, store, secret, disk)
	case disk.seen(record, secret):
		id, err = disk.identity()
	default:
		id, err = b.identityOf(record, secret)
	}
	if err != nil {
		return nil, err
	}
	if err := b.accept(id, disk, secret); err != nil {
		return nil, err
	}
	full, err := secret.full(id)
	if err != nil {
		return nil, err
	}
	agent, err := b.fullAgentToken(id)
	if err != nil {
		return nil, err
	}
	if err := b.settleSettings(ctx, store, id); err != nil {
		return nil, err
	}
	if err := writeDisk(b.Data, id, full, agent, stampOf(record, secret, id.Files())); err != nil {
		return nil, err
	}
	return &Result{Identity: id, Token: full, Agent: agent, New: created}, nil
}

// accept checks that an identity may become this server's.
func (b *Bootstrap) accept(id *pki.Identity, disk diskFiles, secret *secret) error {
	if err := disk.sameAs(id); err != nil {
		return err
	}
	if err := id.Valid(b.Now()); err != nil {
		return err
	}
	if _, err := secret.full(id); err != nil {
		return err
	}
	_, err := b.fullAgentToken(id)
	return err
}

// found stores the identity of a cluster that the datastore does not know yet.
func (b *Bootstrap) found(ctx context.Context, store Store, secret *secret, disk diskFiles) (id *pki.Identity, record []byte, created bool, err error) {
	id, err = disk.identity()
	if err != nil {
		return nil, nil, false, err
	}
	fresh := id == nil
	if fresh {
		if err := b.mayFound(ctx, store, secret); err != nil {
			return nil, nil, false, err
		}
		if id, err = pki.NewIdentity(b.Now()); err != nil {
			return nil, nil, false, err
		}
		secret.forget()
	}
	if err := b.accept(id, disk, secret); err != nil {
		return nil, nil, false, err
	}
	rounds := b.rounds
	if secret.from == fromGenerator {
		rounds = min(rounds, minRounds)
	}
	if record, err = seal(id, secret.token.Password, rounds); err != nil {
		return nil, nil, false, err
	}
	// A made-up token is on disk before the record that only it opens: a crash
	// between the two must not lock the cluster.
	undo, err := b.keepGenerated(secret, id)
	if err != nil {
		return nil, nil, false, err
	}
	ok, err := store.Create(ctx, recordKey, record)
	if err != nil {
		// The write may have happened all the same, so the token stays.
		return nil, nil, false, fmt.Errorf("store the bootstrap record: %w", err)
	}
	if ok {
		b.Log.Info("bootstrap record stored", "new_cluster", fresh)
		if disk.stamp != "" {
			b.Log.Warn("the datastore is empty although this machine has served a cluster: it goes on with the same certificates and nothing in it; "+
				"if that is not what you want, stop it, put the database back or check --datastore-endpoint, and start again", "tls", b.Data.TLS(""))
		}
		return id, record, fresh, nil
	}
	// Another server was faster: its identity counts.
	record, err = readRecord(ctx, store)
	if err == nil && record == nil {
		err = errors.New("the bootstrap record came and went: start again")
	}
	if err == nil {
		id, err = b.open(record, secret)
	}
	if err != nil {
		return nil, nil, false, errors.Join(err, undo())
	}
	b.Log.Info("another server made the cluster at the same moment, joining it")
	return id, record, false, nil
}

// mayFound says why a new cluster must not be made in this datastore.
func (b *Bootstrap) mayFound(ctx context.Context, store Store, secret *secret) error {
	keys, err := store.List(ctx, objectsPrefix, 1)
	if err != nil {
		return fmt.Errorf("look for objects of another cluster in the datastore: %w", err)
	}
	if len(keys) > 0 {
		return fmt.Errorf("the datastore holds the objects of a cluster but no bootstrap record, and %s holds no certificate authorities: restore %s from that cluster, or name an empty datastore with --datastore-endpoint",
			b.Data.TLS(""), b.Data.TLS(""))
	}
	if secret.token.CAHash != "" && secret.from != fromDisk {
		return fmt.Errorf("the token from %s carries the CA hash of an existing cluster but the datastore is empty: check --datastore-endpoint, or give only the part after %q to make a new cluster", secret.from, "server:")
	}
	return nil
}
