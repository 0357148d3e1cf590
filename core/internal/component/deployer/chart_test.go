package deployer

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/cleat-dev/cleat/core/extension"
	"github.com/cleat-dev/cleat/core/internal/render"
	"github.com/cleat-dev/cleat/hostabi"
)

// renderWord makes the test binary a rendering process.
const renderWord = "render-child"

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == renderWord {
		os.Exit(render.Child(os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// chartDeployer renders charts, kustomizations and plain files, with the host's
// own renderer and as little of a plugin as that takes.
type chartDeployer struct {
	yamlDeployer
	claims   []hostabi.DeployerManifest
	renderer *render.Renderer
}

func newChartDeployer() *chartDeployer {
	return &chartDeployer{claims: chartClaims(), renderer: render.New(render.Options{
		Command: []string{"/proc/self/exe", renderWord}, KubeVersion: "v1.36.3",
	})}
}

func (d *chartDeployer) Claims() []hostabi.DeployerManifest { return d.claims }

func (d *chartDeployer) Render(ctx context.Context, in extension.DeployInput) (hostabi.DeployResult, bool, error) {
	switch {
	case in.Kind == hostabi.DeployKindFile:
		return d.yamlDeployer.Render(ctx, in)
	case len(d.claims) == 0:
		return hostabi.DeployResult{}, false, nil
	case slices.Contains(in.Files, "kustomization.yaml"):
		objects, err := d.renderer.Kustomize(ctx, in.Tree, hostabi.KustomizeRequest{})
		return hostabi.DeployResult{Objects: objects}, err == nil, err
	}
	values, err := yaml.YAMLToJSON([]byte(in.Companions["*.values.yaml"]))
	if err != nil {
		return hostabi.DeployResult{}, false, err
	}
	res, err := d.renderer.Helm(ctx, in.Tree, hostabi.HelmRequest{Release: in.Addon, Namespace: "default", Values: values})
	if err != nil {
		return hostabi.DeployResult{}, false, err
	}
	for i, raw := range res.CRDs {
		var o map[string]any
		if err := json.Unmarshal(raw, &o); err != nil {
			return hostabi.DeployResult{}, false, err
		}
		o["metadata"].(map[string]any)["annotations"] = map[string]any{keepAnnotation: "true"}
		if res.CRDs[i], err = json.Marshal(o); err != nil {
			return hostabi.DeployResult{}, false, err
		}
	}
	return hostabi.DeployResult{Objects: append(res.CRDs, res.Objects...)}, true, nil
}

func newChartBench(t *testing.T) *bench {
	b := newBench(t)
	b.render = newChartDeployer()
	return b
}

// put copies a directory of package render's test data.
func (b *bench) put(from, to string) {
	b.t.Helper()
	if err := os.CopyFS(filepath.Join(b.dir, to), os.DirFS(filepath.Join("../../render/testdata", from))); err != nil {
		b.t.Fatal(err)
	}
}

// pack writes a directory of the test data as `helm package` would.
func (b *bench) pack(from, to string) {
	b.t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	w := tar.NewWriter(z)
	tree := os.DirFS(filepath.Join("../../render/testdata", from))
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(name, ".bak") {
			return err
		}
		content, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Name: from + "/" + name, Mode: 0o644, Size: int64(len(content))}); err != nil {
			return err
		}
		_, err = w.Write(content)
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		b.t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		b.t.Fatal(err)
	}
	b.write(to, out.String())
}

const (
	ordersPath = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/orders.shop.example"
	orderPath  = "/apis/shop.example/v1/namespaces/default/orders/first"
)

func shopPaths(release string, more ...string) []string {
	return append(more, ordersPath, orderPath, cmPath+release+"-shop",
		"/api/v1/namespaces/default/serviceaccounts/one", "/api/v1/namespaces/default/serviceaccounts/two",
		"/api/v1/namespaces/default/services/"+release+"-shop", "/apis/apps/v1/namespaces/default/deployments/"+release+"-shop")
}

func (b *bench) replicas(deployment string) any {
	b.t.Helper()
	o := b.api.get("/apis/apps/v1/namespaces/default/deployments/" + deployment)
	if o == nil {
		b.t.Fatalf("deployment %s is missing; events: %q", deployment, b.events)
	}
	return getLeaf(o.Object, "/spec/replicas")
}

