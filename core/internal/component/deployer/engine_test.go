package deployer

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/cleat-dev/cleat/core/extension"
	"github.com/cleat-dev/cleat/core/internal/crd"
	"github.com/cleat-dev/cleat/hostabi"
)

const cmPath = "/api/v1/namespaces/default/configmaps/"

// yamlDeployer renders YAML documents as they are, which is enough to drive the engine.
type yamlDeployer struct{}

func (yamlDeployer) Claims() []hostabi.DeployerManifest {
	return []hostabi.DeployerManifest{hostabi.DefaultDeployer()}
}

func (yamlDeployer) Render(_ context.Context, req extension.DeployInput) (hostabi.DeployResult, bool, error) {
	if req.Kind != hostabi.DeployKindFile || !isManifestName(req.File) {
		return hostabi.DeployResult{}, false, nil
	}
	for name, value := range req.Variables {
		req.Content = strings.ReplaceAll(req.Content, "%{"+name+"}%", value)
	}
	var res hostabi.DeployResult
	for _, doc := range strings.Split(req.Content, "\n---\n") {
		raw, err := yaml.YAMLToJSON([]byte(doc))
		if err != nil {
			return hostabi.DeployResult{}, true, err
		}
		res.Objects = append(res.Objects, json.RawMessage(raw))
	}
	return res, true, nil
}

// bench is an engine on a fresh directory with a clock that the test moves.
type bench struct {
	t   *testing.T
	api *apiServer
	dir string
	*engine
	skew   time.Duration
	events []string
}

func newBench(t *testing.T) *bench {
	b := &bench{t: t, api: startAPI(t), dir: t.TempDir()}
	b.restart()
	return b
}

// restart makes a new engine, as a new process would.
func (b *bench) restart(disable ...string) {
	b.t.Helper()
	client, err := newCluster(b.api.config())
	if err != nil {
		b.t.Fatal(err)
	}
	now := func() time.Time { return time.Now().Add(b.skew) }
	b.engine = &engine{
		cluster: client, render: yamlDeployer{}, variables: map[string]string{"CLUSTER_DOMAIN": "example.test"},
		server: "n1", dir: b.dir, disabled: disabledStems(disable), log: slog.New(slog.DiscardHandler), now: now,
		scanner: newScanner(b.dir, now), rendered: map[string]*rendering{}, collision: map[string]string{},
		event: func(a *crd.Addon, _ bool, reason, message string) {
			b.events = append(b.events, a.Name+" "+reason+" "+message)
		},
	}
	if err := crd.Ensure(b.t.Context(), client.dynamic, fieldManager, crd.AddonResource); err != nil {
		b.t.Fatal(err)
	}
	if err := b.load(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) write(name, content string) {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(b.dir, name), []byte(content), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) remove(name string) {
	b.t.Helper()
	if err := os.Remove(filepath.Join(b.dir, name)); err != nil {
		b.t.Fatal(err)
	}
}

// step lets every change settle and every retry come due.
func (b *bench) step() {
	b.t.Helper()
	b.events = nil
	for range 2 { // a deletion is believed at the second look
		b.skew += lastRetry
		if _, err := b.turn(b.t.Context()); err != nil {
			b.t.Fatal(err)
		}
	}
}

func (b *bench) wantPaths(want ...string) {
	b.t.Helper()
	got := slices.DeleteFunc(b.api.paths(), func(p string) bool { return strings.HasSuffix(p, "/addons.cleat.dev") })
	slices.Sort(want)
	if diff := cmp.Diff(want, got, cmp.Transformer("len0", func(s []string) []string { return append([]string{}, s...) })); diff != "" {
		b.t.Errorf("objects (-want +got):\n%s", diff)
	}
}

func (b *bench) wantEvent(parts ...string) {
	b.t.Helper()
	if !slices.ContainsFunc(b.events, func(e string) bool {
		return !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(e, p) })
	}) {
		b.t.Errorf("no event with %q in:\n%s", parts, strings.Join(b.events, "\n"))
	}
}

