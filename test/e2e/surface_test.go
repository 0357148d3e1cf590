//go:build e2e

package e2e

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// testCommands runs what an operator types, under the names he types it.
func testCommands(t *testing.T, c *cluster) {
	for _, tc := range []struct {
		args []string
		want []string
	}{
		{[]string{"cleat", "status"}, []string{"apiserver", "kubelet", "deployer", "ready"}},
		{[]string{"cleat", "kubectl", "get", "nodes"}, []string{"n1", "Ready", "v1.36"}},
		{[]string{"kubectl", "get", "nodes"}, []string{"n1"}},
		{[]string{"crictl", "ps"}, []string{"shell", "Running"}},
		{[]string{"cleat", "crictl", "pods"}, []string{"shell", "Ready"}},
		{[]string{"ctr", "images", "ls"}, []string{image}},
		{[]string{"cleat", "ctr", "tasks", "ls"}, []string{"RUNNING"}},
		{[]string{"cleat", "plugin", "list"}, []string{"datastore-kine", "cni-flannel", "admission-baseline", "deployer-manifest"}},
		{[]string{"cleat", "graph"}, []string{"datastore", "apiserver"}},
		{[]string{"cleat", "version"}, []string{"1.36"}},
	} {
		t.Run(strings.Join(tc.args, " "), func(t *testing.T) {
			out := c.Must(t, tc.args...)
			for _, w := range tc.want {
				if !strings.Contains(out, w) {
					t.Errorf("%q is not in:\n%s", w, out)
				}
			}
		})
	}
}

// testSecrets wants keys and credentials to be readable by root alone, and the
// token nowhere that others look.
func testSecrets(t *testing.T, c *cluster) {
	found := c.Must(t, "find", "/var/lib/cleat", "/etc/cleat", "(", "-name", "*.key", "-o", "-name", "*.kubeconfig",
		"-o", "-name", "cleat.yaml", "-o", "-name", "*token*", "-o", "-name", "*.db", ")", "-type", "f",
		"-not", "-path", "*/io.containerd.*", "-not", "-path", "*/pods/*", "-printf", "%m %p\n")
	files := strings.Split(strings.TrimSpace(found), "\n")
	if len(files) < 5 {
		t.Errorf("only %d files with secrets were found:\n%s", len(files), found)
	}
	for _, f := range files {
		if mode, _, _ := strings.Cut(f, " "); !strings.HasSuffix(mode, "00") {
			t.Errorf("readable by others: %s", f)
		}
	}
	token, err := os.ReadFile(c.Path("/var/lib/cleat/server/token"))
	if err != nil {
		t.Fatal(err)
	}
	full := strings.TrimSpace(string(token))
	password := full[strings.LastIndex(full, ":")+1:]
	if !strings.HasPrefix(full, "K10") || !strings.Contains(full, "::server:") || len(password) < 16 {
		t.Fatalf("the token has not the form K10<hash>::server:<password>: %d bytes", len(full))
	}
	if strings.Contains(c.server.Log(), password) {
		t.Error("the token's password is in the log")
	}
	// One command with no argument that holds the password, or it would find itself.
	out, err := c.Feed(password, "sh", "-c", `read -r p; for f in /proc/[0-9]*/cmdline /proc/[0-9]*/environ; do grep -q -a -F -f - "$f" 2>/dev/null <<X && echo "$f"
$p
X
done; true`)
	if err != nil || out != "" {
		t.Errorf("the token's password is in the arguments or variables of processes: %s%v", out, err)
	}
}

// testListeners wants nothing but the documented ports to be open to the network,
// and nothing behind them for those who do not say who they are.
func testListeners(t *testing.T, c *cluster) {
	out := c.Must(t, "ss", "-H", "-l", "-t", "-n")
	var open []string
	for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
		fields := strings.Fields(line)
		if len(fields) < 4 {
			t.Fatalf("cannot read %q", line)
		}
		local := fields[3]
		port := local[strings.LastIndex(local, ":")+1:]
		if !strings.HasPrefix(local, "127.") && !strings.HasPrefix(local, "[::1]") {
			open = append(open, port)
		}
	}
	slices.Sort(open)
	if open = slices.Compact(open); !slices.Equal(open, []string{"10250", "6443"}) {
		t.Errorf("open to the network: %v, want 6443 and 10250\n%s", open, out)
	}
	for _, tc := range []struct{ url, want string }{
		{":6443/ping", "200"},
		{":6443/cacerts", "200"},
		{":6443/readyz", "200"},
		{":6443/api", "401"},
		{":6443/metrics", "401"},
		{":6443/v1-cleat/config", "401"},
		{":10250/pods", "401"},
	} {
		t.Run(tc.url, func(t *testing.T) {
			got := c.client.Must(t, "curl", "-sS", "-k", "--max-time", "60", "-o", "/dev/null", "-w", "%{http_code}", "https://"+c.Addr.String()+tc.url)
			if got != tc.want {
				t.Errorf("an unknown client gets status %s, want %s", got, tc.want)
			}
		})
	}
}
