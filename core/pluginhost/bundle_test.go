package pluginhost

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/cleat-dev/cleat/core/extension"
	"github.com/cleat-dev/cleat/hostabi"
	"github.com/google/go-cmp/cmp"
)

// bundleNames are the plugins that come with cleat, in the order of its lock.
func bundleNames() []string {
	return []string{"datastore-kine", "cni-flannel", "cni-bridge", "cni-none", "admission-baseline", "deployer-manifest"}
}

// shared is built once for all tests of this binary, in a directory TestMain
// removes.
type shared struct {
	dir   string
	build func() (map[string][]byte, error)
	seed  func() (string, error)
}

var bundleOnce shared

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "pluginhost-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	bundleOnce = shared{dir: dir, build: sync.OnceValues(func() (map[string][]byte, error) { return buildBundle(dir) })}
	bundleOnce.seed = sync.OnceValues(func() (string, error) { return precompileBundle(filepath.Join(dir, "seed")) })
	code := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// buildBundle builds the plugins from source with the SDK's builder.
func buildBundle(dir string) (map[string][]byte, error) {
	built := map[string][]byte{}
	builder := filepath.Join(dir, "pluginbuild")
	cmd := exec.Command("go", "build", "-trimpath", "-o", builder, "./cmd/pluginbuild")
	cmd.Dir = filepath.Join("..", "..", "pluginsdk")
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build pluginbuild: %w\n%s", err, out)
	}
	for _, name := range bundleNames() {
		to := filepath.Join(dir, name+".wasm")
		if out, err := exec.Command(builder, "-o", to, filepath.Join("..", "..", "plugins", name)).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build %s: %w\n%s", name, err, out)
		}
		wasm, err := os.ReadFile(to)
		if err != nil {
			return nil, err
		}
		built[name] = wasm
	}
	return built, nil
}

func precompileBundle(dir string) (string, error) {
	built, err := bundleOnce.build()
	if err != nil {
		return "", err
	}
	var all [][]byte
	for _, name := range bundleNames() {
		all = append(all, built[name])
	}
	return dir, Precompile(bundleContext(), dir, all...)
}

// realBundle is the bundle as a lock and files.
func realBundle(t testing.TB) *bundle {
	t.Helper()
	built, err := bundleOnce.build()
	if err != nil {
		t.Fatal(err)
	}
	var all [][]byte
	for _, name := range bundleNames() {
		all = append(all, built[name])
	}
	return lockOf(t, all...)
}

// openReal opens the real bundle with the cache all tests share, filled from the
// seed by the first of them.
func openReal(t testing.TB, change ...func(*Options)) *Host {
	t.Helper()
	seed, err := bundleOnce.seed()
	if err != nil {
		t.Fatal(err)
	}
	return realBundle(t).open(t, append([]func(*Options){func(o *Options) {
		o.CacheDir, o.CacheSeed = filepath.Join(bundleOnce.dir, "cache"), os.DirFS(seed)
	}}, change...)...)
}

// TestFirstBootCompilesNothing opens the bundle with an empty cache and the
// precompiled seed: every plugin is a hit and no entry is added.
func TestFirstBootCompilesNothing(t *testing.T) {
	cache := filepath.Join(t.TempDir(), "cache")
	var log logs
	h := openReal(t, log.option, func(o *Options) { o.CacheDir = cache })
	for _, s := range h.Stats() {
		if !s.CacheHit {
			t.Errorf("%s was compiled, in %s", s.Name, s.CompileTime)
		}
	}
	if err := h.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	n, err := h.cache.size()
	if err != nil || n != len(bundleNames()) {
		t.Errorf("the cache has %d entries, %v, want %d", n, err, len(bundleNames()))
	}
	if text := log.String(); strings.Contains(text, "plugin compiled") || !strings.Contains(text, "compiled=0") {
		t.Errorf("log tells of compiling:\n%s", text)
	}
}

