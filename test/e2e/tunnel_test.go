//go:build e2e

package e2e

import (
	"debug/elf"
	"encoding/base64"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/test/e2e/lab"
)

// closedDoor lets no connection into a machine, but from its own pods.
const closedDoor = `table inet door {
  chain input {
    type filter hook input priority -10; policy drop;
    iifname { "lo", "cni0" } accept
    ct state established accept
  }
}
`

// The agents accept no connection, and all that the API server wants of them works.
func TestTunnel(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	n := newNode(t, l, "n1", "--egress-selector-mode", "pod")
	agents := []*agent{newAgent(t, l, n, "n2"), newAgent(t, l, n, "n3")}
	a := agents[0]
	n.serve(t)
	for _, a := range agents {
		if _, err := a.Feed(closedDoor, "nft", "-f", "-"); err != nil {
			t.Fatal(err)
		}
		a.start(t)
	}
	for _, a := range agents {
		t.Logf("%s is Ready after %.1f s", a.Name, a.awaitReady(t))
		doorIsClosed(t, n.Machine, a.Machine)
	}

	ns := n.namespace(t, "far")
	n.apply(t, ns, webOn("n2", "n3"))
	n.apply(t, ns, hostWeb)
	n.apply(t, ns, mirrorPod)
	for _, pod := range []string{"web-n2", "web-n3", "mirror"} {
		n.awaitPod(t, ns, pod)
	}
	logs := []string{"kubectl", "logs", "-n", ns, "hostweb"}
	inPod := func(args ...string) []string {
		return append([]string{"kubectl", "exec", "-i", "-n", ns, "web-n2", "--"}, args...)
	}

	t.Run("logs", func(t *testing.T) { eventuallyPrints(t, n.Machine, podPatience, "hello from n2", logs...) })
	t.Run("exec", func(t *testing.T) {
		if out, err := n.Feed("through the tunnel", inPod("cat")...); err != nil || out != "through the tunnel" {
			t.Errorf("standard input came back as %q, %v", out, err)
		}
		if _, err := n.Run(inPod("sh", "-c", "exit 7")...); err == nil || !strings.Contains(err.Error(), "exit status 7") {
			t.Errorf("got %v, want status 7", err)
		}
	})
	t.Run("cp", func(t *testing.T) {
		content := strings.Repeat("to the pod and back\n", 1<<18) // 5 MiB
		n.WriteFile(t, "/var/lib/cleat/e2e-copy", content)
		n.kubectl(t, "cp", "/var/lib/cleat/e2e-copy", ns+"/web-n2:/tmp/copy")
		n.kubectl(t, "cp", ns+"/web-n2:/tmp/copy", "/var/lib/cleat/e2e-back")
		if got := n.Must(t, "cat", "/var/lib/cleat/e2e-back"); got != content {
			t.Errorf("%d bytes came back, want %d", len(got), len(content))
		}
	})
	t.Run("port-forward", func(t *testing.T) { forward(t, n, ns, "n2") })
	t.Run("proxies", func(t *testing.T) {
		for path, want := range map[string]string{
			"/api/v1/nodes/n2/proxy/metrics/probes":                               "process_start_time_seconds",
			"/api/v1/nodes/n2/proxy/configz":                                      "kubeletconfig",
			"/api/v1/namespaces/" + ns + "/pods/web-n2:8080/proxy/index.html":     "web-n2",
			"/api/v1/namespaces/" + ns + "/services/web:80/proxy/index.html":      "web-n",
			"/api/v1/namespaces/" + ns + "/pods/hostweb:18081/proxy/etc/hostname": "n2",
		} {
			eventuallyPrints(t, n.Machine, podPatience, want, "kubectl", "get", "--raw", path)
		}
	})
	t.Run("both agents", func(t *testing.T) { reach(t, n, ns, "n2", "n3") })
	t.Run("64 MiB each way at once", func(t *testing.T) { testBothWays(t, n, ns) })
	t.Run("webhook and aggregated API", func(t *testing.T) { testPeer(t, n, a.Machine, ns) })
	t.Run("cut and back", func(t *testing.T) {
		// The server hears nothing of it.
		if _, err := a.Feed("table inet cut {\n chain output {\n type filter hook output priority 0;\n tcp dport 6443 reject with tcp reset\n }\n}\n", "nft", "-f", "-"); err != nil {
			t.Fatal(err)
		}
		lab.Eventually(t, podPatience, "the agent says that it has no tunnel", func() error {
			if !strings.Contains(a.process.Log(), "no tunnel") {
				return errors.New(a.process.Log())
			}
			return nil
		})
		a.Must(t, "nft", "delete", "table", "inet", "cut")
		back := time.Now()
		eventuallyPrints(t, n.Machine, podPatience, "hello from n2", logs...)
		t.Logf("logs again after %.1f s", time.Since(back).Seconds())
	})
	t.Run("cluster", func(t *testing.T) {
		become(t, n, agents, "cluster")
		reach(t, n, ns, "n2", "n3")
		// A port that no pod names is beyond mode pod.
		for _, a := range agents {
			a.WriteFile(t, "/var/lib/cleat/e2e/www/name", a.Name)
			a.Start(t, "web", "busybox", "httpd", "-f", "-p", "18090", "-h", "/var/lib/cleat/e2e/www")
			eventuallyPrints(t, n.Machine, podPatience, a.Name, "kubectl", "get", "--raw", "/api/v1/nodes/"+a.Name+":18090/proxy/name")
		}
	})
	t.Run("disabled", func(t *testing.T) {
		for _, a := range agents {
			a.Must(t, "nft", "delete", "table", "inet", "door")
		}
		before := strings.Count(a.process.Log(), "tunnel opened")
		become(t, n, agents, "disabled")
		eventuallyPrints(t, n.Machine, podPatience, "hello from n2", logs...)
		if after := strings.Count(a.process.Log(), "tunnel opened"); after != before || before == 0 {
			t.Errorf("%d tunnels before, %d with none wanted", before, after)
		}
	})
}

