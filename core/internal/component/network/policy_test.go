package network

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/hostabi"
)

// policyRecorder is a driver of NetworkPolicy that writes down what is asked of it.
type policyRecorder struct {
	*recorder
	ready chan struct{} // Run is ready when it is closed
}

func (r policyRecorder) Guard(_ context.Context, facts PolicyFacts) error {
	return r.note("guard %v %s", facts.Local, facts.Bridge)
}

func (r policyRecorder) Run(ctx context.Context, facts PolicyFacts, ready func()) error {
	if err := r.note("enforce %v %s", facts.Local, facts.Bridge); err != nil {
		return err
	}
	select {
	case <-r.ready:
		ready()
		<-ctx.Done()
	case <-ctx.Done():
	}
	return r.note("enforced")
}

func (r policyRecorder) Clean(context.Context) error { return r.note("unenforce") }

func newPolicyFixture(t *testing.T) (*fixture, policyRecorder) {
	f := newFixture(t)
	r := policyRecorder{f.recorder, make(chan struct{})}
	f.c.Policy = r
	return f, r
}

// policyPlan has no driver of its own, so that the calls have one order.
func policyPlan(req hostabi.CNIRequest) (hostabi.CNIPlan, error) {
	plan := hostabi.CNIPlan{Driver: hostabi.CNIDriverNone, ConflistName: "10-p.conflist", Conflist: conflist("p")}
	if req.NetworkPolicy {
		plan.NetworkPolicy = &hostabi.NetworkPolicyPlan{Driver: hostabi.PolicyDriverNFTables, Bridge: "cni0"}
	}
	return plan, nil
}

const policySysctls = "sysctl net.bridge.bridge-nf-call-iptables=1\nsysctl net.bridge.bridge-nf-call-ip6tables=1"

func TestPolicyLife(t *testing.T) {
	f, r := newPolicyFixture(t)
	f.node("10.42.0.0/24", "fd42::/64")
	f.start(policyPlan)
	facts := "[10.42.0.0/24 fd42::/64] cni0"
	f.expect(append(strings.Split(policySysctls, "\n"), "guard "+facts, "enforce "+facts)...)
	if got := f.files(); len(got) != 0 {
		t.Errorf("%q before the policies are in force: pods would start", got)
	}
	select {
	case <-f.ready:
		t.Error("ready before the policies are in force")
	default:
	}
	close(r.ready)
	f.waitReady()
	f.stop()
	f.expect("enforced")

	// The machine restarts: the rules are gone, the record is there.
	prepare := func() {
		t.Helper()
		if err := f.c.Prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	prepare()
	f.expect("guard " + facts)

	f.c.Config.DisableNetworkPolicy = true
	f.start(policyPlan)
	f.waitReady()
	f.stop()
	f.expect("unenforce")

	prepare()
	f.start(policyPlan)
	f.waitReady()
	f.stop()
	f.expect()
}

func TestPolicyFails(t *testing.T) {
	for _, tc := range []struct {
		name, fail, want string
		err              error
	}{
		{"no nft", "guard", "network_policy: boom", errors.New("boom")},
		{"no br_netfilter", "sysctl", "load br_netfilter, or do without policies with --disable-network-policy", os.ErrNotExist},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, _ := newPolicyFixture(t)
			f.node("10.42.0.0/24")
			f.failing[tc.fail] = tc.err
			f.start(policyPlan)
			if err := <-f.ended; err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
}

// TestPolicyRunFails: the network stays, the unit says what is wrong, the driver is started again.
func TestPolicyRunFails(t *testing.T) {
	f, r := newPolicyFixture(t)
	close(r.ready)
	f.failing["enforce"] = errors.New("boom")
	f.node("10.42.0.0/24")
	f.start(policyPlan)
	f.expect(append(strings.Split(policySysctls, "\n"), "guard [10.42.0.0/24] cni0", "enforce [10.42.0.0/24] cni0")...)
	f.expect("enforce [10.42.0.0/24] cni0")
	if err := f.c.Check(t.Context()); err == nil || err.Error() != "NetworkPolicies: boom" {
		t.Errorf("Check: %v", err)
	}
	f.mu.Lock()
	delete(f.failing, "enforce")
	f.mu.Unlock()
	f.waitReady()
	if err := f.c.Check(t.Context()); err != nil {
		t.Errorf("Check: %v", err)
	}
	f.stop()
	if _, err := os.Stat(filepath.Join(f.c.dir, "10-p.conflist")); err != nil {
		t.Error(err)
	}
}