func TestBundlePlansDatastore(t *testing.T) {
	h := openReal(t)
	plan, err := h.PlanDatastore(t.Context(), hostabi.DatastoreRequest{DBDir: "/var/lib/cleat/server/db", NodeName: "n"})
	if err != nil {
		t.Fatal(err)
	}
	if plan.Driver != hostabi.DatastoreDriverKine || !strings.HasPrefix(plan.Endpoint, "sqlite:///var/lib/cleat/server/db/state.db?") || plan.Shared {
		t.Errorf("plan %+v", plan)
	}
	_, err = h.PlanDatastore(t.Context(), hostabi.DatastoreRequest{Endpoint: "oracle://me:secret@host/db"})
	if err == nil || !strings.Contains(err.Error(), "postgres") || strings.Contains(err.Error(), "secret") {
		t.Errorf("an unknown scheme: %v", err)
	}
	_, err = h.PlanDatastore(t.Context(), hostabi.DatastoreRequest{Endpoint: "https://me:secret@host"})
	if err == nil || !strings.Contains(err.Error(), "no datastore plugin claims") || strings.Contains(err.Error(), "secret") {
		t.Errorf("an endpoint nobody claims: %v", err)
	}
}

func TestBundlePlansNetwork(t *testing.T) {
	h := openReal(t)
	req := hostabi.CNIRequest{Plugin: "cni-flannel", FlannelBackend: "vxlan", ClusterCIDRs: []string{"10.42.0.0/16"}, ServiceCIDRs: []string{"10.43.0.0/16"},
		ClusterDomain: "cluster.local", ProxyMode: hostabi.ProxyModeNFTables,
		Node: hostabi.CNINode{Name: "n", Addresses: []string{"192.0.2.1"}, Interface: "eth0", MTU: 1500, PodCIDRs: []string{"10.42.0.0/24"}}}
	plan, err := h.PlanNetwork(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if plan.Driver != hostabi.CNIDriverFlannel || plan.Flannel == nil || plan.Flannel.Backend != hostabi.FlannelVXLAN || !json.Valid(plan.Conflist) {
		t.Errorf("plan %+v", plan)
	}
	req.Plugin = "cni-calico"
	if _, err = h.PlanNetwork(t.Context(), req); err == nil || !strings.Contains(err.Error(), `--cni "cni-calico"`) || !strings.Contains(err.Error(), "cni-flannel, cni-bridge, cni-none") {
		t.Errorf("an unknown plugin: %v", err)
	}
	req.Plugin, req.FlannelBackend = "cni-flannel", "ipsec"
	if _, err = h.PlanNetwork(t.Context(), req); err == nil || !strings.Contains(err.Error(), "ipsec") || !strings.Contains(err.Error(), "host-gw") {
		t.Errorf("an unknown backend: %v", err)
	}
	for _, name := range []string{"cni-bridge", "cni-none"} {
		req.Plugin, req.FlannelBackend = name, ""
		if plan, err := h.PlanNetwork(t.Context(), req); err != nil || "cni-"+plan.Driver != name {
			t.Errorf("%s: %+v, %v", name, plan, err)
		}
	}
}

func TestBundleDeploys(t *testing.T) {
	h := openReal(t)
	req := hostabi.DeployRequest{File: "dns.yaml", Addon: "dns", Variables: map[string]string{"CLUSTER_DNS": "10.43.0.10"},
		Content: "apiVersion: v1\nkind: Service\nmetadata:\n  name: dns\nspec:\n  clusterIP: %{CLUSTER_DNS}%\n---\n# nothing\n---\napiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}\n"}
	res, claimed, err := h.Render(t.Context(), extension.DeployInput{DeployRequest: req})
	if err != nil || !claimed {
		t.Fatalf("claimed %t, %v", claimed, err)
	}
	var objects []any
	for _, o := range res.Objects {
		v, err := hostabi.ParseJSON(o)
		if err != nil {
			t.Fatal(err)
		}
		objects = append(objects, v)
	}
	want := []any{
		map[string]any{"apiVersion": "v1", "kind": "Service", "metadata": map[string]any{"name": "dns"}, "spec": map[string]any{"clusterIP": "10.43.0.10"}},
		map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "a"}},
	}
	if diff := cmp.Diff(want, objects); diff != "" {
		t.Errorf("objects (-want +got):\n%s", diff)
	}
	req.Content = "a: [unclosed"
	for range 2 * breakerFaults { // a user's mistakes never open the breaker
		if _, _, err = h.Render(t.Context(), extension.DeployInput{DeployRequest: req}); err == nil || !strings.Contains(err.Error(), "document 1") {
			t.Fatalf("malformed YAML: %v", err)
		}
	}
	req.File, req.Content = "notes.txt", "hello"
	if _, claimed, err := h.Render(t.Context(), extension.DeployInput{DeployRequest: req}); claimed || err != nil {
		t.Errorf("a file for nobody: %t, %v", claimed, err)
	}
}

