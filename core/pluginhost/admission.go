package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cleat-dev/cleat/core/extension"
	"github.com/cleat-dev/cleat/hostabi"
)

const codeInternalError = 500

// admission is the part of the host the API server's requests go through.
type admission struct {
	index   index
	plugins []*admitter // in lock order
}

type admitter struct {
	*plugin
	rules    []rule
	mutate   bool
	validate bool
	// conditions is set when any rule has match conditions.
	conditions bool
}

// newAdmission indexes the admission plugins among all.
func newAdmission(plugins []*plugin) (*admission, error) {
	a := &admission{}
	env, err := conditionEnv()
	if err != nil {
		return nil, fmt.Errorf("match conditions: %w", err)
	}
	var errs []error
	for _, p := range plugins {
		m := p.manifest.Admission
		if m == nil {
			continue
		}
		rules, err := compileRules(env, m.Rules)
		if err != nil {
			errs = append(errs, fmt.Errorf("plugin %s: %w", p.locked.Name, err))
			continue
		}
		a.index.add(len(a.plugins), m.Rules)
		a.plugins = append(a.plugins, &admitter{plugin: p, rules: rules, mutate: m.Mutate, validate: m.Validate,
			conditions: slices.ContainsFunc(rules, func(r rule) bool { return len(r.conditions) > 0 })})
	}
	return a, errors.Join(errs...)
}

// Handles implements extension.Admission.
func (h *Host) Handles(op hostabi.Operation, group, version, resource, subresource string) bool {
	g := h.current.Load()
	return g.admission.index.handles(op, group, version, resource, subresource) ||
		g.shadow.index.handles(op, group, version, resource, subresource)
}

// Mutate implements extension.Admission.
func (h *Host) Mutate(ctx context.Context, req *extension.AdmissionRequest) (extension.AdmissionResult, error) {
	return h.admit(ctx, hookMutate, req)
}

// Validate implements extension.Admission.
func (h *Host) Validate(ctx context.Context, req *extension.AdmissionRequest) (extension.AdmissionResult, error) {
	return h.admit(ctx, hookValidate, req)
}

func (h *Host) admit(ctx context.Context, hook hookKind, in *extension.AdmissionRequest) (extension.AdmissionResult, error) {
	if !h.Handles(in.Operation, in.Group, in.Version, in.Resource, in.Subresource) {
		return extension.AdmissionResult{Allowed: true}, nil
	}
	g := h.enter()
	if g == nil {
		return extension.AdmissionResult{}, errHostClosed
	}
	defer g.leave()
	return g.admit(ctx, h, hook, &request{AdmissionRequest: in})
}

// admit asks the plugins that want the request, in lock order. The error is the
// context's; everything else is in the result.
func (g *generation) admit(ctx context.Context, h *Host, hook hookKind, req *request) (extension.AdmissionResult, error) {
	result := extension.AdmissionResult{Allowed: true}
	a := g.admission
	masks := req.masks[:min(len(a.plugins), len(req.masks))]
	if len(a.plugins) > len(req.masks) {
		masks = make([]uint64, len(a.plugins))
	}
	a.index.match(masks, req.Operation, req.Group, req.Version, req.Resource, req.Subresource)
	for i, p := range a.plugins {
		var shadow *shadowRun
		if len(g.shadows) > 0 {
			shadow = g.shadowOf(p, hook, req)
		}
		if masks[i] == 0 || !p.wants(hook) {
			if shadow != nil {
				shadow.compare(Outcome{Verdict: VerdictAllow})
			}
			continue
		}
		c := h.newCall(hook, req)
		verdict, err := p.decide(ctx, c, masks[i])
		fault := asFault(err)
		if fault != nil {
			h.faulted(g, p.plugin, c, fault)
			if before, old := g.fallback(p.plugin); old != nil {
				c = h.newCall(hook, req)
				verdict, err = old.again(ctx, before, c)
				before.leave()
				fault = asFault(err)
			}
		}
		if shadow != nil && (err == nil || fault != nil) {
			shadow.compare(outcomeOf(c, verdict, err))
		}
		note(&result, p.locked.Name, c)
		switch {
		case fault != nil:
			if p.ignores() {
				p.log.Warn("plugin fault ignored", "error", fault, "request", req.ID)
				decided(&result, p.locked.Name, hook, "fault ignored")
				continue
			}
			p.log.Error("request refused because of a plugin fault", "error", fault, "request", req.ID)
			decided(&result, p.locked.Name, hook, "fault")
			return refuse(result, p.locked.Name, faultMessage(fault), codeInternalError), nil
		case err != nil:
			return extension.AdmissionResult{}, err
		case verdict == hostabi.VerdictDeny:
			p.stats.denies.Add(1)
			h.keepDecision(p.plugin, c, verdict)
			decided(&result, p.locked.Name, hook, "denied")
			return refuse(result, p.locked.Name, c.denial.message, c.denial.code), nil
		case len(c.mutations) > 0:
			p.stats.mutations.Add(1)
			h.keepDecision(p.plugin, c, verdict)
			decided(&result, p.locked.Name, hook, "mutated")
			result.Object = req.current
		}
	}
	return result, nil
}

