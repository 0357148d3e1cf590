package cloudcontroller

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/cleat-dev/cleat/core/config"
)

func writeKubeconfig(t *testing.T, server string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	err := clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"c": {Server: server}},
		Contexts:       map[string]*clientcmdapi.Context{"c": {Cluster: "c"}},
		CurrentContext: "c",
	}, path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestRun checks that the role is applied by the administrator, that the unit
// waits until its own identity is allowed, and that only then nodes are worked on.
func TestRun(t *testing.T) {
	var asked, refusals atomic.Int32
	refusals.Store(2)
	var role rbacv1.ClusterRole
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("read request: %v", err)
		}
		who, _, _ := strings.Cut(r.URL.Path[1:], "/") // each kubeconfig has its own prefix
		w.Header().Set("Content-Type", "application/json")
		reply := func(v any) {
			if err := json.NewEncoder(w).Encode(v); err != nil {
				t.Errorf("reply: %v", err)
			}
		}
		switch {
		case strings.Contains(r.URL.Path, "/clusterroles/"):
			if who != "admin" {
				t.Errorf("the role is applied by %q", who)
			}
			if err := json.Unmarshal(body, &role); err != nil {
				t.Errorf("role: %v", err)
			}
			reply(role)
		case strings.Contains(r.URL.Path, "/clusterrolebindings/"):
			reply(rbacv1.ClusterRoleBinding{TypeMeta: metav1.TypeMeta{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "ClusterRoleBinding"}})
		case strings.HasSuffix(r.URL.Path, "/selfsubjectaccessreviews"):
			if who != "own" {
				t.Errorf("permissions are asked for by %q", who)
			}
			asked.Add(1)
			reply(authorizationv1.SelfSubjectAccessReview{
				TypeMeta: metav1.TypeMeta{APIVersion: "authorization.k8s.io/v1", Kind: "SelfSubjectAccessReview"},
				Status:   authorizationv1.SubjectAccessReviewStatus{Allowed: refusals.Add(-1) < 0},
			})
		default:
			t.Errorf("unexpected %s %s", r.Method, r.URL)
		}
	}))
	defer server.Close()

	cfg := &config.Config{Options: config.Options{NodeName: "n", NodeIP: []string{"192.0.2.1"}}}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	run := func(ctx context.Context, c *rest.Config, nodeName string, nodeIPs []string, _ *slog.Logger, synced func()) error {
		if !strings.HasSuffix(c.Host, "/own") || nodeName != "n" || !slices.Equal(nodeIPs, []string{"192.0.2.1"}) {
			t.Errorf("run got %q %q %v", c.Host, nodeName, nodeIPs)
		}
		synced()
		cancel()
		return ctx.Err()
	}
	ready := false
	unit := New(cfg, writeKubeconfig(t, server.URL+"/admin"), writeKubeconfig(t, server.URL+"/own"), run, slog.New(slog.DiscardHandler))
	if err := unit.Run(ctx, func() { ready = true }); !errors.Is(err, context.Canceled) {
		t.Errorf("Run returned %v", err)
	}
	if !ready {
		t.Error("not ready")
	}
	if asked.Load() < 10 {
		t.Errorf("asked for %d permissions", asked.Load())
	}
	if len(role.Rules) != len(permissions()) || slices.Contains(role.Rules[0].Verbs, "delete") {
		t.Errorf("role is %+v", role.Rules)
	}
}

func TestRunWithoutKubeconfig(t *testing.T) {
	unit := New(&config.Config{}, "/nowhere/admin", "/nowhere/own", nil, slog.New(slog.DiscardHandler))
	if err := unit.Run(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "/nowhere/admin") {
		t.Errorf("got %v", err)
	}
}