// baselinePod is a pod in a namespace with the given labels.
func baselinePod(labels map[string]string, spec map[string]any) *extension.AdmissionRequest {
	req := pod()
	req.Object = func() (map[string]any, error) {
		return map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "web"}, "spec": spec}, nil
	}
	req.NamespaceLabels = func() (map[string]string, error) { return labels, nil }
	return req
}

func TestBundleAdmission(t *testing.T) {
	h := openReal(t)
	enforce := map[string]string{"baseline.cleat.dev/enforce": "true"}
	automount := map[string]string{"baseline.cleat.dev/automount": "false"}
	containers := func(image string, more map[string]any) map[string]any {
		return map[string]any{"containers": []any{map[string]any{"name": "c", "image": image, "securityContext": more}}}
	}
	tests := []struct {
		name   string
		labels map[string]string
		spec   map[string]any
		field  string // in the denial, "" = allowed
	}{
		{"good", enforce, containers("nginx:1.27", nil), ""},
		{"no tag", enforce, containers("nginx", nil), "spec.containers[0].image"},
		{"privileged", enforce, containers("nginx:1", map[string]any{"privileged": true}), "spec.containers[0].securityContext.privileged"},
		{"host network", enforce, map[string]any{"hostNetwork": true, "containers": []any{map[string]any{"image": "a:1"}}}, "spec.hostNetwork"},
		{"not labelled", nil, containers("nginx", map[string]any{"privileged": true}), ""},
	}
	for _, test := range tests {
		result, err := h.Validate(t.Context(), baselinePod(test.labels, test.spec))
		if err != nil {
			t.Fatal(err)
		}
		if result.Allowed != (test.field == "") || !strings.Contains(result.Message, test.field) || !result.Allowed && result.Code != 403 {
			t.Errorf("%s: %+v, want %q", test.name, result, test.field)
		}
	}
	result, err := h.Mutate(t.Context(), baselinePod(automount, containers("a:1", nil)))
	if err != nil || !result.Allowed {
		t.Fatalf("got %+v, %v", result, err)
	}
	spec, _ := result.Object["spec"].(map[string]any)
	if spec["automountServiceAccountToken"] != false {
		t.Errorf("object %v", result.Object)
	}
	calls := h.current.Load().plugins[4].stats.calls.Load()
	if _, err := h.Mutate(t.Context(), baselinePod(nil, containers("a", nil))); err != nil {
		t.Fatal(err)
	}
	if now := h.current.Load().plugins[4].stats.calls.Load(); now != calls {
		t.Errorf("a pod outside labelled namespaces entered the guest")
	}
}

// TestTamperedBundle flips one bit of each real plugin.
func TestTamperedBundle(t *testing.T) {
	b := realBundle(t)
	for name, f := range b.files {
		data := append([]byte(nil), f.Data...)
		data[len(data)/2] ^= 1
		b.files[name] = &fstest.MapFile{Data: data}
	}
	_, err := Open(t.Context(), b.options(t))
	for _, name := range bundleNames() {
		if err == nil || !strings.Contains(err.Error(), "plugin "+name+": sha256") {
			t.Errorf("%s is not named in %v", name, err)
		}
	}
}
