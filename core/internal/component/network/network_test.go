package network

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/paths"
	"github.com/cleat-dev/cleat/core/kernel"
	"github.com/cleat-dev/cleat/hostabi"
)

// recorder is a host and a flannel that write down what is asked of them.
type recorder struct {
	mu       sync.Mutex
	calls    []string
	noted    chan struct{} // holds a token when calls grew
	failing  map[string]error
	inUse    bool
	flannels chan error // what Run of flannel ends with
}

func newRecorder() *recorder {
	return &recorder{noted: make(chan struct{}, 1), failing: map[string]error{}, flannels: make(chan error)}
}

func (r *recorder) note(format string, args ...any) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	call := fmt.Sprintf(format, args...)
	r.calls = append(r.calls, call)
	select {
	case r.noted <- struct{}{}:
	default:
	}
	name, _, _ := strings.Cut(call, " ")
	return r.failing[name]
}

func (r *recorder) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	calls := r.calls
	r.calls = nil
	return calls
}

func (r *recorder) Links() ([]link, error) {
	return []link{{Name: "lo", MTU: 65536}, {Name: "up0", MTU: 1400, Addresses: []netip.Addr{netip.MustParseAddr("10.99.0.1")}}}, nil
}

func (r *recorder) SetSysctl(_ context.Context, name, value string) error {
	return r.note("sysctl %s=%s", name, value)
}

func (r *recorder) RemoveLink(name string) (bool, error) {
	if r.inUse {
		return false, errLinkInUse
	}
	return true, r.note("unlink %s", name)
}

func (r *recorder) Masquerade(_ context.Context, m masquerade) error {
	return r.note("masquerade %s %v %v", m.Kind, m.Network, m.Pods)
}

func (r *recorder) Unmasquerade(_ context.Context, kind string) error {
	return r.note("unmasquerade %s", kind)
}

func (r *recorder) Run(ctx context.Context, plan hostabi.FlannelPlan, ready func()) error {
	if err := r.note("flannel %s", plan.Backend); err != nil {
		return err
	}
	ready()
	select {
	case err := <-r.flannels:
		return err
	case <-ctx.Done():
		return r.note("stopped %s", plan.Backend)
	}
}

func (r *recorder) Clean(_ context.Context, plan hostabi.FlannelPlan) error {
	return r.note("clean %s", plan.Backend)
}

// cniFunc answers as a plugin does.
type cniFunc func(req hostabi.CNIRequest) (hostabi.CNIPlan, error)

func (f cniFunc) PlanNetwork(_ context.Context, req hostabi.CNIRequest) (hostabi.CNIPlan, error) {
	return f(req)
}

func conflist(marker string) json.RawMessage {
	return json.RawMessage(fmt.Sprintf(`{"name":%q,"cniVersion":"1.0.0","plugins":[{"type":"bridge"}]}`, marker))
}

func flannelPlan(req hostabi.CNIRequest) (hostabi.CNIPlan, error) {
	if len(req.Node.PodCIDRs) == 0 {
		return hostabi.CNIPlan{}, errors.New("pod CIDR missing")
	}
	return hostabi.CNIPlan{
		Driver: hostabi.CNIDriverFlannel, ConflistName: "10-f.conflist", Conflist: conflist(req.Node.PodCIDRs[0]),
		Sysctls: map[string]string{"net.ipv4.ip_forward": "1"},
		Flannel: &hostabi.FlannelPlan{Backend: "vxlan", Network: "10.42.0.0/16", Interface: req.Node.Interface, NFTables: true},
	}, nil
}

func bridgePlan(hostabi.CNIRequest) (hostabi.CNIPlan, error) {
	return hostabi.CNIPlan{
		Driver: hostabi.CNIDriverBridge, ConflistName: "10-b.conflist", Conflist: conflist("b"), RemoveLinks: []string{"flannel.1"},
		Bridge: &hostabi.BridgePlan{Name: "cni0", Network: "10.42.0.0/16", Masquerade: true},
	}, nil
}

