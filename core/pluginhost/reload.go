package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cleat-dev/cleat/hostabi"
)

// Reload bounds.
const (
	// defaultTrial is how long a new generation is on trial: the one before it
	// stays warm and takes over when the new one fails.
	defaultTrial = 30 * time.Second
	// trialFaults is how many faults of its new plugins end a trial.
	trialFaults = 3
)

// Reloaded says what a reload changed.
type Reloaded struct {
	Generation int      `json:"generation"` // the one that decides now
	Opened     []string `json:"opened"`     // plugins with their version that were opened anew
	Closed     []string `json:"closed"`     // plugins with their version that are drained
}

// Reload makes the host follow another lock. What the lock names anew is
// verified, compiled, certified and started beside the plugins that decide;
// then all requests go to the new generation at once, and the old one is
// closed when its last call has returned. Nothing changes when it fails.
//
// For a while the new generation is on trial: a request that meets a fault of
// a new plugin is decided by the plugin it replaced, and after a few faults the
// generation before comes back by itself.
func (h *Host) Reload(ctx context.Context, lockText []byte) (Reloaded, error) {
	h.reloading.Lock()
	defer h.reloading.Unlock()
	lock, err := ParseLock(lockText)
	if err != nil {
		return Reloaded{}, err
	}
	base := h.enter()
	if base == nil {
		return Reloaded{}, errHostClosed
	}
	defer base.leave()
	g, fresh, err := h.openGeneration(ctx, h.lastNumber+1, lock, base)
	if err != nil {
		return Reloaded{}, err
	}
	if err := h.certifyAll(ctx, g, fresh); err != nil {
		for _, p := range fresh {
			err = errors.Join(err, p.close(context.WithoutCancel(ctx)))
		}
		return Reloaded{}, err
	}
	h.lastNumber++
	result := Reloaded{Generation: g.number, Opened: []string{}, Closed: []string{}}
	for _, p := range fresh {
		result.Opened = append(result.Opened, p.title())
	}
	for _, p := range base.all() {
		if !g.has(p) {
			result.Closed = append(result.Closed, p.title())
		}
	}
	h.replace(base, g, len(fresh) > 0)
	h.log.Info("plugins reloaded", "generation", g.number, "opened", result.Opened, "closed", result.Closed)
	h.notify(Notice{Kind: NoticeReloaded, Detail: fmt.Sprintf("generation %d decides; opened %v, closed %v", g.number, result.Opened, result.Closed)})
	return result, nil
}

func (p *plugin) title() string {
	title := p.locked.Name + " " + p.locked.Version
	if p.locked.Shadow {
		title += " (shadow)"
	}
	return title
}

// certifyAll asks whether the plugins of a new generation keep the contract.
func (h *Host) certifyAll(ctx context.Context, g *generation, fresh []*plugin) error {
	if err := g.check(); err != nil {
		return err
	}
	if h.certify == nil {
		return nil
	}
	for _, p := range fresh {
		wasm, err := h.sources.Read(ctx, p.locked)
		if err == nil && Digest(wasm) != p.locked.SHA256 {
			err = errors.New("its file was changed meanwhile")
		}
		if err == nil {
			err = h.certify(ctx, p.locked, wasm)
		}
		if err != nil {
			return fmt.Errorf("plugin %s does not pass the conformance suite, so the reload changes nothing: %w", p.title(), err)
		}
	}
	return nil
}

// replace makes next the current generation. With a trial, base is kept warm
// until the trial is over.
func (h *Host) replace(base, next *generation, trial bool) {
	h.mu.Lock()
	h.live = append(h.live, next)
	h.mu.Unlock()
	if !trial || h.trial <= 0 {
		h.current.Store(next)
		h.endTrial(base)
		h.retire(base)
		return
	}
	next.before.Store(base)
	h.current.Store(next)
	h.endTrial(base)
	time.AfterFunc(h.trial, func() { h.endTrial(next) })
}

// endTrial lets go of the generation before g, if g is still on trial.
func (h *Host) endTrial(g *generation) {
	if before := g.before.Swap(nil); before != nil {
		h.retire(before)
	}
}

// fallback returns the admission plugin that p replaced and the generation that
// holds it, which the caller must leave; nil when p is not on trial.
func (g *generation) fallback(p *plugin) (*generation, *admitter) {
	before := g.before.Load()
	if before == nil || before.has(p) || !before.enter() {
		return nil, nil
	}
	if old := before.admission.find(p.locked.Name); old != nil {
		return before, old
	}
	before.leave()
	return nil, nil
}

// onTrial counts a fault of p, and takes the generation back when a new plugin
// has failed too often.
func (h *Host) onTrial(g *generation, p *plugin, f *Fault) {
	before := g.before.Load()
	if before == nil || before.has(p) || f.Kind == FaultBusy || p.trialFaults.Add(1) != trialFaults {
		return
	}
	h.draining.Go(func() { h.rollBack(g, p, f) })
}

// rollBack puts the generation before g in charge again.
func (h *Host) rollBack(g *generation, p *plugin, f *Fault) {
	h.reloading.Lock()
	defer h.reloading.Unlock()
	if h.current.Load() != g || h.closed.Load() {
		return // somebody else replaced it
	}
	before := g.before.Swap(nil)
	if before == nil {
		return
	}
	back, err := newGeneration(h.lastNumber+1, before.all())
	if err != nil {
		h.log.Error("the plugins could not be rolled back", "error", err)
		h.retire(before)
		return
	}
	back.disabled = before.disabled
	h.lastNumber++
	h.mu.Lock()
	h.live = append(h.live, back)
	h.mu.Unlock()
	h.current.Store(back)
	h.retire(g)
	h.retire(before)
	const advice = "plugins.lock still names the new version; put the old one back, or correct it and reload"
	h.log.Error("plugins rolled back: the new generation failed on trial", "plugin", p.locked.Name, "version", p.locked.Version,
		"generation", back.number, "error", f, "advice", advice)
	h.notify(Notice{Kind: NoticeRolledBack, Plugin: p.locked.Name, Version: p.locked.Version, Advice: advice,
		Detail: fmt.Sprintf("%s failed on trial and was replaced by the generation before: %s", p.title(), f.describe())})
}

// find returns the admission plugin of that name.
func (a *admission) find(name string) *admitter {
	for _, p := range a.plugins {
		if p.locked.Name == name {
			return p
		}
	}
	return nil
}

// mask returns the rules of the plugin that the request matches by operation
// and resource.
func (a *admission) mask(p *admitter, req *request) uint64 {
	masks := make([]uint64, len(a.plugins))
	a.index.match(masks, req.Operation, req.Group, req.Version, req.Resource, req.Subresource)
	for i, have := range a.plugins {
		if have == p {
			return masks[i]
		}
	}
	return 0
}

// wants reports whether the plugin has that hook.
func (p *admitter) wants(hook hookKind) bool {
	return hook == hookMutate && p.mutate || hook == hookValidate && p.validate
}

// FailurePolicy of a plugin decides what a fault means for a request.
func (p *plugin) ignores() bool { return p.locked.FailurePolicy == hostabi.FailurePolicyIgnore }
