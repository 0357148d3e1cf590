//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/test/e2e/lab"
)

// policed is a cluster of two nodes with two namespaces: the pods of "inner" are
// what policies are about, those of "outer" are others. Each has a pod on both nodes.
type policed struct {
	*node
	agent *agent
}

const policyTable = "cleat-policy"

func TestNetworkPolicies(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	n := newNode(t, l, "n1")
	c := &policed{node: n, agent: newAgent(t, l, n, "n2")}
	n.serve(t)
	c.agent.start(t)
	c.agent.awaitReady(t)
	n.kubectl(t, "create", "namespace", "inner")
	n.kubectl(t, "create", "namespace", "outer")
	for _, ns := range []string{"inner", "outer"} {
		lab.Eventually(t, podPatience, "service account of "+ns, func() error {
			_, err := n.Run("kubectl", "get", "serviceaccount", "default", "-n", ns)
			return err
		})
		for _, on := range []string{"n1", "n2"} {
			n.apply(t, ns, policedPod(ns, on))
		}
		n.apply(t, ns, "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}}")
	}
	for _, ns := range []string{"inner", "outer"} {
		n.awaitPod(t, ns, "web-n1")
		n.awaitPod(t, ns, "web-n2")
	}
	for _, tc := range []struct {
		name string
		test func(*testing.T, *policed)
	}{
		{"without a policy", testNoPolicy},
		{"deny all", testDenyAll},
		{"a pod is isolated from its first moment", testFirstMoment},
		{"allow a namespace, a port and DNS", testAllow},
		{"a block with an exception", testBlock},
		{"without the server", testWithoutServer},
		{"disabled", testPolicyDisabled},
	} {
		if !t.Run(tc.name, func(t *testing.T) { tc.test(t, c) }) {
			return // each begins where the one before it ends
		}
	}
}

// policedPod serves on two ports and is killed when its node cannot probe it.
func policedPod(namespace, on string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: web-%[1]s, labels: {app: web}}
spec:
  nodeName: %[1]s
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: %[2]s
    command: [sh, -c, "mkdir /www && echo %[3]s >/www/index.html && httpd -p 8081 -h /www && exec httpd -f -p 8080 -h /www"]
    ports: [{name: http, containerPort: 8080}]
    readinessProbe: {httpGet: {port: http, path: /}, periodSeconds: 1}
    livenessProbe: {httpGet: {port: http, path: /}, periodSeconds: 1, timeoutSeconds: 5, failureThreshold: 6}