func nonePlan(hostabi.CNIRequest) (hostabi.CNIPlan, error) {
	return hostabi.CNIPlan{Driver: hostabi.CNIDriverNone}, nil
}

type fixture struct {
	*recorder
	t      *testing.T
	c      *Component
	client *fake.Clientset
	log    bytes.Buffer
	cancel context.CancelFunc
	ready  chan struct{}
	ended  chan error
}

func newFixture(t *testing.T) *fixture {
	f := &fixture{recorder: newRecorder(), t: t, client: fake.NewClientset()}
	f.c = &Component{
		Config: &config.Config{Options: config.Options{NodeName: "self", CNI: "cni-test", ClusterCIDR: []string{"10.42.0.0/16"}, NodeIP: []string{"10.99.0.1"}},
			Host: config.Host{DefaultInterface: "up0"}},
		Data:      paths.Data(t.TempDir()),
		Client:    func() (kubernetes.Interface, error) { return f.client, nil },
		ProxyMode: hostabi.ProxyModeNFTables,
		Flannel:   f.recorder,
		Log:       slog.New(slog.NewTextHandler(&f.log, nil)),
		host:      f.recorder,
		dir:       filepath.Join(t.TempDir(), "net.d"),
	}
	if err := os.MkdirAll(f.c.Data.Agent(), 0o700); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fixture) node(podCIDRs ...string) {
	f.t.Helper()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "self"}, Spec: corev1.NodeSpec{PodCIDRs: podCIDRs}}
	nodes := f.client.CoreV1().Nodes()
	_, err := nodes.Update(f.t.Context(), n, metav1.UpdateOptions{})
	if err != nil {
		_, err = nodes.Create(f.t.Context(), n, metav1.CreateOptions{})
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) start(plan cniFunc) {
	f.c.CNI = plan
	ctx, cancel := context.WithCancel(f.t.Context())
	f.cancel, f.ready, f.ended = cancel, make(chan struct{}, 100), make(chan error, 1)
	f.t.Cleanup(cancel)
	go func() { f.ended <- f.c.Run(ctx, func() { f.ready <- struct{}{} }) }()
}

func (f *fixture) waitReady() {
	f.t.Helper()
	select {
	case <-f.ready:
	case err := <-f.ended:
		f.t.Fatalf("ended: %v", err)
	case <-time.After(time.Minute):
		f.t.Fatalf("not ready: %s", &f.log)
	}
}

func (f *fixture) stop() {
	f.t.Helper()
	f.cancel()
	if err := <-f.ended; err != nil {
		f.t.Error(err)
	}
}

// expect waits until exactly these calls were made.
func (f *fixture) expect(want ...string) {
	f.t.Helper()
	deadline := time.After(time.Minute)
	var got []string
	for {
		got = append(got, f.take()...)
		if slices.Equal(got, want) {
			return
		}
		if len(got) > len(want) {
			f.t.Fatalf("calls %q, want %q", got, want)
		}
		select {
		case <-f.noted:
		case <-deadline:
			f.t.Fatalf("calls %q, want %q; log:\n%s", got, want, &f.log)
		}
	}
}

func (f *fixture) files() []string {
	f.t.Helper()
	found, err := filepath.Glob(filepath.Join(f.c.dir, "*"))
	if err != nil {
		f.t.Fatal(err)
	}
	for i := range found {
		found[i] = filepath.Base(found[i])
	}
	return found
}

