// Package core holds no code. Its test holds the whole repository to the rules
// of the house: who may import whom, where code may run before main, how a
// package may be called and how long a file may be.
package core

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	root   = ".."
	module = "github.com/cleat-dev/cleat" // all modules of the repository are below it

	longFile    = 400 // lines; worth a look
	longestFile = 800
)

// notStd stands for every import that is not of the standard library.
const notStd = "(not std)"

// rule forbids imports. Patterns are import paths, those of this repository
// without the module's path; "x/..." is x and everything below it.
type rule struct {
	who    []string // packages it is about
	except []string // packages among them it is not about
	not    []string // what they may not import; what is at or below themselves is always allowed
	but    []string // what they may import nevertheless
	code   bool     // test files may
	why    string
}

// embedded are the programs that cleat embeds and what only they need: minutes
// of compiling, and init functions that write to global registries.
func embedded() []string {
	return []string{
		"k8s.io/kubernetes/...", "k8s.io/apiserver/...", "k8s.io/kubectl/...", "k8s.io/cloud-provider/...",
		"go.etcd.io/etcd/server/...", "github.com/containerd/containerd/v2/cmd/...", "github.com/containerd/containerd/v2/plugins/...",
		"github.com/flannel-io/flannel/...", "github.com/k3s-io/kine/...",
	}
}

// rules are the layers, top down: cmd, core/cli, core/node, then components,
// embed and pluginhost side by side, then kernel, config, extension and the
// leaves, then hostabi.
func rules() []rule {
	const (
		components = "core/internal/component/..."
		embed      = "core/internal/embed/..."
		pluginhost = "core/pluginhost/..."
		wiring     = "core/node/..."
		commands   = "core/cli/..."
	)
	return []rule{
		{who: []string{"..."}, except: []string{embed, "test/bench/upstream/..."}, not: embedded(),
			why: "one package below core/internal/embed for each embedded program keeps the rest quick to compile and test (test/bench/upstream is a module that builds them apart)"},
		{who: []string{"hostabi/..."}, not: []string{notStd},
			why: "host, guests and other people's tools build on it"},
		{who: []string{"core/kernel/..."}, not: []string{notStd},
			why: "the kernel knows nothing of what it starts"},
		{who: []string{"pluginsdk/..."}, not: []string{notStd}, but: []string{"hostabi/..."},
			why: "what the SDK imports is in every guest"},
		{who: []string{"plugins/..."}, not: []string{notStd}, but: []string{"hostabi/...", "pluginsdk/..."},
			why: "a plugin of ours has no more than anybody's"},
		{who: []string{components}, not: []string{components, embed, pluginhost, wiring, commands},
			why: "a component takes functions and interfaces; core/node joins it to others"},
		{who: []string{embed}, not: []string{components, pluginhost, wiring, commands}, code: true,
			why: "an embedded program is started by a component, through core/node"},
		{who: []string{pluginhost}, not: []string{components, embed, wiring, commands, "core/config/..."},
			why: "it answers through core/extension and takes what it needs as options"},
		{who: []string{"core/pluginregistry/..."},
			not:  []string{components, embed, pluginhost, wiring, commands, "core/config/..."},
			code: true, why: "it moves plugins; what they are is not its business"},
		{who: []string{commands}, not: []string{wiring, components, embed},
			why: "commands take the programs they run, so that they are tested without Kubernetes"},
		{who: []string{"core/config/...", "core/extension/..."}, not: []string{components, embed, pluginhost, wiring, commands},
			why: "everybody imports them"},
		{who: []string{"core/internal/..."}, except: []string{components, embed, "core/internal/joinapi/cluster"},
			not: []string{components, embed, pluginhost, wiring, commands, "core/config/..."},
			why: "a leaf does one thing with what it is given (joinapi/cluster is the test of both ends of joining)"},
		{who: []string{"core/internal/joinapi/cluster"}, not: []string{components}, code: true,
			why: "it is a test"},
		{who: []string{"cmd/..."}, not: []string{"core/..."}, but: []string{commands, "core/config", wiring},
			why: "main is a few lines"},
		{who: []string{"test/..."}, except: []string{"test/hostile"}, not: []string{"core/..."}, but: []string{"core/pluginregistry/registrytest"},
			why: "they test the binary, as its users have it (test/hostile is about the plugin host alone)"},
	}
}

// Where a function may be called init.
func initAllowed() []string {
	return []string{
		"core/internal/embed/quirks", // process-global state that upstream wants set that early
		"plugins/...",                // a wasm reactor's main never runs: init is where a plugin registers
		"pluginsdk/...",              // as above
		"conformance/golden/go/...",  // as above
	}
}

