package conformance_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/conformance"
)

// bundled is where `make bundle` puts the plugins that come with cleat.
const bundled = "../build/bundle/plugins"

// TestBundle runs the suite on our own plugins, its first users.
func TestBundle(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(bundled, "*.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatalf("%s has no plugins; `make bundle` builds them", bundled)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".wasm"), func(t *testing.T) {
			t.Parallel()
			conformance.Run(t, read(t, file), conformance.WithExtended())
		})
	}
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	wasm, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return wasm
}
