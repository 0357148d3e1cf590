package network

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/cleat-dev/cleat/core/kernel"
	"github.com/cleat-dev/cleat/hostabi"
)

func nodesWith(cidrs ...string) []corev1.Node {
	var out []corev1.Node
	for i, list := range cidrs {
		n := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("other", i)}}
		if list != "" {
			n.Spec.PodCIDRs = strings.Split(list, ",")
		}
		out = append(out, n)
	}
	return out
}

func TestWhyNoPodCIDR(t *testing.T) {
	const (
		wayOut = "; delete the Node of a machine that is gone (kubectl delete node), or make a new cluster with a wider --cluster-cidr"
		others = "the controller manager of a server is to give this node its share"
	)
	for _, tc := range []struct {
		name, ranges string
		nodes        []corev1.Node
		reason, want string
	}{
		{"nobody has one", "10.42.0.0/16", nodesWith("", ""), reasonPending, others},
		{"room", "10.42.0.0/23", nodesWith("10.42.1.0/24", ""), reasonPending,
			"--cluster-cidr 10.42.0.0/23 gives a /24 to each node, and 1 of 2 are taken; " + others},
		{"none left", "10.42.0.0/23", nodesWith("10.42.1.0/24", "", "10.42.0.0/24"), reasonUsedUp,
			"the cluster's pod network is used up: --cluster-cidr 10.42.0.0/23 gives a /24 to each node, which is enough for 2, and all are taken" + wayOut},
		{"one in all", "10.42.0.0/24", nodesWith("10.42.0.0/24", ""), reasonUsedUp,
			"the cluster's pod network is used up: --cluster-cidr 10.42.0.0/24 gives a /24 to each node, which is enough for 1, and all are taken" + wayOut},
		{"one that is longer", "10.42.0.0/23", nodesWith("10.42.1.0/24", "10.42.0.0/25"), reasonPending,
			"--cluster-cidr 10.42.0.0/23 gives a /25 to each node, and 3 of 4 are taken; " + others},
		{"the second family", "10.42.0.0/16,fd42::/63", nodesWith("10.42.1.0/24,fd42::/64", "10.42.0.0/24,fd42:0:0:1::/64"), reasonUsedUp,
			"the cluster's pod network is used up: fd42::/63 of --cluster-cidr 10.42.0.0/16,fd42::/63 gives a /64 to each node, which is enough for 2, and all are taken" + wayOut},
		{"nonsense", "10.42.0.0/23", nodesWith("x,10.43.0.0/24,10.0.0.0/8,fd42::/64,::ffff:10.42.0.0/120", "10.42.0.0/24", "10.42.0.7/24"), reasonPending,
			"--cluster-cidr 10.42.0.0/23 gives a /24 to each node, and 1 of 2 are taken; " + others},
		{"a share of a single address", "fd42::/64", nodesWith("fd42::1/128"), reasonPending, others},
	} {
		t.Run(tc.name, func(t *testing.T) {
			reason, err := why(strings.Split(tc.ranges, ","), tc.nodes)
			if reason != tc.reason || err.Error() != tc.want {
				t.Errorf("got %s: %v\nwant %s: %s", reason, err, tc.reason, tc.want)
			}
		})
	}
}

// until waits for a condition.
func (f *fixture) until(what string, condition func() bool) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), time.Minute)
	defer cancel()
	err := kernel.Poll(ctx, 5*time.Millisecond, func(context.Context) error {
		if !condition() {
			return errors.New("not yet")
		}
		return nil
	})
	if err != nil {
		f.t.Fatalf("%s: %v", what, err)
	}
}

// condition waits until the Node says this of its network.
func (f *fixture) condition(status corev1.ConditionStatus, reason, part string) corev1.NodeCondition {
	f.t.Helper()
	var got corev1.NodeCondition
	f.until(fmt.Sprintf("the condition %s %s %q", status, reason, part), func() bool {
		node, err := f.client.CoreV1().Nodes().Get(f.t.Context(), "self", metav1.GetOptions{})
		if err != nil {
			f.t.Fatal(err)
		}
		got = conditionOf(node)
		return got.Status == status && got.Reason == reason && strings.Contains(got.Message, part)
	})
	return got
}

