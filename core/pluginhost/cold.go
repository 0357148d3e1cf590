package pluginhost

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cleat-dev/cleat/core/extension"
	"github.com/cleat-dev/cleat/hostabi"
)

// PlanDatastore implements extension.Datastore.
func (h *Host) PlanDatastore(ctx context.Context, req hostabi.DatastoreRequest) (hostabi.DatastorePlan, error) {
	g := h.enter()
	if g == nil {
		return hostabi.DatastorePlan{}, errHostClosed
	}
	defer g.leave()
	for _, p := range g.serving(hostabi.PointDatastore) {
		plan, claimed, err := ask[hostabi.DatastorePlan](ctx, g, p, h.newCall(hookDatastore, nil), req)
		if err != nil {
			return hostabi.DatastorePlan{}, err
		}
		if claimed {
			p.log.Info("datastore decided", "driver", plan.Driver, "plan", plan.Description)
			return plan, nil
		}
	}
	return hostabi.DatastorePlan{}, fmt.Errorf(
		"no datastore plugin claims --datastore-endpoint %q; plugins.lock has %s; correct the endpoint or add a plugin that knows it",
		scheme(req.Endpoint), names(g.serving(hostabi.PointDatastore)))
}

// scheme is the part of an endpoint that can be printed: what follows may hold
// a password.
func scheme(endpoint string) string {
	if s, _, ok := strings.Cut(endpoint, "://"); ok {
		return s + "://…"
	}
	if endpoint == "" {
		return ""
	}
	return "…"
}

// CheckCNI says why the plugin called name cannot decide the network, so that
// a wrong --cni is refused before anything runs; nil if it can.
func (h *Host) CheckCNI(name string) error {
	_, err := h.current.Load().cni(name)
	return err
}

func (g *generation) cni(name string) (*plugin, error) {
	serving := g.serving(hostabi.PointCNI)
	for _, p := range serving {
		if p.locked.Name == name {
			return p, nil
		}
	}
	return nil, fmt.Errorf("--cni %q names no network plugin in plugins.lock; it has %s", name, names(serving))
}

// PlanNetwork implements extension.CNI.
func (h *Host) PlanNetwork(ctx context.Context, req hostabi.CNIRequest) (hostabi.CNIPlan, error) {
	g := h.enter()
	if g == nil {
		return hostabi.CNIPlan{}, errHostClosed
	}
	defer g.leave()
	p, err := g.cni(req.Plugin)
	if err != nil {
		return hostabi.CNIPlan{}, err
	}
	plan, claimed, err := ask[hostabi.CNIPlan](ctx, g, p, h.newCall(hookCNI, nil), req)
	if err != nil {
		return hostabi.CNIPlan{}, err
	}
	if !claimed {
		return hostabi.CNIPlan{}, fmt.Errorf("plugin %s was chosen by --cni but says that the network is not its own to decide", req.Plugin)
	}
	p.log.Info("network decided", "driver", plan.Driver, "plan", plan.Description)
	return plan, nil
}

// Claims implements extension.Deployer.
func (h *Host) Claims() []hostabi.DeployerManifest {
	var all []hostabi.DeployerManifest
	for _, p := range h.current.Load().serving(hostabi.PointDeployer) {
		all = append(all, p.claims())
	}
	return all
}

func (p *plugin) claims() hostabi.DeployerManifest {
	if p.manifest.Deployer != nil {
		return *p.manifest.Deployer
	}
	return hostabi.DefaultDeployer()
}

// Render implements extension.Deployer.
func (h *Host) Render(ctx context.Context, in extension.DeployInput) (hostabi.DeployResult, bool, error) {
	g := h.enter()
	if g == nil {
		return hostabi.DeployResult{}, false, errHostClosed
	}
	defer g.leave()
	for _, p := range g.serving(hostabi.PointDeployer) {
		if !offered(p.claims(), in) {
			continue
		}
		c := h.newCall(hookDeployer, nil)
		c.tree = in.Tree
		res, claimed, err := ask[hostabi.DeployResult](ctx, g, p, c, in.DeployRequest)
		if err != nil || claimed {
			return res, claimed, err
		}
	}
	return hostabi.DeployResult{}, false, nil
}

