package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/cleat-dev/cleat/core/internal/atomicfile"
	"github.com/cleat-dev/cleat/hostabi"
)

// executor carries out plans. A plan is carried out in two steps: begin sets
// the machine up and starts the driver; finish, once the driver is up, lets
// pods in by writing the CNI configuration.
type executor struct {
	host         host
	dir          string
	state        *state
	flannel      Flannel
	deploy       func(ctx context.Context, manifests []hostabi.PlanManifest) error
	log          *slog.Logger
	health       *health
	policy       NetworkPolicy // nil = no plan may ask for it
	policyHealth *health
	protected    string // the link that is never removed

	request hostabi.CNIRequest // what plan answers
	plan    hostabi.CNIPlan
	begun   bool
	done    bool // a plan was finished once
	driver  *driver
}

// driverUp is closed when the driver of a plan that is not finished runs; nil
// while there is nothing to wait for.
func (x *executor) driverUp() <-chan struct{} {
	if x.driver == nil || x.driver.finished {
		return nil
	}
	return x.driver.up
}

// begin starts carrying out a plan.
func (x *executor) begin(ctx context.Context, request hostabi.CNIRequest, plan hostabi.CNIPlan) error {
	if err := checkPlan(plan, x.protected); err != nil {
		return err
	}
	if x.begun && reflect.DeepEqual(plan, x.plan) && !x.ruleFactsChanged(request) {
		x.request = request
		return nil
	}
	if len(plan.Manifests) > 0 && x.deploy == nil {
		return errors.New("manifests: this node has no deployer")
	}
	x.log.Info("network plan", "plugin", request.Plugin, "driver", plan.Driver, "plan", plan.Description)
	// From here on the old plan is no longer in force: what fails is begun
	// again later.
	x.stopDriver()
	x.health.set(nil)
	x.policyHealth.set(nil)
	x.begun, x.request = false, hostabi.CNIRequest{}
	if err := x.leave(ctx, plan); err != nil {
		return err
	}
	if err := x.setSysctls(ctx, plan.Sysctls); err != nil {
		return err
	}
	if len(plan.Manifests) > 0 {
		if err := x.deploy(ctx, plan.Manifests); err != nil {
			return fmt.Errorf("manifests: %w", err)
		}
	}
	if err := x.masquerade(ctx, plan, request); err != nil {
		return err
	}
	x.request, x.plan, x.begun = request, plan, true
	if plan.Driver == hostabi.CNIDriverFlannel {
		x.state.Flannel = plan.Flannel
		if err := x.state.save(); err != nil {
			return err
		}
		flannelPlan := *plan.Flannel
		x.driver = startDriver(ctx, x.log, x.health, func(ctx context.Context, ready func()) error {
			return x.flannel.Run(ctx, flannelPlan, ready)
		})
	} else {
		x.driver = idleDriver()
	}
	if err := x.enforce(ctx, plan, request); err != nil {
		x.stopDriver()
		x.begun, x.request = false, hostabi.CNIRequest{}
		return fmt.Errorf("network_policy: %w", err)
	}
	return nil
}

// ruleFactsChanged reports whether the core's own rules or flannel's leases
// depend on a fact that changed although the plan did not.
func (x *executor) ruleFactsChanged(request hostabi.CNIRequest) bool {
	return !slices.Equal(request.Node.PodCIDRs, x.request.Node.PodCIDRs) ||
		!slices.Equal(request.Node.Addresses, x.request.Node.Addresses) ||
		request.Node.Interface != x.request.Node.Interface || request.Node.MTU != x.request.Node.MTU
}

// leave takes away what an earlier plan, of this process or one before it,
// left behind and the new one does not use.
func (x *executor) leave(ctx context.Context, plan hostabi.CNIPlan) error {
	var errs []error
	if old := x.state.Flannel; old != nil && (plan.Flannel == nil || plan.Driver != hostabi.CNIDriverFlannel || *plan.Flannel != *old) {
		if err := x.flannel.Clean(ctx, *old); err != nil {
			errs = append(errs, fmt.Errorf("rules of flannel: %w", err))
		} else {
			x.state.Flannel = nil
		}
	}
	if kind := x.state.Masquerade; kind != "" && kind != masqueradeKind(plan) {
		if err := x.host.Unmasquerade(ctx, kind); err != nil {
			errs = append(errs, fmt.Errorf("masquerade rules: %w", err))
		} else {
			x.state.Masquerade = ""
		}
	}
	if x.state.Policy != nil && plan.NetworkPolicy == nil && x.policy != nil {
		if err := x.policy.Clean(ctx); err != nil {
			errs = append(errs, fmt.Errorf("rules of NetworkPolicies: %w", err))
		} else {
			x.state.Policy = nil
		}
	}
	if x.state.Conflist != "" && x.state.Conflist != plan.ConflistName {
		if err := x.removeConflist(); err != nil {
			errs = append(errs, err)
		}
	}
	for _, name := range plan.RemoveLinks {
		removed, err := x.host.RemoveLink(name)
		switch {
		case errors.Is(err, errLinkInUse):
			x.log.Warn("a link of another network plan stays while pods are attached to it; it goes at a later start", "link", name)
		case err != nil:
			errs = append(errs, fmt.Errorf("remove_links: %q: %w", name, err))
		case removed:
			x.log.Info("link removed", "link", name)
		}
	}
	return errors.Join(append(errs, x.state.save())...)
}

