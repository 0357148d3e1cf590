//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/test/e2e/lab"
)

// impatient lets a pod leave a node that is gone after a second, not five minutes.
const impatient = `
      tolerations:
      - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 1}
      - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 1}
`

// TestNodeLifecycle follows nodes that serve a Service of type LoadBalancer as they
// are drained, crash, leave and come back.
func TestNodeLifecycle(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	// A node that is silent is given up after 20 s instead of 50.
	n := newNode(t, l, "n1", "--kube-controller-manager-arg", "node-monitor-grace-period=20s")
	n2, n3 := newAgent(t, l, n, "n2", "--node-label", "cleat.dev/lbpool=edge"), newAgent(t, l, n, "n3")
	client := l.Machine("client")
	n.serve(t)
	n2.start(t)
	n3.start(t)
	n2.awaitReady(t)
	n3.awaitReady(t)

	ns := n.namespace(t, "life")
	n.apply(t, ns, peers+impatient+"---"+balancer("web", "80/tcp", "")+
		"---"+balancer("keep", "81/tcp", ", externalTrafficPolicy: Local")+"---"+balancer("api", "6443/tcp", "")+
		"---"+strings.Replace(balancer("edge", "82/tcp", ""), "name: edge", "name: edge, labels: {cleat.dev/lbpool: edge}", 1))
	n.kubectl(t, "wait", "-n", ns, "deployment/peers", "--for=condition=Available", "--timeout=80s")
	all := fmt.Sprintf("%s %s %s", n.Addr, n2.Addr, n3.Addr)
	address := map[string]string{"n1": n.Addr.String(), "n2": n2.Addr.String(), "n3": n3.Addr.String()}

	// where is the node of the only pod.
	where := func(t *testing.T) string {
		t.Helper()
		var name string
		lab.Eventually(t, podPatience, "one ready pod", func() error {
			out, err := n.Run("kubectl", "get", "pods", "-n", ns, "-l", "app=peers", "-o",
				`jsonpath={range .items[*]}{.spec.nodeName} {.metadata.deletionTimestamp} {.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}`)
			if err != nil {
				return err
			}
			name = ""
			for line := range strings.Lines(out) {
				if node, rest, _ := strings.Cut(line, " "); strings.TrimSpace(rest) == "True" && name == "" {
					name = node
				}
			}
			if name == "" {
				return errors.New(out)
			}
			return nil
		})
		return name
	}
	t.Run("roles", func(t *testing.T) {
		for name, want := range map[string]string{"n1": "control-plane", "n2": "<none>"} {
			eventuallyPrints(t, n.Machine, podPatience, " "+want+" ", "kubectl", "get", "node", name)
		}
	})
	t.Run("load balancer on every node", func(t *testing.T) {
		n.awaitIngress(t, ns, "web", all)
		n.awaitIngress(t, ns, "edge", n2.Addr.String())
		// The server needs the port on its own address, the agents do not.
		n.awaitIngress(t, ns, "api", n2.Addr.String()+" "+n3.Addr.String())
		n.awaitEvent(t, ns, "api", "PortInUse", "not served by n1: cleat of the machine itself listens on port 6443/tcp")
		for _, a := range strings.Fields(all) {
			eventuallyPrints(t, client, podPatience, ".", fetch("http://"+a)...)
		}
	})
	t.Run("source address", func(t *testing.T) {
		on := where(t)
		n.awaitIngress(t, ns, "keep", address[on])
		eventuallyPrints(t, client, podPatience, client.Addr.String(), fetch(fmt.Sprintf("http://%s:81", address[on]))...)
	})
	t.Run("drain", func(t *testing.T) {
		before := where(t)
		n.kubectl(t, "cordon", before)
		n.kubectl(t, "drain", before, "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=80s")
		now := where(t)
		if now == before {
			t.Errorf("after the drain the pod is on %s", now)
		}
		n.awaitIngress(t, ns, "keep", address[now])
		n.awaitIngress(t, ns, "web", all) // it takes no pods, but traffic
		n.kubectl(t, "uncordon", before)
	})
	t.Run("crash", func(t *testing.T) {
		n.kubectl(t, "cordon", "n1")
		n.kubectl(t, "cordon", "n2")
		n.kubectl(t, "delete", "pod", "-n", ns, "-l", "app=peers")
		if now := where(t); now != "n3" {
			t.Fatalf("the pod is on %s", now)
		}
		n.kubectl(t, "uncordon", "n2")
		crashed := time.Now()
		n3.Crash()
		n.awaitIngress(t, ns, "web", n.Addr.String()+" "+n2.Addr.String())
		lab.Eventually(t, 3*time.Minute, "the pod is moved", func() error {
			if now := where(t); now != "n2" {
				return fmt.Errorf("it is on %s", now)
			}
			return nil
		})
		n.awaitIngress(t, ns, "keep", n2.Addr.String())
		eventuallyPrints(t, client, podPatience, client.Addr.String(), fetch(fmt.Sprintf("http://%s:81", n2.Addr))...)
		t.Logf("served elsewhere %.0f s after the crash", time.Since(crashed).Seconds())
		n.kubectl(t, "uncordon", "n1")
	})
	t.Run("delete and rejoin", func(t *testing.T) {
		before := n.podCIDR(t, "n3")
		n.kubectl(t, "delete", "node", "n3")
		n3.Boot()
		n3.start(t)
		t.Logf("n3 is Ready again after %.1f s", n3.awaitReady(t))
		if now := n.podCIDR(t, "n3"); now == before {
			t.Errorf("n3 has its old range %s, so this shows nothing of those that are left", now)
		}
		n.awaitOthers(t, n.Machine, n2.Machine, n3.Machine)
		n.awaitOthers(t, n2.Machine, n.Machine, n3.Machine)
		n.awaitIngress(t, ns, "web", all)
		eventuallyPrints(t, client, podPatience, ".", fetch("http://"+n3.Addr.String())...)
	})
	t.Run("delete the Node of a living agent", func(t *testing.T) {
		n.kubectl(t, "delete", "node", "n3")
		n.awaitIngress(t, ns, "web", n.Addr.String()+" "+n2.Addr.String())
		n3.process.Signal(t, "TERM")
		if err := n3.process.Wait(t, time.Minute); err != nil {
			t.Errorf("cleat agent after SIGTERM: %v, want status 0", err)
		}
		n3.start(t)
		n3.awaitReady(t)
		n.awaitIngress(t, ns, "web", all)
		n.awaitOthers(t, n2.Machine, n.Machine, n3.Machine)
		// Its bridge still had the address of the old range.
		across := n.namespace(t, "across")
		n.apply(t, across, webOn("n1", "n3"))
		n.awaitPod(t, across, "web-n1")
		n.awaitPod(t, across, "web-n3")
		reachEachOther(t, n, across, []string{"n1", "n3"})
	})
}
