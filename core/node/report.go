package node

import (
	"time"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/component/deployer"
	"github.com/cleat-dev/cleat/core/internal/paths"
	"github.com/cleat-dev/cleat/core/internal/serverstatus"
	"github.com/cleat-dev/cleat/core/internal/version"
	"github.com/cleat-dev/cleat/core/kernel"
	"github.com/cleat-dev/cleat/core/pluginhost"
	"github.com/cleat-dev/cleat/hostabi"
)

// newReporter joins what the units know of themselves: to sources it adds what
// servers and agents have in common. started is the zero of the boot timeline.
func newReporter(cfg *config.Config, started time.Time, k *kernel.Kernel, sources serverstatus.Sources) *serverstatus.Reporter {
	data := paths.Data(cfg.DataDir)
	sources.Units, sources.Now = k.Status, time.Now
	sources.Certificates = func(now time.Time) []serverstatus.Certificate {
		return serverstatus.ReadCertificates(now, data.TLS(""), data.AgentTLS(""))
	}
	return &serverstatus.Reporter{
		About: serverstatus.Status{
			Version: version.Cleat, Kubernetes: version.Kubernetes, Node: cfg.NodeName, StartedAt: started.Round(0),
		},
		Sources: sources,
	}
}

func reportedAddons(deploy *deployer.Deployer) (all []serverstatus.Addon) {
	for _, a := range deploy.Addons() {
		all = append(all, reportedAddon(a))
	}
	return all
}

func reportedAddon(a deployer.Addon) serverstatus.Addon {
	state := serverstatus.AddonPending
	switch {
	case a.Error != "":
		state = serverstatus.AddonFailed
	case a.Applied:
		state = serverstatus.AddonApplied
	}
	return serverstatus.Addon{Name: a.Name, File: a.File, State: state, Objects: a.Objects, Error: a.Error}
}

// report is what a Status says of the plugins.
func (s *pluginSide) report() []serverstatus.Plugin {
	host := s.host.Load()
	if host == nil {
		return nil
	}
	var out []serverstatus.Plugin
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range host.Stats() {
		r := reportedPlugin(p)
		if last, ok := s.last[p.Name]; ok && last.version == p.Version && !p.Shadow {
			r.LastFault = &serverstatus.LastTime{At: last.at, Text: last.text}
		}
		out = append(out, r)
	}
	for _, p := range host.Disabled() {
		out = append(out, serverstatus.Plugin{
			Name: p.Name, Version: p.Version, Points: pointNames(p.Points), Digest: shortDigest(p.SHA256), State: serverstatus.PluginDisabled,
		})
	}
	return out
}

func reportedPlugin(p pluginhost.PluginStats) serverstatus.Plugin {
	state := serverstatus.PluginActive
	switch {
	case p.Breaker == pluginhost.BreakerOpen:
		state = serverstatus.PluginFaulted
	case p.Shadow:
		state = serverstatus.PluginShadow
	}
	// The counters are read one after the other while calls go on.
	allowed := p.Calls - min(p.Calls, p.Denies+p.Faults)
	return serverstatus.Plugin{
		Name: p.Name, Version: p.Version, Points: pointNames(p.Points), Digest: shortDigest(p.SHA256), State: state,
		Calls: p.Calls, Allowed: allowed, Denied: p.Denies, Faults: p.Faults, Mutations: p.Mutations,
		P50US: microseconds(p.Latency.Quantile(0.5)), P99US: microseconds(p.Latency.Quantile(0.99)),
	}
}

func microseconds(d time.Duration) float64 {
	return float64(d.Round(10*time.Nanosecond)) / float64(time.Microsecond)
}

func shortDigest(sha256 string) string { return sha256[:min(len(sha256), 12)] }

func pointNames(list []hostabi.Point) []string {
	names := make([]string, len(list))
	for i, p := range list {
		names[i] = string(p)
	}
	return names
}