func (b *bench) addon(name string) *crd.Addon {
	b.t.Helper()
	u := b.api.get("/apis/cleat.dev/v1/namespaces/kube-system/addons/" + name)
	if u == nil {
		return nil
	}
	a, err := crd.FromUnstructured(u)
	if err != nil {
		b.t.Fatal(err)
	}
	return a
}

func configMap(name, value string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + "}\ndata: {k: " + value + "}"
}

func join(docs ...string) string { return strings.Join(docs, "\n---\n") }

func TestFileLife(t *testing.T) {
	b := newBench(t)
	b.write("web.yaml", join(configMap("a", "one"), configMap("b", "%{CLUSTER_DOMAIN}%")))
	b.step()
	b.wantPaths(cmPath+"a", cmPath+"b")
	b.wantEvent("web ApplyingManifest")
	b.wantEvent("web AppliedManifest")
	if got := getLeaf(b.api.get(cmPath+"b").Object, "/data/k"); got != "example.test" {
		t.Errorf("variable rendered as %v", got)
	}
	if got := b.api.get(cmPath + "a").GetLabels()[crd.AddonLabel]; got != "web" {
		t.Errorf("label is %q", got)
	}
	a := b.addon("web")
	if a == nil || a.Spec.Source != filepath.Join(b.dir, "web.yaml") || a.Spec.Server != "n1" || len(a.Status.Objects) != 2 ||
		a.Status.Objects[0].UID == "" || a.Status.ObservedChecksum != a.Spec.Checksum || a.Status.LastError != "" {
		t.Fatalf("addon is %+v", a)
	}

	b.write("web.yaml", join(configMap("a", "two"), configMap("c", "x")))
	b.step()
	b.wantPaths(cmPath+"a", cmPath+"c")
	if got := getLeaf(b.api.get(cmPath+"a").Object, "/data/k"); got != "two" {
		t.Errorf("a is %v after the change", got)
	}

	b.remove("web.yaml")
	b.step()
	b.wantPaths()
	b.wantEvent("web DeletingManifest")
	if b.addon("web") != nil {
		t.Error("addon outlived its file")
	}
}

func TestUnchangedFileIsAppliedOncePerProcess(t *testing.T) {
	b := newBench(t)
	b.write("web.yaml", configMap("a", "one"))
	b.step()
	b.api.drop(cmPath + "a")
	b.step()
	b.wantPaths()
	b.restart()
	b.step()
	b.wantPaths(cmPath + "a") // a restart repairs
	if len(b.events) != 0 {
		t.Errorf("a restart is no news: %q", b.events)
	}
}

func TestFileGoneWhileDown(t *testing.T) {
	b := newBench(t)
	b.write("web.yaml", configMap("a", "one"))
	b.write("other.yaml", configMap("b", "one"))
	b.step()
	b.remove("web.yaml")
	b.restart()
	b.step()
	b.wantPaths(cmPath + "b")
	if b.addon("web") != nil || b.addon("other") == nil {
		t.Error("the wrong addon is gone")
	}
}

func TestOtherServersAddonIsLeftAlone(t *testing.T) {
	b := newBench(t)
	b.write("web.yaml", configMap("a", "one"))
	b.step()
	b.remove("web.yaml")
	b.restart()
	b.server = "n2"
	b.step()
	b.wantPaths(cmPath + "a")
}

func TestOtherDataDirectory(t *testing.T) {
	b := newBench(t)
	b.write("web.yaml", configMap("a", "one"))
	b.step()
	old := b.dir
	b.dir = t.TempDir()
	b.restart()
	b.step()
	b.wantPaths(cmPath + "a") // the file is still there, only not here
	if err := os.Remove(filepath.Join(old, "web.yaml")); err != nil {
		t.Fatal(err)
	}
	b.restart()
	b.step()
	b.wantPaths()
}

