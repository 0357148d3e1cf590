package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/cleat-dev/cleat/core/extension"
	"github.com/cleat-dev/cleat/hostabi"
)

// Options is what Open needs.
type Options struct {
	// Lock is the text of plugins.lock; when nil, LockFile is read.
	Lock     []byte
	LockFile string
	// Embedded holds the wasm files of the bundle by name, for embedded: sources.
	Embedded fs.FS
	// PluginsDir is where file: sources are looked up, "" for nowhere.
	PluginsDir string
	// CacheDir keeps compiled plugins; only this user may have access. "" keeps
	// nothing.
	CacheDir string
	// CacheSeed is what Precompile wrote, nil for none.
	CacheSeed fs.FS
	Logger    *slog.Logger     // nil discards
	Now       func() time.Time // nil is time.Now; guests read it as their clock
}

// Host runs the plugins of one lock. Its methods may be called by any number of
// goroutines.
type Host struct {
	now       func() time.Time
	opened    time.Time
	log       *slog.Logger
	sources   Sources
	cache     *codeCache
	plugins   []*plugin // in lock order
	admission *admission
}

var (
	_ extension.Datastore = (*Host)(nil)
	_ extension.CNI       = (*Host)(nil)
	_ extension.Deployer  = (*Host)(nil)
	_ extension.Admission = (*Host)(nil)
)

// Open verifies every plugin of the lock, compiles them (or finds them in the
// cache) and starts one instance of each admission plugin. It fails on the
// first sign of a difference between lock and plugins, naming all of them.
func Open(ctx context.Context, o Options) (_ *Host, err error) {
	h := &Host{now: o.Now, log: o.Logger, sources: Sources{o.Embedded, o.PluginsDir}}
	if h.now == nil {
		h.now = time.Now
	}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	h.opened = h.now()
	begin := time.Now()
	lock, err := o.lock()
	if err != nil {
		return nil, err
	}
	if h.cache, err = openCache(o.CacheDir, o.CacheSeed, h.log); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.Close(context.WithoutCancel(ctx)))
		}
	}()
	if err := h.openAll(ctx, lock); err != nil {
		return nil, err
	}
	if h.admission, err = newAdmission(h.plugins); err != nil {
		return nil, err
	}
	compiled := 0
	for _, p := range h.plugins {
		if !p.cacheHit {
			compiled++
		}
		if p.hot() {
			err = p.pool.fill(ctx)
		} else {
			p.release()
		}
		if err != nil {
			return nil, err
		}
	}
	h.log.Info("plugins open", "plugins", len(h.plugins), "compiled", compiled, "seconds", time.Since(begin).Seconds())
	return h, nil
}

func (o Options) lock() (*Lock, error) {
	if o.Lock != nil {
		return ParseLock(o.Lock)
	}
	text, err := ReadFile(o.LockFile, MaxLockBytes)
	if err != nil {
		return nil, fmt.Errorf("plugins.lock: %w; write one with `cleat plugin lock`", err)
	}
	lock, err := ParseLock(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.LockFile, err)
	}
	return lock, nil
}

