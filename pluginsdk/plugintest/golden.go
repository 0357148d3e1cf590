//go:build !wasip1

package plugintest

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// updateVariable, set to anything, makes Golden write instead of compare.
const updateVariable = "PLUGINTEST_UPDATE"

// Golden compares got, as indented JSON, with testdata/<name>.json. With
// PLUGINTEST_UPDATE=1 in the environment it writes that file instead.
func Golden(t testing.TB, name string, got any) {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(got); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", name+".json")
	if os.Getenv(updateVariable) != "" {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; %s=1 writes it", err, updateVariable)
	}
	if !bytes.Equal(b.Bytes(), want) {
		t.Errorf("%s differs; %s=1 writes it anew\ngot:\n%s\nwant:\n%s", path, updateVariable, b.Bytes(), want)
	}
}
