package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/cleat-dev/cleat/core/pluginhost"
	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/hostabi/wasmfile"
)

// subject is the plugin under check, with what the checks have learnt so far.
type subject struct {
	options
	wasm  []byte
	cache string // directory for compiled code

	file         *wasmfile.File
	manifestText []byte
	manifest     hostabi.Manifest

	// asIs is the plugin as it is. In open its rules match whatever they would
	// match in some namespace, so that every request can be put to it; the code is
	// the same.
	asIs, opened runnable

	shared  *guest   // see share
	started error    // why the first start failed, nil if it did not
	least   []answer // to the smallest input
	answers []answer // all so far, for the checks at the end
	fresh   []string // of new instances to the typical requests
}

// patience is how much longer than its deadline a plugin may take in checks
// that are not about time, so that a busy machine changes no result.
const patience = 10

// runnable is a plugin with the lock and the bundle it is run from.
type runnable struct {
	locked pluginhost.LockedPlugin
	bundle fs.FS
}

// prepare makes what the plugin is run from.
func (s *subject) prepare() (err error) {
	if s.asIs, err = alone(s.wasm); err != nil {
		return err
	}
	s.opened = s.asIs
	if s.manifest.Admission == nil {
		return nil
	}
	text, err := openRules(s.manifest)
	if err != nil {
		return err
	}
	wasm, err := wasmfile.SetCustom(s.wasm, hostabi.ManifestSection, text)
	if err != nil {
		return fmt.Errorf("rewrite the manifest: %w", err)
	}
	s.opened, err = alone(wasm)
	return err
}

func alone(wasm []byte) (runnable, error) {
	text, bundle, err := pluginhost.LockAlone(wasm)
	if err != nil {
		return runnable{}, fmt.Errorf("lock the plugin alone: %w", err)
	}
	lock, err := pluginhost.ParseLock(text)
	if err != nil {
		return runnable{}, err
	}
	r := runnable{lock.Plugins[0], bundle}
	r.locked.FailurePolicy = hostabi.FailurePolicyFail
	r.locked.Limits.PoolMax = 1
	return r, nil
}

// openRules returns the manifest with rules that match without regard to
// selectors and conditions.
func openRules(m hostabi.Manifest) ([]byte, error) {
	a := *m.Admission
	a.Rules = slices.Clone(a.Rules)
	for i := range a.Rules {
		a.Rules[i].NamespaceSelector, a.Rules[i].MatchConditions = nil, nil
	}
	m.Admission = &a
	text, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("rewrite the manifest: %w", err)
	}
	return text, nil
}

// guest is a host that runs the plugin and nothing else.
type guest struct {
	*pluginhost.Host
	subject  *subject
	clock    *clock
	log      *logbook
	unminded bool // answers are not kept
}

// start is how a plugin is started.
type start struct {
	config   map[string]any // nil = that of the options
	defaults bool           // the default configuration, whatever the options say
	asIs     bool           // with the manifest's own rules
	later    time.Duration  // by how much the clock is ahead of the usual
	patience int64          // deadlines are that many times longer
}

// open starts the plugin. The fault says why it did not start.
func (s *subject) open(ctx context.Context, how start) (*guest, *pluginhost.Fault, error) {
	run, err := s.runnableFor(how)
	if err != nil {
		return nil, nil, err
	}
	text, err := (&pluginhost.Lock{Version: pluginhost.LockVersion, Plugins: []pluginhost.LockedPlugin{run.locked}}).Marshal()
	if err != nil {
		return nil, nil, err
	}
	g := &guest{subject: s, clock: newClock(how.later), log: &logbook{}}
	options := s.hostOptions(run, g)
	options.Lock = text
	g.Host, err = pluginhost.Open(ctx, options)
	if err == nil && !s.manifest.HasPoint(hostabi.PointAdmission) { // else an instance is there already
		if err = g.Probe(ctx); err != nil {
			err = errors.Join(err, g.close())
		}
	}
	var fault *pluginhost.Fault
	switch {
	case errors.As(err, &fault):
		return nil, fault, nil
	case err != nil:
		return nil, nil, err
	}
	return g, nil, nil
}

