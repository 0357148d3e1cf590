package pluginhost

import (
	"bytes"
	"context"
)

// shadowLogged is how many differences of a shadow are logged one by one; after
// that, one in as many is.
const shadowLogged = 10

// shadowRun is a request that a shadow is to decide beside the plugin it may
// replace one day.
type shadowRun struct {
	host *Host
	gen  *generation
	main *plugin
	p    *admitter
	hook hookKind
	mask uint64
	req  *request
}

// shadowOf prepares the shadow of p for a request, nil if it has none that wants
// it. It takes what the shadow may read before p can change it.
func (g *generation) shadowOf(p *admitter, hook hookKind, req *request) *shadowRun {
	s := g.shadows[p.locked.Name]
	if s == nil {
		return nil
	}
	a := g.shadow.find(s.locked.Name)
	if a == nil {
		return nil
	}
	mask := uint64(0)
	if a.wants(hook) {
		mask = g.shadow.mask(a, req)
	}
	if err := req.settle(); err != nil {
		return nil // the plugin itself meets the same error
	}
	seen := req.peek()
	// The API server may go on writing the object of a custom resource.
	seen.current, _ = copyJSON(seen.current).(map[string]any)
	seen.old, _ = copyJSON(seen.old).(map[string]any)
	return &shadowRun{host: s.host, gen: g, main: p.plugin, p: a, hook: hook, mask: mask, req: seen}
}

// compare has the shadow decide, later, and reports whether it agrees with what
// was decided.
func (r *shadowRun) compare(decided Outcome) {
	if !r.gen.enter() {
		return
	}
	if !r.host.background.try(func() {
		defer r.gen.leave()
		r.run(decided)
	}) {
		r.gen.leave()
	}
}

func (r *shadowRun) run(decided Outcome) {
	// The request's own context is done by now.
	ctx, cancel := context.WithTimeout(context.Background(), 2*r.p.deadline+startDeadline)
	defer cancel()
	c := r.host.newCall(r.hook, r.req)
	verdict, err := int32(0), error(nil)
	if r.mask != 0 {
		verdict, err = r.p.decide(ctx, c, r.mask)
	}
	outcome := outcomeOf(c, verdict, err)
	stats := &r.p.stats
	stats.shadowed.Add(1)
	if outcome.Fault != nil {
		stats.faults.Add(1)
	}
	want, err1 := decided.JSON()
	got, err2 := outcome.JSON()
	if err1 == nil && err2 == nil && bytes.Equal(want, got) {
		return
	}
	n := stats.differed.Add(1)
	if n > shadowLogged && n%shadowLogged != 0 {
		return
	}
	r.p.log.Warn("shadow decided otherwise", "version", r.p.locked.Version, "decided", r.main.locked.Version,
		"hook", r.hook.export(), "request", r.req.ID, "resource", r.req.Resource, "namespace", r.req.Namespace, "name", r.req.Name,
		"was", cut(string(want), maxLine), "would", cut(string(got), maxLine), "differences", n)
	r.host.notify(Notice{Kind: NoticeDiffers, Plugin: r.p.locked.Name, Version: r.p.locked.Version,
		Detail: "shadow " + r.p.locked.Version + " decided otherwise than " + r.main.locked.Version + " about " + r.req.Resource + " " +
			r.req.Namespace + "/" + r.req.Name + ": would " + cut(string(got), 300) + ", was " + cut(string(want), 300)})
}
