package conformance_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/cleat-dev/cleat/conformance"
)

// TestGolden holds the golden guests of every language to their cases and to
// the suite. It certifies the host as much as them.
func TestGolden(t *testing.T) {
	for _, plugin := range []string{"golden-admission", "golden-deployer"} {
		cases, err := conformance.ReadCases(filepath.Join("golden", "cases", plugin+".json"))
		if err != nil {
			t.Fatal(err)
		}
		for _, language := range []string{"go", "c", "rust", "assemblyscript"} {
			t.Run(language+"/"+plugin, func(t *testing.T) {
				t.Parallel()
				wasm, err := os.ReadFile(filepath.Join("..", "build", "golden", language, plugin+".wasm"))
				if err != nil {
					t.Fatalf("%v; `make golden` builds it", err)
				}
				conformance.Run(t, wasm, conformance.WithExtended(), conformance.WithCases(cases...))
			})
		}
	}
}