// emptyNames say nothing about what is inside.
func emptyNames() []string {
	return []string{"pkg", "util", "utils", "common", "helpers", "misc", "types", "manager"}
}

// source is one Go file.
type source struct {
	file    string // slash-separated, below the root
	pkg     string // import path, that of this repository shortened
	name    string // of the package
	test    bool
	imports []string
	inits   int
	lines   int
}

func TestImports(t *testing.T) {
	sources := readSources(t)
	for _, r := range rules() {
		about := 0
		for _, s := range sources {
			if r.isAbout(s.pkg) {
				about++
			}
			for _, i := range r.broken(s) {
				t.Errorf("%s imports %s: %s", s.file, i, r.why)
			}
		}
		if about == 0 {
			t.Errorf("no package matches %v any more: correct the rule %q", r.who, r.why)
		}
	}
}

func TestFiles(t *testing.T) {
	for _, s := range readSources(t) {
		if s.inits > 0 && !s.test && !matchAny(initAllowed(), s.pkg) {
			t.Errorf("%s has a func init: register where it is used, or explain it in core/internal/embed/quirks", s.file)
		}
		for _, name := range []string{strings.TrimSuffix(s.name, "_test"), path.Base(s.pkg)} {
			if slices.Contains(emptyNames(), name) {
				t.Errorf("%s: a package called %s holds anything: name it after what it does", s.file, name)
			}
		}
		switch {
		case s.lines > longestFile:
			t.Errorf("%s has %d lines: split it below %d, better below %d", s.file, s.lines, longestFile, longFile)
		case s.lines > longFile:
			t.Logf("%s has %d lines: consider splitting it", s.file, s.lines)
		}
	}
}

// isAbout reports whether the rule applies to a package.
func (r rule) isAbout(pkg string) bool {
	return matchAny(r.who, pkg) && !matchAny(r.except, pkg)
}

// broken returns the imports of a file that the rule forbids.
func (r rule) broken(s source) []string {
	if !r.isAbout(s.pkg) || r.code && s.test {
		return nil
	}
	var out []string
	for _, i := range s.imports {
		own := s.pkg == i || strings.HasPrefix(i, r.scope(s.pkg)+"/") || r.scope(s.pkg) == i
		if !own && matchAny(r.not, i) && !matchAny(r.but, i) {
			out = append(out, i)
		}
	}
	return out
}

// scope is the subtree that counts as the package itself: the one a rule names,
// or below a rule about many siblings the sibling.
func (r rule) scope(pkg string) string {
	for _, who := range r.who {
		base := strings.TrimSuffix(who, "/...")
		if !match(who, pkg) || base == "..." {
			continue
		}
		if slices.Contains(r.not, who) || base == "plugins" { // siblings, which are strangers
			sibling, _, _ := strings.Cut(strings.TrimPrefix(pkg, base+"/"), "/")
			return base + "/" + sibling
		}
		return base
	}
	return pkg
}

func matchAny(patterns []string, pkg string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return match(p, pkg) })
}

func match(pattern, pkg string) bool {
	if pattern == "..." {
		return true
	}
	if pattern == notStd {
		first, _, _ := strings.Cut(pkg, "/")
		return strings.Contains(first, ".") || isOurs(pkg)
	}
	if base, ok := strings.CutSuffix(pattern, "/..."); ok {
		return pkg == base || strings.HasPrefix(pkg, base+"/")
	}
	return pkg == pattern
}

// isOurs tells a shortened path from one of the standard library. TestOwnNames
// keeps the two apart.
func isOurs(pkg string) bool {
	first, _, _ := strings.Cut(pkg, "/")
	return slices.Contains(ourDirectories(), first)
}

func ourDirectories() []string {
	return []string{"bundle", "cmd", "conformance", "core", "hostabi", "plugins", "pluginsdk", "scripts", "test"}
}

// readSources parses every Go file of the repository, whatever its build tags.
// Nothing is compiled.
func readSources(t *testing.T) []source {
	t.Helper()
	var out []source
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		rel := filepath.ToSlash(strings.TrimPrefix(file, root+string(filepath.Separator)))
		switch base := d.Name(); {
		case err != nil:
			return err
		case d.IsDir() && (rel == "build" || rel == "bin" || base == "testdata" || base != ".." && strings.HasPrefix(base, ".")):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(base, ".go"):
			return nil
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		s, err := parseSource(rel, text)
		out = append(out, s)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 100 {
		t.Fatalf("only %d Go files found below %s", len(out), root)
	}
	return out
}

func parseSource(rel string, text []byte) (source, error) {
	f, err := parser.ParseFile(token.NewFileSet(), rel, text, parser.SkipObjectResolution)
	if err != nil {
		return source{}, err
	}
	s := source{
		file: rel, pkg: path.Dir(rel), name: f.Name.Name,
		test:  strings.HasSuffix(rel, "_test.go"),
		lines: strings.Count(string(text), "\n"),
	}
	for _, i := range f.Imports {
		name, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			return source{}, fmt.Errorf("%s: import %s: %w", rel, i.Path.Value, err)
		}
		s.imports = append(s.imports, strings.TrimPrefix(name, module+"/"))
	}
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
			s.inits++
		}
	}
	return s, nil
}

