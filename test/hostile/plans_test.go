package hostile

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/core/pluginhost"
	"github.com/cleat-dev/cleat/core/pluginhost/guesttest"
	"github.com/cleat-dev/cleat/hostabi"
)

// TestPlanAttacks misbehaves in the hooks that no API request waits for: where
// state lives, how pods reach each other, what a file means.
func TestPlanAttacks(t *testing.T) {
	points := map[hostabi.Point]struct {
		hook string
		ask  func(h *pluginhost.Host) error
	}{
		hostabi.PointDatastore: {hostabi.ExportDatastorePlan, func(h *pluginhost.Host) error {
			_, err := h.PlanDatastore(context.Background(), hostabi.DatastoreRequest{Endpoint: "sqlite://user:secret@host"})
			return err
		}},
		hostabi.PointCNI: {hostabi.ExportCNIPlan, func(h *pluginhost.Host) error {
			_, err := h.PlanNetwork(context.Background(), hostabi.CNIRequest{Plugin: "attacker"})
			return err
		}},
		hostabi.PointDeployer: {hostabi.ExportDeployerRender, func(h *pluginhost.Host) error {
			_, _, err := h.Render(context.Background(), deployInput())
			return err
		}},
	}
	answer := func(text string) func(m *module) []byte {
		return func(m *module) []byte {
			m.memories = [][]byte{limits(2, 0)}
			m.data = [][]byte{active(1024, []byte(text))}
			return join(guesttest.I32(1024), guesttest.I32(int32(len(text))), guesttest.Call(m.hostFunc(hostabi.ModuleCore, "output_set")))
		}
	}
	attacks := map[string]struct {
		write func(m *module) []byte
		says  string
	}{
		"trap":            {constant(guesttest.Trap()), "the guest crashed"},
		"loop":            {constant(guesttest.Forever(nil)), "did not finish within its deadline"},
		"an error number": {constant(guesttest.I32(-1)), "EINVAL"},
		"no such result":  {constant(guesttest.I32(7)), "returned 7, which is no result of this hook"},
		"no output":       {constant(guesttest.I32(0)), "says that it decided, but set no output"},
		"no JSON":         {answer("{"), "output: json: "},
		"no UTF-8":        {answer("\"\xff\""), "output: json: not UTF-8"},
		"deep JSON":       {answer(strings.Repeat("[", 60_000)), "output: json: "},
		"a duplicate key": {answer(`{"a":1,"a":2}`), "appears twice"},
		"a wrong type":    {answer(`[]`), "cannot unmarshal"},
		"handles of others": {func(m *module) []byte {
			get := capable(m, hostabi.ModuleRequest).hostFunc(hostabi.ModuleRequest, "request_get")
			return join(guesttest.I32(1), guesttest.I32(0), guesttest.I32(0), guesttest.I32(100), guesttest.Call(get))
		}, "EBADF"},
	}
	for point, p := range points {
		for name, a := range attacks {
			for _, policy := range []hostabi.FailurePolicy{hostabi.FailurePolicyFail, hostabi.FailurePolicyIgnore} {
				t.Run(string(point)+", "+name+", "+string(policy), func(t *testing.T) {
					m := plan("attacker", point)
					m.manifest.FailurePolicy = policy
					if name != "loop" {
						m.manifest.Limits.DeadlineMS = 10_000 // what it is refused for is not its pace
					}
					m.hook(p.hook, a.write(m))
					h, log := alone(t, m.bytes())
					begin := time.Now()
					err := p.ask(h)
					if spent := time.Since(begin); name == "loop" && spent > deadline+stallMargin {
						t.Errorf("took %s", spent)
					}
					got := log.String()
					if policy == hostabi.FailurePolicyFail {
						var fault *pluginhost.Fault
						if !errors.As(err, &fault) {
							t.Fatalf("got %v, want a fault", err)
						}
						got = err.Error()
					} else if wordErr := lacks(got, "plugin fault ignored"); wordErr != nil {
						t.Errorf("the log %v", wordErr)
					}
					if err := lacks(strings.ReplaceAll(got, `\"`, `"`), "attacker", a.says); err != nil {
						t.Error(err)
					}
					if strings.Contains(got, "secret") {
						t.Errorf("a password is in it: %s", got)
					}
				})
			}
		}
	}
}

// TestCallerGoesAway cancels requests in the middle of an endless guest: the
// caller is free at once, and what the guest did is not held against anybody.
func TestCallerGoesAway(t *testing.T) {
	m := admission("slow")
	m.manifest.Limits.DeadlineMS = 30_000
	say := m.hostFunc(hostabi.ModuleCore, "log")
	m.data = [][]byte{active(1024, []byte("entered"))}
	m.hook(hostabi.ExportAdmissionValidate, guesttest.I32(0), guesttest.I32(1024), guesttest.I32(7), guesttest.Call(say), guesttest.Drop(), guesttest.Forever(nil))
	entered := make(chan struct{}, 100)
	log := &logBook{onLine: func(line string) {
		if strings.Contains(line, "entered") {
			entered <- struct{}{}
		}
	}}
	h := open(t, options(t, log, lockOf(t, m.bytes())...))
	for range 20 {
		ctx, cancel := context.WithCancel(context.Background())
		answered := make(chan error)
		go func() {
			_, err := h.Validate(ctx, request("pods"))
			answered <- err
		}()
		<-entered
		begin := time.Now()
		cancel()
		if err := <-answered; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if spent := time.Since(begin); spent > stallMargin {
			t.Errorf("took %s to let go", spent)
		}
	}
	if s := h.Stats()[0]; s.Breaker != pluginhost.BreakerClosed || s.Timeouts != 0 {
		t.Errorf("held against the plugin: %+v", s)
	}
}
