//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/test/e2e/lab"
)

// web is a Deployment of two web servers, each of which answers with its name,
// their services, and the pod "shell" to run commands in.
type web struct {
	pods      []string
	ips       []string
	clusterIP string
	nodePort  string
}

const webManifest = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: cleat.dev/busybox:test
        command: [sh, -c, 'mkdir -p /www && hostname >/www/index.html && exec httpd -f -p 8080 -h /www']
        ports: [{containerPort: 8080}]
        readinessProbe: {httpGet: {port: 8080, path: /}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: front}
spec:
  type: LoadBalancer
  selector: {app: web}
  ports: [{port: 18090, targetPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: headless}
spec:
  clusterIP: None
  selector: {app: web}
  ports: [{port: 8080}]
---
apiVersion: v1
kind: Pod
metadata: {name: shell}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: shell
    image: cleat.dev/busybox:test
    command: [sh, -c, 'echo started; exec sleep 1000000']
`

// startWeb deploys the workload to the namespace "web" and waits until it is Available.
func startWeb(t *testing.T, n *node) web {
	t.Helper()
	n.kubectl(t, "create", "namespace", "web")
	lab.Eventually(t, podPatience, "service account of web", func() error {
		_, err := n.Run("kubectl", "get", "serviceaccount", "default", "-n", "web")
		return err
	})
	n.apply(t, "web", webManifest)
	n.kubectl(t, "wait", "-n", "web", "deployment/web", "--for=condition=Available", "--timeout=80s")
	n.awaitPod(t, "web", "shell")
	get := func(kind, path string) []string {
		return strings.Fields(n.kubectl(t, "get", kind, "-n", "web", "-l", "app=web", "-o", "jsonpath="+path))
	}
	w := web{
		pods:      get("pods", "{.items[*].metadata.name}"),
		ips:       get("pods", "{.items[*].status.podIP}"),
		clusterIP: n.kubectl(t, "get", "service", "web", "-n", "web", "-o", "jsonpath={.spec.clusterIP}"),
		nodePort:  n.kubectl(t, "get", "service", "web", "-n", "web", "-o", "jsonpath={.spec.ports[0].nodePort}"),
	}
	if len(w.pods) != 2 || len(w.ips) != 2 {
		t.Fatalf("the Deployment is Available with pods %v at %v, want two", w.pods, w.ips)
	}
	return w
}

// inShell is the command that runs another one in the pod "shell".
func inShell(args ...string) []string {
	return append([]string{"kubectl", "exec", "-n", "web", "shell", "--"}, args...)
}

// testServices asks a service from everywhere, at every address, until both pods
// have answered.
func testServices(t *testing.T, c *cluster) {
	curl := func(url string) []string { return []string{"curl", "-sS", "--max-time", "3", url} }
	fromPod := func(url string) []string { return inShell("wget", "-q", "-O", "-", url) }
	cluster := "http://" + c.web.clusterIP
	nodePort := fmt.Sprintf("http://%s:%s", c.Addr, c.web.nodePort)
	balancer := fmt.Sprintf("http://%s:18090", c.Addr)
	for _, tc := range []struct {
		name string
		from *lab.Machine
		args []string
	}{
		{"cluster IP from the node", c.Machine, curl(cluster)},
		{"cluster IP from a pod", c.Machine, fromPod(cluster)},
		{"node port from the node", c.Machine, curl(nodePort)},
		{"node port from a pod", c.Machine, fromPod(nodePort)},
		{"node port from another machine", c.client, curl(nodePort)},
		{"load balancer from the node", c.Machine, curl(balancer)},
		{"load balancer from a pod", c.Machine, fromPod(balancer)},
		{"load balancer from another machine", c.client, curl(balancer)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var answered []string
			lab.Eventually(t, podPatience, "an answer of both pods", func() error {
				out, err := tc.from.Run(tc.args...)
				if err != nil {
					return err
				}
				if pod := strings.TrimSpace(out); !slices.Contains(answered, pod) {
					answered = append(answered, pod)
				}
				if len(answered) < 2 {
					return fmt.Errorf("only %v answered", answered)
				}
				return nil
			})
			for _, pod := range answered {
				if !slices.Contains(c.web.pods, pod) {
					t.Errorf("%q answered, which is none of the pods %v", pod, c.web.pods)
				}
			}
		})
	}
	t.Run("a pod reaches itself through its service", func(t *testing.T) {
		var answered []string
		lab.Eventually(t, podPatience, "an answer of both pods", func() error {
			out, err := c.Run("kubectl", "exec", "-n", "web", c.web.pods[0], "--", "wget", "-q", "-O", "-", cluster)
			if err != nil {
				return err
			}
			if pod := strings.TrimSpace(out); !slices.Contains(answered, pod) {
				answered = append(answered, pod)
			}
			if !slices.Contains(answered, c.web.pods[0]) {
				return fmt.Errorf("only %v answered", answered)
			}
			return nil
		})
	})
}

// testDNS resolves names of services in a pod.
func testDNS(t *testing.T, c *cluster) {
	kubernetes := c.kubectl(t, "get", "service", "kubernetes", "-o", "jsonpath={.spec.clusterIP}")
	for _, tc := range []struct {
		name string
		args []string
		want []string
	}{
		{"full name", inShell("nslookup", "kubernetes.default.svc.cluster.local"), []string{kubernetes}},
		{"headless service", inShell("nslookup", "headless.web.svc.cluster.local"), c.web.ips},
		// These two go through the search list of the pod's resolv.conf.
		{"short name", inShell("sh", "-c", "ping -c 1 -W 1 kubernetes.default; true"), []string{"(" + kubernetes + ")"}},
		{"service in the same namespace", inShell("wget", "-q", "-O", "-", "http://web"), []string{"web-"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			lab.Eventually(t, podPatience, "resolved", func() error {
				out, err := c.Run(tc.args...)
				if err != nil {
					return err
				}
				for _, w := range tc.want {
					if !strings.Contains(out, w) {
						return fmt.Errorf("%q is not in the answer:\n%s", w, out)
					}
				}
				return nil
			})
		})
	}
}
