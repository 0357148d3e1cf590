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

// agent is a machine that runs `cleat agent`.
type agent struct {
	*lab.Machine
	of      *node // the server it joins
	args    []string
	process *lab.Process
	started time.Time
}

// newAgent makes a machine that can join n and run pods of the test image.
func newAgent(t *testing.T, l *lab.Lab, n *node, name string, args ...string) *agent {
	t.Helper()
	a := &agent{Machine: l.Machine(name), of: n, args: args}
	a.CopyFile(t, artefact(t, "CLEAT_TEST_IMAGES", "build/test-images.tar"), "/var/lib/cleat/agent/images/test-images.tar", 0o644)
	t.Cleanup(func() {
		if t.Failed() && a.process != nil {
			t.Logf("%s: %s", a.Name, a.process.Log())
		}
	})
	return a
}

// start starts the agent with the server's address and token.
func (a *agent) start(t *testing.T) {
	t.Helper()
	a.startAt(t, fmt.Sprintf("https://%s:6443", a.of.Addr))
}

func (a *agent) startAt(t *testing.T, url string) {
	t.Helper()
	a.as(t, append([]string{"cleat", "agent", "--server", url, "--token-file", "/etc/cleat/token"}, a.args...))
}

// as starts the agent by a command, where the command looks for the token.
func (a *agent) as(t *testing.T, command []string) {
	t.Helper()
	a.CopyFile(t, a.of.Path("/var/lib/cleat/server/token"), "/etc/cleat/token", 0o600)
	a.started = time.Now()
	a.process = a.Start(t, "agent", command...)
}

// awaitReady returns how many seconds it took until the Node was Ready.
func (a *agent) awaitReady(t *testing.T) float64 {
	t.Helper()
	lab.Eventually(t, bootPatience, a.Name+" is Ready", func() error {
		if ended, err := a.process.Ended(); ended {
			t.Fatalf("cleat agent ended: %v", err)
		}
		return a.of.ready(a.Name, a.started)
	})
	return time.Since(a.started).Seconds()
}

