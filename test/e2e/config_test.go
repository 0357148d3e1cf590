//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/test/e2e/lab"
)

// TestConfiguration boots a server whose options come from every source, behind
// a proxy that is not there, and looks at what became of them.
func TestConfiguration(t *testing.T) {
	l := newLab(t)
	n := newNode(t, l, "configured")
	n.WriteFile(t, "/etc/cleat/config.yaml", "node-label: [disk=ssd]\nwrite-kubeconfig-mode: 0640\nlog: /var/lib/cleat/cleat.log\nservice-cidr: 10.44.0.0/16\n")
	n.WriteFile(t, "/etc/cleat/config.yaml.d/10.yaml", "node-label+: zone=a\nnonroot-devices: true\nwrite-kubeconfig-group: \"4711\"\n")
	const token = "correct-horse-battery"
	command := []string{"env", "CLEAT_TOKEN=" + token, "CLEAT_V=1", "K3S_TOKEN=other", "HTTPS_PROXY=http://192.0.2.1:3128", "HTTP_PROXY=http://192.0.2.1:3128"}
	n.booted = time.Now()
	n.server = n.Start(t, "cleat", append(command, "cleat", "server", "--cluster-domain", "corp.example",
		"--datastore-endpoint", "sqlite:///var/lib/cleat/server/db/own.db?secret="+token)...)
	t.Logf("Ready after %.1f s", n.awaitReady(t))

	pid := serverPID(t, n)
	for file, want := range map[string]string{"cmdline": "cleat\x00server", "comm": "cleat\n"} {
		got := n.Must(t, "cat", "/proc/"+pid+"/"+file)
		if strings.TrimRight(got, "\x00") != want {
			t.Errorf("%s of the server is %q, want %q", file, got, want)
		}
	}
	if args := strings.TrimSpace(n.Must(t, "ps", "-o", "args=", "-p", pid)); args != "cleat server" {
		t.Errorf("ps shows %q", args)
	}
	if environ := n.Must(t, "cat", "/proc/"+pid+"/environ"); strings.Contains(environ, token) || !strings.Contains(environ, "CLEAT_TOKEN=x") {
		t.Errorf("environment of the server: %q", environ)
	}
	log := n.Must(t, "cat", "/var/lib/cleat/cleat.log")
	for _, want := range []string{`"source":"kubernetes"`, "K3S_TOKEN is a variable of k3s and is not read; set CLEAT_TOKEN"} {
		if !strings.Contains(log, want) {
			t.Errorf("%s is not in the log", want)
		}
	}
	if strings.Contains(log, token) || strings.Contains(n.server.Log(), token) {
		t.Error("the token is in a log")
	}
	if got := n.Must(t, "stat", "-c", "%a %g", "/etc/cleat/cleat.yaml", "/var/lib/cleat/cleat.log"); got != "640 4711\n600 0\n" {
		t.Errorf("mode and group of kubeconfig and log: %q", got)
	}
	if got := n.Must(t, "grep", "device_ownership", "/var/lib/cleat/agent/etc/containerd/config.toml"); !strings.Contains(got, "= true") {
		t.Errorf("containerd has %q", got)
	}
	labels := n.kubectl(t, "get", "node", n.Name, "-o", "jsonpath={.metadata.labels.disk} {.metadata.labels.zone}")
	if labels != "ssd a" {
		t.Errorf("labels %q", labels)
	}

	// The API server asks the kubelet at the node's address for logs; by the
	// proxy it would get none.
	n.kubectl(t, "run", "talker", "--image=cleat.dev/busybox:test", "--restart=Never", "--", "echo", "spoken")
	lab.Eventually(t, time.Minute, "the pod's log is there", func() error {
		out, err := n.Run("kubectl", "logs", "talker")
		if err == nil && out != "spoken\n" {
			return fmt.Errorf("log %q", out)
		}
		return err
	})

	shown := n.Must(t, "cleat", "config", "show", "--origin", "--cluster-domain", "corp.example")
	for _, want := range []string{
		"# /etc/cleat/config.yaml:1, /etc/cleat/config.yaml.d/10.yaml:1\nnode-label:\n  - disk=ssd\n  - zone=a\n",
		"# detected\nnode-ip:\n  - " + n.Addr.String() + "\n",
		"cluster-domain: corp.example # --cluster-domain\n",
		"log: /var/lib/cleat/cleat.log # /etc/cleat/config.yaml:3\n",
		"# detected\ncluster-dns:\n  - 10.44.0.10\n",
	} {
		if !strings.Contains(shown, want) {
			t.Errorf("config show does not say %q:\n%s", want, shown)
		}
	}
	n.stop(t)
}

// serverPID is the process of the server, which is no child of another cleat.
func serverPID(t *testing.T, n *node) string {
	t.Helper()
	out := n.Must(t, "sh", "-c", `for f in /proc/[0-9]*/cmdline; do
if tr '\0' ' ' <"$f" 2>/dev/null | grep -q '^cleat server'; then echo "$f"; fi; done`)
	pids := strings.Fields(strings.NewReplacer("/proc/", "", "/cmdline", "").Replace(out))
	if len(pids) != 1 {
		t.Fatalf("processes called cleat server: %q", out)
	}
	return pids[0]
}
