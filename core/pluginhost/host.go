package pluginhost

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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
	// EmbeddedLock is the lock that was made with Embedded. What it says of those
	// files is believed; nil = they are hashed like any other.
	EmbeddedLock []byte
	// PluginsDir is where file: sources are looked up, "" for nowhere.
	PluginsDir string
	// OCI is Sources.OCI.
	OCI func(ctx context.Context, reference string) ([]byte, error)
	// Fetch is Sources.Fetch.
	Fetch func(ctx context.Context, p LockedPlugin) ([]byte, error)
	// VerifySigner checks the signature that the entry's signer asks for, if it
	// asks for one; nil refuses every entry with a signer.
	VerifySigner func(ctx context.Context, locked LockedPlugin, wasm []byte) error
	// CacheDir keeps compiled plugins; only this user may have access. "" keeps
	// nothing.
	CacheDir string
	// CacheSeed is what Precompile wrote, nil for none.
	CacheSeed fs.FS
	Logger    *slog.Logger     // nil discards
	Now       func() time.Time // nil is time.Now; guests read it as their clock

	// Renderer renders charts and kustomizations; nil = the functions for it
	// answer ENOTSUP.
	Renderer extension.Renderer
	// Cluster is what lookups and the plugins' state go to; nil = the functions
	// for it answer ENOTSUP.
	Cluster extension.Cluster
	// Observe is told what an operator should know. It must return at once.
	Observe func(Notice)
	// Certify says why a plugin that Reload is about to put in charge does not
	// keep the contract; nil = everything does.
	Certify func(ctx context.Context, locked LockedPlugin, wasm []byte) error
	// Trial is how long Reload keeps the generation before warm; 0 is 30 s,
	// less is not at all.
	Trial time.Duration
	// CaptureDir keeps calls for a replay, as CaptureMode says; "" keeps none.
	CaptureDir  string
	CaptureMode CaptureMode

	seed func() [32]byte // nil is new random bytes each time
}

// Host runs the plugins of one lock at a time. Its methods may be called by any
// number of goroutines.
type Host struct {
	now          func() time.Time
	clock        func() time.Time // now, when it is not time.Now
	seed         func() [32]byte
	opened       time.Time
	log          *slog.Logger
	sources      Sources
	verifySigner func(ctx context.Context, locked LockedPlugin, wasm []byte) error
	certify      func(ctx context.Context, locked LockedPlugin, wasm []byte) error
	observe      func(Notice)
	renderer     extension.Renderer
	cluster      extension.Cluster
	captureDir   string
	captureMode  CaptureMode
	trial        time.Duration
	cache        *codeCache
	background   *background
	draining     sync.WaitGroup // generations that are being given up

	current atomic.Pointer[generation]
	closed  atomic.Bool

	reloading  sync.Mutex // held by whoever replaces the current generation
	lastNumber int

	mu   sync.Mutex
	live []*generation // in use, the current one last
}

var (
	_ extension.Datastore = (*Host)(nil)
	_ extension.CNI       = (*Host)(nil)
	_ extension.Deployer  = (*Host)(nil)
	_ extension.Admission = (*Host)(nil)
)

func newHost(o Options) *Host {
	h := &Host{
		now: o.Now, clock: o.Now, seed: o.seed, log: o.Logger, sources: Sources{Embedded: o.Embedded, PluginsDir: o.PluginsDir, OCI: o.OCI, Fetch: o.Fetch},
		verifySigner: o.VerifySigner, certify: o.Certify, observe: o.Observe, renderer: o.Renderer, cluster: o.Cluster,
		captureDir: o.CaptureDir, captureMode: o.CaptureMode, trial: o.Trial, lastNumber: 1,
	}
	if h.now == nil {
		h.now = time.Now
	}
	if h.seed == nil {
		h.seed = newSeed
	}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	if h.trial == 0 {
		h.trial = defaultTrial
	}
	if h.captureMode == "" {
		h.captureMode = CaptureOff
	}
	h.opened = h.now()
	return h
}

func newSeed() (seed [32]byte) {
	_, _ = rand.Read(seed[:]) // never fails
	return seed
}

