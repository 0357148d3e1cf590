package render

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cleat-dev/cleat/hostabi"
)

func TestKustomize(t *testing.T) {
	overlay := files(t, "testdata/overlay")
	objects, err := newTestRenderer().Kustomize(t.Context(), tree(overlay), hostabi.KustomizeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	got := names(objects)
	want := []string{"ConfigMap/shop/prod-settings-HASH", "Secret/shop/prod-token", "Service/shop/prod-web", "Deployment/shop/prod-web"}
	generated := ""
	for i, name := range got {
		if before, hash, ok := strings.Cut(name, "settings-"); ok {
			got[i], generated = before+"settings-HASH", "prod-settings-"+hash
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
	spec := find(t, objects, "Deployment/shop/prod-web")["spec"].(map[string]any)
	if spec["replicas"] != 3.0 {
		t.Errorf("the patch is not applied: %v", spec["replicas"])
	}
	text := string(objects[3])
	if !strings.Contains(text, "registry.example/web:2") || !strings.Contains(text, `"name":"`+generated+`"`) {
		t.Errorf("deployment is %s", text)
	}
	if !strings.Contains(string(objects[2]), `"port":8080`) {
		t.Errorf("service is %s", objects[2])
	}

	below, err := newTestRenderer().Kustomize(t.Context(), tree(overlay), hostabi.KustomizeRequest{Path: "base/"})
	if err != nil || len(below) != 3 {
		t.Errorf("base gives %d objects, %v", len(below), err)
	}
}

func TestKustomizeRefuses(t *testing.T) {
	const plugin = "apiVersion: example.org/v1\nkind: Evil\nmetadata:\n  name: x\n"
	for name, tc := range map[string]struct {
		path  string
		files map[string]string
		why   string
	}{
		"outside path":  {"../x", map[string]string{"kustomization.yaml": ""}, "leads out of the directory"},
		"nothing":       {"", map[string]string{"a.yaml": "a: b"}, "unable to find one of 'kustomization.yaml'"},
		"empty":         {"", map[string]string{"kustomization.yaml": ""}, "empty"},
		"malformed":     {"", map[string]string{"kustomization.yaml": "a: ["}, "kustomization.yaml"},
		"unknown field": {"", map[string]string{"kustomization.yaml": "recources: [a.yaml]"}, "recources"},
		"missing":       {"", map[string]string{"kustomization.yaml": "resources: [a.yaml]"}, "a.yaml"},
		"base outside":  {"", map[string]string{"kustomization.yaml": "resources: [../base]"}, "../base"},
		"file outside":  {"o", map[string]string{"o/kustomization.yaml": "resources: [../a.yaml]", "a.yaml": configMap("a")}, "is not in or below"},
		"absolute":      {"", map[string]string{"kustomization.yaml": "resources: [/etc/passwd]"}, "/etc/passwd"},
		"generator":     {"", map[string]string{"kustomization.yaml": "configMapGenerator: [{name: a, files: [/etc/passwd]}]"}, "/etc/passwd"},
		"url":           {"", map[string]string{"kustomization.yaml": "resources: ['https://127.0.0.1:1/a.yaml']"}, "nothing is fetched"},
		"repository":    {"", map[string]string{"kustomization.yaml": "resources: ['github.com/a/b?ref=v1']"}, "nothing is fetched"},
		"git":           {"", map[string]string{"kustomization.yaml": "bases: ['git@example.org:a/b.git']"}, "nothing is fetched"},
		"component url": {"", map[string]string{"kustomization.yaml": "components: ['ssh://example.org/a/b.git']"}, "nothing is fetched"},
		"patch url":     {"", map[string]string{"kustomization.yaml": "patches: [{path: 'http://127.0.0.1:1/a'}]"}, "nothing is fetched"},
		"file url":      {"", map[string]string{"kustomization.yaml": "secretGenerator: [{name: a, files: ['k=https://127.0.0.1:1/a']}]"}, "nothing is fetched"},
		"schema url":    {"", map[string]string{"kustomization.yaml": "openapi: {path: 'https://127.0.0.1:1/a'}"}, "nothing is fetched"},
		"charts":        {"", map[string]string{"kustomization.yaml": "helmCharts: [{name: a}]"}, "helmCharts is not supported"},
		"overlooked url": {"", map[string]string{
			"kustomization.yaml": "transformers: [t.yaml]\nresources: [a.yaml]", "a.yaml": configMap("a"),
			"t.yaml": "apiVersion: builtin\nkind: PatchTransformer\nmetadata: {name: p}\npath: https://127.0.0.1:1/a",
		}, "outside the directory"},
		"plugin": {"", map[string]string{"kustomization.yaml": "generators: [p.yaml]", "p.yaml": plugin}, "only the built-in ones are run"},
		"exec": {"", map[string]string{"kustomization.yaml": "transformers: [p.yaml]\nresources: [a.yaml]", "a.yaml": configMap("a"),
			"p.yaml": plugin + "  annotations:\n    config.kubernetes.io/function: |\n      exec: {path: /bin/true}\n"}, "only the built-in ones are run"},
		"container": {"", map[string]string{"kustomization.yaml": "generators: [p.yaml]",
			"p.yaml": plugin + "  annotations:\n    config.kubernetes.io/function: |\n      container: {image: x}\n"}, "only the built-in ones are run"},
		"cycle": {"a", map[string]string{
			"a/kustomization.yaml": "resources: [../b]", "b/kustomization.yaml": "resources: [../a]",
		}, "cycle"},
		"itself":  {"", map[string]string{"kustomization.yaml": "resources: [.]"}, "cycle"},
		"aliases": {"", map[string]string{"kustomization.yaml": "resources: [a.yaml]", "a.yaml": laughs("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n")}, "more than 512 MiB of memory"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := newTestRenderer().Kustomize(t.Context(), tree(tc.files), hostabi.KustomizeRequest{Path: tc.path})
			if err == nil || !strings.HasPrefix(err.Error(), "kustomization: ") || !strings.Contains(err.Error(), tc.why) {
				t.Errorf("got %v, want %q", err, tc.why)
			}
		})
	}
}

// Bases that double each time, which kustomize would all read.
func TestKustomizeBomb(t *testing.T) {
	bomb := map[string]string{"k0/kustomization.yaml": "resources: [a.yaml]", "k0/a.yaml": configMap("a")}
	for i := range 40 {
		dir := "k" + strings.Repeat("x", i+1)
		below := "../k" + strings.Repeat("x", i)
		if i == 0 {
			below = "../k0"
		}
		bomb[dir+"/kustomization.yaml"] = "resources: [l, r]"
		bomb[dir+"/l/kustomization.yaml"] = "namePrefix: l\nresources: [../" + below + "]"
		bomb[dir+"/r/kustomization.yaml"] = "namePrefix: r\nresources: [../" + below + "]"
	}
	ctx, cancel := contextWithSeconds(t, 5)
	defer cancel()
	_, err := newTestRenderer().Kustomize(ctx, tree(bomb), hostabi.KustomizeRequest{Path: "k" + strings.Repeat("x", 40)})
	if err == nil || !strings.Contains(err.Error(), "rendering was ") {
		t.Errorf("got %v", err)
	}
}

func FuzzKustomization(f *testing.F) {
	f.Add("resources: [a.yaml]\nnamePrefix: x-", configMap("a"))
	f.Add("patches: [{patch: '[]', target: {kind: x}}]", "a: &a [*a]")
	f.Fuzz(func(_ *testing.T, k, object string) {
		// It returns.
		_, _ = kustomization(map[string][]byte{"kustomization.yaml": []byte(k), "a.yaml": []byte(object)}, hostabi.KustomizeRequest{})
	})
}

func contextWithSeconds(t *testing.T, n int) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), time.Duration(n)*time.Second)
}
