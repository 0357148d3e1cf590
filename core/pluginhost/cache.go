package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/klauspost/compress/zstd"
	"github.com/tetratelabs/wazero"
)

// codeCache keeps compiled plugins on disk. wazero names an entry by the hash
// of the wasm, whether its loops can be interrupted, and the processor features
// it uses (on amd64: SSE4.1, BMI1, ABM), below a directory named after its own
// version, architecture and system. Whatever does not fit is simply not found
// and compiled anew.
//
// An entry is machine code that this process will run, so nobody else may be
// able to write the directory.
type codeCache struct {
	wazero.CompilationCache
	entries string // the directory of this wazero version, "" without a disk
	log     *slog.Logger

	mu     sync.RWMutex // held for reading while wazero reads and writes entries
	intact map[string]intact
}

// openCache opens the cache below dir ("" = in memory only) and adds the
// entries of seed that dir lacks.
func openCache(dir string, seed fs.FS, log *slog.Logger) (*codeCache, error) {
	if dir == "" {
		return &codeCache{CompilationCache: wazero.NewCompilationCache(), log: log}, nil
	}
	if err := secureDir(dir, log); err != nil {
		return nil, fmt.Errorf("compile cache: %w", err)
	}
	version, err := cacheVersion(dir)
	if err != nil {
		return nil, fmt.Errorf("compile cache: %w", err)
	}
	if err := dropOtherVersions(dir, version); err != nil {
		return nil, fmt.Errorf("compile cache: %w", err)
	}
	cache, err := wazero.NewCompilationCacheWithDir(dir)
	if err != nil {
		return nil, fmt.Errorf("compile cache: %w", err)
	}
	c := &codeCache{CompilationCache: cache, entries: filepath.Join(dir, version), log: log, intact: map[string]intact{}}
	err = c.check()
	if err == nil && seed != nil {
		err = c.plant(seed, version)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("compile cache: %w", err), cache.Close(context.Background()))
	}
	return c, nil
}

// secureDir makes dir a directory that only this user may enter. One that
// others could write to is emptied: its machine code may be anybody's.
func secureDir(dir string, log *slog.Logger) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a directory; remove it", dir)
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to user %d, not to the user running cleat (%d); remove it", dir, stat.Uid, os.Geteuid())
	}
	if info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return err
	}
	if info.Mode().Perm()&0o022 == 0 {
		return nil
	}
	log.Warn("compile cache could be written by other users and was emptied", "dir", dir)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// versionPrefix begins the name of every directory wazero makes in a cache.
const versionPrefix = "wazero-"

// cacheVersion returns the name of the directory this build's wazero keeps its
// entries in, by having it make one.
func cacheVersion(dir string) (_ string, err error) {
	probe, err := os.MkdirTemp(dir, "probe-")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(probe)) }()
	cache, err := wazero.NewCompilationCacheWithDir(probe)
	if err != nil {
		return "", err
	}
	if err := cache.Close(context.Background()); err != nil {
		return "", err
	}
	entries, err := os.ReadDir(probe)
	if err != nil {
		return "", err
	}
	if len(entries) != 1 || !strings.HasPrefix(entries[0].Name(), versionPrefix) {
		return "", fmt.Errorf("%d entries in a fresh cache, want one directory named %s…", len(entries), versionPrefix)
	}
	return entries[0].Name(), nil
}

// dropOtherVersions removes entries of earlier wazero versions.
func dropOtherVersions(dir, version string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), versionPrefix) && e.Name() != version {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// plant copies the seed's entries for this version that are not there yet.
func (c *codeCache) plant(seed fs.FS, version string) error {
	list, err := fs.ReadDir(seed, version)
	if errors.Is(err, fs.ErrNotExist) {
		c.log.Warn("embedded compile cache was made for another version, plugins will be compiled", "want", version)
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range list {
		entry, ok := strings.CutSuffix(e.Name(), seedSuffix)
		if !ok || !isDigest(entry) {
			continue
		}
		if _, err := os.Lstat(filepath.Join(c.entries, entry)); err == nil {
			continue
		}
		if err := c.plantOne(seed, path.Join(version, e.Name()), entry); err != nil {
			return fmt.Errorf("embedded entry %s: %w", e.Name(), err)
		}
	}
	return nil
}

// seedSuffix ends the name of a compressed entry; maxEntry bounds what comes
// out of one.
const (
	seedSuffix = ".zst"
	maxEntry   = 512 << 20
)

// plantOne decompresses one entry; a half-written one is never seen.
func (c *codeCache) plantOne(seed fs.FS, name, entry string) (err error) {
	from, err := seed.Open(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	plain, err := zstd.NewReader(from, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxEntry))
	if err != nil {
		return err
	}
	defer plain.Close()
	tmp, err := os.CreateTemp(c.entries, ".seed-*")
	if err != nil {
		return err
	}
	sum := newSum()
	size, err := io.Copy(io.MultiWriter(tmp, sum), io.LimitReader(plain, maxEntry))
	err = errors.Join(err, tmp.Close())
	if err == nil {
		err = c.writeSum(entry, sumText(entry, size, sum.Sum32()))
	}
	if err == nil {
		err = os.Rename(tmp.Name(), filepath.Join(c.entries, entry))
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return nil
}

// size counts the entries on disk.
func (c *codeCache) size() (int, error) {
	names, err := c.names()
	return len(names), err
}

// empty removes every entry, for when one of them proved unreadable.
func (c *codeCache) empty() error {
	clear(c.intact)
	list, err := os.ReadDir(c.entries)
	if err != nil {
		return err
	}
	for _, e := range list {
		if err := os.Remove(filepath.Join(c.entries, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// unreadable reports whether compiling failed because of an entry of the cache,
// not because of the plugin.
func unreadable(err error) bool {
	return err != nil && strings.Contains(err.Error(), "compilationcache:")
}
