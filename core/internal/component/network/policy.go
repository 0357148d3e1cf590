package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"

	"github.com/cleat-dev/cleat/hostabi"
)

// NetworkPolicy enforces NetworkPolicies on the pods of this node.
type NetworkPolicy interface {
	// Guard lets nothing through from or to the node's pods until Run knows them.
	// Rules that are in force already stay.
	Guard(ctx context.Context, facts PolicyFacts) error
	// Run enforces until ctx is done. It calls ready once the policies are in force
	// that there are; they stay in force when it ends.
	Run(ctx context.Context, facts PolicyFacts, ready func()) error
	// Clean removes all rules.
	Clean(ctx context.Context) error
}

// PolicyFacts are what the rules of this node depend on besides the cluster.
type PolicyFacts struct {
	Local  []netip.Prefix `json:"local"`  // of the node's pods, one a family
	Bridge string         `json:"bridge"` // link that pods are plugged into, "" = none
}

func checkPolicy(p *hostabi.NetworkPolicyPlan) error {
	switch {
	case p == nil:
		return nil
	case p.Driver != hostabi.PolicyDriverNFTables:
		return fmt.Errorf("network_policy.driver: %q is not %s", p.Driver, hostabi.PolicyDriverNFTables)
	case p.Bridge != "" && !validLink(p.Bridge):
		return fmt.Errorf("network_policy.bridge: %q is no link name", p.Bridge)
	}
	return nil
}

// Prepare puts back what a restart of the machine took away, before there is a
// runtime to start pods: rules are not on disk, but the CNI configuration is.
func (c *Component) Prepare(ctx context.Context) error {
	st, err := loadState(c.statePath())
	if err != nil || st.Policy == nil || c.Policy == nil {
		return nil // Run tells of the error
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := c.Policy.Guard(ctx, *st.Policy); err != nil {
		c.Log.Error("pods are not guarded until the network plan is carried out", "error", err)
	}
	return nil
}

// enforce starts the driver of NetworkPolicy beside the other one.
func (x *executor) enforce(ctx context.Context, plan hostabi.CNIPlan, request hostabi.CNIRequest) error {
	if plan.NetworkPolicy == nil {
		return nil
	}
	if x.policy == nil {
		return errors.New("this node has no driver for it")
	}
	facts := PolicyFacts{Bridge: plan.NetworkPolicy.Bridge}
	for _, text := range request.Node.PodCIDRs {
		pods, err := netip.ParsePrefix(text)
		if err != nil {
			return fmt.Errorf("pod CIDR %q: %w", text, err)
		}
		facts.Local = append(facts.Local, pods.Masked())
	}
	if len(facts.Local) == 0 {
		return errors.New("the node has no pod CIDR yet")
	}
	if facts.Bridge != "" {
		// Otherwise the packet filter does not see what stays on a bridge.
		for _, name := range []string{"net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables"} {
			err := x.host.SetSysctl(ctx, name, "1")
			if errors.Is(err, os.ErrNotExist) {
				err = errors.New("this kernel does not have it; load br_netfilter, or do without policies with --disable-network-policy")
			}
			if err != nil {
				return fmt.Errorf("sysctl %s=1: %w", name, err)
			}
		}
	}
	x.state.Policy = &facts
	if err := x.state.save(); err != nil {
		return err
	}
	if err := x.policy.Guard(ctx, facts); err != nil {
		return err
	}
	x.driver = both(x.driver, startDriver(ctx, x.log, x.policyHealth, func(ctx context.Context, ready func()) error {
		return x.policy.Run(ctx, facts, ready)
	}))
	return nil
}

// both is up when two drivers are.
func both(a, b *driver) *driver {
	stopped := make(chan struct{})
	d := &driver{up: make(chan struct{}), stop: sync.OnceFunc(func() {
		close(stopped)
		a.stop()
		b.stop()
	})}
	go func() {
		for _, up := range []<-chan struct{}{a.up, b.up} {
			select {
			case <-up:
			case <-stopped:
				return
			}
		}
		close(d.up)
	}()
	return d
}