// TestPodNetworkUsedUp: a node that finds no room says so, asks again when there is
// some, and says when it has its share.
func TestPodNetworkUsedUp(t *testing.T) {
	f := newFixture(t)
	f.c.Config.ClusterCIDR = []string{"10.42.0.0/23"}
	f.c.lookEvery = 5 * time.Millisecond
	var asked atomic.Int32
	f.c.AllNodes = func() (kubernetes.Interface, error) {
		if asked.Add(1) == 1 {
			return nil, errors.New("no kubeconfig yet")
		}
		return f.client, nil
	}
	patches := func() (n int) {
		for _, a := range f.client.Actions() {
			if a.Matches("patch", "nodes") && a.GetSubresource() == "status" {
				n++
			}
		}
		return n
	}
	nodes := f.client.CoreV1().Nodes()
	for _, n := range nodesWith("10.42.0.0/24", "10.42.1.0/24") {
		if _, err := nodes.Create(t.Context(), &n, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	f.node()
	const address = "10.99.0.7"
	var saw atomic.Bool
	f.start(func(req hostabi.CNIRequest) (hostabi.CNIPlan, error) {
		saw.Store(slices.Contains(req.Node.Addresses, address))
		return flannelPlan(req)
	})

	f.condition(corev1.ConditionTrue, reasonUsedUp, "used up: --cluster-cidr 10.42.0.0/23 gives a /24 to each node, which is enough for 2")
	seen := asked.Load()
	f.until("looks while nothing changes", func() bool { return asked.Load() > seen+5 })
	if got := patches(); got != 1 {
		t.Errorf("said %d times that there is no room", got)
	}

	since := metav1.NewTime(time.Now().Add(-time.Hour).Truncate(time.Second))
	change := func(change func(*corev1.Node)) {
		t.Helper()
		self, err := nodes.Get(t.Context(), "self", metav1.GetOptions{})
		if err == nil {
			change(self)
			_, err = nodes.Update(t.Context(), self, metav1.UpdateOptions{})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	change(func(self *corev1.Node) {
		self.Status.Conditions[0].LastTransitionTime = since
		self.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address}}
	})
	f.until("the unit sees that", saw.Load)
	if err := nodes.Delete(t.Context(), "other1", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	pending := f.condition(corev1.ConditionTrue, reasonPending, "1 of 2 are taken")
	if !pending.LastTransitionTime.Equal(&since) {
		t.Errorf("the time of the transition moved from %s to %s", since, pending.LastTransitionTime)
	}
	f.until("it asks again and again", func() bool { return patches() > 4 })

	change(func(self *corev1.Node) { self.Spec.PodCIDRs = []string{"10.42.1.0/24"} })
	f.waitReady()
	f.condition(corev1.ConditionFalse, reasonAssigned, "10.42.1.0/24")
	f.stop()
	if got := strings.Count(f.log.String(), "is used up"); got != 1 {
		t.Errorf("the log says %d times that there is no room: %s", got, &f.log)
	}
}

// TestOrdinaryWait: a node that never found the cluster full has no condition.
func TestOrdinaryWait(t *testing.T) {
	f := newFixture(t)
	f.c.lookEvery = 5 * time.Millisecond
	var asked atomic.Int32
	f.c.AllNodes = func() (kubernetes.Interface, error) {
		asked.Add(1)
		return f.client, nil
	}
	f.node()
	f.start(flannelPlan)
	f.until("two looks", func() bool { return asked.Load() > 1 })
	f.node("10.42.0.0/24")
	f.waitReady()
	f.stop()
	for _, a := range f.client.Actions() {
		if a.GetVerb() == "patch" {
			t.Errorf("it wrote %+v", a)
		}
	}
}

func TestWaitSaysWhatFor(t *testing.T) {
	s := &shortage{interval: time.Hour}
	defer func() { s.timer.Stop() }()
	plugins := errors.New("cni-test: no")
	if got := s.begin("self", plugins).Error(); got != `node "self" has no pod CIDR yet: cni-test: no` {
		t.Error(got)
	}
	s.found = errors.New("used up")
	if got := s.begin("self", plugins).Error(); got != `node "self" has no pod CIDR yet: used up` {
		t.Error(got)
	}
}

// TestNewNodeForgets: the range of a Node that is no more may be another's, so no pod
// may get an address of it.
func TestNewNodeForgets(t *testing.T) {
	f := newFixture(t)
	file := filepath.Join(f.c.dir, "10-f.conflist")
	f.c.AllNodes = func() (kubernetes.Interface, error) { return f.client, nil }
	var without atomic.Bool
	plan := func(req hostabi.CNIRequest) (hostabi.CNIPlan, error) {
		without.Store(len(req.Node.PodCIDRs) == 0)
		return flannelPlan(req)
	}
	f.node("10.42.0.0/24")
	f.start(plan)
	f.waitReady()
	f.node() // its pods keep their network while it runs
	f.until("the unit sees that", without.Load)
	f.stop()
	if _, err := os.Stat(file); err != nil {
		t.Fatal(err)
	}
	f.start(plan)
	f.until("the configuration of the Node before is gone", func() bool {
		_, err := os.Stat(file)
		return errors.Is(err, os.ErrNotExist)
	})
	f.node("10.42.5.0/24")
	f.waitReady()
	f.stop()
	content, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(content, conflist("10.42.5.0/24")) {
		t.Errorf("%s, %v", content, err)
	}
}