// openAll verifies all plugins before it compiles the first, so that every
// difference is reported at once and code of an unverified set never runs.
func (h *Host) openAll(ctx context.Context, lock *Lock) error {
	files := make([][]byte, len(lock.Plugins))
	found := make([]*Inspection, len(lock.Plugins))
	var errs []error
	for i, locked := range lock.Plugins {
		wasm, err := h.sources.Read(locked)
		if err == nil {
			found[i], err = Verify(locked, wasm)
		}
		if err != nil {
			errs = append(errs, err)
		}
		files[i] = wasm
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for i, locked := range lock.Plugins {
		p, err := h.newPlugin(locked, found[i])
		if err != nil {
			return err
		}
		if err := h.compile(ctx, p, files[i]); err != nil {
			return err
		}
		h.plugins = append(h.plugins, p)
		files[i] = nil
	}
	return nil
}

func (h *Host) newPlugin(locked LockedPlugin, found *Inspection) (*plugin, error) {
	config, err := found.Manifest.ResolveConfig(locked.Config)
	if err != nil {
		return nil, fmt.Errorf("plugin %s: %w", locked.Name, err)
	}
	p := &plugin{
		host: h, locked: locked, manifest: found.Manifest, config: config, features: found.features,
		log:      h.log.With("plugin", locked.Name),
		deadline: time.Duration(locked.Limits.DeadlineMS) * time.Millisecond,
		breaker:  newBreaker(h.now),
	}
	if p.readPaths, err = parsePaths(locked.ReadPaths); err != nil {
		return nil, fmt.Errorf("plugin %s: read_paths: %w", locked.Name, err)
	}
	if p.writePaths, err = parsePaths(locked.WritePaths); err != nil {
		return nil, fmt.Errorf("plugin %s: write_paths: %w", locked.Name, err)
	}
	keep, warm := 0, 0
	if p.hot() {
		keep, warm = locked.Limits.PoolMax, 1
	}
	p.pool = newPool(locked.Limits.PoolMax, keep, warm, h.now, p.start)
	return p, nil
}

func parsePaths(texts []string) ([]hostabi.FieldPath, error) {
	var paths []hostabi.FieldPath
	for _, t := range texts {
		path, err := hostabi.ParseFieldPath(t)
		if err != nil {
			return nil, err
		}
		paths = append(paths, path)
	}
	return paths, nil
}

// compile loads the plugin's code, from the cache if it is there. Whether it
// was is told by the cache not having grown.
func (h *Host) compile(ctx context.Context, p *plugin, wasm []byte) error {
	begin := time.Now()
	before, err := h.cache.size()
	if err != nil {
		return fmt.Errorf("compile cache: %w", err)
	}
	prog, err := h.program(ctx, p, wasm)
	if unreadable(err) {
		h.log.Warn("compile cache is damaged and was emptied", "error", err)
		if err := h.cache.empty(); err != nil {
			return fmt.Errorf("compile cache: %w", err)
		}
		before = 0
		prog, err = h.program(ctx, p, wasm)
	}
	if err != nil {
		return fmt.Errorf("plugin %s: %w", p.locked.Name, err)
	}
	after, err := h.cache.size()
	if err != nil {
		prog.release()
		return fmt.Errorf("compile cache: %w", err)
	}
	p.current, p.users = prog, 1
	p.compileTime = time.Since(begin)
	p.cacheHit = h.cache.entries != "" && after == before
	if p.cacheHit {
		p.log.Debug("plugin loaded from the compile cache", "seconds", p.compileTime.Seconds())
	} else {
		p.log.Info("plugin compiled", "seconds", p.compileTime.Seconds())
	}
	return nil
}

// program compiles or loads the plugin's code.
func (h *Host) program(ctx context.Context, p *plugin, wasm []byte) (*program, error) {
	return openProgram(ctx, compileSpec{
		cache: h.cache.CompilationCache, pages: p.locked.Limits.MemoryPages, trusted: p.locked.Trusted,
		features: p.features, granted: p.locked.Capabilities,
	}, wasm)
}

// reload reads a cold plugin again whose code was dropped, and accepts nothing
// but the bytes the lock names.
func (h *Host) reload(ctx context.Context, p *plugin) (*program, error) {
	wasm, err := h.sources.Read(p.locked)
	if err != nil {
		return nil, err
	}
	if found := Digest(wasm); found != p.locked.SHA256 {
		return nil, &Mismatch{Plugin: p.locked.Name, Field: "sha256", Locked: quote(p.locked.SHA256), Found: quote(found),
			Fix: "the file was changed while the server runs; restore it"}
	}
	return h.program(ctx, p, wasm)
}

// Close stops every plugin. It waits for running calls until ctx is done.
func (h *Host) Close(ctx context.Context) error {
	var errs []error
	for _, p := range h.plugins {
		errs = append(errs, p.close(ctx))
	}
	if h.cache != nil {
		errs = append(errs, h.cache.Close(ctx))
	}
	return errors.Join(errs...)
}

// Probe starts one instance of every plugin and closes it again: the guests
// accept their configuration and find their field paths granted.
func (h *Host) Probe(ctx context.Context) error {
	var errs []error
	for _, p := range h.plugins {
		errs = append(errs, p.probe(ctx))
	}
	return errors.Join(errs...)
}
