//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/test/e2e/lab"
)

// podOf is a pod with one container and, when extra is given, more fields of its
// spec in YAML flow style.
func podOf(name, script, extra string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s}
spec:
  terminationGracePeriodSeconds: 1
  restartPolicy: Never
  containers:
  - name: main
    image: %s
    command: [sh, -c, %q]
%s
`, name, image, script, extra)
}

func testLogs(t *testing.T, c *cluster) {
	ns := c.namespace(t, "logs")
	c.apply(t, ns, podOf("talker", "for i in 1 2 3; do echo line $i; done; echo oops >&2; exec sleep 1000000", ""))
	c.awaitPod(t, ns, "talker")
	// Standard output and standard error are two pipes: their order among each
	// other is anybody's.
	lab.Eventually(t, podPatience, "all four lines", func() error {
		lines := strings.Fields(strings.ReplaceAll(c.kubectl(t, "logs", "-n", ns, "talker"), "line ", ""))
		slices.Sort(lines)
		if !slices.Equal(lines, []string{"1", "2", "3", "oops"}) {
			return fmt.Errorf("printed %q", lines)
		}
		return nil
	})
	if got := c.kubectl(t, "logs", "-n", ns, "talker", "--tail=1"); strings.Count(got, "\n") != 1 {
		t.Errorf("the last line is %q", got)
	}
}

func testExec(t *testing.T, c *cluster) {
	out, err := c.Feed("through the pipe", "kubectl", "exec", "-i", "-n", "web", "shell", "--", "cat")
	if err != nil || out != "through the pipe" {
		t.Errorf("standard input came back as %q, %v", out, err)
	}
	if _, err := c.Run(inShell("sh", "-c", "echo so it goes >&2; exit 7")...); err == nil ||
		!strings.Contains(err.Error(), "exit status 7") || !strings.Contains(err.Error(), "so it goes") {
		t.Errorf("got %v, want status 7 and the standard error", err)
	}
}

func testCopy(t *testing.T, c *cluster) {
	const content = "to the pod and back\n"
	c.WriteFile(t, "/var/lib/cleat/e2e-copy", content)
	c.kubectl(t, "cp", "/var/lib/cleat/e2e-copy", "web/shell:/tmp/copy")
	if got := c.Must(t, inShell("cat", "/tmp/copy")...); got != content {
		t.Errorf("in the pod: %q", got)
	}
	c.kubectl(t, "cp", "web/shell:/tmp/copy", "/tmp/back")
	if got := c.Must(t, "cat", "/tmp/back"); got != content {
		t.Errorf("back again: %q", got)
	}
}

func testPortForward(t *testing.T, c *cluster) {
	p := c.Start(t, "port-forward", "kubectl", "port-forward", "-n", "web", "service/web", "18080:80")
	eventuallyPrints(t, c.Machine, podPatience, "web-", "curl", "-sS", "--max-time", "3", "http://127.0.0.1:18080")
	p.Signal(t, "TERM")
	if err := p.Wait(t, podPatience); err == nil {
		t.Log("kubectl port-forward ended well after SIGTERM")
	}
}

func testJob(t *testing.T, c *cluster) {
	ns := c.namespace(t, "job")
	c.apply(t, ns, `
apiVersion: batch/v1
kind: Job
metadata: {name: sum}
spec:
  completions: 2
  parallelism: 2
  template:
    spec:
      restartPolicy: Never
      containers: [{name: main, image: cleat.dev/busybox:test, command: [sh, -c, 'echo $((6*7))']}]
`)
	c.kubectl(t, "wait", "-n", ns, "job/sum", "--for=condition=Complete", "--timeout=80s")
	if got := c.kubectl(t, "logs", "-n", ns, "job/sum"); !strings.Contains(got, "42") {
		t.Errorf("the job wrote %q", got)
	}
}

func testConfigMapVolume(t *testing.T, c *cluster) {
	ns := c.namespace(t, "configmap")
	c.kubectl(t, "create", "configmap", "settings", "-n", ns, "--from-literal=colour=red")
	c.apply(t, ns, podOf("reader", "exec sleep 1000000", `    volumeMounts: [{name: settings, mountPath: /settings}]
  volumes: [{name: settings, configMap: {name: settings}}]`))
	c.awaitPod(t, ns, "reader")
	read := []string{"kubectl", "exec", "-n", ns, "reader", "--", "cat", "/settings/colour"}
	if got := c.Must(t, read...); got != "red" {
		t.Errorf("the volume says %q", got)
	}
	c.kubectl(t, "patch", "configmap", "settings", "-n", ns, "-p", `{"data":{"colour":"green"}}`)
	eventuallyPrints(t, c.Machine, 2*time.Minute, "green", read...) // a kubelet looks once a minute
}

func testVolumes(t *testing.T, c *cluster) {
	ns := c.namespace(t, "volumes")
	c.WriteFile(t, "/var/lib/cleat/e2e-host/in", "from the host\n")
	c.apply(t, ns, `
