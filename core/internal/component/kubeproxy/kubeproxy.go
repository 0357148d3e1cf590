// Package kubeproxy is the unit of kube-proxy: the node's service rules.
package kubeproxy

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/componentargs"
	"github.com/cleat-dev/cleat/core/internal/healthprobe"
	"github.com/cleat-dev/cleat/core/kernel"
	"github.com/cleat-dev/cleat/hostabi"
)

const (
	healthAddress  = "127.0.0.1:10256"
	metricsAddress = "127.0.0.1:10249"
	livezURL       = "http://" + healthAddress + "/livez"

	conntrackMax = "/proc/sys/net/netfilter/nf_conntrack_max"
)

// Mode is how service rules are written: nftables unless --kube-proxy-arg
// proxy-mode says otherwise. The network's own rules follow it.
func Mode(cfg *config.Config) string {
	return componentargs.Value("proxy-mode", map[string]string{"proxy-mode": hostabi.ProxyModeNFTables}, cfg.KubeProxyArg)
}

// Args are the arguments of the embedded kube-proxy.
func Args(cfg *config.Config, kubeconfig string) []string {
	args := map[string]string{
		"cluster-cidr":         strings.Join(cfg.ClusterCIDR, ","),
		"healthz-bind-address": healthAddress,
		"hostname-override":    cfg.NodeName,
		"kubeconfig":           kubeconfig,
		"metrics-bind-address": metricsAddress,
		"profiling":            "false",
		"proxy-mode":           Mode(cfg),
	}
	maps.Copy(args, conntrackArgs(conntrackMax))
	return componentargs.Merge(args, cfg.KubeProxyArg)
}

// conntrackArgs leaves the connection tracking table alone where its size, in
// the file maximum, is not ours to set, as in a network namespace other than the
// machine's first: kube-proxy does not start if it tries to and fails.
func conntrackArgs(maximum string) map[string]string {
	if unix.Access(maximum, unix.W_OK) == nil {
		return nil
	}
	return map[string]string{
		"conntrack-max-per-core": "0", "conntrack-min": "0",
		"conntrack-tcp-timeout-established": "0s", "conntrack-tcp-timeout-close-wait": "0s",
	}
}

// Component is the unit. Make it with New.
type Component struct {
	wanted func() (bool, error)
	run    func(ctx context.Context) error
	probe  *healthprobe.Prober
	off    atomic.Bool
}

// New returns the unit; run keeps the rules until its context is done. wanted,
// which is asked first, reports whether this cluster has a kube-proxy at all: a
// node that joins knows only then.
func New(wanted func() (bool, error), run func(ctx context.Context) error) *Component {
	return &Component{wanted: wanted, run: run, probe: healthprobe.New(livezURL, nil)}
}

// Run keeps the rules; it is ready when they were written once.
func (c *Component) Run(ctx context.Context, ready func()) error {
	defer c.probe.Close()
	wanted, err := c.wanted()
	if err != nil {
		return err
	}
	if !wanted {
		c.off.Store(true)
		ready()
		<-ctx.Done()
		return nil
	}
	// It tries for ever to get a port that is taken, and works without.
	if err := healthprobe.Free(ctx, healthAddress, metricsAddress); err != nil {
		return err
	}
	return kernel.RunProbed(ctx, ready, c.run, 50*time.Millisecond, c.synced)
}

// Check asks whether the rules are up to date.
func (c *Component) Check(ctx context.Context) error {
	if c.off.Load() {
		return nil
	}
	return c.probe.Check(ctx)
}

// synced reads the per-family status, which appears with the first write.
func (c *Component) synced(ctx context.Context) error {
	body, err := c.probe.Body(ctx)
	if err != nil {
		return err
	}
	var health struct {
		Status map[string]struct {
			LastUpdated time.Time `json:"lastUpdated"`
		} `json:"status"`
	}
	if err := json.Unmarshal(body, &health); err != nil {
		return err
	}
	for _, family := range health.Status {
		if !family.LastUpdated.IsZero() {
			return nil
		}
	}
	return errors.New("no service rules written yet")
}
