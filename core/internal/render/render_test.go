package render

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/cleat-dev/cleat/hostabi"
)

// childWord makes the test binary a rendering process.
const childWord = "render-child"

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == childWord {
		os.Exit(Child(os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

func newTestRenderer() *Renderer {
	return New(Options{Command: []string{"/proc/self/exe", childWord}, KubeVersion: "v1.36.3+cleat1"})
}

// files reads a directory.
func files(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path.Join(dir, name))
		out[name] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func tree(files map[string]string) fs.FS {
	out := fstest.MapFS{}
	for name, content := range files {
		out[name] = &fstest.MapFile{Data: []byte(content)}
	}
	return out
}

// entry is an entry of a test's archive.
type entry struct {
	name, content string
	kind          byte // tar.TypeReg when 0
	link          string
}

func pack(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: 0o644, Size: int64(len(e.content)), Typeflag: e.kind, Linkname: e.link}
		if e.kind == 0 {
			h.Typeflag = tar.TypeReg
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// packed is a chart as `helm package` packs it.
func packed(t testing.TB, dir string, files map[string]string) []byte {
	t.Helper()
	var entries []entry
	for _, name := range slices.Sorted(maps.Keys(files)) {
		entries = append(entries, entry{name: dir + "/" + name, content: files[name]})
	}
	return pack(t, entries...)
}

func helmRequest(values string) hostabi.HelmRequest {
	return hostabi.HelmRequest{Release: "web", Namespace: "store", Values: json.RawMessage(values)}
}

// names lists objects as kind/namespace/name.
func names(objects []json.RawMessage) []string {
	var out []string
	for _, raw := range objects {
		var o struct {
			Kind     string
			Metadata struct{ Name, Namespace string }
		}
		if err := json.Unmarshal(raw, &o); err != nil {
			out = append(out, err.Error())
			continue
		}
		out = append(out, strings.Join([]string{o.Kind, o.Metadata.Namespace, o.Metadata.Name}, "/"))
	}
	return out
}

func find(t *testing.T, objects []json.RawMessage, name string) map[string]any {
	t.Helper()
	i := slices.Index(names(objects), name)
	if i < 0 {
		t.Fatalf("no %s in %q", name, names(objects))
	}
	var o map[string]any
	if err := json.Unmarshal(objects[i], &o); err != nil {
		t.Fatal(err)
	}
	return o
}

func TestHelm(t *testing.T) {
	r := newTestRenderer()
	shop := files(t, "testdata/shop")
	result, err := r.Helm(t.Context(), tree(shop), helmRequest(`{"replicas": 3, "cache": {"size": 128}}`))
	if err != nil {
		t.Fatal(err)
	}
	if result.Name != "shop" || result.Version != "1.2.3" {
		t.Errorf("chart is %s %s", result.Name, result.Version)
	}
	want := []string{
		"ServiceAccount//one", "ServiceAccount//two", "ConfigMap//web-cache", "ConfigMap//web-shop",
		"Service/store/web-shop", "Deployment//web-shop", "Order//first",
	}
	got := names(result.Objects)
	// Helm sorts lists as what they are and does not know the kind List.
	slices.Sort(want)
	sorted := slices.Sorted(slices.Values(got))
	if diff := cmp.Diff(want, sorted); diff != "" {
		t.Errorf("objects (-want +got):\n%s", diff)
	}
	if slices.Index(got, "ConfigMap//web-shop") > slices.Index(got, "Deployment//web-shop") {
		t.Errorf("not in the order in which Helm installs: %q", got)
	}
	if diff := cmp.Diff([]string{"CustomResourceDefinition//orders.shop.example"}, names(result.CRDs)); diff != "" {
		t.Errorf("crds (-want +got):\n%s", diff)
	}
	if len(result.Hooks) != 2 || names([]json.RawMessage{result.Hooks[0].Object, result.Hooks[1].Object})[0] != "ConfigMap//migration" ||
		!slices.Equal(result.Hooks[1].Events, []string{"pre-install", "pre-upgrade"}) {
		t.Errorf("hooks are %s", result.Hooks)
	}
	if len(result.Warnings) != 1 || !strings.Contains(result.Warnings[0], `from-helm-two is left out: Helm has no hook "crd-install"`) {
		t.Errorf("warnings are %q", result.Warnings)
	}
	config := find(t, result.Objects, "ConfigMap//web-shop")["data"]
	if diff := cmp.Diff(map[string]any{
		"kubernetes": "v1.36.3+cleat1", "ingress": "true", "oldIngress": "false", "orders": "true", "lookup": "0", "host": "",
		"keys": "a,b,c", "greeting": "hello",
	}, config); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
	if size := find(t, result.Objects, "ConfigMap//web-cache")["data"].(map[string]any)["size"]; size != "128" {
		t.Errorf("cache has size %v", size)
	}
	spec := find(t, result.Objects, "Deployment//web-shop")["spec"].(map[string]any)
	if spec["replicas"] != 3.0 {
		t.Errorf("replicas is %v", spec["replicas"])
	}

	t.Run("packed", func(t *testing.T) {
		delete(shop, "templates/old.yaml.bak") // what `helm package` leaves out
		archive := packed(t, "shop", shop)
		for name, ask := range map[string]func() (hostabi.HelmResult, error){
			"file": func() (hostabi.HelmResult, error) {
				return r.Helm(t.Context(), tree(map[string]string{"shop-1.2.3.tgz": string(archive)}), helmRequest(`{"replicas": 3, "cache": {"size": 128}}`))
			},
			"request": func() (hostabi.HelmResult, error) {
				req := helmRequest(`{"replicas": 3, "cache": {"size": 128}}`)
				req.Archive = base64.StdEncoding.EncodeToString(archive)
				return r.Helm(t.Context(), nil, req)
			},
		} {
			again, err := ask()
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if diff := cmp.Diff(result, again); diff != "" {
				t.Errorf("%s: (-directory +archive):\n%s", name, diff)
			}
		}
	})
}

// A subchart that is packed itself, inside a packed one.
func TestHelmNestedArchives(t *testing.T) {
	inner := packed(t, "inner", map[string]string{
		"Chart.yaml": "apiVersion: v2\nname: inner\nversion: 1.0.0", "templates/c.yaml": configMap("inner"),
	})
	middle := packed(t, "middle", map[string]string{
		"Chart.yaml": "apiVersion: v2\nname: middle\nversion: 1.0.0", "charts/inner-1.0.0.tgz": string(inner), "templates/c.yaml": configMap("middle"),
	})
	outer := map[string]string{"Chart.yaml": "apiVersion: v2\nname: outer\nversion: 1.0.0", "charts/middle-1.0.0.tgz": string(middle)}
	result, err := newTestRenderer().Helm(t.Context(), tree(outer), helmRequest(""))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"ConfigMap//inner", "ConfigMap//middle"}, slices.Sorted(slices.Values(names(result.Objects)))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func configMap(name string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + "}"
}

func TestHelmIsTheSameAgain(t *testing.T) {
	shop := files(t, "testdata/shop")
	shop["templates/maps.yaml"] = configMap("maps") + `
data:
  a: {{ values (dict "c" 1 "a" 2 "b" 3 "d" 4 "e" 5) | join "," | quote }}
  b: {{ range $k, $v := (dict "c" 1 "a" 2 "b" 3) }}{{ $k }}{{ end }}
  c: {{ dict "z" 1 "y" (dict "b" 1 "a" 2) | toJson | quote }}
  d: {{ date "2006-01-02" 86400 }}
`
	var first hostabi.HelmResult
	for i := range 3 {
		result, err := newTestRenderer().Helm(t.Context(), tree(shop), helmRequest(""))
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = result
		} else if diff := cmp.Diff(first, result); diff != "" {
			t.Fatalf("rendering %d (-first +now):\n%s", i+1, diff)
		}
	}
}

func TestHelmRefuses(t *testing.T) {
	const head = "apiVersion: v2\nname: x\nversion: 1.0.0\n"
	chart := func(more ...string) map[string]string {
		files := map[string]string{"Chart.yaml": head}
		for i := 0; i+1 < len(more); i += 2 {
			files[more[i]] = more[i+1]
		}
		return files
	}
	for name, tc := range map[string]struct {
		files  map[string]string
		values string
		why    string
	}{
		"no chart":           {map[string]string{"a": "", "b": ""}, "", "Chart.yaml is missing"},
		"broken Chart.yaml":  {map[string]string{"Chart.yaml": "a: ["}, "", "cannot load Chart.yaml"},
		"no name":            {map[string]string{"Chart.yaml": "apiVersion: v2\nversion: 1.0.0"}, "", "name is required"},
		"apiVersion":         {map[string]string{"Chart.yaml": "apiVersion: v3\nname: x\nversion: 1.0.0"}, "", `apiVersion of chart x is "v3", want v1 or v2`},
		"library":            {chart("Chart.yaml", head+"type: library"), "", "x is a library chart"},
		"kubernetes":         {chart("Chart.yaml", head+"kubeVersion: < 1.30.0"), "", "chart x wants Kubernetes < 1.30.0, this is v1.36.3+cleat1"},
		"kubernetes below":   {chart("charts/sub/Chart.yaml", "apiVersion: v2\nname: sub\nversion: 1.0.0\nkubeVersion: '>= 1.99'"), "", "chart sub wants Kubernetes >= 1.99"},
		"dependency missing": {chart("Chart.yaml", head+"dependencies: [{name: sub, version: 1.x}]"), "", "depends on sub 1.x, which is not in its charts/"},
		"schema":             {files(t, "testdata/shop"), `{"replicas": "many"}`, "values of chart shop: - at '/replicas': got string, want integer"},
		"schema below":       {files(t, "testdata/shop"), `{"cache": {"size": "big"}}`, "values of chart cache: - at '/size'"},
		"schema file":        {chart("values.schema.json", `{"$ref": "file:///etc/passwd"}`), "", "only references inside the file are followed"},
		"schema address":     {chart("values.schema.json", `{"$ref": "http://127.0.0.1:1/x"}`), "", "only references inside the file are followed"},
		"values":             {chart(), `[1]`, "the values are not an object"},
		"template":           {chart("templates/a.yaml", "{{ .Values.a.b.c }}"), "", "a.yaml:1"},
		"parse":              {chart("templates/a.yaml", "{{ if }}"), "", "a.yaml:1"},
		"required":           {chart("templates/a.yaml", `{{ required "set the colour" .Values.colour }}`), "", "set the colour"},
		"random":             {chart("templates/a.yaml", `a: {{ randAlphaNum 8 }}`), "", "randAlphaNum gives another result at every rendering"},
		"certificate":        {chart("templates/a.yaml", `a: {{ (genCA "x" 365).Cert }}`), "", "genCA gives another result"},
		"time":               {chart("templates/a.yaml", `a: {{ now }}`), "", "now gives another result"},
		"time unsaid":        {chart("templates/a.yaml", `a: {{ date "2006" "" }}`), "", "date is given a string"},
		"environment":        {chart("templates/a.yaml", `a: {{ env "PATH" }}`), "", `function "env" not defined`},
		"yaml":               {chart("templates/a.yaml", "a: ["), "", "a.yaml"},
		"no object":          {chart("templates/a.yaml", "just text"), "", "a.yaml"},
		"aliases":            {chart("templates/a.yaml", laughs("apiVersion: v1\nkind: X\n")), "", "excessive aliasing"},
		"value aliases":      {chart("values.yaml", laughs("")), "", "excessive aliasing"},
		"file too large":     {chart("files/a", strings.Repeat("x", maxFileBytes+1)), "", "files/a is 5242881 bytes"},
		"output":             {chart("templates/a.yaml", configMap("a")+"\ndata: {a: {{ repeat 5000000 \"x\" }}}"), "", "renders to more than 4 MiB"},
		"crd":                {chart("crds/a.yaml", "a: b"), "", "not an object with apiVersion and kind"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := newTestRenderer().Helm(t.Context(), tree(tc.files), helmRequest(tc.values))
			if err == nil || !strings.HasPrefix(err.Error(), "chart: ") || !strings.Contains(err.Error(), tc.why) {
				t.Errorf("got %v, want %q", err, tc.why)
			}
		})
	}
	for _, req := range []hostabi.HelmRequest{
		{Release: "Web", Namespace: "a"}, {Release: strings.Repeat("x", 54), Namespace: "a"}, {Release: "", Namespace: "a"},
		{Release: "web", Namespace: ""}, {Release: "web", Namespace: "a/b"}, {Release: "web", Namespace: "a", Archive: "!"},
	} {
		if _, err := newTestRenderer().Helm(t.Context(), tree(chart()), req); err == nil {
			t.Errorf("%+v is rendered", req)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := newTestRenderer().Helm(ctx, tree(chart()), helmRequest("")); err == nil {
		t.Error("rendered although nobody waits")
	}
	if _, err := New(Options{}).Helm(t.Context(), tree(chart()), helmRequest("")); err == nil || !strings.Contains(err.Error(), "cannot render") {
		t.Errorf("without a command: %v", err)
	}
}

// laughs is YAML that doubles itself 26 times.
func laughs(head string) string {
	var b strings.Builder
	b.WriteString(head + "a0: &a0 [x, x]\n")
	for i := range 26 {
		b.WriteString(strings.NewReplacer("N", string(rune('A'+i)), "P", prev(i)).Replace("aN: &aN [*aP, *aP]\n"))
	}
	return b.String()
}

func prev(i int) string {
	if i == 0 {
		return "0"
	}
	return string(rune('A' + i - 1))
}