// removeConflist removes our CNI configuration, unless somebody edited it.
func (x *executor) removeConflist() error {
	path := filepath.Join(x.dir, x.state.Conflist)
	content, err := os.ReadFile(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return fmt.Errorf("CNI configuration: %w", err)
	case sum(content) != x.state.ConflistSum:
		x.log.Warn("CNI configuration stays since it was edited; remove it if it is not wanted", "file", path)
	default:
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("CNI configuration: %w", err)
		}
	}
	x.state.Conflist, x.state.ConflistSum = "", ""
	return nil
}

// forget takes our CNI configuration away from a Node that is new and has no pod CIDR:
// it is of the Node that was here before, whose range may be another node's by now.
func (x *executor) forget() {
	if x.begun || x.state.Conflist == "" {
		return
	}
	name := x.state.Conflist
	if err := errors.Join(x.removeConflist(), x.state.save()); err != nil {
		x.log.Error("pods may get addresses of another node", "error", err)
		return
	}
	x.log.Info("CNI configuration of an earlier Node removed", "file", filepath.Join(x.dir, name))
}

// setSysctls sets what differs. A setting of a kernel module that is not
// there is reported and left out.
func (x *executor) setSysctls(ctx context.Context, sysctls map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(sysctls)) {
		err := x.host.SetSysctl(ctx, name, sysctls[name])
		if errors.Is(err, os.ErrNotExist) {
			x.log.Warn("sysctl not set: this kernel does not have it", "name", name)
			continue
		}
		if err != nil {
			return fmt.Errorf("sysctl %s=%s: %w", name, sysctls[name], err)
		}
	}
	return nil
}

// masqueradeKind says with what the core itself hides pods for a plan.
func masqueradeKind(plan hostabi.CNIPlan) string {
	switch {
	case plan.Driver != hostabi.CNIDriverBridge || plan.Bridge == nil || !plan.Bridge.Masquerade:
		return ""
	case plan.Bridge.NFTables:
		return hostabi.ProxyModeNFTables
	default:
		return hostabi.ProxyModeIPTables
	}
}

func (x *executor) masquerade(ctx context.Context, plan hostabi.CNIPlan, request hostabi.CNIRequest) error {
	kind := masqueradeKind(plan)
	if kind == "" {
		return nil
	}
	var all []masquerade // one of each family
	for _, text := range []string{plan.Bridge.Network, plan.Bridge.NetworkV6} {
		if text == "" {
			continue
		}
		network, err := netip.ParsePrefix(text)
		if err != nil {
			return fmt.Errorf("bridge: network %q: %w", text, err)
		}
		rules := masquerade{Kind: kind, Network: network.Masked()}
		for _, text := range request.Node.PodCIDRs {
			pods, err := netip.ParsePrefix(text)
			if err != nil {
				return fmt.Errorf("pod CIDR %q: %w", text, err)
			}
			if pods.Addr().Is4() == network.Addr().Is4() {
				rules.Pods = append(rules.Pods, pods.Masked())
			}
		}
		if len(rules.Pods) == 0 {
			return fmt.Errorf("the node has no pod CIDR of the family of %s", network)
		}
		all = append(all, rules)
	}
	x.state.Masquerade = kind
	err := x.state.save()
	for _, rules := range all {
		err = errors.Join(err, x.host.Masquerade(ctx, rules))
	}
	if err != nil {
		return fmt.Errorf("masquerade with %s: %w", kind, err)
	}
	return nil
}

// finish lets pods in. It fails only for the first plan; resync tries again
// for the others.
func (x *executor) finish() error {
	x.driver.finished = true
	if err := x.writeConflist(); err != nil {
		if !x.done {
			return err
		}
		x.log.Error("network plan not finished", "error", err)
	}
	x.done = true
	return nil
}

func (x *executor) writeConflist() error {
	if len(x.plan.Conflist) == 0 {
		return nil
	}
	if err := os.MkdirAll(x.dir, 0o755); err != nil {
		return fmt.Errorf("CNI configuration: %w", err)
	}
	path := filepath.Join(x.dir, x.plan.ConflistName)
	changed, err := atomicfile.WriteIfChanged(path, x.plan.Conflist, 0o644)
	if err != nil {
		return fmt.Errorf("CNI configuration: %w", err)
	}
	x.state.Conflist, x.state.ConflistSum = x.plan.ConflistName, sum(x.plan.Conflist)
	if err := x.state.save(); err != nil {
		return err
	}
	if changed {
		x.log.Info("CNI configuration written", "file", path)
	}
	x.warnAboutOthers()
	return nil
}

// warnAboutOthers names configurations that the runtime prefers to ours: it
// takes the first by name.
func (x *executor) warnAboutOthers() {
	entries, err := os.ReadDir(x.dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		switch filepath.Ext(e.Name()) {
		case ".conf", ".conflist", ".json":
			if strings.Compare(e.Name(), x.plan.ConflistName) < 0 {
				x.log.Warn("another CNI configuration comes before cleat's: pods use that one", "file", filepath.Join(x.dir, e.Name()))
			}
		}
	}
}

// resync sets again what somebody may have taken away.
func (x *executor) resync(ctx context.Context) {
	if !x.done || !x.begun {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := x.masquerade(ctx, x.plan, x.request)
	if x.driver != nil && x.driver.finished {
		err = errors.Join(err, x.writeConflist())
	}
	if err != nil && ctx.Err() == nil {
		x.log.Error("network plan not kept up", "error", err)
	}
}

// stopDriver waits for the driver to end.
func (x *executor) stopDriver() {
	if x.driver != nil {
		x.driver.stop()
		x.driver = nil
	}
}
