package plugincmd

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/hostabi"
)

// TestTemplates fills in every template; that what comes out builds is shown by
// the test of package test/authors, which has the compilers.
func TestTemplates(t *testing.T) {
	for _, lang := range languages() {
		for _, point := range hostabi.Points() {
			p := project{Name: "my-plugin", Point: string(point), Lang: lang, Cleat: "v1"}
			if err := p.check(); err != nil {
				t.Error(err)
			}
			dir := t.TempDir()
			if err := p.renderAll(dir); err != nil {
				t.Errorf("%s, %s: %v", lang, point, err)
			}
			text, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
			if err != nil {
				t.Errorf("%s, %s: %v", lang, point, err)
				continue
			}
			manifest, err := hostabi.ParseManifest(text)
			if err != nil || manifest.Name != "my-plugin" || !manifest.HasPoint(point) {
				t.Errorf("%s, %s: %+v, %v", lang, point, manifest, err)
			}
			for _, file := range []string{"Makefile", "README.md", ".gitignore"} {
				if text, err := os.ReadFile(filepath.Join(dir, file)); err != nil || strings.Contains(string(text), "[[") {
					t.Errorf("%s, %s: %s: %v", lang, point, file, err)
				}
			}
		}
	}
}

func TestNewRefuses(t *testing.T) {
	b := newBench(t)
	for want, args := range map[string][]string{
		"lower-case letters":     {"Wrong_Name"},
		`--lang "cobol"`:         {"x", "--lang", "cobol"},
		`--point "scheduler"`:    {"x", "--point", "scheduler"},
		"without its payload":    {filepath.Join(t.TempDir(), "x")},
		"exists and is not empt": {b.dir + "/../plugins/full"},
	} {
		if strings.HasPrefix(want, "exists") {
			if err := os.MkdirAll(filepath.Join(b.dir, "full", "something"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		b.wantError(append([]string{"new"}, args...), want)
	}
}
