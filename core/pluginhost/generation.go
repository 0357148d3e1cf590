package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/cleat-dev/cleat/hostabi"
)

// generation is a set of plugins that decide together. A call belongs to one
// generation from beginning to end; replacing the current one disturbs none
// that runs.
type generation struct {
	number    int
	plugins   []*plugin          // in lock order, without shadows
	shadows   map[string]*plugin // by the name of the plugin they run beside
	admission *admission
	shadow    *admission // of the shadows
	disabled  []LockedPlugin

	// before is the generation this one replaced, as long as it is on trial.
	before atomic.Pointer[generation]

	users atomic.Int64  // calls, and the host while it may still need the generation
	idle  chan struct{} // closed when the last user left
}

// newGeneration joins open plugins; the caller holds the one reference it has.
func newGeneration(number int, plugins []*plugin) (*generation, error) {
	g := &generation{number: number, shadows: map[string]*plugin{}, idle: make(chan struct{})}
	g.users.Store(1)
	var shadows []*plugin
	for _, p := range plugins {
		if p.locked.Shadow {
			g.shadows[p.locked.Name] = p
			shadows = append(shadows, p)
			continue
		}
		g.plugins = append(g.plugins, p)
	}
	var errs [2]error
	g.admission, errs[0] = newAdmission(g.plugins)
	g.shadow, errs[1] = newAdmission(shadows)
	return g, errors.Join(errs[:]...)
}

// all returns every plugin, shadows last.
func (g *generation) all() []*plugin {
	all := append([]*plugin{}, g.plugins...)
	for _, p := range g.plugins {
		if s := g.shadows[p.locked.Name]; s != nil {
			all = append(all, s)
		}
	}
	return all
}

func (g *generation) has(p *plugin) bool {
	for _, have := range g.all() {
		if have == p {
			return true
		}
	}
	return false
}

// find returns the open plugin that an entry of a lock describes, nil if it is
// another one or none. Its place in the order does not matter.
func (g *generation) find(locked LockedPlugin) *plugin {
	for _, p := range g.all() {
		have := p.locked
		have.Order = locked.Order
		if reflect.DeepEqual(have, locked) {
			return p
		}
	}
	return nil
}

// enter adds a user; false means that the generation is gone.
func (g *generation) enter() bool {
	for {
		n := g.users.Load()
		if n == 0 {
			return false
		}
		if g.users.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (g *generation) leave() {
	if g.users.Add(-1) == 0 {
		close(g.idle)
	}
}

// enter returns the current generation for a call, which must leave it; nil
// once the host is closed.
func (h *Host) enter() *generation {
	for {
		g := h.current.Load()
		if g.enter() {
			return g
		}
		if h.closed.Load() {
			return nil
		}
	}
}

// errHostClosed is what a call gets that comes after Close.
var errHostClosed = errors.New("the plugin host is closed")

// openGeneration opens what the lock names: plugins that base has open already
// are taken from it, the others are verified, compiled and started. All are
// verified before the first is compiled, so that every difference is reported
// at once and code of an unverified set never runs. fresh are the plugins that
// base does not have; on an error they are closed again.
func (h *Host) openGeneration(ctx context.Context, number int, lock *Lock, base *generation) (_ *generation, fresh []*plugin, err error) {
	plugins := make([]*plugin, len(lock.Plugins))
	files := make([][]byte, len(lock.Plugins))
	found := make([]*Inspection, len(lock.Plugins))
	err = each(lock, func(i int, locked LockedPlugin) (err error) {
		if base != nil {
			if plugins[i] = base.find(locked); plugins[i] != nil {
				return nil
			}
		}
		if files[i], err = h.sources.Read(ctx, locked); err != nil {
			return err
		}
		if found[i], err = verify(locked, files[i], h.sources.digest(locked, files[i])); err != nil {
			return err
		}
		return h.checkSigner(ctx, locked, files[i])
	})
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			for _, p := range fresh {
				err = errors.Join(err, p.close(context.WithoutCancel(ctx)))
			}
		}
	}()
	var open []*plugin
	var disabled []LockedPlugin
	for i, locked := range lock.Plugins {
		switch {
		case locked.Disabled:
			disabled = append(disabled, locked)
			continue
		case plugins[i] == nil:
			if plugins[i], err = h.newPlugin(locked, found[i]); err != nil {
				return nil, fresh, err
			}
			plugins[i].generation = number
			fresh = append(fresh, plugins[i])
		}
		open = append(open, plugins[i])
	}
	err = each(lock, func(i int, _ LockedPlugin) error {
		if files[i] == nil {
			return nil
		}
		if err := h.compile(ctx, plugins[i], files[i]); err != nil {
			return err
		}
		return plugins[i].warm(ctx)
	})
	if err != nil {
		return nil, fresh, err
	}
	g, err := newGeneration(number, open)
	if err != nil {
		return nil, fresh, err
	}
	g.disabled = disabled
	return g, fresh, nil
}

