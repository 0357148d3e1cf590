package conformance

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// What the suite shares with cleat has cleat's version: the clients it tests with
// are then those that are shipped, and nothing is compiled twice.
func TestSuiteHasTheVersionsOfCleat(t *testing.T) {
	ours, suites := versions(t, "../../go.mod"), versions(t, "suite/go.mod")
	shared := 0
	for module, version := range suites {
		if want, ok := ours[module]; ok {
			shared++
			if version != want {
				t.Errorf("suite/go.mod has %s %s, go.mod %s", module, version, want)
			}
		}
	}
	if shared < 50 {
		t.Errorf("only %d modules are in both go.mod files", shared)
	}
}

// versions reads the requirements and replacements of a go.mod.
func versions(t *testing.T, gomod string) map[string]string {
	t.Helper()
	body, err := os.ReadFile(gomod)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^(?:require )?\s*(\S+) (v\S+|=> \S+ v\S+)`).FindAllStringSubmatch(string(body), -1) {
		module, version := m[1], m[2]
		if strings.HasPrefix(version, "=>") {
			module += " replaced"
		}
		found[module] = version
	}
	return found
}
