package pluginhost

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/cleat-dev/cleat/hostabi"
)

// PlanDatastore implements extension.Datastore.
func (h *Host) PlanDatastore(ctx context.Context, req hostabi.DatastoreRequest) (hostabi.DatastorePlan, error) {
	for _, p := range h.serving(hostabi.PointDatastore) {
		plan, claimed, err := ask[hostabi.DatastorePlan](ctx, p, hookDatastore, req)
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
		scheme(req.Endpoint), names(h.serving(hostabi.PointDatastore)))
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
	_, err := h.cni(name)
	return err
}

func (h *Host) cni(name string) (*plugin, error) {
	serving := h.serving(hostabi.PointCNI)
	for _, p := range serving {
		if p.locked.Name == name {
			return p, nil
		}
	}
	return nil, fmt.Errorf("--cni %q names no network plugin in plugins.lock; it has %s", name, names(serving))
}

// PlanNetwork implements extension.CNI.
func (h *Host) PlanNetwork(ctx context.Context, req hostabi.CNIRequest) (hostabi.CNIPlan, error) {
	p, err := h.cni(req.Plugin)
	if err != nil {
		return hostabi.CNIPlan{}, err
	}
	plan, claimed, err := ask[hostabi.CNIPlan](ctx, p, hookCNI, req)
	if err != nil {
		return hostabi.CNIPlan{}, err
	}
	if !claimed {
		return hostabi.CNIPlan{}, fmt.Errorf("plugin %s was chosen by --cni but says that the network is not its own to decide", req.Plugin)
	}
	p.log.Info("network decided", "driver", plan.Driver, "plan", plan.Description)
	return plan, nil
}

// Render implements extension.Deployer.
func (h *Host) Render(ctx context.Context, req hostabi.DeployRequest) (hostabi.DeployResult, bool, error) {
	for _, p := range h.serving(hostabi.PointDeployer) {
		res, claimed, err := ask[hostabi.DeployResult](ctx, p, hookDeployer, req)
		if err != nil || claimed {
			return res, claimed, err
		}
	}
	return hostabi.DeployResult{}, false, nil
}

// ask puts a question to a plugin. One whose fault is to be ignored has not
// claimed anything.
func ask[Plan any](ctx context.Context, p *plugin, hook hookKind, req any) (plan Plan, claimed bool, err error) {
	input, err := hostabi.AppendJSON(nil, req)
	if err != nil {
		return plan, false, fmt.Errorf("plugin %s: request: %w", p.locked.Name, err)
	}
	if len(input) > hostabi.MaxMessageBytes {
		return plan, false, fmt.Errorf("plugin %s: the request is %d bytes, at most %d can be handed to a plugin",
			p.locked.Name, len(input), hostabi.MaxMessageBytes)
	}
	claimed, err = p.plan(ctx, &call{hook: hook, input: input}, &plan)
	var fault *Fault
	if errors.As(err, &fault) && p.locked.FailurePolicy == hostabi.FailurePolicyIgnore {
		p.log.Warn("plugin fault ignored", "error", fault)
		err = nil
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
		if err = decodePlan(c.output, into); err != nil {
			err = fmt.Errorf("output: %w", err)
		}
	}
	if err != nil {
		p.stats.errors.Add(1)
		return false, p.outputFault(c, err)
	}
	return true, nil
}

// decodePlan reads a guest's answer: bounded in depth, without duplicate or
// unknown fields. An unknown field is a decision this core cannot carry out.
func decodePlan(text []byte, plan any) error {
	canonical, err := hostabi.Canonical(text)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(canonical))
	d.DisallowUnknownFields()
	return d.Decode(plan)
}

// serving returns the plugins of a point in lock order.
func (h *Host) serving(point hostabi.Point) []*plugin {
	var serving []*plugin
	for _, p := range h.plugins {
		if p.manifest.HasPoint(point) {
			serving = append(serving, p)
		}
	}
	return serving
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