func TestSkip(t *testing.T) {
	b := newBench(t)
	b.write("web.yaml", configMap("a", "one"))
	b.step()
	b.write("web.yaml.skip", "")
	b.write("web.yaml", configMap("b", "one"))
	b.step()
	b.wantPaths(cmPath + "a")
	b.remove("web.yaml")
	b.step()
	b.wantPaths(cmPath + "a")
	b.restart()
	b.step()
	b.wantPaths(cmPath + "a")
	b.remove("web.yaml.skip")
	b.step()
	b.wantPaths()
}

func TestDisable(t *testing.T) {
	b := newBench(t)
	b.write("web.yaml", configMap("a", "one"))
	b.write("keep.yaml", configMap("b", "one"))
	b.step()
	b.restart("traefik,web")
	b.step()
	b.wantPaths(cmPath + "b")
	if b.addon("web") != nil {
		t.Error("addon of a disabled file is there")
	}
	b.restart()
	b.step()
	b.wantPaths(cmPath+"a", cmPath+"b")
}

func TestBrokenFileKeepsItsObjects(t *testing.T) {
	for name, tc := range map[string]struct {
		content, reason, message string
	}{
		"not yaml":  {"a: [", reasonParseFailed, "yaml"},
		"no kind":   {"apiVersion: v1\nmetadata: {name: x}", reasonParseFailed, "kind is missing"},
		"no name":   {"apiVersion: v1\nkind: ConfigMap\nmetadata: {generateName: x}", reasonParseFailed, "metadata.name"},
		"twice":     {join(configMap("b", "1"), configMap("b", "2")), reasonParseFailed, "twice"},
		"an addon":  {"apiVersion: cleat.dev/v1\nkind: Addon\nmetadata: {name: x}", reasonParseFailed, "own records"},
		"empty":     {" \n", reasonReadFailed, "empty"},
		"not text":  {"\xff\xfe", reasonReadFailed, "UTF-8"},
		"too large": {strings.Repeat("#", maxFileSize+1), reasonReadFailed, "larger"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.write("web.yaml", configMap("a", "one"))
			b.write("good.yaml", configMap("c", "one"))
			b.step()
			b.write("web.yaml", tc.content)
			b.step()
			b.wantPaths(cmPath+"a", cmPath+"c")
			b.wantEvent("web", tc.reason, tc.message)
			if a := b.addon("web"); !strings.Contains(a.Status.LastError, tc.message) || len(a.Status.Objects) != 1 {
				t.Errorf("status is %+v", a.Status)
			}
			b.step()
			if len(b.events) != 0 {
				t.Errorf("the same failure is no news: %q", b.events)
			}
			b.write("web.yaml", configMap("b", "one"))
			b.step()
			b.wantPaths(cmPath+"b", cmPath+"c")
			if a := b.addon("web"); a.Status.LastError != "" {
				t.Errorf("error stays: %q", a.Status.LastError)
			}
		})
	}
}

func TestPruneSparesWhatIsNotOurs(t *testing.T) {
	b := newBench(t)
	b.write("web.yaml", join(configMap("a", "1"), configMap("b", "1"), configMap("c", "1"), configMap("d", "1"),
		"apiVersion: v1\nkind: Namespace\nmetadata: {name: kube-system}"))
	b.step()
	label := func(value any) map[string]any {
		return map[string]any{"metadata": map[string]any{"labels": map[string]any{crd.AddonLabel: value}}}
	}
	b.api.set(cmPath+"a", "", label("other"))
	b.api.set(cmPath+"b", "", label(""))
	b.api.drop(cmPath + "c")
	b.api.set(cmPath+"c", "", map[string]any{"apiVersion": "v1", "kind": "ConfigMap"})
	b.api.set(cmPath+"c", "", label("web")) // under another UID
	b.remove("web.yaml")
	b.step()
	b.wantPaths(cmPath+"a", cmPath+"b", cmPath+"c", "/api/v1/namespaces/kube-system")
}

