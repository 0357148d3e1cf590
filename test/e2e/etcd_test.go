//go:build e2e

package e2e

import (
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/test/e2e/lab"
)

// TestEtcd keeps cluster state in an etcd that somebody else runs: the plugin
// datastore-etcd claims the endpoint, and the API server's keys are found there.
func TestEtcd(t *testing.T) {
	const endpoint = "http://127.0.0.1:2379"
	n := newNode(t, newLab(t), "n1", "--datastore-endpoint", endpoint, "--disable-agent")
	n.Start(t, "etcd", "etcd", "--data-dir", "/var/lib/cleat/etcd", "--listen-client-urls", endpoint, "--advertise-client-urls", endpoint,
		"--listen-peer-urls", "http://127.0.0.1:2380", "--logger", "zap")
	n.start(t)
	lab.Eventually(t, bootPatience, "the API server on etcd", func() error {
		if ended, err := n.server.Ended(); ended {
			t.Fatalf("cleat server ended: %v", err)
		}
		_, err := n.Run("kubectl", "create", "configmap", "kept", "--from-literal=a=b")
		return err
	})
	keys := n.Must(t, "sh", "-c", "ETCDCTL_API=3 etcdctl get --prefix --keys-only /registry/configmaps/default")
	if !strings.Contains(keys, "/registry/configmaps/default/kept") {
		t.Errorf("etcd has no such key:\n%s", keys)
	}
	if log := n.server.Log(); !strings.Contains(log, "datastore-etcd") {
		t.Errorf("the log does not say that datastore-etcd decided")
	}
	n.stop(t)
	n.start(t)
	lab.Eventually(t, bootPatience, "the state after a restart", func() error {
		_, err := n.Run("kubectl", "get", "configmap", "kept")
		return err
	})
}
