package deployer

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/extension"
	"github.com/cleat-dev/cleat/core/internal/paths"
	"github.com/cleat-dev/cleat/hostabi"
)

// eventually waits for a condition that another goroutine brings about.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-deadline:
			t.Fatalf("waited in vain for %s", what)
		case <-tick.C:
		}
	}
}

func startDeployer(t *testing.T, api *apiServer, data string, disable ...string) (d *Deployer, stop func()) {
	t.Helper()
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	err := clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"c": {Server: api.url}},
		Contexts:       map[string]*clientcmdapi.Context{"c": {Cluster: "c"}},
		CurrentContext: "c",
	}, kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	cfg := &config.Config{Options: config.Options{
		NodeName: "n1", ClusterDNS: []string{"10.43.0.10"}, ClusterDomain: "cluster.local", Disable: disable,
	}}
	d = New(cfg, paths.Data(data), yamlDeployer{}, kubeconfig, slog.New(slog.NewTextHandler(t.Output(), nil)))
	ctx, cancel := context.WithCancel(t.Context())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- d.Run(ctx, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-done:
		t.Fatalf("Run ended before it was ready: %v", err)
	}
	return d, func() {
		t.Helper()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v", err)
		}
	}
}

func TestRun(t *testing.T) {
	api, data := startAPI(t), t.TempDir()
	d, stop := startDeployer(t, api, data)
	const deployment = "/apis/apps/v1/namespaces/kube-system/deployments/coredns"
	if api.get(deployment) == nil {
		t.Error("CoreDNS is not applied when the deployer is ready")
	}
	if got := getLeaf(api.get("/api/v1/namespaces/kube-system/services/kube-dns").Object, "/spec/clusterIP"); got != "10.43.0.10" {
		t.Errorf("kube-dns has clusterIP %v", got)
	}
	file := filepath.Join(paths.Data(data).Manifests(), "web.yaml")
	start := time.Now()
	if err := os.WriteFile(file, []byte(configMap("a", "1")), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "web.yaml to be applied", func() bool { return api.get(cmPath+"a") != nil })
	t.Logf("applied after %v", time.Since(start))
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the objects of web.yaml to go", func() bool { return api.get(cmPath+"a") == nil })

	if err := d.SetPlanManifests([]hostabi.PlanManifest{{Name: "net.yaml", Content: configMap("net", "1")}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the plan's manifest", func() bool { return api.get(cmPath+"net") != nil })
	if err := d.SetPlanManifests(nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the plan's manifest to go", func() bool { return api.get(cmPath+"net") == nil })
	if err := d.SetPlanManifests([]hostabi.PlanManifest{{Name: "../x.yaml"}}); err == nil {
		t.Error("a plan may write outside the directory")
	}
	if err := d.Check(t.Context()); err != nil {
		t.Error(err)
	}
	eventually(t, "events", func() bool {
		api.mu.Lock()
		defer api.mu.Unlock()
		return strings.Contains(strings.Join(api.events, "\n"), "coredns AppliedManifest")
	})
	stop()

	_, stop = startDeployer(t, api, data, "coredns")
	if api.get(deployment) != nil {
		t.Error("CoreDNS is there although it is disabled")
	}
	if _, err := os.Stat(filepath.Join(paths.Data(data).Manifests(), "coredns.yaml")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the disabled file is there: %v", err)
	}
	stop()
}

func TestEditedPackagedFileIsKept(t *testing.T) {
	dir := t.TempDir()
	p := &packager{dir: dir, log: slog.New(slog.DiscardHandler), trust: func(string, string) {}}
	file := filepath.Join(dir, "x.yaml")
	sync := func(content string) string {
		t.Helper()
		if err := p.sync(fromBundle, map[string][]byte{"x.yaml": []byte(content)}); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(got)
	}
	sync("one")
	if got := sync("two"); got != "two" {
		t.Errorf("an unedited file is %q, want the new version", got)
	}
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := sync("three"); got != "mine" {
		t.Errorf("an edited file was overwritten with %q", got)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if got := sync("three"); got != "three" {
		t.Errorf("a deleted file is %q", got)
	}
	info, err := os.Stat(filepath.Join(dir, recordName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("record: %v %v", info, err)
	}
	if err := os.WriteFile(filepath.Join(dir, recordName), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := sync("four"); got != "three" {
		t.Errorf("without a record a file that differs counts as edited, got %q", got)
	}
	if err := p.sync(fromPlan, map[string][]byte{"y.yaml": []byte("y")}); err != nil {
		t.Fatal(err)
	}
	if err := p.sync(fromPlan, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "y.yaml")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file of an earlier plan is there: %v", err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Errorf("a plan removed a bundled file: %v", err)
	}
}

func TestBundledManifests(t *testing.T) {
	files, err := bundledManifests()
	if err != nil {
		t.Fatal(err)
	}
	cfg := &config.Config{Options: config.Options{ClusterDNS: []string{"fd00::a", "10.43.0.10"}, ClusterDomain: "cluster.local"}}
	for name, content := range files {
		res, _, err := yamlDeployer{}.Render(t.Context(), extension.DeployInput{DeployRequest: hostabi.DeployRequest{
			Kind: hostabi.DeployKindFile, File: name, Content: string(content), Variables: Variables(cfg),
		}})
		if err != nil {
			t.Fatal(err)
		}
		objects, err := decodeObjects(res.Objects)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, o := range objects {
			raw, err := json.Marshal(o.Object)
			if err != nil || strings.Contains(string(raw), "%{") {
				t.Errorf("%s: %s has an unknown variable or does not encode: %v", name, o.GetName(), err)
			}
			if o.GetKind() == "Service" {
				ips, _, _ := unstructured.NestedStringSlice(o.Object, "spec", "clusterIPs")
				if len(ips) != 2 || ips[0] != "fd00::a" {
					t.Errorf("%s: clusterIPs is %v", name, ips)
				}
			}
		}
	}
}
