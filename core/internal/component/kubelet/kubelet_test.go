package kubelet

import (
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/cleat-dev/cleat/core/internal/healthprobe"
	"github.com/cleat-dev/cleat/core/internal/paths"
)

func TestPrepare(t *testing.T) {
	dir := t.TempDir()
	data := paths.Data(filepath.Join(dir, "data"))
	cfg := testConfig()
	cfg.ResolvConf = filepath.Join(dir, "etc", "resolv.conf")
	c := New(cfg, data, nil)

	if err := c.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(StaticPods(data)); err != nil || !info.IsDir() {
		t.Errorf("static pods: %v, %v", info, err)
	}
	if _, err := os.Stat(cfg.ResolvConf); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the machine's resolv.conf was usable, but %s was written (%v)", cfg.ResolvConf, err)
	}

	c.nodeID = filepath.Join(dir, "etc", "node", "id")
	cfg.Host.NodeID = "0a1b2c3d"
	cfg.Host.ResolvConfUnusable = true
	for range 2 {
		if err := c.Prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(cfg.ResolvConf)
	if err != nil || !strings.HasPrefix(string(text), "nameserver ") || strings.Contains(string(text), "127.") {
		t.Errorf("resolv.conf for pods: %q, %v", text, err)
	}
	if id, err := os.ReadFile(c.nodeID); err != nil || string(id) != "0a1b2c3d\n" {
		t.Errorf("the node's ID: %q, %v", id, err)
	}
}

func TestPrepareNamesWhatFails(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := testConfig()
	if err := New(cfg, paths.Data(file), nil).Prepare(t.Context()); err == nil || !strings.Contains(err.Error(), "static pods") {
		t.Errorf("got %v, want an error about static pods", err)
	}
	cfg.Host.ResolvConfUnusable = true
	cfg.ResolvConf = filepath.Join(file, "resolv.conf")
	if err := New(cfg, paths.Data(t.TempDir()), nil).Prepare(t.Context()); err == nil || !strings.Contains(err.Error(), "resolv.conf") {
		t.Errorf("got %v, want an error about resolv.conf", err)
	}
}

func nodeWith(kind corev1.NodeConditionType, heartbeat time.Time) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n1"},
		Status:     corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: kind, LastHeartbeatTime: metav1.NewTime(heartbeat)}}},
	}
}

func TestReported(t *testing.T) {
	started := time.Date(2026, 1, 2, 3, 4, 5, 900_000_000, time.UTC)
	for _, tt := range []struct {
		name string
		node *corev1.Node
		want bool
	}{
		{"registered without a status", &corev1.Node{}, false},
		{"by the kubelet before", nodeWith(corev1.NodeReady, started.Add(-2*time.Second)), false},
		{"in the second of the start, as the API keeps it", nodeWith(corev1.NodeReady, started.Truncate(time.Second)), true},
		{"later", nodeWith(corev1.NodeReady, started.Add(time.Minute)), true},
		{"another condition", nodeWith(corev1.NodeMemoryPressure, started.Add(time.Minute)), false},
	} {
		if err := reported(tt.node, started); (err == nil) != tt.want {
			t.Errorf("%s: got %v, want reported to be %t", tt.name, err, tt.want)
		}
	}
}

func TestRegistered(t *testing.T) {
	started := time.Now()
	well := true
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !well {
			http.Error(w, "pleg", http.StatusInternalServerError)
		}
	}))
	defer server.Close()
	c := New(testConfig(), paths.Data(t.TempDir()), nil)
	c.probe = healthprobe.New(server.URL, nil)

	if err := c.registered(t.Context(), fake.NewClientset(), started); err == nil || !strings.Contains(err.Error(), "not found") {
		t.Errorf("without a Node: got %v", err)
	}
	if err := c.registered(t.Context(), fake.NewClientset(nodeWith(corev1.NodeReady, started.Add(-time.Hour))), started); err == nil {
		t.Error("ready with the Node of an earlier run")
	}
	fresh := fake.NewClientset(nodeWith(corev1.NodeReady, started))
	if err := c.registered(t.Context(), fresh, started); err != nil {
		t.Errorf("with a fresh Node: got %v", err)
	}
	if err := c.Check(t.Context()); err != nil {
		t.Errorf("Check: %v", err)
	}
	well = false
	if err := c.registered(t.Context(), fresh, started); err == nil {
		t.Error("ready although the kubelet is unwell")
	}
	if err := c.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "pleg") {
		t.Errorf("Check: got %v, want what the kubelet says", err)
	}
}

// TestInotify: a machine whose instances are taken is named before the kubelet dies of it.
func TestInotify(t *testing.T) {
	for room, want := range map[int]string{0: "and can have 0", 4: "and can have 4: raise the sysctl", 5: ""} {
		open := 0
		err := checkInotify(func() (int, error) {
			if open == room {
				return -1, unix.EMFILE
			}
			open++
			return unix.Eventfd(0, unix.EFD_CLOEXEC)
		})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("room for %d: %v", room, err)
		}
	}
}
