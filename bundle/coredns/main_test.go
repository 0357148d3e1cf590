package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/coredns/caddy"
)

// The packaged manifest must not use a plugin that is left out here.
func TestPackagedCorefileUsesWhatIsCompiledIn(t *testing.T) {
	body, err := os.ReadFile(filepath.Join("..", "..", "core", "internal", "component", "deployer", "manifests", "coredns.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	_, corefile, found := strings.Cut(string(body), "  Corefile: |\n")
	if !found {
		t.Fatal("the manifest has no Corefile")
	}
	block := regexp.MustCompile(`(?ms)^    \.:53 \{\n(.*?)^    \}`).FindStringSubmatch(corefile)
	if block == nil {
		t.Fatalf("no server block for port 53 in\n%s", corefile)
	}
	compiled := []string{"import"} // of the Corefile's parser
	for _, line := range strings.Split(caddy.DescribePlugins(), "\n") {
		compiled = append(compiled, strings.TrimPrefix(strings.TrimSpace(line), "dns."))
	}
	used := regexp.MustCompile(`(?m)^        (\w+)`).FindAllStringSubmatch(block[1], -1)
	for _, u := range used {
		if !slices.Contains(compiled, u[1]) {
			t.Errorf("%s is used by the packaged Corefile and not compiled in: %v", u[1], compiled)
		}
	}
	if len(used) < 8 {
		t.Errorf("only %d plugins found in\n%s", len(used), block[1])
	}
}
