// Package extract writes the archives a binary carries to disk, once for each
// digest, so that any number of processes may ask for the same one and a kill
// at any moment leaves nothing that a later start mistakes for whole.
package extract

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/cleat-dev/cleat/core/internal/atomicfile"
)

// Open returns the bytes of a tar archive compressed with zstd.
type Open func() (io.ReadCloser, error)

// Names in the directory that Extract is given.
const (
	lockName    = ".lock"
	tempPrefix  = ".unpacking-"
	currentLink = "current"  // the digest that was asked for last
	previous    = "previous" // the one before it
	binName     = "bin"
)

var digestPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)

// BinDir is where Extract puts the programs of the archive with this digest.
func BinDir(dir, digest string) string { return filepath.Join(dir, digest, binName) }

// Extract makes dir/<digest>/bin hold the programs of the archive, whose files
// are all below bin/, and returns that path. digest is the sha256 of the
// compressed bytes in hex; an archive with another one is refused. It points
// the links dir/current and dir/previous at the digests asked for last.
//
// Older digests stay: programs of running pods were started from them.
func Extract(ctx context.Context, dir, digest string, open Open) (string, error) {
	bin, err := extract(ctx, dir, digest, open)
	if err != nil {
		return "", fmt.Errorf("extract to %s: %w", dir, err)
	}
	return bin, nil
}

func extract(ctx context.Context, dir, digest string, open Open) (bin string, err error) {
	if !digestPattern.MatchString(digest) {
		return "", fmt.Errorf("digest %q: must be 64 hexadecimal digits", digest)
	}
	if err := os.MkdirAll(dir, mode); err != nil {
		return "", err
	}
	unlock, err := lock(ctx, filepath.Join(dir, lockName))
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, unlock()) }()

	target := filepath.Join(dir, digest)
	whole, err := isWhole(target)
	if err != nil {
		return "", err
	}
	if !whole {
		if err := replace(ctx, dir, digest, open); err != nil {
			return "", err
		}
	}
	return BinDir(dir, digest), point(dir, digest)
}

// replace unpacks beside the target and renames. The caller holds the lock, so
// what earlier attempts left is nobody's.
func replace(ctx context.Context, dir, digest string, open Open) (err error) {
	if err := removeLeftovers(dir); err != nil {
		return err
	}
	temp, err := os.MkdirTemp(dir, tempPrefix)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(temp))
		}
	}()
	if err := os.Chmod(temp, mode); err != nil {
		return err
	}
	files, err := unpack(ctx, temp, digest, open)
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return errors.New("the archive holds no programs")
	}
	if err := writeContents(temp, files); err != nil {
		return err
	}
	target := filepath.Join(dir, digest)
	if err := os.RemoveAll(target); err != nil {
		return err
	}
	if err := os.Rename(temp, target); err != nil {
		return err
	}
	return syncDir(dir)
}

func removeLeftovers(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), tempPrefix) {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// point moves the links to digest. The links are for people and for
// configuration that outlives an upgrade; nothing here reads them as truth.
func point(dir, digest string) error {
	link := filepath.Join(dir, currentLink)
	old, err := os.Readlink(link)
	switch {
	case err == nil && old == digest:
		return nil
	case err == nil && digestPattern.MatchString(old):
		if err := atomicfile.Symlink(old, filepath.Join(dir, previous)); err != nil {
			return err
		}
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return err
	}
	return atomicfile.Symlink(digest, link)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
