//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/conformance"
	"github.com/cleat-dev/cleat/core/pluginregistry/registrytest"
	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/hostabi/wasmfile"
)

const (
	docs = "../../docs"

	// guideDir is where a reader of the guides begins.
	guideDir = "/var/lib/cleat/guides"
	// buildPatience is for a compiler that finds its cache empty.
	buildPatience = 10 * time.Minute
)

// guide is a page of the documentation, as what a reader does with it.
type guide struct {
	name  string
	start []string // commands of the first block marked sh; the last starts the server
	does  []action // in the order of the page
}

// action is a command, or a file to write first.
type action struct {
	step
	file, content string // relative to where the reader is; "" for a command
}

// TestGuides does on a machine what the guides say, in their order: commands run
// as they are printed and their output is compared as in the README, and files
// are those of blocks that are marked with a name, such as ```go plugin.go.
func TestGuides(t *testing.T) {
	t.Parallel()
	first := readGuide(t, "guides/write-a-plugin.md")
	n := newNode(t, newLab(t), tourNode)
	if len(first.start) < 2 {
		t.Fatal("write-a-plugin.md does not say how the server is started")
	}
	last := len(first.start) - 1
	args, ok := strings.CutPrefix(first.start[last], "cleat server ")
	if !ok {
		t.Fatalf("write-a-plugin.md: %q does not start a server", first.start[last])
	}
	n.args = strings.Fields(args)
	n.Must(t, "sh", "-c", strings.Join(first.start[:last], "\n"))
	t.Logf("Ready after %.1f s", n.serve(t))

	for _, name := range []string{
		"guides/write-a-plugin.md", "guides/operate-plugins.md", "guides/ship-a-distribution.md",
		"points/admission.md", "points/deployer.md", "points/datastore.md", "points/cni.md", "security-of-plugins.md",
	} {
		g := readGuide(t, name)
		if name == "guides/operate-plugins.md" {
			deliver(t, n, "0.3.0")
			serveRegistry(t, n)
		}
		if !t.Run(filepath.Base(name), func(t *testing.T) { g.follow(t, n) }) && name == "guides/write-a-plugin.md" {
			return // the others go on where it ends
		}
	}
}

// follow does what the page says.
func (g guide) follow(t *testing.T, n *node) {
	begin := time.Now()
	r := &reader{node: n, dir: guideDir + "/" + strings.TrimSuffix(filepath.Base(g.name), ".md")}
	n.Must(t, "mkdir", "-p", r.dir)
	for _, a := range g.does {
		if a.file != "" {
			n.WriteFile(t, filepath.Join(r.dir, a.file), a.content)
			continue
		}
		a.run(t, n.Name, func(command string) (string, error) { return r.enter(t, command) })
	}
	t.Logf("%d commands and files in %.1f s", len(g.does), time.Since(begin).Seconds())
}

// reader is somebody at a terminal.
type reader struct {
	*node
	dir string // where he is
}

// enter runs a command where the reader is and returns both of its outputs. He
// stays where it leaves him.
func (r *reader) enter(t *testing.T, command string) (string, error) {
	const out = "/run/reader"
	args := []string{"sh", "-c", `exec >"$1" 2>&1
export PATH="$PATH:/usr/local/go/bin" GOPROXY=off
cd "$2" || exit
eval "$3"
status=$?
pwd >"$1.dir"
exit $status`, "sh", out, r.dir, command}
	var err error
	if strings.HasPrefix(command, "make") {
		err = r.Start(t, "reader", args...).Wait(t, buildPatience)
	} else {
		_, err = r.Run(args...)
	}
	text, err2 := r.Run("cat", out)
	dir, err3 := r.Run("cat", out+".dir")
	if err3 == nil {
		r.dir = strings.TrimSpace(dir)
	}
	return text, errors.Join(err, err2, err3)
}

// serveRegistry has the machine reach a registry under the name that the page for
// vendors gives it.
func serveRegistry(t *testing.T, n *node) {
	t.Helper()
	to, err := url.Parse(registrytest.Start(t, registrytest.Options{}).URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = r.In.Host // it is in what the registry answers
	}}
	listener := n.Listen(t, 80)
	go func() { _ = http.Serve(listener, proxy) }() // ends with the listener
	n.Must(t, "sh", "-c", "echo "+n.Addr.String()+" registry.example.com >>/etc/hosts")
}

