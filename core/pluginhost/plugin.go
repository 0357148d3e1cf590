package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cleat-dev/cleat/hostabi"
	"github.com/tetratelabs/wazero/api"
)

// coldLinger is how long the machine code of a plugin that is asked rarely
// stays loaded after its last call; it is some megabytes.
const coldLinger = 30 * time.Second

// plugin is one entry of the lock, verified and open.
type plugin struct {
	host     *Host
	locked   LockedPlugin
	manifest hostabi.Manifest
	config   []byte // canonical JSON, defaults filled in
	log      *slog.Logger
	deadline time.Duration

	features api.CoreFeatures

	readPaths, writePaths []hostabi.FieldPath
	lookups               map[hostabi.Kind]bool

	generation  int          // of the host, when the plugin was opened
	trialFaults atomic.Int32 // while its generation is on trial

	stats       counters
	breaker     *breaker
	pool        *pool[*instance]
	compileTime time.Duration
	cacheHit    bool

	mu      sync.Mutex
	current *program    // nil while unloaded
	users   int         // calls that need current
	unload  *time.Timer // runs when users is 0 and the plugin is cold
	closed  bool
}

// hot reports whether requests wait for the plugin, so that it stays loaded
// with a warm instance.
func (p *plugin) hot() bool { return p.manifest.HasPoint(hostabi.PointAdmission) }

// hold keeps the program loaded until the matching release, loading it first
// when it was dropped.
func (p *plugin) hold(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return errPoolClosed
	}
	if p.unload != nil {
		p.unload.Stop()
		p.unload = nil
	}
	if p.current == nil {
		prog, err := p.host.reload(ctx, p)
		if err != nil {
			return err
		}
		p.current = prog
	}
	p.users++
	return nil
}

// release ends a hold; a cold plugin that nobody holds is dropped a while later.
func (p *plugin) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.users--
	if p.users > 0 || p.hot() || p.closed {
		return
	}
	p.unload = time.AfterFunc(coldLinger, p.drop)
}

// drop frees the program of a plugin nobody is calling.
func (p *plugin) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.users == 0 && p.current != nil {
		p.current.release()
		p.current = nil
	}
}

// start opens an instance for the pool; the caller holds the program.
func (p *plugin) start(ctx context.Context) (*instance, error) {
	p.mu.Lock()
	prog := p.current
	ok := prog != nil && prog.acquire()
	p.mu.Unlock()
	if !ok {
		return nil, errPoolClosed
	}
	return p.newInstance(ctx, prog) // releases prog when it fails
}

func (p *plugin) probe(ctx context.Context) error {
	if err := p.hold(ctx); err != nil {
		return err
	}
	defer p.release()
	in, err := p.start(ctx)
	if err != nil {
		return err
	}
	in.close()
	return nil
}

func (p *plugin) close(ctx context.Context) error {
	err := p.pool.close(ctx)
	if err != nil {
		err = fmt.Errorf("plugin %s: %w", p.locked.Name, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if p.unload != nil {
		p.unload.Stop()
		p.unload = nil
	}
	if p.current != nil {
		p.current.release()
		p.current = nil
	}
	return err
}

// invoke runs one hook on an instance of the plugin and returns its result,
// which is never negative: a negative one becomes a *Fault. The error is the
// context's when the caller went away.
func (p *plugin) invoke(ctx context.Context, c *call) (int32, error) {
	ok, retry, last := p.breaker.allow()
	if !ok {
		p.stats.refused.Add(1)
		return 0, p.openFault(c, retry, last)
	}
	ctx, done := p.trace(ctx, c.hook)
	result, err := p.enter(ctx, c)
	done(result, err)
	var fault *Fault
	switch {
	case err == nil:
		p.noteOutcome("")
	case !errors.As(err, &fault), fault.Kind == FaultBusy:
		p.breaker.abandon() // says nothing about the plugin
	case fault.Kind == FaultError:
		p.noteOutcome("") // it works, and refused this input
	default:
		p.noteOutcome(fault.Detail)
	}
	return result, err
}

func (p *plugin) enter(ctx context.Context, c *call) (int32, error) {
	if err := p.hold(ctx); err != nil {
		return 0, p.loadFault(c, err)
	}
	defer p.release()
	in, miss, err := p.pool.get(ctx, p.deadline)
	if miss {
		p.stats.poolMisses.Add(1)
	}
	if err != nil {
		return 0, p.poolFault(c, err)
	}
	result, err := in.run(ctx, c)
	healthy := in.healthy()
	if !healthy && (in.broken || !in.worn) {
		p.stats.recycled.Add(1)
	}
	p.pool.put(in, healthy)
	if err != nil {
		return 0, err
	}
	if result < 0 {
		p.stats.errors.Add(1)
		return 0, &Fault{Plugin: p.locked.Name, Hook: c.hook.export(), Kind: FaultError,
			Detail: reason(result, c.errText).Error(), Err: hostabi.Errno(result)}
	}
	return result, nil
}

// noteOutcome tells the breaker how a call ended, "" meaning well.
func (p *plugin) noteOutcome(fault string) {
	state, changed := p.breaker.done(fault)
	if !changed {
		return
	}
	if state == BreakerOpen {
		p.log.Error("plugin switched off after repeated faults", "faults", breakerFaults, "last", fault,
			"failure_policy", p.locked.FailurePolicy)
		p.host.notify(Notice{Kind: NoticeOff, Plugin: p.locked.Name, Version: p.locked.Version, Advice: "it is tried again from time to time",
			Detail: fmt.Sprintf("switched off after %d faults in a row, failure policy %s; the last: %s", breakerFaults, p.locked.FailurePolicy, fault)})
		return
	}
	p.log.Info("plugin works again")
	p.host.notify(Notice{Kind: NoticeOn, Plugin: p.locked.Name, Version: p.locked.Version, Detail: "works again"})
}

func (p *plugin) openFault(c *call, retry time.Duration, last string) *Fault {
	return &Fault{Plugin: p.locked.Name, Hook: c.hook.export(), Kind: FaultOpen,
		Detail: fmt.Sprintf("switched off after repeated faults, the last: %s", last),
		Advice: fmt.Sprintf("it is tried again in %s", max(retry, time.Second).Round(time.Second))}
}

func (p *plugin) loadFault(c *call, err error) error {
	return &Fault{Plugin: p.locked.Name, Hook: c.hook.export(), Kind: FaultStart, Detail: firstLine(err.Error()), Err: err}
}

func (p *plugin) poolFault(c *call, err error) error {
	var fault *Fault
	switch {
	case errors.As(err, &fault):
		return err
	case errors.Is(err, errPoolBusy):
		return &Fault{Plugin: p.locked.Name, Hook: c.hook.export(), Kind: FaultBusy, Detail: err.Error(), Err: err,
			Advice: "raise limits.pool_max in plugins.lock"}
	case errors.Is(err, errPoolClosed):
		return &Fault{Plugin: p.locked.Name, Hook: c.hook.export(), Kind: FaultStart, Detail: err.Error(), Err: err}
	}
	return err
}
