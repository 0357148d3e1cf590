package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
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
		if err := os.CopyFS(filepath.Join(dir, module), os.DirFS("../../../"+module)); err != nil {
			t.Fatal(err)
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

import "github.com/cleat-dev/cleat/pluginsdk/admission"

func main() {}

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