// offered reports whether the claims of a plugin fit what is to be deployed.
func offered(claims hostabi.DeployerManifest, in extension.DeployInput) bool {
	fits := func(patterns []string, name string) bool {
		return slices.ContainsFunc(patterns, func(pattern string) bool {
			_, ok := hostabi.MatchPattern(pattern, name)
			return ok
		})
	}
	switch in.Kind {
	case hostabi.DeployKindArchive:
		return fits(claims.Archives, in.File)
	case hostabi.DeployKindDirectory:
		return slices.ContainsFunc(in.Files, func(name string) bool { return fits(claims.Directories, name) })
	}
	return fits(claims.Files, in.File)
}

// ask puts a question to a plugin. One whose fault is to be ignored has not
// claimed anything.
func ask[Plan any](ctx context.Context, g *generation, p *plugin, c *call, req any) (plan Plan, claimed bool, err error) {
	input, err := hostabi.AppendJSON(nil, req)
	if err != nil {
		return plan, false, fmt.Errorf("plugin %s: request: %w", p.locked.Name, err)
	}
	if len(input) > hostabi.MaxMessageBytes {
		return plan, false, fmt.Errorf("plugin %s: the request is %d bytes, at most %d can be handed to a plugin",
			p.locked.Name, len(input), hostabi.MaxMessageBytes)
	}
	c.input = input
	claimed, err = p.plan(ctx, c, &plan)
	var fault *Fault
	if errors.As(err, &fault) {
		// A plugin that says what is wrong with a question has done its work.
		if fault.Kind != FaultError {
			p.host.faulted(g, p, c, fault)
		}
		if p.ignores() {
			p.log.Warn("plugin fault ignored", "error", fault)
			err = nil
		}
	}
	if err != nil || !claimed {
		var none Plan
		return none, false, err
	}
	return plan, true, nil
}

// plan runs a plan hook and decodes its answer into into.
func (p *plugin) plan(ctx context.Context, c *call, into any) (claimed bool, err error) {
	result, err := p.invoke(ctx, c)
	switch {
	case err != nil:
		return false, err
	case result == hostabi.PlanNotMine:
		return false, nil
	case result != hostabi.PlanDecided:
		err = fmt.Errorf("returned %d, which is no result of this hook", result)
	case !c.hasOutput:
		err = errors.New("says that it decided, but set no output")
	default:
		if err = p.decodePlan(c.output, into); err != nil {
			err = fmt.Errorf("output: %w", err)
		}
	}
	if err == nil {
		err = p.keepState(ctx, c)
		if err != nil {
			return false, err
		}
	}
	if err != nil {
		p.stats.errors.Add(1)
		return false, p.outputFault(c, err)
	}
	return true, nil
}

// decodePlan reads a guest's answer: bounded in depth, without duplicate
// fields. A field this host does not know comes from a newer SDK; what it asks
// for is not done, and the log says so.
func (p *plugin) decodePlan(text []byte, plan any) error {
	canonical, err := hostabi.Canonical(text)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(canonical))
	d.DisallowUnknownFields()
	strict := d.Decode(plan)
	if strict == nil || !strings.Contains(strict.Error(), "unknown field") {
		return strict
	}
	if err := json.Unmarshal(canonical, plan); err != nil {
		return err
	}
	p.log.Warn("plugin's answer has a field that this version of cleat does not know and ignores", "error", strict)
	return nil
}

func names(plugins []*plugin) string {
	if len(plugins) == 0 {
		return "none"
	}
	list := make([]string, len(plugins))
	for i, p := range plugins {
		list[i] = p.locked.Name
	}
	return strings.Join(list, ", ")
}
