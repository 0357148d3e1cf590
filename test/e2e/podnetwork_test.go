//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/test/e2e/lab"
)

// TestPodNetworkUsedUp: three machines, and ranges for two nodes, each with five
// addresses for pods.
func TestPodNetworkUsedUp(t *testing.T) {
	t.Parallel()
	const usedUp = "the cluster's pod network is used up: --cluster-cidr 10.42.0.0/28 gives a /29 to each node, which is enough for 2, and all are taken"
	l := newLab(t)
	n := newNode(t, l, "n1", "--cluster-cidr", "10.42.0.0/28", "--kube-controller-manager-arg", "node-cidr-mask-size=29")
	has, waits := newAgent(t, l, n, "n2"), newAgent(t, l, n, "n3")
	n.serve(t)
	has.start(t)
	waits.start(t)
	lab.Eventually(t, bootPatience, "one of them has a range", func() error {
		out, err := n.Run("kubectl", "get", "nodes", "-o", `jsonpath={range .items[*]}{.metadata.name}={.spec.podCIDR} {end}`)
		switch {
		case strings.Contains(out, "n3=10.42.0."):
			has, waits = waits, has
		case !strings.Contains(out, "n2=10.42.0."):
			err = errors.Join(err, errors.New(out))
		}
		return err
	})
	has.awaitReady(t)
	subnet := n.podCIDR(t, has.Name)

	// waiting waits until a node says everywhere that there is no room.
	waiting := func(t *testing.T, a *agent) {
		t.Helper()
		n.awaitNetwork(t, a, "True PodNetworkUsedUp "+usedUp)
		t.Logf("%s says so %.1f s after it was started", a.Name, time.Since(a.started).Seconds())
		eventuallyPrints(t, a.Machine, podPatience, usedUp, "sh", "-c", "cleat status || true") // its status is 1 while a unit is not ready
		if log := a.process.Log(); !strings.Contains(log, usedUp) {
			t.Errorf("the log of %s does not say so", a.Name)
		}
		eventuallyPrints(t, n.Machine, podPatience, "False", "kubectl", "get", "node", a.Name, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`)
	}
	t.Run("a node without a range", func(t *testing.T) { waiting(t, waits) })
	t.Run("pods without an address", func(t *testing.T) {
		ns := n.namespace(t, "many")
		n.apply(t, ns, fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: many}
spec:
  replicas: 6
  selector: {matchLabels: {app: many}}
  template:
    metadata: {labels: {app: many}}
    spec:
      nodeName: %s
      terminationGracePeriodSeconds: 1
      containers: [{name: main, image: %s, command: [sleep, "3600"]}]
`, has.Name, image))
		eventuallyPrints(t, n.Machine, podPatience, "no IP addresses available in range set: "+subnet.Masked().Addr().Next().String()+"-",
			"kubectl", "get", "events", "-n", ns, "--field-selector", "reason=FailedCreatePodSandBox", "-o", "jsonpath={.items[*].message}")
	})
	t.Run("the range of a node that is gone", func(t *testing.T) {
		has.process.Signal(t, "TERM")
		if err := has.process.Wait(t, time.Minute); err != nil {
			t.Errorf("cleat agent after SIGTERM: %v, want status 0", err)
		}
		n.kubectl(t, "delete", "node", has.Name)
		deleted := time.Now()
		waits.awaitReady(t)
		t.Logf("%s is Ready %.1f s after %s was deleted", waits.Name, time.Since(deleted).Seconds(), has.Name)
		if got := n.podCIDR(t, waits.Name); got != subnet {
			t.Errorf("%s has the range %s, want %s", waits.Name, got, subnet)
		}
		n.awaitNetwork(t, waits, "False PodCIDRAssigned the pods of this node are in "+subnet.String())
		n.awaitOthers(t, n.Machine, waits.Machine)
		ns := n.namespace(t, "after")
		n.apply(t, ns, webOn("n1", waits.Name))
		n.awaitPod(t, ns, "web-n1")
		n.awaitPod(t, ns, "web-"+waits.Name)
		reachEachOther(t, n, ns, []string{"n1", waits.Name})
	})
	t.Run("its machine comes back", func(t *testing.T) {
		has.start(t)
		waiting(t, has)
		// With its old configuration it would be Ready, and its pods would have the other node's addresses.
		if out := has.Must(t, "ls", "/etc/cni/net.d"); out != "" {
			t.Errorf("a node without a range has the CNI configuration %s", out)
		}
	})
}

func (n *node) podCIDR(t *testing.T, name string) netip.Prefix {
	t.Helper()
	p, err := netip.ParsePrefix(n.kubectl(t, "get", "node", name, "-o", "jsonpath={.spec.podCIDR}"))
	if err != nil {
		t.Fatalf("node %s: %v", name, err)
	}
	return p
}

// awaitNetwork waits for status, reason and message of a Node's condition.
func (n *node) awaitNetwork(t *testing.T, a *agent, want string) {
	t.Helper()
	eventuallyPrints(t, n.Machine, podPatience, want, "kubectl", "get", "node", a.Name, "-o",
		`jsonpath={range .status.conditions[?(@.type=="NetworkUnavailable")]}{.status} {.reason} {.message}{end}`)
}

// awaitOthers waits until flannel's link on a machine leads to the other machines with
// the ranges that they have now, and nowhere else.
func (n *node) awaitOthers(t *testing.T, on *lab.Machine, others ...*lab.Machine) {
	t.Helper()
	var want []string
	for _, m := range others {
		subnet := n.podCIDR(t, m.Name)
		want = append(want, "route "+subnet.String(), "neighbour "+subnet.Addr().String(), "machine "+m.Addr.String())
	}
	slices.Sort(want)
	const script = `ip -4 route show dev flannel.1 | sed 's/^\([^ ]*\).*/route \1/'
ip -4 neigh show dev flannel.1 | sed 's/^\([^ ]*\).*/neighbour \1/'
bridge fdb show dev flannel.1 | sed -n 's/.* dst \([^ ]*\).*/machine \1/p'`
	lab.Eventually(t, podPatience, "what flannel set on "+on.Name, func() error {
		out, err := on.Run("sh", "-c", script)
		if err != nil {
			return err
		}
		got := strings.Split(strings.TrimSpace(out), "\n")
		slices.Sort(got)
		if !slices.Equal(got, want) {
			err = fmt.Errorf("%q, want %q", got, want)
		}
		return err
	})
}
