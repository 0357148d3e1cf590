package node

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/core/config"
)

const (
	architecture = "../../ARCHITECTURE.md"
	graphBegin   = "<!-- Generated from core/node, %s; go test ./core/node -run TestArchitecture -update writes it. -->\n```mermaid\n"
	graphEnd     = "```\n<!-- End of what is generated. -->\n"
)

var update = flag.Bool("update", false, "write the generated graphs")

// TestArchitecture holds the pictures in ARCHITECTURE.md to the boot orders of a
// server and an agent with the defaults.
func TestArchitecture(t *testing.T) {
	for _, c := range []struct {
		of   string
		load func(flags map[string][]string, environ []string) (*config.Config, error)
	}{{"a server", config.Load}, {"an agent", config.LoadAgent}} {
		cfg, err := c.load(map[string][]string{"config": {os.DevNull}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		graph, err := Graph(cfg)
		if err != nil {
			t.Fatal(err)
		}
		compareGraph(t, fmt.Sprintf(graphBegin, c.of), graph.Mermaid())
	}
}

func compareGraph(t *testing.T, begin, want string) {
	t.Helper()
	content, err := os.ReadFile(architecture)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(content), begin)
	old, after, closed := strings.Cut(rest, graphEnd)
	if !found || !closed {
		t.Fatalf("%s has not the lines around the graph:\n%s…\n%s", architecture, begin, graphEnd)
	}
	if old == want {
		return
	}
	if !*update {
		t.Fatalf("%s shows another graph than the code has; run go test ./core/node -run TestArchitecture -update. The code's:\n%s", architecture, want)
	}
	if err := os.WriteFile(architecture, []byte(before+begin+want+graphEnd+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