apiVersion: v1
kind: Pod
metadata: {name: pair}
spec:
  terminationGracePeriodSeconds: 1
  volumes:
  - {name: shared, emptyDir: {}}
  - {name: memory, emptyDir: {medium: Memory, sizeLimit: 8Mi}}
  - {name: host, hostPath: {path: /var/lib/cleat/e2e-host, type: Directory}}
  containers:
  - name: writer
    image: cleat.dev/busybox:test
    command: [sh, -c, 'cat /host/in >/shared/file; cp /shared/file /host/out; cp /shared/file /memory/; exec sleep 1000000']
    volumeMounts: [{name: shared, mountPath: /shared}, {name: host, mountPath: /host}, {name: memory, mountPath: /memory}]
  - name: reader
    image: cleat.dev/busybox:test
    command: [sh, -c, 'exec sleep 1000000']
    volumeMounts: [{name: shared, mountPath: /shared, readOnly: true}, {name: memory, mountPath: /memory}]
`)
	c.awaitPod(t, ns, "pair")
	reader := func(script string) []string {
		return []string{"kubectl", "exec", "-n", ns, "pair", "-c", "reader", "--", "sh", "-c", script}
	}
	eventuallyPrints(t, c.Machine, podPatience, "from the host\n", reader("cat /shared/file")...)
	eventuallyPrints(t, c.Machine, podPatience, "from the host\n", reader("cat /memory/file")...)
	eventuallyPrints(t, c.Machine, podPatience, "from the host\n", "cat", "/var/lib/cleat/e2e-host/out")
	if got := c.Must(t, reader("touch /shared/x 2>&1 || echo refused; grep ' /memory ' /proc/mounts | cut -d' ' -f3")...); !strings.HasSuffix(got, "refused\ntmpfs\n") {
		t.Errorf("a read-only volume in memory: %q", got)
	}
}

func testHostPort(t *testing.T, c *cluster) {
	ns := c.namespace(t, "hostport")
	c.apply(t, ns, podOf("front", "mkdir /www; echo front >/www/index.html; exec httpd -f -p 8080 -h /www",
		"    ports: [{containerPort: 8080, hostPort: 18081}]"))
	c.awaitPod(t, ns, "front")
	url := fmt.Sprintf("http://%s:18081", c.Addr)
	eventuallyPrints(t, c.client, podPatience, "front", "curl", "-sS", "--max-time", "3", url)
	eventuallyPrints(t, c.Machine, podPatience, "front", "curl", "-sS", "--max-time", "3", url)
	c.kubectl(t, "delete", "pod", "front", "-n", ns, "--timeout=60s")
	lab.Eventually(t, podPatience, "the port is closed again", func() error {
		if out, err := c.client.Run("curl", "-sS", "--max-time", "3", url); err == nil {
			return errors.New(out)
		}
		return nil
	})
}

// testDeletion deletes a pod and looks for anything of it on the machine.
func testDeletion(t *testing.T, c *cluster) {
	ns := c.namespace(t, "deletion")
	c.kubectl(t, "create", "configmap", "settings", "-n", ns, "--from-literal=colour=red")
	c.apply(t, ns, podOf("brief", "exec sleep 1000000", `    volumeMounts: [{name: settings, mountPath: /settings}, {name: memory, mountPath: /memory}]
  volumes: [{name: settings, configMap: {name: settings}}, {name: memory, emptyDir: {medium: Memory}}]`))
	c.awaitPod(t, ns, "brief")
	field := func(path string) string {
		return c.kubectl(t, "get", "pod", "brief", "-n", ns, "-o", "jsonpath="+path)
	}
	uid, ip := field("{.metadata.uid}"), field("{.status.podIP}")
	sandbox := strings.TrimSpace(c.Must(t, "crictl", "pods", "-q", "--label", "io.kubernetes.pod.uid="+uid))
	netns := strings.TrimSpace(c.Must(t, "sh", "-c", `crictl inspectp "$1" | grep -o '/[a-z/]*netns/[a-z0-9-]*' | head -1`, "netns", sandbox))
	if uid == "" || ip == "" || sandbox == "" || netns == "" {
		t.Fatalf("pod %q at %q, sandbox %q, network namespace %q: one is unknown", uid, ip, sandbox, netns)
	}
	// Each prints the traces of one kind, with the pod's numbers as arguments.
	traces := map[string]string{
		"processes":         `for p in /proc/[0-9]*; do read -r name <$p/comm && [ "$name" = containerd-shim ] && grep -q -a -e "$2" $p/cmdline && echo $p; done`,
		"mounts":            `grep -e "$1" -e "$2" -e "$3" /proc/1/mountinfo`,
		"cgroups":           `find /sys/fs/cgroup -type d \( -name "*$1*" -o -name "*$(echo "$1" | tr - _)*" -o -name "*$2*" \)`,
		"kubelet directory": `find /var/lib/kubelet/pods /var/lib/cleat/agent/kubelet/pods -maxdepth 1 -name "$1"`,
		"network namespace": `ls -d "$3"`,
		"address":           `find /var/lib/cni -name "$4"`,
		"logs":              `find /var/log/pods -maxdepth 1 -name "*$1*"`,
	}
	look := func(script string) string {
		out, _ := c.Run("sh", "-c", "{ "+script+"; } 2>/dev/null; true", "look", uid, sandbox, netns, ip)
		return out
	}
	for what, script := range traces {
		if look(script) == "" {
			t.Errorf("a running pod shows no %s, so the test would not see what is left", what)
		}
	}
	c.kubectl(t, "delete", "pod", "brief", "-n", ns, "--timeout=60s")
	for what, script := range traces {
		lab.Eventually(t, podPatience, "no "+what+" are left", func() error {
			if out := look(script); out != "" {
				return errors.New(out)
			}
			return nil
		})
	}
}