func TestFlannelWaitsForPodCIDR(t *testing.T) {
	f := newFixture(t)
	f.start(flannelPlan)
	f.node()
	f.node("10.42.0.0/24")
	f.waitReady()
	f.expect("sysctl net.ipv4.ip_forward=1", "flannel vxlan")
	content, err := os.ReadFile(filepath.Join(f.c.dir, "10-f.conflist"))
	if err != nil || !bytes.Equal(content, conflist("10.42.0.0/24")) {
		t.Errorf("conflist %s, %v", content, err)
	}

	// A new pod CIDR is a new plan.
	f.node("10.42.7.0/24")
	f.waitReady()
	f.expect("stopped vxlan", "sysctl net.ipv4.ip_forward=1", "flannel vxlan")
	content, err = os.ReadFile(filepath.Join(f.c.dir, "10-f.conflist"))
	if err != nil || !bytes.Equal(content, conflist("10.42.7.0/24")) {
		t.Errorf("conflist %s, %v", content, err)
	}

	// A driver that fails is started again, and Check says so meanwhile.
	f.flannels <- errors.New("link gone")
	deadline := time.Now().Add(time.Minute)
	for f.c.Check(t.Context()) == nil {
		if time.Now().After(deadline) {
			t.Fatal("Check finds nothing wrong")
		}
	}
	f.expect("flannel vxlan")
	f.stop()
	f.expect("stopped vxlan")
	if got := f.files(); !slices.Equal(got, []string{"10-f.conflist"}) {
		t.Errorf("after stop: %q", got)
	}
}

func TestPlansFollowEachOther(t *testing.T) {
	f := newFixture(t)
	f.node("10.42.0.0/24", "fd00:42::/64")
	f.start(flannelPlan)
	f.waitReady()
	f.stop()
	f.expect("sysctl net.ipv4.ip_forward=1", "flannel vxlan", "stopped vxlan")

	f.start(func(req hostabi.CNIRequest) (hostabi.CNIPlan, error) {
		plan, err := flannelPlan(req)
		plan.Flannel.Backend = "host-gw"
		return plan, err
	})
	f.waitReady()
	f.stop()
	f.expect("clean vxlan", "sysctl net.ipv4.ip_forward=1", "flannel host-gw", "stopped host-gw")

	f.start(bridgePlan)
	f.waitReady()
	f.expect("clean host-gw", "unlink flannel.1", "masquerade iptables 10.42.0.0/16 [10.42.0.0/24]")
	if got := f.files(); !slices.Equal(got, []string{"10-b.conflist"}) {
		t.Errorf("bridge: %q", got)
	}
	f.stop()

	f.start(func(req hostabi.CNIRequest) (hostabi.CNIPlan, error) {
		plan, err := bridgePlan(req)
		plan.Bridge.NetworkV6 = "fd00:42::/48"
		return plan, err
	})
	f.waitReady()
	f.expect("unlink flannel.1", "masquerade iptables 10.42.0.0/16 [10.42.0.0/24]", "masquerade iptables fd00:42::/48 [fd00:42::/64]")
	f.stop()

	f.start(nonePlan)
	f.waitReady()
	f.expect("unmasquerade iptables")
	if got := f.files(); len(got) != 0 {
		t.Errorf("none: %q", got)
	}
	f.stop()
}