// asFault returns the fault that err is, nil if it is none.
func asFault(err error) *Fault {
	if err == nil {
		return nil
	}
	var fault *Fault
	errors.As(err, &fault)
	return fault
}

// again decides a request with the plugin of the generation before.
func (p *admitter) again(ctx context.Context, g *generation, c *call) (int32, error) {
	mask := g.admission.mask(p, c.request)
	if mask == 0 || !p.wants(c.hook) {
		return hostabi.VerdictAllow, nil
	}
	return p.decide(ctx, c, mask)
}

// decide narrows the rules that match by selectors and conditions, runs the
// hook if any is left, and applies what it recorded.
func (p *admitter) decide(ctx context.Context, c *call, mask uint64) (verdict int32, err error) {
	mask, err = p.narrow(ctx, c.request, mask)
	if mask == 0 || err != nil {
		return hostabi.VerdictAllow, err
	}
	return p.verdict(ctx, c, mask)
}

// verdict runs the hook for the rules of the mask.
func (p *admitter) verdict(ctx context.Context, c *call, mask uint64) (verdict int32, err error) {
	c.rules = mask
	if c.seen != nil {
		c.found = c.request.peek()
	}
	verdict, err = p.invoke(ctx, c)
	if err != nil {
		return 0, err
	}
	switch {
	case verdict == hostabi.VerdictDeny:
		if c.denial.code == 0 {
			c.denial = denial{message: "denied without a reason", code: codeForbidden}
		}
	case verdict != hostabi.VerdictAllow:
		p.stats.errors.Add(1)
		return 0, p.outputFault(c, fmt.Errorf("returned %d, which is no verdict", verdict))
	case len(c.mutations) > 0:
		object, err := c.request.object()
		if err == nil {
			object, err = applyMutations(object, c.mutations)
		}
		if err != nil {
			p.stats.errors.Add(1)
			return 0, p.outputFault(c, err)
		}
		if err := p.keepState(ctx, c); err != nil {
			return 0, err
		}
		c.request.replace(object)
		return verdict, nil
	}
	return verdict, p.keepState(ctx, c)
}

// narrow clears the bits of rules whose selector or conditions do not hold.
//
// All conditions together have the time one call of the plugin has.
func (p *admitter) narrow(ctx context.Context, req *request, mask uint64) (uint64, error) {
	outer := ctx
	if p.conditions {
		limited, cancel := context.WithTimeout(ctx, p.deadline)
		defer cancel()
		ctx = limited
	}
	for n := range p.rules {
		bit := uint64(1) << n
		if mask&bit == 0 {
			continue
		}
		ok, err := p.rules[n].matches(ctx, req)
		if err != nil {
			if cause := outer.Err(); cause != nil {
				return 0, cause
			}
			return 0, &Fault{Plugin: p.locked.Name, Kind: FaultMatch, Detail: err.Error(), Err: err,
				Advice: "guard the expression with has(), or remove the plugin from plugins.lock"}
		}
		if !ok {
			mask &^= bit
		}
	}
	return mask, nil
}

func (p *plugin) outputFault(c *call, err error) *Fault {
	return &Fault{Plugin: p.locked.Name, Hook: c.hook.export(), Kind: FaultOutput, Detail: firstLine(err.Error()), Err: err,
		Advice: "this is a bug in the plugin; report it to its author"}
}

// faultMessage is what a user reads whose request a broken plugin refused. The
// result names the plugin itself.
func faultMessage(f *Fault) string {
	return fmt.Sprintf("did not decide: %s (an operator can repair it, set failure_policy = \"ignore\" for it in plugins.lock, or remove it there)", f.describe())
}

func refuse(r extension.AdmissionResult, plugin, message string, code int32) extension.AdmissionResult {
	r.Allowed, r.Object = false, nil
	r.Plugin, r.Message, r.Code = plugin, message, code
	return r
}

// decided says in the audit event what became of a plugin's decision.
func decided(r *extension.AdmissionResult, plugin string, hook hookKind, what string) {
	if r.AuditAnnotations == nil {
		r.AuditAnnotations = map[string]string{}
	}
	key := "validate"
	if hook == hookMutate {
		key = "mutate"
	}
	r.AuditAnnotations[plugin+"/"+key] = what
}

// note adds the warnings and audit annotations of a call.
func note(r *extension.AdmissionResult, plugin string, c *call) {
	r.Warnings = append(r.Warnings, c.warnings...)
	for _, a := range c.audit {
		if r.AuditAnnotations == nil {
			r.AuditAnnotations = map[string]string{}
		}
		r.AuditAnnotations[plugin+"/"+a.key] = a.value
	}
}