// become starts the server and the agents again, with another mode.
func become(t *testing.T, n *node, agents []*agent, mode string) {
	t.Helper()
	for _, a := range agents {
		a.process.Signal(t, "TERM")
	}
	for _, a := range agents {
		if err := a.process.Wait(t, time.Minute); err != nil {
			t.Errorf("cleat agent after SIGTERM: %v, want status 0", err)
		}
	}
	n.stop(t)
	n.args = []string{"--egress-selector-mode", mode}
	n.serve(t)
	for _, a := range agents {
		a.start(t)
	}
	for _, a := range agents {
		a.awaitReady(t)
	}
}

// reach has the API server of n reach the kubelet and the web pod of each node.
func reach(t *testing.T, n *node, ns string, nodes ...string) {
	t.Helper()
	for _, name := range nodes {
		pod := "web-" + name
		eventuallyPrints(t, n.Machine, podPatience, "hello from "+pod, "kubectl", "logs", "-n", ns, pod)
		eventuallyPrints(t, n.Machine, podPatience, pod, "kubectl", "exec", "-n", ns, pod, "--", "hostname")
		eventuallyPrints(t, n.Machine, podPatience, "kubeletconfig", "kubectl", "get", "--raw", "/api/v1/nodes/"+name+"/proxy/configz")
		eventuallyPrints(t, n.Machine, podPatience, pod, "kubectl", "get", "--raw", "/api/v1/namespaces/"+ns+"/pods/"+pod+":8080/proxy/index.html")
	}
}

// forward has the API server of n carry a port of a node's web pod.
func forward(t *testing.T, n *node, ns, name string) {
	t.Helper()
	p := n.Start(t, "forward", "kubectl", "port-forward", "-n", ns, "pod/web-"+name, "18080:8080")
	eventuallyPrints(t, n.Machine, podPatience, "web-"+name, "curl", "-sS", "--max-time", "3", "http://127.0.0.1:18080")
	p.Signal(t, "KILL")
	if err := p.Wait(t, time.Minute); err == nil {
		t.Error("kubectl port-forward ended before it was killed")
	}
}

// doorIsClosed fails the test if from can connect to the kubelet of a machine.
func doorIsClosed(t *testing.T, from, to *lab.Machine) {
	t.Helper()
	kubelet := "https://" + to.Addr.String() + ":10250/healthz"
	if out, err := from.Run("curl", "-sSk", "--max-time", "2", kubelet); err == nil || !strings.Contains(err.Error(), "timed out") {
		t.Fatalf("the door of %s is open: %q, %v", to.Name, out, err)
	}
}

// mirrorPod is a pod on n3 that sends back what it is sent.
const mirrorPod = `
apiVersion: v1
kind: Pod
metadata: {name: mirror}
spec:
  nodeName: n3
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: ` + image + `
    command: [nc, -ll, -p, "9000", -e, cat]
`