// Open verifies every plugin of the lock, compiles them (or finds them in the
// cache) and starts one instance of each admission plugin. It fails on the
// first sign of a difference between lock and plugins, naming all of them.
func Open(ctx context.Context, o Options) (_ *Host, err error) {
	h := newHost(o)
	begin := time.Now()
	lock, err := o.lock()
	if err != nil {
		return nil, err
	}
	if h.sources.embedded, err = embeddedDigests(o.EmbeddedLock); err != nil {
		return nil, err
	}
	if h.cache, err = openCache(o.CacheDir, o.CacheSeed, h.log); err != nil {
		return nil, err
	}
	g, fresh, err := h.openGeneration(ctx, h.lastNumber, lock, nil)
	if err == nil {
		if err = g.check(); err != nil {
			for _, p := range fresh {
				err = errors.Join(err, p.close(context.WithoutCancel(ctx)))
			}
		}
	}
	if err != nil {
		return nil, errors.Join(err, h.cache.Close(context.WithoutCancel(ctx)))
	}
	h.current.Store(g)
	h.live = []*generation{g}
	h.background = newBackground()
	compiled := 0
	for _, p := range fresh {
		if !p.cacheHit {
			compiled++
		}
	}
	h.log.Info("plugins open", "plugins", len(fresh), "compiled", compiled, "seconds", time.Since(begin).Seconds())
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

// embeddedDigests reads the digests of embedded files, by name.
func embeddedDigests(text []byte) (map[string]string, error) {
	digests := map[string]string{}
	if text == nil {
		return digests, nil
	}
	lock, err := ParseLock(text)
	if err != nil {
		return nil, fmt.Errorf("the lock of the embedded plugins: %w", err)
	}
	for _, p := range lock.Plugins {
		if kind, name, err := p.parseSource(); err == nil && kind == sourceEmbedded {
			digests[name] = p.SHA256
		}
	}
	return digests, nil
}

func (h *Host) newPlugin(locked LockedPlugin, found *Inspection) (*plugin, error) {
	config, err := found.Manifest.ResolveConfig(locked.Config)
	if err != nil {
		return nil, fmt.Errorf("plugin %s: %w", locked.Name, err)
	}
	p := &plugin{
		host: h, locked: locked, manifest: found.Manifest, config: config, features: found.features,
		log:      newVoiced(h.log, h.now).With("plugin", locked.Name),
		deadline: time.Duration(locked.Limits.DeadlineMS) * time.Millisecond,
		breaker:  newBreaker(h.now),
	}
	if p.readPaths, err = parsePaths(locked.ReadPaths); err != nil {
		return nil, fmt.Errorf("plugin %s: read_paths: %w", locked.Name, err)
	}
	if p.writePaths, err = parsePaths(locked.WritePaths); err != nil {
		return nil, fmt.Errorf("plugin %s: write_paths: %w", locked.Name, err)
	}
	p.lookups = map[hostabi.Kind]bool{}
	for _, text := range locked.Lookups {
		kind, err := hostabi.ParseKind(text)
		if err != nil {
			return nil, fmt.Errorf("plugin %s: lookups: %w", locked.Name, err)
		}
		p.lookups[kind] = true
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

// compile loads the plugin's code, from the cache if it is there. The code of a
// plugin that is asked rarely stays there until it is.
func (h *Host) compile(ctx context.Context, p *plugin, wasm []byte) error {
	if !p.hot() && h.cache.has(p.locked.SHA256, p.locked.Trusted) {
		p.cacheHit = true
		return nil
	}
	begin := time.Now()
	prog, hit, err := h.program(ctx, p, wasm)
	if err != nil {
		return fmt.Errorf("plugin %s: %w", p.locked.Name, err)
	}
	p.current, p.users = prog, 1
	p.compileTime = time.Since(begin)
	p.cacheHit = hit
	if p.cacheHit {
		p.log.Debug("plugin loaded from the compile cache", "seconds", p.compileTime.Seconds())
	} else {
		p.log.Info("plugin compiled", "seconds", p.compileTime.Seconds())
	}
	return nil
}

// program compiles the plugin's code, or loads it from the cache (hit).
func (h *Host) program(ctx context.Context, p *plugin, wasm []byte) (_ *program, hit bool, err error) {
	spec := compileSpec{pages: p.locked.Limits.MemoryPages, trusted: p.locked.Trusted, features: p.features, granted: p.locked.Capabilities}
	return h.cache.load(ctx, spec, wasm, p.locked.SHA256)
}

// reload reads a cold plugin again whose code was dropped, and accepts nothing
// but the bytes the lock names.
func (h *Host) reload(ctx context.Context, p *plugin) (*program, error) {
	wasm, err := h.sources.Read(ctx, p.locked)
	if err != nil {
		return nil, err
	}
	if found := h.sources.digest(p.locked, wasm); found != p.locked.SHA256 {
		return nil, &Mismatch{Plugin: p.locked.Name, Field: "sha256", Locked: quote(p.locked.SHA256), Found: quote(found),
			Fix: "the file was changed while the server runs; restore it"}
	}
	prog, _, err := h.program(ctx, p, wasm)
	return prog, err
}

// Close stops every plugin. It waits for running calls until ctx is done.
func (h *Host) Close(ctx context.Context) error {
	h.reloading.Lock()
	defer h.reloading.Unlock()
	if h.closed.Swap(true) {
		return nil
	}
	g := h.current.Load()
	h.endTrial(g)
	h.background.close()
	h.retire(g)
	drained := make(chan struct{})
	go func() {
		h.draining.Wait()
		close(drained)
	}()
	select {
	case <-drained:
	case <-ctx.Done():
		return fmt.Errorf("plugins are still at work: %w", ctx.Err())
	}
	return h.cache.Close(ctx)
}

// Lookups returns the kinds that the plugins are granted to look up.
func (h *Host) Lookups() []hostabi.Kind {
	granted := map[hostabi.Kind]bool{}
	for _, p := range h.current.Load().all() {
		maps.Copy(granted, p.lookups)
	}
	return slices.SortedFunc(maps.Keys(granted), func(a, b hostabi.Kind) int { return strings.Compare(a.String(), b.String()) })
}

// Probe starts one instance of every plugin and closes it again: the guests
// accept their configuration and find their field paths granted.
func (h *Host) Probe(ctx context.Context) error {
	g := h.enter()
	if g == nil {
		return errHostClosed
	}
	defer g.leave()
	var errs []error
	for _, p := range g.all() {
		errs = append(errs, p.probe(ctx))
	}
	return errors.Join(errs...)
}
