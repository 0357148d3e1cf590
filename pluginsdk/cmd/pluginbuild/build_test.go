package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/hostabi/wasmfile"
)

// checkout copies hostabi, this module and a plugin into a new directory, as
// another clone of the repository would have them, and returns the plugin's
// directory.
func checkout(t *testing.T, change func(file, text string) string) string {
	t.Helper()
	dir := t.TempDir()
	for _, module := range []string{"hostabi", "pluginsdk"} {
		entries, err := os.ReadDir("../../../" + module)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			from, to := "../../../"+module+"/"+e.Name(), filepath.Join(dir, module, e.Name())
			switch {
			case slices.Contains([]string{"c", "rust", "assemblyscript"}, e.Name()): // not Go
			case e.IsDir():
				err = os.CopyFS(to, os.DirFS(from))
			default:
				var data []byte
				if data, err = os.ReadFile(from); err == nil {
					err = errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, data, 0o644))
				}
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	plugin := filepath.Join(dir, "plugins", "minimal")
	if err := os.MkdirAll(plugin, 0o755); err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string]string{
		"go.mod": `module example.org/minimal

go 1.26.8

require (
	github.com/cleat-dev/cleat/hostabi v0.0.0
	github.com/cleat-dev/cleat/pluginsdk v0.0.0
)

replace (
	github.com/cleat-dev/cleat/hostabi => ../../hostabi
	github.com/cleat-dev/cleat/pluginsdk => ../../pluginsdk
)
`,
		"manifest.json": `{
  "name": "minimal", "version": "1.0.0", "description": "allows everything",
  "abi": {"major": 1, "minor": 0}, "points": ["admission"], "capabilities": ["cleat_core_v1"],
  "admission": {"mutate": false, "validate": true, "read_paths": [], "write_paths": [],
    "rules": [{"name": "all", "operations": ["*"], "api_groups": ["*"], "api_versions": ["*"], "resources": ["*/*"]}]}
}
`,
		"plugin.go": `package main

import (
	"github.com/cleat-dev/cleat/pluginsdk"
	"github.com/cleat-dev/cleat/pluginsdk/admission"
)

func main() {}

var _ = pluginsdk.Debug

func init() {
	admission.Register(admission.Plugin{Validate: func(r *admission.Request) {}})
}
`,
	} {
		if err := os.WriteFile(filepath.Join(plugin, file), []byte(change(file, text)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return plugin
}

func unchanged(_, text string) string { return text }

func TestBuild(t *testing.T) {
	built, err := Build(context.Background(), checkout(t, unchanged))
	if err != nil {
		t.Fatal(err)
	}
	file, err := wasmfile.Parse(built.Wasm)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := file.Manifest()
	if err != nil || manifest.Name != "minimal" || built.Name != "minimal" {
		t.Errorf("manifest %+v, %v", manifest, err)
	}
	text, err := file.Custom("cleat.plugin")
	if err != nil {
		t.Fatal(err)
	}
	if canonical, err := hostabi.Canonical(text); err != nil || !bytes.Equal(canonical, text) {
		t.Errorf("the manifest is not canonical: %s, %v", text, err)
	}
}

// A guest has nothing that it cannot reach: what the SDK offers costs only those
// who use it.
func TestImportsWhatItReaches(t *testing.T) {
	for _, tt := range []struct {
		body, imports string
		want          []string
	}{
		{"", "", []string{"error_set"}},
		{"r.Kind()", "", []string{"error_set", "request_get"}},
		{"r.InGroup(r.UserUID()); pluginsdk.Now()", "", []string{"error_set", "now", "request_get", "user_groups_get"}},
		{"pluginsdk.Random(make([]byte, 1)); r.UserExtra(``)", "", []string{"error_set", "random", "user_extra_get"}},
		{"lookup.Get(`v1/Pod`, ``, `a`, ``)", "lookup", []string{"error_set", "lookup_get"}},
		{"lookup.List(`v1/Pod`, ``, ``, ``)", "lookup", []string{"error_set", "lookup_list"}},
		{"state.Get(`a`)", "state", []string{"error_set", "kv_get"}},
		{"state.Set(`a`, nil)", "state", []string{"error_set", "kv_set"}},
		{"config.Read()", "config", []string{"config_get", "error_set"}},
	} {
		t.Run(tt.body, func(t *testing.T) {
			module, err := compile(context.Background(), checkout(t, func(file, text string) string {
				if file != "plugin.go" {
					return text
				}
				if tt.imports != "" {
					text = strings.Replace(text, "import (", "import (\n\t\"github.com/cleat-dev/cleat/pluginsdk/"+tt.imports+"\"", 1)
				}
				return strings.Replace(text, "(r *admission.Request) {}", "(r *admission.Request) { "+tt.body+" }", 1)
			}))
			if err != nil {
				t.Fatal(err)
			}
			file, err := wasmfile.Parse(module)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, i := range file.Imports {
				if i.Module != hostabi.ModuleWASI {
					got = append(got, i.Name)
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, tt.want) {
				t.Errorf("imports %q, want %q", got, tt.want)
			}
			if len(module) > 2_000_000 {
				t.Errorf("%d bytes", len(module))
			}
			for _, heavy := range []string{"encoding/json.", "reflect.Value", "fmt.Sprintf"} {
				if bytes.Contains(module, []byte(heavy)) {
					t.Errorf("it holds %s", heavy)
				}
			}
		})
	}
}

// Another directory, another environment: the same bytes.
func TestBuildIsReproducible(t *testing.T) {
	first, err := Build(context.Background(), checkout(t, unchanged))
	if err != nil {
		t.Fatal(err)
	}
	again := checkout(t, unchanged)
	if output, err := exec.Command("git", "init", "-q", again).CombinedOutput(); err != nil {
		t.Fatalf("git init: %v\n%s", err, output)
	}
	t.Setenv("GOFLAGS", "-tags=other -ldflags=-X=main.a=b -buildvcs=true")
	t.Setenv("GOOS", "linux")
	t.Setenv("GOWORK", filepath.Join(again, "missing.work"))
	t.Setenv("GOWASM", "satconv")
	t.Setenv("GOEXPERIMENT", "jsonv2")
	t.Setenv("GODEBUG", "gotypesalias=1")
	t.Setenv("SOURCE_DATE_EPOCH", "1")
	second, err := Build(context.Background(), again)
	if err != nil {
		t.Fatal(err)
	}
	if first.SHA256() != second.SHA256() {
		t.Errorf("two builds: %s and %s", first.SHA256(), second.SHA256())
	}
	if bytes.Contains(first.Wasm, []byte(os.TempDir())) {
		t.Error("the plugin tells where it was built")
	}
}

func TestBuildRefuses(t *testing.T) {
	replace := func(in, old, new string) func(string, string) string {
		return func(file, text string) string {
			if file != in {
				return text
			}
			changed := strings.Replace(text, old, new, 1)
			if changed == text {
				t.Fatalf("%q is not in %s", old, in)
			}
			return changed
		}
	}
	for _, tt := range []struct {
		name   string
		change func(file, text string) string
		why    string
	}{
		{"manifest", replace("manifest.json", "1.0.0", "one"), "manifest: version"},
		{"unused capability", replace("manifest.json", `"cleat_core_v1"`, `"cleat_core_v1", "cleat_render_v1"`), `"cleat_render_v1" is not used; take it out`},
		{"undeclared capability", replace("plugin.go", "(r *admission.Request) {}", `(r *admission.Request) { r.Warn("x") }`), "import cleat_request_v1.warn: the manifest of minimal does not declare the capability"},
		{"other point", replace("manifest.json", `"points": ["admission"]`, `"points": ["admission", "cni"]`), "export cleat_cni_plan: missing"},
		{"older ABI", replace("plugin.go", "(r *admission.Request) {}", `(r *admission.Request) { pluginsdk.Now() }`), "abi.minor: 0, but the plugin uses cleat_core_v1.now of ABI 1.1; write 1"},
		{"compiler", replace("go.mod", "go 1.26.8", "go 1.26"), "pins no compiler"},
		{"source", replace("plugin.go", "func main", "func mian"), "build "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Build(context.Background(), checkout(t, tt.change))
			if err == nil || !strings.Contains(err.Error(), tt.why) {
				t.Errorf("got %v, want %q", err, tt.why)
			}
		})
	}
	if _, err := Build(context.Background(), t.TempDir()); err == nil || !strings.Contains(err.Error(), "read the manifest") {
		t.Errorf("empty directory: got %v", err)
	}
}