func TestOrder(t *testing.T) {
	b := newBench(t)
	definition := "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: things.x.test}\n" +
		"spec: {group: x.test, scope: Namespaced, names: {kind: Thing, plural: things}}"
	thing := "apiVersion: x.test/v1\nkind: Thing\nmetadata: {name: t}"
	b.write("a.yaml", join(thing, configMap("a", "1"), definition, "apiVersion: v1\nkind: Namespace\nmetadata: {name: ns}"))
	b.step()
	paths := []string{cmPath + "a", "/api/v1/namespaces/ns", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/things.x.test",
		"/apis/x.test/v1/namespaces/default/things/t"}
	b.wantPaths(paths...)
	b.remove("a.yaml")
	b.step()
	b.wantPaths()
	b.api.mu.Lock()
	defer b.api.mu.Unlock()
	want := []string{paths[3], paths[0], paths[2], paths[1], "/apis/cleat.dev/v1/namespaces/kube-system/addons/a"}
	if diff := cmp.Diff(want, b.api.deleted); diff != "" {
		t.Errorf("order of deletion (-want +got):\n%s", diff)
	}
}

func TestUnknownKindWaitsForItsDefinition(t *testing.T) {
	b := newBench(t)
	b.write("a.yaml", join("apiVersion: x.test/v1\nkind: Thing\nmetadata: {name: t}", configMap("a", "1")))
	b.step()
	b.wantPaths(cmPath + "a")
	b.wantEvent("a ApplyManifestFailed", "does not serve this kind")
	b.write("b.yaml", "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: things.x.test}\n"+
		"spec: {group: x.test, scope: Namespaced, names: {kind: Thing, plural: things}}")
	b.step()
	b.wantPaths(cmPath+"a", "/apis/x.test/v1/namespaces/default/things/t", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/things.x.test")
	if a := b.addon("a"); a.Status.LastError != "" || len(a.Status.Objects) != 2 {
		t.Errorf("status is %+v", a.Status)
	}
}

func TestTwoFilesOneObject(t *testing.T) {
	b := newBench(t)
	b.write("a.yaml", configMap("shared", "from-a"))
	b.write("b.yaml", join(configMap("shared", "from-b"), configMap("own", "1")))
	b.step()
	b.wantPaths(cmPath+"shared", cmPath+"own")
	b.wantEvent("b ApplyManifestFailed", "a.yaml", "b.yaml", "ConfigMap default/shared")
	if got := getLeaf(b.api.get(cmPath+"shared").Object, "/data/k"); got != "from-a" {
		t.Errorf("shared is %v", got)
	}
	uid := b.api.get(cmPath + "shared").GetUID()
	b.remove("a.yaml")
	b.step()
	shared := b.api.get(cmPath + "shared")
	if shared == nil || shared.GetUID() != uid {
		t.Fatal("the object was not handed over but deleted")
	}
	if got := getLeaf(shared.Object, "/data/k"); got != "from-b" || shared.GetLabels()[crd.AddonLabel] != "b" {
		t.Errorf("shared is %v, labels %v", got, shared.GetLabels())
	}
	b.remove("b.yaml")
	b.step()
	b.wantPaths()
}

func TestSameAddonName(t *testing.T) {
	b := newBench(t)
	b.write("a.x.yaml", configMap("one", "1"))
	b.write("a.y.yaml", configMap("two", "1"))
	b.step()
	b.wantPaths(cmPath + "one")
	if len(b.collision) != 1 || !strings.Contains(b.collision["a.y.yaml"], "a.x.yaml") {
		t.Errorf("collisions are %v", b.collision)
	}
}

func TestConflict(t *testing.T) {
	b := newBench(t)
	b.api.set(cmPath+"theirs", "helm", map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "data": map[string]any{"k": "helm"}})
	b.api.set(cmPath+"agreed", "helm", map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "data": map[string]any{"k": "same"}})
	b.write("web.yaml", join(configMap("theirs", "file"), configMap("agreed", "same"), configMap("ours", "file")))
	b.step()
	b.wantEvent("web ApplyManifestFailed", `"helm"`, "kubectl label configmap theirs -n default "+crd.AddonLabel+"=web")
	if got := getLeaf(b.api.get(cmPath+"theirs").Object, "/data/k"); got != "helm" {
		t.Errorf("a foreign field was seized: %v", got)
	}
	if a := b.addon("web"); len(a.Status.Objects) != 3 { // announced, so that pruning may look at it
		t.Errorf("inventory is %+v", a.Status.Objects)
	}

	b.api.set(cmPath+"theirs", "kubectl", map[string]any{"metadata": map[string]any{"labels": map[string]any{crd.AddonLabel: "web"}}})
	b.api.set(cmPath+"ours", "kubectl-edit", map[string]any{"data": map[string]any{"k": "edited"}})
	b.step()
	b.wantEvent("web FieldsTakenBack", "kubectl-edit")
	for _, name := range []string{"theirs", "ours"} {
		if got := getLeaf(b.api.get(cmPath+name).Object, "/data/k"); got != "file" {
			t.Errorf("%s is %v", name, got)
		}
	}
	b.remove("web.yaml")
	b.step()
	b.wantPaths()
}