func (s *subject) hostOptions(run runnable, g *guest) pluginhost.Options {
	return pluginhost.Options{Embedded: run.bundle, CacheDir: s.cache, Logger: slog.New(g.log), Now: g.clock.now,
		Cluster: &emptyCluster{}, Renderer: s.renderer}
}

// runnableFor is the plugin with the lock for a start.
func (s *subject) runnableFor(how start) (runnable, error) {
	run := s.opened
	if how.asIs {
		run = s.asIs
	}
	if run.bundle == nil {
		return run, errNotPrepared
	}
	run.locked.Config = s.config
	switch {
	case how.defaults:
		run.locked.Config = nil
	case how.config != nil:
		run.locked.Config = how.config
	}
	config, err := run.locked.CanonicalConfig()
	if err != nil {
		return run, err
	}
	run.locked.ConfigSHA256 = pluginhost.Digest(config)
	if how.patience == 0 {
		how.patience = patience
	}
	limits := &run.locked.Limits
	limits.DeadlineMS = min(limits.DeadlineMS*how.patience, hostabi.MaxDeadlineMS)
	return run, nil
}

func (g *guest) close() error { return g.Close(context.Background()) }

// with starts the plugin the usual way, hands it to use and stops it. By then
// the plugin is known to start, so that it does not now is a finding.
func (s *subject) with(ctx context.Context, how start, use func(*guest) (finding, error)) (f finding, err error) {
	g, fault, err := s.open(ctx, how)
	switch {
	case err != nil:
		return finding{}, err
	case fault != nil:
		return failed("did not start this time: %s", fault.Detail)
	}
	defer func() { err = errors.Join(err, g.close()) }()
	return use(g)
}

// share hands the plugin to checks that only want an answer to each question,
// whatever was asked before. It is started once for all of them, and again
// after one of them failed.
func (s *subject) share(ctx context.Context, use func(*guest) (finding, error)) (finding, error) {
	if s.shared == nil {
		g, fault, err := s.open(ctx, start{})
		switch {
		case err != nil:
			return finding{}, err
		case fault != nil:
			return failed("did not start this time: %s", fault.Detail)
		}
		s.shared = g
	}
	f, err := use(s.shared)
	if err != nil || f.result == Fail {
		err = errors.Join(err, s.stop())
	}
	return f, err
}

// stop ends what share started.
func (s *subject) stop() error {
	if s.shared == nil {
		return nil
	}
	err := s.shared.close()
	s.shared = nil
	return err
}

// clock stands still, so that a plugin that looks at it decides the same each
// time, until it is moved.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock(later time.Duration) *clock {
	return &clock{at: time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC).Add(later)}
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

// pass moves the clock behind every pause of the host's circuit breaker.
func (c *clock) pass() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(time.Hour)
}

// logbook is the handler of the host's log. It keeps the text, and the faults
// that the host tells nowhere else.
type logbook struct {
	mu    sync.Mutex
	text  []byte
	fault *pluginhost.Fault
}

const maxLogbook = 1 << 20

// Enabled implements slog.Handler.
func (*logbook) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements slog.Handler.
func (l *logbook) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.add(r.Message)
	r.Attrs(func(a slog.Attr) bool {
		if fault, ok := a.Value.Any().(*pluginhost.Fault); ok {
			l.fault = fault
		}
		l.add(a.Key + "=" + a.Value.String())
		return true
	})
	return nil
}

func (l *logbook) add(text string) {
	if len(l.text)+len(text) < maxLogbook {
		l.text = append(append(l.text, text...), '\n')
	}
}

// WithAttrs implements slog.Handler; all loggers of a host write to one book.
func (l *logbook) WithAttrs([]slog.Attr) slog.Handler { return l }

// WithGroup implements slog.Handler.
func (l *logbook) WithGroup(string) slog.Handler { return l }

// takeFault returns the fault noted since the last call.
func (l *logbook) takeFault() *pluginhost.Fault {
	l.mu.Lock()
	defer l.mu.Unlock()
	fault := l.fault
	l.fault = nil
	return fault
}

func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.text)
}
