package version

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func read(t *testing.T, elem ...string) string {
	t.Helper()
	body, err := os.ReadFile(filepath.Join(append([]string{"..", "..", ".."}, elem...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestVersionsAreThoseOfTheModules(t *testing.T) {
	for _, tc := range []struct{ gomod, module, want string }{
		{"go.mod", "k8s.io/kubernetes", strings.TrimSuffix(Kubernetes, "+cleat1")},
		{"test/conformance-k8s/suite/go.mod", "k8s.io/kubernetes", strings.TrimSuffix(Kubernetes, "+cleat1")},
		{"go.mod", "github.com/containerd/containerd/v2", Containerd},
		{"bundle/shim/go.mod", "github.com/containerd/containerd/v2", Containerd},
		{"bundle/runc/go.mod", "github.com/opencontainers/runc", Runc},
		{"bundle/cni/go.mod", "github.com/containernetworking/plugins", CNIPlugins},
		{"bundle/coredns/go.mod", "github.com/coredns/coredns", "v" + CoreDNS},
	} {
		required := regexp.MustCompile(`(?m)^(?:require)?\s+` + regexp.QuoteMeta(tc.module) + ` (v\S+)`)
		found := required.FindStringSubmatch(read(t, tc.gomod))
		if found == nil {
			t.Errorf("%s does not require %s", tc.gomod, tc.module)
		} else if found[1] != tc.want {
			t.Errorf("%s requires %s %s, this package says %s", tc.gomod, tc.module, found[1], tc.want)
		}
	}
}

// The benchmark compares with programs that are built from the same code.
func TestUpstreamOfTheBenchmarkIsTheSame(t *testing.T) {
	ours, theirs := requirements(t, "go.mod"), requirements(t, "test", "bench", "upstream", "go.mod")
	for _, module := range []string{
		"github.com/containerd/containerd/v2", "github.com/flannel-io/flannel", "github.com/k3s-io/kine",
		"go.etcd.io/etcd/server/v3", "k8s.io/kubernetes",
	} {
		if ours[module] == "" || theirs[module] == "" {
			t.Errorf("%s: %q in go.mod, %q in the benchmark's; both need it", module, ours[module], theirs[module])
		}
	}
	for module, version := range theirs {
		if ours[module] != "" && ours[module] != version {
			t.Errorf("%s: %s in go.mod, %s in test/bench/upstream; make them equal", module, ours[module], version)
		}
	}
}

// requirements are the modules that a go.mod requires or replaces, with their versions.
func requirements(t *testing.T, gomod ...string) map[string]string {
	t.Helper()
	versions := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^(?:require)?\s+(\S+) (?:=> \S+ )?(v\S+)`).FindAllStringSubmatch(read(t, gomod...), -1) {
		// A replaced module is listed first and is what counts.
		if versions[m[1]] == "" {
			versions[m[1]] = m[2]
		}
	}
	return versions
}

func TestImageNamesAreThoseOfTheSpecs(t *testing.T) {
	for file, want := range map[string]string{"pause.json": PauseImage, "coredns.json": CoreDNSImage} {
		var spec struct{ Ref string }
		if err := json.Unmarshal([]byte(read(t, "bundle", "images", file)), &spec); err != nil {
			t.Fatal(err)
		}
		if spec.Ref != want {
			t.Errorf("%s packs %s, this package says %s", file, spec.Ref, want)
		}
	}
}