// testBothWays has a pod on a closed node send back what it is sent meanwhile.
func testBothWays(t *testing.T, n *node, ns string) {
	const size = 64 << 20
	p := n.Start(t, "mirror", "kubectl", "port-forward", "-n", ns, "pod/mirror", "19000:9000")
	var c net.Conn
	lab.Eventually(t, podPatience, "the port is there", func() (err error) {
		c, err = n.Dial(t.Context(), "tcp", "127.0.0.1:19000")
		return err
	})
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(podPatience)); err != nil {
		t.Fatal(err)
	}
	table := crc32.MakeTable(crc32.Castagnoli)
	sent, got := crc32.New(table), crc32.New(table)
	began, writing := time.Now(), make(chan error, 1)
	go func() {
		_, err := io.CopyN(io.MultiWriter(c, sent), rand.NewChaCha8([32]byte{}), size)
		writing <- err
	}()
	n64, err := io.CopyN(got, c, size)
	if err = errors.Join(err, <-writing); err != nil || sent.Sum32() != got.Sum32() {
		t.Errorf("%d of %d bytes came back, with the sum %x, want %x: %v", n64, size, got.Sum32(), sent.Sum32(), err)
	}
	t.Logf("there and back in %.1f s", time.Since(began).Seconds())
	p.Signal(t, "KILL")
	if err := p.Wait(t, time.Minute); err == nil {
		t.Error("kubectl port-forward ended before it was killed")
	}
}

// dynamic tells whether a program needs a loader and libraries.
func dynamic(t *testing.T, program string) bool {
	t.Helper()
	f, err := elf.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() // only read
	return slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP })
}

// hostWeb is a pod in the network of n2 that serves the machine's name.
const hostWeb = `
apiVersion: v1
kind: Pod
metadata: {name: hostweb}
spec:
  nodeName: n2
  hostNetwork: true
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: ` + image + `
    command: [sh, -c, "echo hello from $(hostname); mkdir -p /www/etc && hostname > /www/etc/hostname && exec httpd -f -p 18081 -h /www"]
    ports: [{containerPort: 18081}]
`

// testPeer has the API server of n ask a pod on the closed machine on.
func testPeer(t *testing.T, n *node, on *lab.Machine, ns string) {
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if dynamic(t, own) {
		t.Fatal("this test runs itself in a pod without a C library: build it with CGO_ENABLED=0")
	}
	on.CopyFile(t, own, "/var/lib/cleat/e2e/peer", 0o755)
	cert, key := certificateFor(t, "peer."+ns+".svc")
	n.WriteFile(t, "/var/lib/cleat/e2e/tls.crt", cert)
	n.WriteFile(t, "/var/lib/cleat/e2e/tls.key", key)
	n.kubectl(t, "create", "secret", "tls", "peer", "-n", ns, "--cert", "/var/lib/cleat/e2e/tls.crt", "--key", "/var/lib/cleat/e2e/tls.key")
	bundle := base64.StdEncoding.EncodeToString([]byte(cert))
	n.apply(t, ns, fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: peer, labels: {app: peer}}
spec:
  nodeName: %s
  terminationGracePeriodSeconds: 1
  volumes:
  - {name: program, hostPath: {path: /var/lib/cleat/e2e/peer, type: File}}
  - {name: certs, secret: {secretName: peer}}
  containers:
  - name: main
    image: %s
    command: [/peer]
    env: [{name: %s, value: /certs}]
    volumeMounts: [{name: program, mountPath: /peer}, {name: certs, mountPath: /certs}]
---
apiVersion: v1
kind: Service
metadata: {name: peer}
spec:
  selector: {app: peer}
  ports: [{port: 443, targetPort: 8443}]
`, on.Name, image, peerVariable))
	n.awaitPod(t, ns, "peer")
	t.Cleanup(func() {
		for _, args := range [][]string{{"validatingwebhookconfiguration", "peer"}, {"apiservice", "v1.tunnel.example"}} {
			if _, err := n.Run(append([]string{"kubectl", "delete"}, args...)...); err != nil {
				t.Error(err)
			}
		}
	})
	n.apply(t, ns, fmt.Sprintf(`
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: peer}
webhooks:
- name: peer.tunnel.example
  admissionReviewVersions: [v1]
  sideEffects: None
  timeoutSeconds: 5
  clientConfig: {caBundle: %[1]s, service: {name: peer, namespace: %[2]s, path: /deny}}
  rules: [{apiGroups: [""], apiVersions: [v1], resources: [configmaps], operations: [CREATE]}]
  namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: %[2]s}}
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1.tunnel.example}
spec:
  group: tunnel.example
  version: v1
  groupPriorityMinimum: 100
  versionPriority: 10
  caBundle: %[1]s
  service: {name: peer, namespace: %[2]s}
`, bundle, ns))
	lab.Eventually(t, podPatience, "the webhook denies", func() error {
		_, err := n.Run("kubectl", "create", "configmap", "any", "-n", ns, "--dry-run=server")
		if err == nil {
			return errors.New("the ConfigMap was admitted")
		}
		if !strings.Contains(err.Error(), peerRefusal) {
			return err
		}
		return nil
	})
	n.kubectl(t, "wait", "--for=condition=Available", "apiservice/v1.tunnel.example", "--timeout=60s")
	eventuallyPrints(t, n.Machine, podPatience, "APIResourceList", "kubectl", "get", "--raw", "/apis/tunnel.example/v1")
}
