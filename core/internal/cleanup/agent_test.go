package cleanup

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/core/internal/pki"
)

// agentScene is scene with an agent in place of the server.
func agentScene(t *testing.T) (*job, *fakeHost, *strings.Builder) {
	t.Helper()
	j, f, out := scene(t)
	if err := os.RemoveAll(j.root + "/var/lib/cleat/server"); err != nil {
		t.Fatal(err)
	}
	write(t, j.root, "/var/lib/cleat/agent/.lock", "100\n")
	self, err := pki.NewAuthority("system:node:n2", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	write(t, j.root, "/var/lib/cleat/agent/tls/client-kubelet.crt", string(self.CertPEM()))
	delete(f.holders, "/var/lib/cleat/server/.lock")
	f.holders["/var/lib/cleat/agent/.lock"] = 100
	f.processes[1].Args = []string{"cleat", "agent"}
	return j, f, out
}

// TestAgent: what ends and removes a server does the same to an agent.
func TestAgent(t *testing.T) {
	t.Run("killall", func(t *testing.T) {
		j, f, out := agentScene(t)
		if err := j.killall(context.Background()); err != nil {
			t.Fatal(err)
		}
		if f.did[0] != "signal 100 15" || !slices.Contains(f.did, "signal 200 9") ||
			!strings.Contains(out.String(), "agent                process 100 stopped in order\n") {
			t.Errorf("did %q, said\n%s", f.did, out)
		}
		if !exists(j.root + "/var/lib/cleat/agent/.lock") {
			t.Error("the data is gone")
		}
	})
	for what, run := range map[string]bool{"uninstall": true, "uninstall after it was stopped": false} {
		t.Run(what, func(t *testing.T) {
			j, f, out := agentScene(t)
			if !run {
				f.end(100)
			}
			if err := j.uninstall(context.Background()); err != nil {
				t.Fatal(err)
			}
			if exists(j.root+"/var/lib/cleat") || exists(j.root+"/etc/cleat") {
				t.Errorf("left %q", files(t, j.root))
			}
			if run != slices.Contains(f.did, "signal 100 15") || !strings.Contains(out.String(), "on a server: cleat kubectl delete node n2\n") {
				t.Errorf("did %q, said\n%s", f.did, out)
			}
		})
	}
	t.Run("has another data directory", func(t *testing.T) {
		j, f, _ := agentScene(t)
		delete(f.holders, "/var/lib/cleat/agent/.lock")
		if err := j.killall(context.Background()); err == nil || !strings.Contains(err.Error(), "process 100") || len(f.did) > 0 {
			t.Errorf("%v, did %q", err, f.did)
		}
	})
}