func TestFailedApplyPrunesNothing(t *testing.T) {
	b := newBench(t)
	b.write("web.yaml", configMap("old", "1"))
	b.step()
	b.api.mu.Lock()
	b.api.fail = func(r *http.Request) int {
		if r.Method == http.MethodPatch && strings.HasSuffix(r.URL.Path, "/new") {
			return http.StatusForbidden
		}
		return 0
	}
	b.api.mu.Unlock()
	b.write("web.yaml", configMap("new", "1"))
	b.step()
	b.wantPaths(cmPath + "old")
	b.wantEvent("web ApplyManifestFailed", "ConfigMap default/new")
	b.api.mu.Lock()
	b.api.fail = nil
	b.api.mu.Unlock()
	b.step()
	b.wantPaths(cmPath + "new")
}

func TestRenderIsTriedAgain(t *testing.T) {
	b := newBench(t)
	flaky := &flakyDeployer{err: errors.New("deadline exceeded")}
	b.render = flaky
	b.write("web.yaml", configMap("a", "1"))
	b.step()
	b.wantPaths()
	b.wantEvent("web ParseManifestFailed", "deadline")
	flaky.err = nil
	b.step()
	b.wantPaths(cmPath + "a")
}

type flakyDeployer struct {
	yamlDeployer
	err error
}

func (f *flakyDeployer) Render(ctx context.Context, req extension.DeployInput) (hostabi.DeployResult, bool, error) {
	if f.err != nil {
		return hostabi.DeployResult{}, false, f.err
	}
	return f.yamlDeployer.Render(ctx, req)
}

func TestUnclaimedFile(t *testing.T) {
	b := newBench(t)
	b.write("notes.txt", "hello")
	b.step()
	if b.addon("notes") != nil || len(b.addons) != 0 {
		t.Error("a file that nobody claims has an addon")
	}
}

// TestSummary: what `cleat status` shows of the addons.
func TestSummary(t *testing.T) {
	b := newBench(t)
	const object = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: %s\n  namespace: default\n"
	b.write("good.yaml", strings.ReplaceAll(object, "%s", "one")+"---\n"+strings.ReplaceAll(object, "%s", "two"))
	b.write("bad.yaml", "apiVersion: v9\nkind: Unknown\nmetadata:\n  name: x\n")
	b.step()
	foreign := crd.Addon{Spec: crd.AddonSpec{Server: "n2"}}
	b.addons["foreign"] = &addonState{addon: &foreign}
	got := b.summary()
	if len(got) != 2 {
		t.Fatalf("addons %+v", got)
	}
	if bad := got[0]; bad.Name != "bad" || bad.Applied || bad.Error == "" {
		t.Errorf("bad: %+v", bad)
	}
	want := Addon{Name: "good", File: filepath.Join(b.dir, "good.yaml"), Applied: true, Objects: 2}
	if diff := cmp.Diff(want, got[1]); diff != "" {
		t.Errorf("good (-want +got):\n%s", diff)
	}
}
