package node

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/core/config"
)

const (
	architecture = "../../ARCHITECTURE.md"
	graphBegin   = "<!-- Generated from core/node; go test ./core/node -run TestArchitecture -update writes it. -->\n```mermaid\n"
	graphEnd     = "```\n<!-- End of what is generated. -->\n"
)

var update = flag.Bool("update", false, "write the generated graph")

// TestArchitecture holds the picture in ARCHITECTURE.md to the boot order of a
// server with the defaults.
func TestArchitecture(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(map[string][]string{"config": {empty}}, nil)
	if err == nil {
		err = cfg.Validate()
	}
	if err != nil {
		t.Fatal(err)
	}
	graph, err := Graph(cfg)
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(architecture)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(content), graphBegin)
	old, after, closed := strings.Cut(rest, graphEnd)
	if !found || !closed {
		t.Fatalf("%s has not the lines around the graph:\n%s…\n%s", architecture, graphBegin, graphEnd)
	}
	want := graph.Mermaid()
	if old == want {
		return
	}
	if !*update {
		t.Fatalf("%s shows another graph than the code has; run go test ./core/node -run TestArchitecture -update. The code's:\n%s", architecture, want)
	}
	if err := os.WriteFile(architecture, []byte(before+graphBegin+want+graphEnd+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
