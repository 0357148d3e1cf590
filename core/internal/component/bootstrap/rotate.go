package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/cleat-dev/cleat/core/internal/token"
)

// Rotate makes next the cluster's token: it seals the record anew, rewrites the
// token's files and changes what Result gives. If another server of the cluster
// has made next the token already, this one takes it over. An error that is
// token.ErrNew is about next itself.
//
// The new token is on disk, beside the old one, before the record that only it
// opens, and in the old one's place after it. A server that is cut off in between
// finds out at its next start which of the two it is, see resume.
func (b *Bootstrap) Rotate(ctx context.Context, next token.Token) (err error) {
	b.rotating.Lock()
	defer b.rotating.Unlock()
	have, err := b.Result()
	if err != nil {
		return err
	}
	fresh := &secret{next, "the request"}
	switch {
	case next.Bootstrap:
		return fmt.Errorf("%w has the form of a bootstrap token (<6>.<16>): choose another", token.ErrNew)
	case next.Password == "":
		return fmt.Errorf("%w is empty", token.ErrNew)
	case token.Equal(next.Password, have.Token.Password):
		return fmt.Errorf("%w is the one in force", token.ErrNew)
	}
	full, err := fresh.full(have.Identity)
	if err != nil {
		return fmt.Errorf("%w: %w", token.ErrNew, err)
	}
	store, err := b.Store()
	if err != nil {
		return fmt.Errorf("open the datastore: %w", err)
	}
	if c, ok := store.(io.Closer); ok {
		defer func() { err = errors.Join(err, c.Close()) }()
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	record, err := b.reseal(ctx, store, have, fresh, full)
	if err != nil {
		return err
	}
	b.mu.Lock()
	changed := *b.result
	changed.Token = full
	b.result = &changed
	b.mu.Unlock()
	return writeDisk(b.Data, have.Identity, full, have.Agent, stampOf(record, fresh, have.Identity.Files()))
}

// reseal stores the record for a new token and returns it as it is stored.
func (b *Bootstrap) reseal(ctx context.Context, store Store, have Result, fresh *secret, full token.Token) ([]byte, error) {
	old, rev, err := store.Get(ctx, recordKey)
	if err != nil {
		return nil, fmt.Errorf("read the bootstrap record: %w", err)
	}
	disk, err := readDisk(b.Data)
	if err != nil {
		return nil, err
	}
	if !disk.seen(old, &secret{token: have.Token}) {
		// Somebody else has sealed it since this server started.
		if _, err := open(old, fresh.token.Password); err != nil {
			return nil, fmt.Errorf("%w is not the one that the datastore's record was sealed with since this server started: rotate to the token of the server that did it: %w", token.ErrNew, err)
		}
		return old, nil
	}
	record, err := seal(have.Identity, fresh.token.Password, b.rounds)
	if err != nil {
		return nil, err
	}
	if err := writeToken(b.Data.NextToken(), full); err != nil {
		return nil, err
	}
	switch ok, err := store.Update(ctx, recordKey, record, rev); {
	case err != nil:
		// The write may have happened all the same, so both tokens stay.
		return nil, fmt.Errorf("store the bootstrap record: %w", err)
	case !ok:
		return nil, errors.Join(errors.New("another server rotated the token at the same moment: try again"), os.Remove(b.Data.NextToken()))
	}
	return record, nil
}

// resume makes secret the token of a rotation that was cut off after the record
// was sealed anew.
func (b *Bootstrap) resume(record []byte, secret *secret) error {
	if record == nil || secret.from != fromDisk {
		return nil
	}
	text, err := readSmall(b.Data.NextToken())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	next, err := token.Parse(text)
	if err != nil {
		return fmt.Errorf("%s: %w", b.Data.NextToken(), err)
	}
	switch _, err := open(record, next.Password); {
	case errors.Is(err, errSealed):
		return nil // it never came to that
	case err != nil:
		return err
	}
	b.Log.Info("the rotation of the token was cut off and is finished now")
	secret.token = next
	return nil
}
