package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/tetratelabs/wazero"
)

// codeCache keeps the machine code of plugins on disk: entries, which wazero
// reads, and for each a record of what it is, by the name of the code (codeID).
// wazero names an entry by the frame it was asked for, and the processor features
// the code uses (on amd64: SSE4.1, BMI1, ABM), below a directory named after its
// own version, architecture and system. Whatever does not fit is simply not found
// and compiled anew.
//
// An entry is machine code that this process will run, so nobody else may be
// able to write the directory.
type codeCache struct {
	wazero.CompilationCache
	entries string // the directory of this wazero version, "" without a disk
	seed    fs.FS  // the same, in the binary; nil = none
	print   string // of the meter
	log     *slog.Logger

	mu     sync.Mutex // held while entries are looked at and changed
	intact map[string]intact
}

// openCache opens the cache below dir ("" = in memory only). What it lacks comes
// out of seed when it is asked for.
func openCache(dir string, seed fs.FS, log *slog.Logger) (*codeCache, error) {
	if dir == "" {
		return &codeCache{CompilationCache: wazero.NewCompilationCache(), log: log}, nil
	}
	c, err := openCacheIn(dir, log)
	if err != nil {
		return nil, fmt.Errorf("compile cache: %w", err)
	}
	if seed != nil {
		version := filepath.Base(c.entries)
		if _, err := fs.Stat(seed, version); err == nil {
			c.seed, err = fs.Sub(seed, version)
			if err != nil {
				return nil, errors.Join(fmt.Errorf("compile cache: %w", err), c.Close(context.Background()))
			}
		} else {
			log.Warn("embedded compile cache was made for another version, plugins will be compiled", "want", version)
		}
	}
	return c, nil
}

func openCacheIn(dir string, log *slog.Logger) (*codeCache, error) {
	if err := secureDir(dir, log); err != nil {
		return nil, err
	}
	version, err := cacheVersion(dir)
	if err != nil {
		return nil, err
	}
	if err := dropOtherVersions(dir, version); err != nil {
		return nil, err
	}
	print, err := meterPrint()
	if err != nil {
		return nil, err
	}
	cache, err := wazero.NewCompilationCacheWithDir(dir)
	if err != nil {
		return nil, err
	}
	c := &codeCache{CompilationCache: cache, entries: filepath.Join(dir, version), print: print, log: log, intact: map[string]intact{}}
	if err := c.tidy(); err != nil {
		return nil, errors.Join(err, cache.Close(context.Background()))
	}
	return c, nil
}

// load opens a plugin whose file has that digest, with code from the cache (hit)
// or compiled now.
func (c *codeCache) load(ctx context.Context, spec compileSpec, wasm []byte, digest string) (prog *program, hit bool, err error) {
	spec.cache = c.CompilationCache
	if c.entries == "" {
		module, err := runnable(wasm, spec.trusted)
		if err != nil {
			return nil, false, err
		}
		prog, err = openProgram(ctx, spec, module)
		return prog, false, err
	}
	id := codeID(digest, c.print, spec.trusted)
	framed, err := frame(wasm, spec.trusted, id)
	if err != nil {
		return nil, false, err
	}
	entry, hit, err := c.prepare(ctx, spec, wasm, framed, id)
	if err != nil {
		return nil, false, err
	}
	prog, err = c.open(ctx, spec, framed, entry)
	if !errors.Is(err, errEntry) {
		return prog, hit, err
	}
	c.log.Warn("compile cache: an entry cannot be read and was removed; its plugin is compiled again", "error", err)
	c.mu.Lock()
	err = c.remove(id)
	c.mu.Unlock()
	if err == nil {
		entry, _, err = c.prepare(ctx, spec, wasm, framed, id)
	}
	if err == nil {
		prog, err = c.open(ctx, spec, framed, entry)
	}
	return prog, false, err
}