func TestChartLife(t *testing.T) {
	for _, packed := range []bool{false, true} {
		name := "web"
		if packed {
			name = "web.tgz"
		}
		t.Run(name, func(t *testing.T) {
			b := newChartBench(t)
			if packed {
				b.pack("shop", name)
			} else {
				b.put("shop", name)
			}
			b.step()
			b.wantPaths(shopPaths("web", cmPath+"web-cache")...)
			a := b.addon("web")
			if a == nil || a.Spec.Source != filepath.Join(b.dir, name) || a.Status.LastError != "" || a.Status.ObservedChecksum != a.Spec.Checksum {
				t.Fatalf("addon is %+v", a)
			}
			if got := b.replicas("web-shop"); got != 1.0 {
				t.Errorf("replicas is %v", got)
			}

			b.write("web.values.yaml", "replicas: 4\ncache: {enabled: false}\nsearch: {enabled: true}")
			b.step()
			b.wantPaths(shopPaths("web", cmPath+"web-search")...)
			if got := b.replicas("web-shop"); got != 4.0 {
				t.Errorf("replicas is %v with values", got)
			}
			if b.addon("web").Spec.Checksum == a.Spec.Checksum {
				t.Error("values are not part of the checksum")
			}

			b.write("web.values.yaml", "replicas: 400")
			b.step()
			b.wantPaths(shopPaths("web", cmPath+"web-search")...)
			b.wantEvent("web", reasonParseFailed, "at '/replicas'")

			b.write("web.skip", "")
			if packed {
				b.write("web.tgz.skip", "")
			}
			b.write("web.values.yaml", "replicas: 2")
			b.step()
			if got := b.replicas("web-shop"); got != 4.0 {
				t.Errorf("replicas is %v although it is skipped", got)
			}
			b.remove("web.skip")
			if packed {
				b.remove("web.tgz.skip")
			}
			b.step()
			if got := b.replicas("web-shop"); got != 2.0 {
				t.Errorf("replicas is %v", got)
			}

			b.restart()
			b.render = newChartDeployer()
			b.step()
			if len(b.events) != 0 {
				t.Errorf("a restart is no news: %q", b.events)
			}
			if err := os.RemoveAll(filepath.Join(b.dir, name)); err != nil {
				t.Fatal(err)
			}
			b.remove("web.values.yaml")
			b.step()
			b.wantPaths(ordersPath) // kept, or the orders would go with it
			if b.addon("web") != nil {
				t.Error("addon outlived its chart")
			}
		})
	}
}

func TestDisabledChart(t *testing.T) {
	b := newChartBench(t)
	b.put("shop", "web")
	b.step()
	b.restart("web")
	b.render = newChartDeployer()
	b.step()
	b.wantPaths(ordersPath)
}

func TestKustomizationLife(t *testing.T) {
	b := newChartBench(t)
	b.put("overlay", "web")
	b.write("namespace.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}")
	b.step()
	const ns = "/api/v1/namespaces/shop"
	paths := func(hash string) []string {
		return []string{ns, ns + "/configmaps/prod-settings-" + hash, ns + "/secrets/prod-token", ns + "/services/prod-web",
			"/apis/apps/v1/namespaces/shop/deployments/prod-web"}
	}
	hash := func() string {
		t.Helper()
		for _, p := range b.api.paths() {
			if _, hash, ok := strings.Cut(p, "prod-settings-"); ok {
				return hash
			}
		}
		t.Fatalf("no config map: %q", b.events)
		return ""
	}
	first := hash()
	b.wantPaths(paths(first)...)
	b.write("web/base/settings.ini", "color=red")
	b.step()
	if hash() == first {
		t.Error("a change deep below is not seen")
	}
	b.wantPaths(paths(hash())...) // the old one is pruned
	b.write("web/overlays/prod/replicas.yaml", "a: [")
	b.step()
	b.wantEvent("web", reasonParseFailed, "kustomization")
	b.wantPaths(paths(hash())...)
	if err := os.RemoveAll(filepath.Join(b.dir, "web")); err != nil {
		t.Fatal(err)
	}
	b.step()
	b.wantPaths(ns)
}

// A plugin that goes leaves the objects, and does not hand a chart's files to
// the plugin for plain ones.
func TestPluginGoesAndComes(t *testing.T) {
	b := newChartBench(t)
	charts := newChartDeployer()
	b.render = charts
	b.put("overlay/base", "web")
	b.pack("shop", "app.tgz")
	b.step()
	before := b.api.paths()
	charts.claims = nil
	b.step()
	b.wantPaths(slices.DeleteFunc(before, func(p string) bool { return strings.HasSuffix(p, "/addons.cleat.dev") })...)
	b.wantEvent("web", reasonParseFailed, "no deployer plugin claims it")
	b.wantEvent("app", reasonReadFailed)
	charts.claims = chartClaims()
	b.write("web/settings.ini", "color=red")
	b.step()
	b.step()
	if a := b.addon("web"); a.Status.LastError != "" {
		t.Errorf("addon has error %q", a.Status.LastError)
	}
	if a := b.addon("app"); a.Status.LastError != "" {
		t.Errorf("addon has error %q", a.Status.LastError)
	}
}