// Every directory with Go files is known to isOurs, and none of the standard library's.
func TestOwnNames(t *testing.T) {
	for _, s := range readSources(t) {
		if !isOurs(s.pkg) {
			t.Errorf("%s: add its top directory to ourDirectories", s.file)
		}
	}
}

// The rules can fail.
func TestRulesBite(t *testing.T) {
	for _, tc := range []struct {
		file, imports string
		broken        bool
	}{
		{"core/kernel/kernel.go", "log/slog", false},
		{"core/kernel/kernel.go", module + "/core/kernel/kerneltest", false},
		{"core/kernel/kernel.go", module + "/hostabi", true},
		{"core/kernel/kernel_test.go", "github.com/google/go-cmp/cmp", true},
		{"hostabi/wire/value.go", module + "/hostabi", false},
		{"hostabi/wire/value.go", "golang.org/x/sys/unix", true},
		{"core/node/server.go", "k8s.io/kubernetes/cmd/kubelet/app", true},
		{"core/node/server.go", "k8s.io/client-go/kubernetes", false},
		{"core/internal/embed/kubelet/kubelet.go", "k8s.io/kubernetes/cmd/kubelet/app", false},
		{"core/internal/component/images/images.go", "github.com/containerd/containerd/v2/client", false},
		{"core/internal/component/images/images.go", "github.com/containerd/containerd/v2/plugins/cri", true},
		{"core/internal/component/images/images.go", module + "/core/internal/component/containerd", true},
		{"core/internal/component/images/images.go", module + "/core/internal/component/images/archive", false},
		{"core/internal/component/images/images_test.go", module + "/core/internal/component/containerd", true},
		{"core/internal/component/network/network.go", module + "/core/pluginhost", true},
		{"core/internal/component/network/network.go", module + "/core/internal/embed/flannel", true},
		{"core/internal/component/network/network.go", module + "/core/config", false},
		{"core/internal/embed/kine/kine.go", module + "/core/internal/component/datastore", true},
		{"core/internal/paths/paths.go", module + "/core/config", true},
		{"core/internal/joinapi/cluster/cluster_test.go", module + "/core/internal/component/join", false},
		{"core/internal/joinapi/cluster/cluster.go", module + "/core/internal/component/join", true},
		{"core/cli/server.go", module + "/core/node", true},
		{"core/cli/plugincmd/lock.go", module + "/core/pluginhost", false},
		{"core/config/load.go", module + "/core/internal/component/pki", true},
		{"core/pluginhost/host.go", module + "/core/config", true},
		{"pluginsdk/plan/plan.go", module + "/hostabi", false},
		{"pluginsdk/plan/plan.go", "github.com/pelletier/go-toml/v2", true},
		{"plugins/cni-none/plugin.go", module + "/pluginsdk/cni", false},
		{"plugins/cni-none/plugin.go", module + "/plugins/cni-bridge", true},
		{"plugins/cni-none/plugin.go", module + "/core/extension", true},
		{"cmd/cleat/main.go", module + "/core/pluginhost", true},
		{"test/e2e/cluster_test.go", module + "/core/internal/paths", true},
	} {
		s, err := parseSource(tc.file, []byte(fmt.Sprintf("package x\n\nimport _ %q\n", tc.imports)))
		if err != nil {
			t.Fatal(err)
		}
		var broken []string
		for _, r := range rules() {
			if len(r.broken(s)) > 0 {
				broken = append(broken, r.why)
			}
		}
		if got := len(broken) > 0; got != tc.broken {
			t.Errorf("%s importing %s: broken rules %q, want some: %t", tc.file, tc.imports, broken, tc.broken)
		}
	}
	s, err := parseSource("core/x/x.go", []byte("package x\n\nfunc init() {}\n\nfunc (t) init() {}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if s.inits != 1 || s.lines != 5 || s.pkg != "core/x" || matchAny(initAllowed(), s.pkg) {
		t.Errorf("parsed %+v, want one init, 5 lines, package core/x", s)
	}
}