// deliver puts the plugin that was written, as a newer version, where a reader of
// the page for operators begins.
func deliver(t *testing.T, n *node, version string) {
	t.Helper()
	wasm, err := os.ReadFile(n.Path(guideDir + "/write-a-plugin/owner-label/owner-label.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "owner-label.wasm")
	if err := os.WriteFile(path, atVersion(t, wasm, version), 0o644); err != nil {
		t.Fatal(err)
	}
	n.CopyFile(t, path, guideDir+"/operate-plugins/owner-label-"+version+".wasm", 0o644)
}

// atVersion returns a plugin under another version.
func atVersion(t *testing.T, wasm []byte, version string) []byte {
	t.Helper()
	file, err := wasmfile.Parse(wasm)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := file.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	manifest.Version = version
	text, err := json.Marshal(manifest)
	if err != nil {
		t.Fatal(err)
	}
	if wasm, err = wasmfile.SetCustom(wasm, hostabi.ManifestSection, text); err != nil {
		t.Fatal(err)
	}
	return wasm
}

// readGuide reads a page of the documentation.
func readGuide(t *testing.T, name string) guide {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(docs, name))
	if err != nil {
		t.Fatal(err)
	}
	g := guide{name: name}
	for _, s := range parseTour(name, string(text)) {
		g.does = append(g.does, action{step: s})
	}
	kind, file, begin := "", "", 0
	lines := strings.Split(string(text), "\n")
	for i, line := range lines {
		mark, ok := strings.CutPrefix(line, "```")
		switch {
		case !ok:
		case begin == 0:
			kind, file, _ = strings.Cut(mark, " ")
			begin = i + 1
		default:
			content := strings.Join(lines[begin:i], "\n") + "\n"
			if file != "" {
				g.does = append(g.does, action{step{line: begin}, file, content})
			}
			if kind == "sh" && g.start == nil {
				g.start = outputLines(content)
			}
			begin = 0
		}
	}
	if begin != 0 {
		t.Fatalf("%s:%d: a block that does not end", name, begin)
	}
	slices.SortStableFunc(g.does, func(a, b action) int { return a.line - b.line })
	return g
}

// The examples in C on the pages of the points build and conform as those in Go do,
// which TestGuides makes on a machine. It needs no root, but clang.
func TestGuidesInC(t *testing.T) {
	sdk, err := filepath.Abs("../../pluginsdk/c")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"points/admission.md", "points/deployer.md", "points/datastore.md", "points/cni.md"} {
		t.Run(filepath.Base(name), func(t *testing.T) {
			dir := t.TempDir()
			write := func(name, content string) {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			for _, a := range readGuide(t, name).does {
				if a.file != "" {
					write(a.file, a.content)
				}
			}
			write("Makefile", "NAME := example\nSDK := "+sdk+"\nOUT := example.wasm\ninclude $(SDK)/plugin.mk\n")
			build := exec.Command("make", "-C", dir, "example.wasm")
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			wasm, err := os.ReadFile(filepath.Join(dir, "example.wasm"))
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d bytes", len(wasm))
			conformance.Run(t, wasm)
		})
	}
}

// Links between the pages lead to a file and, in it, to a heading.
func TestGuideLinks(t *testing.T) {
	pages, err := filepath.Glob(docs + "/*/*.md")
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob(docs + "/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append(pages, more...) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`\]\(([^):]+)\)`).FindAllStringSubmatch(string(text), -1) {
			if err := checkLink(page, m[1]); err != nil {
				t.Errorf("%s: %v", page, err)
			}
		}
	}
}

func checkLink(page, link string) error {
	file, anchor, _ := strings.Cut(link, "#")
	if file = filepath.Join(filepath.Dir(page), file); strings.HasPrefix(link, "#") {
		file = page
	}
	if anchor == "" {
		_, err := os.Stat(file)
		return err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	for _, line := range strings.Split(string(text), "\n") {
		if heading := strings.TrimLeft(line, "#"); heading != line && slug(heading) == anchor {
			return nil
		}
	}
	return fmt.Errorf("%s has no heading #%s", file, anchor)
}

// slug is the anchor of a heading.
func slug(heading string) string {
	heading = strings.ToLower(strings.TrimSpace(heading))
	heading = regexp.MustCompile(`[^\p{L}\p{N}_ -]`).ReplaceAllString(heading, "")
	return strings.ReplaceAll(heading, " ", "-")
}

// Pages fit a screen: no line but those of tables, links and blocks is longer than
// 110 columns.
func TestGuideLines(t *testing.T) {
	for _, pattern := range []string{"guides/*.md", "points/*.md", "security-of-plugins.md"} {
		pages, err := filepath.Glob(filepath.Join(docs, pattern))
		if err != nil || len(pages) == 0 {
			t.Fatalf("%s: %v, %d pages", pattern, err, len(pages))
		}
		for _, page := range pages {
			text, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			block := false
			for i, line := range strings.Split(string(text), "\n") {
				if strings.HasPrefix(line, "```") {
					block = !block
				}
				if !block && !strings.HasPrefix(line, "|") && len([]rune(line)) > 110 {
					t.Errorf("%s:%d: %d columns", page, i+1, len([]rune(line)))
				}
			}
		}
	}
}