// prepare returns the entry with the code of that name, which is compiled now
// unless the cache has it (hit).
func (c *codeCache) prepare(ctx context.Context, spec compileSpec, wasm, framed []byte, id string) (entry string, hit bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	hit, err = c.ready(id)
	if err == nil && !hit {
		err = c.fill(ctx, spec, wasm, framed, id)
	}
	return c.intact[id].entry, hit, err
}

// errEntry says that wazero did not use the entry it was to use.
var errEntry = errors.New("the entry was not used")

// open opens a frame whose code is in the cache.
func (c *codeCache) open(ctx context.Context, spec compileSpec, framed []byte, entry string) (*program, error) {
	file := filepath.Join(c.entries, entry)
	before, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errEntry, err)
	}
	prog, err := openProgram(ctx, spec, framed)
	if err != nil {
		if strings.Contains(err.Error(), "compilationcache:") {
			err = fmt.Errorf("%w: %w", errEntry, err)
		}
		return nil, err
	}
	// Had it been missing, the frame itself would have been compiled, and written.
	after, err := os.Stat(file)
	if err != nil || !os.SameFile(before, after) || !before.ModTime().Equal(after.ModTime()) {
		prog.release()
		return nil, fmt.Errorf("%w: it was changed meanwhile", errEntry)
	}
	return prog, nil
}

// has reports whether the code of a plugin need not be compiled.
func (c *codeCache) has(digest string, trusted bool) bool {
	if c.entries == "" {
		return false
	}
	id := codeID(digest, c.print, trusted)
	if _, err := os.Lstat(filepath.Join(c.entries, id+recordSuffix)); err == nil {
		return true
	}
	if c.seed == nil {
		return false
	}
	_, err := fs.Stat(c.seed, id+recordSuffix)
	return err == nil
}

// fill compiles a plugin into the cache.
func (c *codeCache) fill(ctx context.Context, spec compileSpec, wasm, framed []byte, id string) (err error) {
	module, err := runnable(wasm, spec.trusted)
	if err != nil {
		return err
	}
	code, err := compileTo(ctx, spec, filepath.Join(c.entries, tempPrefix+"code"), module)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(code.dir)) }()
	// The entry is filed under the name of the frame, which wazero tells by
	// writing one.
	name, err := compileTo(ctx, spec, filepath.Join(c.entries, tempPrefix+"name"), framed)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(name.dir); err != nil {
		return err
	}
	if err := os.Rename(code.file, filepath.Join(c.entries, filepath.Base(name.file))); err != nil {
		return err
	}
	return c.seal(id, filepath.Base(name.file))
}

// written is an entry in a cache of its own.
type written struct{ dir, file string }

// compileTo compiles a module into an empty cache in a directory of that prefix.
func compileTo(ctx context.Context, spec compileSpec, prefix string, module []byte) (w written, err error) {
	if w.dir, err = os.MkdirTemp(filepath.Dir(prefix), filepath.Base(prefix)); err != nil {
		return w, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(w.dir))
		}
	}()
	if spec.cache, err = wazero.NewCompilationCacheWithDir(w.dir); err != nil {
		return w, err
	}
	r := spec.runtime(ctx)
	_, err = compile(ctx, r, module)
	closing := context.WithoutCancel(ctx)
	if err = errors.Join(err, r.Close(closing), spec.cache.Close(closing)); err != nil {
		return w, err
	}
	files, err := filepath.Glob(filepath.Join(w.dir, versionPrefix+"*", "*"))
	if err != nil || len(files) != 1 {
		return w, fmt.Errorf("wazero wrote %d entries for one module, %w", len(files), err)
	}
	w.file = files[0]
	return w, nil
}

// tempPrefix begins the names of what goes again.
const tempPrefix = ".tmp-"

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

// size counts the entries on disk.
func (c *codeCache) size() (int, error) {
	list, err := os.ReadDir(c.entries)
	n := 0
	for _, e := range list {
		if isDigest(e.Name()) {
			n++
		}
	}
	return n, err
}