`, on, image, namespace)
}

func (c *policed) ip(t *testing.T, namespace, pod string) string {
	t.Helper()
	return c.kubectl(t, "get", "pod", "-n", namespace, pod, "-o", "jsonpath={.status.podIP}")
}

// request is one from a pod of a namespace to a URL.
type request struct {
	namespace, pod, url string
	passes              bool
}

// expect waits until of all requests those pass that should, and no others.
func (c *policed) expect(t *testing.T, requests ...request) {
	t.Helper()
	lab.Eventually(t, podPatience, "the requests that should pass", func() error {
		wrong := make([]error, len(requests))
		var wg sync.WaitGroup
		for i, r := range requests {
			wg.Go(func() {
				// busybox's wget has no timeout of its own that works.
				out, err := c.Run("kubectl", "exec", "-n", r.namespace, r.pod, "--", "timeout", "3", "wget", "-q", "-O", "-", r.url)
				if (err == nil) != r.passes {
					wrong[i] = fmt.Errorf("%+v: got %q, %w", r, out, err)
				}
			})
		}
		wg.Wait()
		return errors.Join(wrong...)
	})
}

func (c *policed) url(t *testing.T, namespace, pod string, port int) string {
	t.Helper()
	return fmt.Sprintf("http://%s:%d", c.ip(t, namespace, pod), port)
}

func testNoPolicy(t *testing.T, c *policed) {
	c.expect(t,
		request{"outer", "web-n1", c.url(t, "inner", "web-n1", 8080), true},
		request{"outer", "web-n1", c.url(t, "inner", "web-n2", 8081), true},
		request{"outer", "web-n2", "http://web.inner", true},
		request{"inner", "web-n2", "http://web.outer", true})
}

func policyYAML(name, spec string) string {
	return fmt.Sprintf("{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: %s}, spec: %s}", name, spec)
}

func testDenyAll(t *testing.T, c *policed) {
	begin := time.Now()
	c.apply(t, "inner", policyYAML("deny", "{podSelector: {}, policyTypes: [Ingress, Egress]}"))
	applied := time.Since(begin)
	lab.Eventually(t, podPatience, "rules for the pod", func() error {
		out, err := c.Run("nft", "list", "map", "inet", policyTable, "ingress4")
		if err == nil && !strings.Contains(out, "goto group-in-") {
			err = fmt.Errorf("nobody is isolated: %s", out)
		}
		return err
	})
	t.Logf("kubectl took %v, the rules were there %v after it", applied, time.Since(begin)-applied)
	requests := []request{{"outer", "web-n2", "http://web.outer", true}}
	for _, from := range []string{"web-n1", "web-n2"} {
		requests = append(requests,
			request{"outer", from, c.url(t, "inner", "web-n1", 8080), false},
			request{"outer", from, c.url(t, "inner", "web-n2", 8080), false},
			request{"outer", from, "http://web.inner", false},
			request{"inner", from, c.url(t, "outer", "web-n1", 8080), false},
			request{"inner", from, c.url(t, "outer", "web-n2", 8080), false})
	}
	c.expect(t, requests...)
	// The node itself is let through: probes would fail, and the pods be killed.
	if _, err := c.Run("curl", "-sS", "--max-time", "60", c.url(t, "inner", "web-n1", 8080)); err != nil {
		t.Errorf("from the pod's own node: %v", err)
	}
}

// testFirstMoment: what a pod does first is under the policies already, and no
// pod without policies has to wait for the network.
func testFirstMoment(t *testing.T, c *policed) {
	url := c.url(t, "outer", "web-n1", 8080)
	for _, ns := range []string{"inner", "outer"} {
		for _, on := range []string{"n1", "n2"} {
			c.apply(t, ns, podOf("first-"+on, fmt.Sprintf("{ timeout 10 wget -q -O - %s || echo nothing; } 2>/dev/null", url), "  nodeName: "+on))
		}
	}
	for ns, want := range map[string]string{"inner": "nothing\n", "outer": "outer\n"} {
		for _, on := range []string{"n1", "n2"} {
			pod := "first-" + on
			c.kubectl(t, "wait", "-n", ns, "pod/"+pod, "--for=jsonpath={.status.phase}=Succeeded", "--timeout=90s")
			if got := c.kubectl(t, "logs", "-n", ns, pod); got != want {
				t.Errorf("%s/%s got %q, want %q", ns, pod, got, want)
			}
		}
	}
}

func testAllow(t *testing.T, c *policed) {
	c.apply(t, "inner", policyYAML("allow", `{podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress, Egress],
  ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: outer}}}], ports: [{port: http}]}],
  egress: [{to: [{namespaceSelector: {}}], ports: [{port: 53, protocol: UDP}]}]}`))
	var requests []request
	for _, from := range []string{"web-n1", "web-n2"} {
		requests = append(requests,
			request{"outer", from, c.url(t, "inner", "web-n1", 8080), true},
			request{"outer", from, c.url(t, "inner", "web-n2", 8080), true},
			request{"outer", from, "http://web.inner", true},
			request{"outer", from, c.url(t, "inner", "web-n2", 8081), false},
			request{"inner", from, c.url(t, "outer", "web-n1", 8080), false})
	}
	c.expect(t, requests...)
	for _, from := range []string{"web-n1", "web-n2"} {
		eventuallyPrints(t, c.Machine, podPatience, "web.outer.svc", "kubectl", "exec", "-n", "inner", from, "--", "nslookup", "web.outer.svc.cluster.local")
	}
}

func testBlock(t *testing.T, c *policed) {
	c.apply(t, "inner", policyYAML("allow", fmt.Sprintf(
		`{podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{ipBlock: {cidr: 10.42.0.0/16, except: [%s/32]}}]}]}`, c.ip(t, "outer", "web-n1"))))
	var requests []request
	for _, to := range []string{"web-n1", "web-n2"} {
		requests = append(requests,
			request{"outer", "web-n1", c.url(t, "inner", to, 8080), false},
			request{"outer", "web-n2", c.url(t, "inner", to, 8080), true})
	}
	c.expect(t, requests...)
	c.kubectl(t, "delete", "networkpolicy", "-n", "inner", "--all")
	c.expect(t,
		request{"outer", "web-n1", c.url(t, "inner", "web-n1", 8080), true},
		request{"inner", "web-n2", c.url(t, "outer", "web-n1", 8080), true})
	for _, pod := range []string{"web-n1", "web-n2"} {
		if got := c.kubectl(t, "get", "pod", "-n", "inner", pod, "-o", "jsonpath={.status.containerStatuses[0].restartCount}"); got != "0" {
			t.Errorf("%s was started again %s times: its probes did not get through", pod, got)
		}
	}
}

// testWithoutServer: rules stay in force while the server is away.
func testWithoutServer(t *testing.T, c *policed) {
	c.apply(t, "inner", policyYAML("deny", "{podSelector: {}, policyTypes: [Ingress]}"))
	url := c.url(t, "inner", "web-n1", 8080)
	c.expect(t, request{"outer", "web-n2", url, false})
	container := strings.TrimSpace(c.agent.Must(t, "crictl", "ps", "-q", "--label", "io.kubernetes.pod.name=web-n2", "--label", "io.kubernetes.pod.namespace=outer"))
	c.stop(t)
	if out, err := c.agent.Run("crictl", "exec", container, "timeout", "2", "wget", "-q", "-O", "-", url); err == nil {
		t.Errorf("without the server the pod answers %q", out)
	}
	if out := c.Must(t, "nft", "list", "map", "inet", policyTable, "ingress4"); !strings.Contains(out, "goto group-in-") {
		t.Errorf("without the server nobody is isolated: %s", out)
	}
}

func testPolicyDisabled(t *testing.T, c *policed) {
	c.args = append(c.args, "--disable-network-policy")
	c.serve(t)
	c.agent.process.Signal(t, "TERM")
	if err := c.agent.process.Wait(t, time.Minute); err != nil {
		t.Errorf("cleat agent after SIGTERM: %v, want status 0", err)
	}
	c.agent.start(t)
	for _, m := range []*lab.Machine{c.Machine, c.agent.Machine} {
		lab.Eventually(t, podPatience, "the rules are gone on "+m.Name, func() error {
			out, err := m.Run("nft", "list", "tables")
			if err == nil && strings.Contains(out, policyTable) {
				err = fmt.Errorf("%s", out)
			}
			return err
		})
	}
	c.agent.awaitReady(t)
	c.expect(t,
		request{"outer", "web-n1", c.url(t, "inner", "web-n2", 8080), true},
		request{"outer", "web-n2", c.url(t, "inner", "web-n1", 8080), true})
}