// each does something for each plugin of a lock that is not switched off, as many
// at once as there are processors, and joins the errors in the order of the lock.
func each(lock *Lock, do func(i int, locked LockedPlugin) error) error {
	errs := make([]error, len(lock.Plugins))
	room := make(chan struct{}, runtime.GOMAXPROCS(0))
	var all sync.WaitGroup
	for i, locked := range lock.Plugins {
		if locked.Disabled {
			continue
		}
		room <- struct{}{}
		all.Go(func() {
			defer func() { <-room }()
			errs[i] = do(i, locked)
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// checkSigner verifies the signature that the lock asks for.
func (h *Host) checkSigner(ctx context.Context, locked LockedPlugin, wasm []byte) error {
	switch {
	case locked.Signer == "":
		return nil
	case h.verifySigner == nil:
		return fmt.Errorf("plugin %s: signer is %s, but signatures cannot be checked here", locked.Name, locked.Signer)
	}
	if err := h.verifySigner(ctx, locked, wasm); err != nil {
		return fmt.Errorf("plugin %s: signer is %s: %w", locked.Name, locked.Signer, err)
	}
	return nil
}

// warm starts the instances a hot plugin keeps; a cold one that was loaded to be
// compiled may be unloaded until it is asked.
func (p *plugin) warm(ctx context.Context) error {
	switch {
	case p.hot():
		return p.pool.fill(ctx)
	case p.current != nil:
		p.release()
	}
	return nil
}

// retire gives up the host's reference to a generation. When its last call has
// left, the plugins that no other generation has are closed.
func (h *Host) retire(g *generation) {
	g.leave()
	h.draining.Go(func() {
		<-g.idle
		for _, p := range h.forget(g) {
			if err := p.close(context.Background()); err != nil {
				p.log.Warn("plugin of an earlier generation was not closed", "error", err)
			}
		}
	})
}

// forget takes a generation off the list of those in use and returns the
// plugins that only it had.
func (h *Host) forget(g *generation) []*plugin {
	h.mu.Lock()
	defer h.mu.Unlock()
	var alone []*plugin
	for i, have := range h.live {
		if have == g {
			h.live = append(h.live[:i:i], h.live[i+1:]...)
			break
		}
	}
next:
	for _, p := range g.all() {
		for _, other := range h.live {
			if other.has(p) {
				continue next
			}
		}
		alone = append(alone, p)
	}
	return alone
}

// serving returns the plugins of a point in lock order.
func (g *generation) serving(point hostabi.Point) []*plugin {
	var serving []*plugin
	for _, p := range g.plugins {
		if p.manifest.HasPoint(point) {
			serving = append(serving, p)
		}
	}
	return serving
}

// check refuses what only shows when all plugins of a lock are known.
func (g *generation) check() error {
	for name, s := range g.shadows {
		if s.manifest.Admission == nil {
			return fmt.Errorf("plugin %s: shadow is for admission plugins; at other points a second answer has nothing to be compared with", name)
		}
	}
	return nil
}