func TestAgents(t *testing.T) {
	t.Parallel()
	guide := readGuide(t, "guides/add-nodes.md")
	l := newLab(t)
	n := newNode(t, l, "n1")
	agents := []*agent{newAgent(t, l, n, "n2"), newAgent(t, l, n, "n3")}
	client := l.Machine("client")
	n.serve(t)
	agents[0].as(t, strings.Fields(guide.start[0]))
	t.Logf("n2 is Ready after %.1f s", agents[0].awaitReady(t))
	for _, a := range guide.does {
		a.run(t, n.Name, func(command string) (string, error) { return n.Run("sh", "-c", command) })
	}
	agents[1].start(t)
	t.Logf("n3 is Ready after %.1f s", agents[1].awaitReady(t))

	ns := n.namespace(t, "across")
	n.apply(t, ns, webOn("n1", "n2", "n3"))
	for _, name := range []string{"n1", "n2", "n3"} {
		n.awaitPod(t, ns, "web-"+name)
	}

	t.Run("pods reach each other", func(t *testing.T) {
		reachEachOther(t, n, ns, []string{"n1", "n2", "n3"})
	})
	t.Run("a service from every node", func(t *testing.T) {
		for _, from := range []string{"n1", "n2", "n3"} {
			eventuallyPrints(t, n.Machine, podPatience, "web-n",
				"kubectl", "exec", "-n", ns, "web-"+from, "--", "wget", "-q", "-O", "-", "http://web."+ns)
		}
	})
	t.Run("NodePort on every node", func(t *testing.T) {
		port := n.kubectl(t, "get", "service", "-n", ns, "web", "-o", "jsonpath={.spec.ports[0].nodePort}")
		for _, m := range []*lab.Machine{n.Machine, agents[0].Machine, agents[1].Machine} {
			eventuallyPrints(t, client, podPatience, "web-n", "curl", "-sS", "--max-time", "3", fmt.Sprintf("http://%s:%s", m.Addr, port))
		}
	})
	all := []string{"n1", "n2", "n3"}
	t.Run("large packets", func(t *testing.T) {
		for _, name := range all {
			n.kubectl(t, "exec", "-n", ns, "web-"+name, "--", "sh", "-c", "head -c 300000 /dev/zero > /www/large")
		}
		for i, from := range all {
			address := n.kubectl(t, "get", "pod", "-n", ns, "web-"+all[(i+1)%3], "-o", "jsonpath={.status.podIP}")
			eventuallyPrints(t, n.Machine, podPatience, "300000", "kubectl", "exec", "-n", ns, "web-"+from, "--",
				"sh", "-c", "wget -q -O - http://"+address+":8080/large | wc -c")
		}
	})
	t.Run("the network plugin is the server's", func(t *testing.T) {
		out := agents[0].Must(t, "cleat", "status")
		if !strings.Contains(out, "cni-flannel") || strings.Contains(out, "admission-baseline") {
			t.Errorf("the agent says\n%s", out)
		}
	})
	t.Run("stop and start again", func(t *testing.T) {
		a := agents[0]
		a.process.Signal(t, "TERM")
		if err := a.process.Wait(t, time.Minute); err != nil {
			t.Errorf("cleat agent after SIGTERM: %v, want status 0", err)
		}
		before := n.kubectl(t, "get", "pod", "-n", ns, "web-n2", "-o", "jsonpath={.status.containerStatuses[0].containerID}")
		a.start(t)
		lab.Eventually(t, bootPatience, "the agent's units are ready", func() error {
			out, err := a.Run("cleat", "status", "-o", "json")
			if err == nil && !strings.Contains(out, `"state": "ready"`) {
				err = errors.New(out)
			}
			return err
		})
		a.awaitReady(t)
		n.awaitPod(t, ns, "web-n2")
		if after := n.kubectl(t, "get", "pod", "-n", ns, "web-n2", "-o", "jsonpath={.status.containerStatuses[0].containerID}"); after != before {
			t.Errorf("the container was %s and is %s", before, after)
		}
	})
	t.Run("another address", func(t *testing.T) {
		a := agents[1]
		a.process.Signal(t, "TERM")
		if err := a.process.Wait(t, time.Minute); err != nil {
			t.Error(err)
		}
		a.Must(t, "sh", "-ec", "ip addr del 10.99.0.3/24 dev eth0; ip addr add 10.99.0.33/24 dev eth0; ip route replace default via 10.99.0.254")
		a.start(t)
		eventuallyPrints(t, n.Machine, bootPatience, "10.99.0.33", "kubectl", "get", "node", "n3", "-o", "jsonpath={.status.addresses}")
		reachEachOther(t, n, ns, all)
		port := n.kubectl(t, "get", "service", "-n", ns, "web", "-o", "jsonpath={.spec.ports[0].nodePort}")
		eventuallyPrints(t, client, podPatience, "web-n", "curl", "-sS", "--max-time", "3", "http://10.99.0.33:"+port)
	})
	t.Run("host-gw instead of vxlan", func(t *testing.T) {
		for _, a := range agents {
			a.process.Signal(t, "TERM")
			if err := a.process.Wait(t, time.Minute); err != nil {
				t.Error(err)
			}
		}
		n.stop(t)
		n.args = append(n.args, "--flannel-backend", "host-gw")
		n.serve(t)
		for _, a := range agents {
			a.start(t)
		}
		for _, m := range []*lab.Machine{n.Machine, agents[0].Machine, agents[1].Machine} {
			lab.Eventually(t, bootPatience, m.Name+" has routes to two nodes and no vxlan link", func() error {
				out, err := m.Run("sh", "-c", "ip route; ip -o link")
				if err == nil && (strings.Contains(out, "flannel.1") || strings.Count(out, "10.42.") != 4 || strings.Count(out, "/24 via 10.99.0.") != 2) {
					err = errors.New(out)
				}
				return err
			})
		}
		reachEachOther(t, n, ns, all)
	})
	t.Run("a node that leaves meanwhile", func(t *testing.T) {
		for _, a := range agents {
			a.process.Signal(t, "TERM")
			if err := a.process.Wait(t, time.Minute); err != nil {
				t.Error(err)
			}
		}
		stays, left := n.podCIDR(t, "n1").String(), n.podCIDR(t, "n3").String()
		n.kubectl(t, "delete", "node", "n3")
		routes := func() string { return agents[0].Must(t, "ip", "route") }
		if out := routes(); !strings.Contains(out, left+" via 10.99.0.33") {
			t.Errorf("n2 has no route to n3, so this shows nothing:\n%s", out)
		}
		agents[0].start(t)
		lab.Eventually(t, bootPatience, "n2 has a route to n1 alone", func() error {
			if out := routes(); strings.Contains(out, left) || !strings.Contains(out, stays+" via "+n.Addr.String()) {
				return errors.New(out)
			}
			return nil
		})
	})
	t.Run("killall and uninstall", func(t *testing.T) {
		a := agents[0]
		if out := a.Must(t, "cleat", "killall"); !strings.Contains(out, "stopped in order") {
			t.Errorf("killall said\n%s", out)
		}
		if err := a.process.Wait(t, time.Minute); err != nil {
			t.Errorf("cleat agent after killall: %v, want status 0", err)
		}
		out := a.Must(t, "cleat", "uninstall", "--yes")
		if !strings.Contains(out, "cleat kubectl delete node n2") {
			t.Errorf("uninstall said\n%s", out)
		}
		if left := a.Must(t, "sh", "-c", "find /etc/cleat /var/lib/cleat -mindepth 1; ip -o link | grep -e cni0 -e flannel || true"); left != "" {
			t.Errorf("uninstall left\n%s", left)
		}
	})
}

// reachEachOther asks each pod from each.
func reachEachOther(t *testing.T, n *node, ns string, nodes []string) {
	t.Helper()
	for _, from := range nodes {
		for _, to := range nodes {
			address := n.kubectl(t, "get", "pod", "-n", ns, "web-"+to, "-o", "jsonpath={.status.podIP}")
			eventuallyPrints(t, n.Machine, podPatience, "web-"+to,
				"kubectl", "exec", "-n", ns, "web-"+from, "--", "wget", "-q", "-O", "-", "http://"+address+":8080")
		}
	}
}

// webOn is a pod that serves its name on each of the nodes, and a service of them all.
func webOn(nodes ...string) string {
	var b strings.Builder
	for _, name := range nodes {
		fmt.Fprintf(&b, `
apiVersion: v1
kind: Pod
metadata: {name: web-%[1]s, labels: {app: web}}
spec:
  nodeName: %[1]s
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: %[2]s
    command: [sh, -c, "echo hello from $(hostname); mkdir /www && hostname > /www/index.html && exec httpd -f -p 8080 -h /www"]
---
`, name, image)
	}
	b.WriteString(`
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
`)
	return b.String()
}