func TestForeignFilesStay(t *testing.T) {
	f := newFixture(t)
	f.node("10.42.0.0/24")
	if err := os.MkdirAll(f.c.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(name, content string) {
		if err := os.WriteFile(filepath.Join(f.c.dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("05-other.conflist", "{}")
	f.start(bridgePlan)
	f.waitReady()
	f.stop()
	if !strings.Contains(f.log.String(), "another CNI configuration comes before") {
		t.Errorf("no warning: %s", &f.log)
	}
	write("10-b.conflist", "edited")
	f.start(nonePlan)
	f.waitReady()
	f.stop()
	if got := f.files(); !slices.Equal(got, []string{"05-other.conflist", "10-b.conflist"}) {
		t.Errorf("left: %q", got)
	}
}

// TestDeletedNode: a machine whose Node was deleted says so, until there is one again.
func TestDeletedNode(t *testing.T) {
	f := newFixture(t)
	f.node()
	f.start(nonePlan)
	f.waitReady()
	await := func(what string, is func(error) bool) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := kernel.Poll(ctx, time.Millisecond, func(ctx context.Context) error {
			if said := f.c.Check(ctx); !is(said) {
				return fmt.Errorf("Check says %v", said)
			}
			return nil
		}); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	if err := f.client.CoreV1().Nodes().Delete(t.Context(), "self", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	await("deleted", func(err error) bool {
		return err != nil && strings.Contains(err.Error(), `node "self" was deleted: restart cleat`)
	})
	f.node()
	await("there again", func(err error) bool { return err == nil })
	f.stop()
	if log := f.log.String(); strings.Count(log, "was deleted: restart cleat") != 1 {
		t.Errorf("the log says\n%s", log)
	}
}

func TestNoneNeedsNoPodCIDR(t *testing.T) {
	f := newFixture(t)
	f.node()
	f.start(nonePlan)
	f.waitReady()
	f.stop()
}

func TestFirstPlanFails(t *testing.T) {
	for _, tc := range []struct {
		name string
		plan cniFunc
		fail string
		want string
	}{
		{"plugin", func(hostabi.CNIRequest) (hostabi.CNIPlan, error) {
			return hostabi.CNIPlan{}, errors.New("unknown backend")
		}, "", "network plan of cni-test: unknown backend"},
		{"driver", func(hostabi.CNIRequest) (hostabi.CNIPlan, error) {
			return hostabi.CNIPlan{Driver: "magic"}, nil
		}, "", `driver: "magic" is none of`},
		{"host", bridgePlan, "masquerade", "masquerade with iptables: boom"},
		{"manifests", func(hostabi.CNIRequest) (hostabi.CNIPlan, error) {
			return hostabi.CNIPlan{Driver: hostabi.CNIDriverNone, Manifests: []hostabi.PlanManifest{{Name: "a.yaml"}}}, nil
		}, "", "no deployer"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t)
			f.node("10.42.0.0/24")
			f.failing[tc.fail] = errors.New("boom")
			f.start(tc.plan)
			if err := <-f.ended; err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
}

func TestLaterPlanFails(t *testing.T) {
	f := newFixture(t)
	f.node("10.42.0.0/24")
	f.start(func(req hostabi.CNIRequest) (hostabi.CNIPlan, error) {
		if req.Node.PodCIDRs[0] != "10.42.0.0/24" {
			return hostabi.CNIPlan{}, errors.New("do not like it")
		}
		return flannelPlan(req)
	})
	f.waitReady()
	f.expect("sysctl net.ipv4.ip_forward=1", "flannel vxlan")
	f.node("10.42.1.0/24")
	f.node("10.42.0.0/24", "fd00::/64")
	f.waitReady() // the plan after the refused one
	f.stop()
	f.expect("stopped vxlan", "sysctl net.ipv4.ip_forward=1", "flannel vxlan", "stopped vxlan")
}

func TestLinkInUseStays(t *testing.T) {
	f := newFixture(t)
	f.inUse = true
	f.node("10.42.0.0/24")
	f.start(bridgePlan)
	f.waitReady()
	f.stop()
	if !strings.Contains(f.log.String(), "while pods are attached") {
		t.Error(f.log.String())
	}
}

func TestRequestStatesFacts(t *testing.T) {
	f := newFixture(t)
	f.c.Config.Options.FlannelBackend = "host-gw"
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "self"}, Spec: corev1.NodeSpec{PodCIDRs: []string{"10.42.0.0/24"}}}
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: "self"}, {Type: corev1.NodeInternalIP, Address: "10.99.0.1"}}
	got, err := f.c.request(f.recorder, n)
	if err != nil {
		t.Fatal(err)
	}
	want := hostabi.CNINode{Name: "self", Addresses: []string{"10.99.0.1"}, Interface: "up0", MTU: 1400, PodCIDRs: []string{"10.42.0.0/24"}}
	if fmt.Sprint(got.Node) != fmt.Sprint(want) || got.FlannelBackend != "host-gw" || got.Plugin != "cni-test" {
		t.Errorf("%+v", got)
	}

	f.c.Config.FlannelIface = "lo"
	if got, err = f.c.request(f.recorder, n); err != nil || got.Node.Interface != "lo" || got.Node.MTU != 65536 {
		t.Errorf("--flannel-iface lo: %+v, %v", got.Node, err)
	}
	f.c.Config.FlannelIface = "wlan9"
	if _, err = f.c.request(f.recorder, n); err == nil || !strings.Contains(err.Error(), `--flannel-iface "wlan9"`) {
		t.Errorf("a link that is not there: %v", err)
	}
}
