package deployer

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cleat-dev/cleat/hostabi"
)

func chartClaims() []hostabi.DeployerManifest {
	return []hostabi.DeployerManifest{
		{Files: []string{"*.yaml"}, Archives: []string{"*.tgz"}, Directories: []string{"Chart.yaml"}, Companions: []string{"*.values.yaml"}},
		{Files: []string{"*.jsonnet"}, Companions: []string{"*.args"}},
		{Directories: []string{"kustomization.yaml"}},
		hostabi.DefaultDeployer(),
	}
}

// yard is a manifests directory that the test writes to, and a scanner of it.
type yard struct {
	*testing.T
	dir  string
	skew time.Duration
	*scanner
}

func newYard(t *testing.T) *yard {
	y := &yard{T: t, dir: t.TempDir()}
	y.scanner = newScanner(y.dir, func() time.Time { return time.Now().Add(y.skew) })
	return y
}

func (y *yard) write(name, content string) {
	y.Helper()
	file := filepath.Join(y.dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		y.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		y.Fatal(err)
	}
}

func (y *yard) remove(name string) {
	y.Helper()
	if err := os.RemoveAll(filepath.Join(y.dir, name)); err != nil {
		y.Fatal(err)
	}
}

// look scans after everything has settled; sources are below the directory.
func (y *yard) look(sources ...string) *snapshot {
	y.Helper()
	y.skew += treeSettleTime
	return y.glance(sources...)
}

func (y *yard) glance(sources ...string) *snapshot {
	y.Helper()
	from := map[string]bool{}
	for _, s := range sources {
		from[filepath.Join(y.dir, s)] = true
	}
	snap, err := y.scan(chartClaims(), from)
	if err != nil {
		y.Fatal(err)
	}
	return snap
}

// kinds are the items of a snapshot with their kinds.
func kinds(s *snapshot) map[string]string {
	out := map[string]string{}
	for rel, f := range s.files {
		out[rel] = f.kind
	}
	return out
}

func TestScanDividesTheDirectory(t *testing.T) {
	y := newYard(t)
	for name, content := range map[string]string{
		"a.yaml": "1", "kustomization.yaml": "at the top it is a file", "notes.tgz.txt": "x",
		"web.tgz": "\x1f\x8b", "web.values.yaml": "a: 1",
		"shop/Chart.yaml": "1", "shop/templates/a.yaml": "2", "shop/.helmignore": "3", "shop/.git/config": "x", "shop/a.yaml~": "x",
		"shop/charts/sub/Chart.yaml": "4", "shop/sub.values.yaml": "5",
		"shop.values.yaml": "b: 2", "lonely.values.yaml": "c: 3",
		"plain/b.yaml": "1", "plain/deep/kustomization.yaml": "1", "plain/deep/c.yaml": "1", "plain/web.values.yaml": "1",
		"late.yaml": "1", "late.values.yaml": "1", "own.jsonnet": "1", "own.args": "2",
	} {
		y.write(name, content)
	}
	snap := y.look()
	const file, archive, directory = hostabi.DeployKindFile, hostabi.DeployKindArchive, hostabi.DeployKindDirectory
	want := map[string]string{
		"a.yaml": file, "kustomization.yaml": file, "notes.tgz.txt": file, "web.tgz": archive, "shop": directory,
		"lonely.values.yaml": file, "plain/b.yaml": file, "plain/deep": directory, "plain/web.values.yaml": file,
		// It may be for a plugin that does not know of companions.
		"late.yaml": file, "late.values.yaml": file,
		"own.jsonnet": file,
	}
	if diff := cmp.Diff(want, kinds(snap)); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
	shop := snap.files["shop"]
	if diff := cmp.Diff([]string{".helmignore", "Chart.yaml", "charts/sub/Chart.yaml", "sub.values.yaml", "templates/a.yaml"}, shop.names()); diff != "" {
		t.Errorf("files of shop (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"*.values.yaml": "b: 2"}, shop.companions); diff != "" {
		t.Errorf("companions of shop (-want +got):\n%s", diff)
	}
	if own := snap.files["own.jsonnet"]; own.content != "1" || own.companions["*.args"] != "2" || own.checksum == digest([]byte("1")) {
		t.Errorf("own.jsonnet is %+v", own)
	}
	if shop.err != nil || shop.pending || shop.checksum == "" {
		t.Errorf("shop is %+v", shop)
	}
	tree, err := shop.tree()
	if err != nil {
		t.Fatal(err)
	}
	if content, err := fs.ReadFile(tree, "templates/a.yaml"); err != nil || string(content) != "2" {
		t.Errorf("template is %q, %v", content, err)
	}
	tree, err = snap.files["web.tgz"].tree()
	if err != nil {
		t.Fatal(err)
	}
	if content, err := fs.ReadFile(tree, "web.tgz"); err != nil || string(content) != "\x1f\x8b" {
		t.Errorf("archive is %q, %v", content, err)
	}
	for _, dir := range []string{"shop/templates", "shop/charts/sub"} {
		if !slices.Contains(snap.dirs, filepath.Join(y.dir, dir)) {
			t.Errorf("%s is not watched", dir)
		}
	}
	if again := y.glance(); !again.equal(snap) {
		t.Error("the same directory looks different")
	}
	// Without claims they are files as before.
	if _, err := y.scan(nil, nil); err != nil {
		t.Fatal(err)
	}
	y.skew += settleTime
	plain, err := y.scan(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if plain.files["shop"] != nil || plain.files["shop/Chart.yaml"] == nil || plain.files["web.tgz"].err == nil || plain.files["web.values.yaml"] == nil {
		t.Errorf("without claims: %v", slices.Sorted(maps.Keys(plain.files)))
	}
	// Except that a directory that is an addon stays one.
	if frozen, err := y.scan(nil, map[string]bool{filepath.Join(y.dir, "shop"): true}); err != nil || frozen.files["shop"] == nil || frozen.files["shop/a.yaml"] != nil {
		t.Errorf("with an addon: %v, %v", slices.Sorted(maps.Keys(frozen.files)), err)
	}
}

func TestEveryChangeIsSeen(t *testing.T) {
	y := newYard(t)
	y.write("shop/Chart.yaml", "1")
	y.write("shop/a/b.yaml", "2")
	y.write("shop.values.yaml", "a: 1")
	y.write("web.tgz", "1")
	seen := map[string]bool{}
	changed := func(rel string) {
		t.Helper()
		f := y.look().files[rel]
		if f == nil || f.pending || f.err != nil {
			t.Fatalf("%s is %+v", rel, f)
		}
		if key := rel + f.checksum; seen[key] {
			t.Error("the checksum is one that was there before")
		} else {
			seen[key] = true
		}
	}
	changed("shop")
	y.write("shop/a/b.yaml", "3")
	changed("shop")
	y.write("shop/a/c.yaml", "3")
	changed("shop")
	y.write("shop.values.yaml", "a: 2")
	changed("shop")
	y.remove("shop/a/c.yaml")
	if f := y.glance().files["shop"]; !f.pending {
		t.Error("a file that is gone for a moment is believed to be gone")
	}
	y.look()
	y.remove("shop.values.yaml")
	y.glance()
	changed("shop")
	y.salt = "other variables"
	changed("shop")
	changed("web.tgz")
	y.write("web.tgz", "2")
	changed("web.tgz")
	y.write("web.values.yaml", "a: 1")
	changed("web.tgz")

	y.remove("shop/Chart.yaml")
	if f := y.glance("shop").files["shop"]; f == nil || !f.pending {
		t.Error("a chart without Chart.yaml falls apart at once")
	}
	y.remove("shop")
	if f := y.glance("shop").files["shop"]; f == nil || !f.pending {
		t.Error("a directory that went just now counts as gone")
	}
	snap := y.look("shop")
	if len(snap.files) != 1 {
		t.Errorf("%v is left", kinds(snap))
	}
}

func TestDirectorySettles(t *testing.T) {
	y := newYard(t)
	begun, running := time.Now(), y.now
	y.write("shop/Chart.yaml", "1")
	for _, skew := range []time.Duration{0, settleTime} {
		y.now = func() time.Time { return begun.Add(skew) } // however long it takes
		if snap := y.glance(); !snap.files["shop"].pending || !snap.settle {
			t.Errorf("a directory that changed %v ago counts as settled", skew)
		}
	}
	y.now = running
	if f := y.look().files["shop"]; f.pending {
		t.Error("a directory does not settle")
	}
}

func TestTreeRefuses(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		make func(y *yard)
		why  string
	}{
		"link": {func(y *yard) {
			if err := os.Symlink(secret, filepath.Join(y.dir, "shop/a")); err != nil {
				t.Fatal(err)
			}
		}, "links are not followed"},
		"linked directory": {func(y *yard) {
			if err := os.Symlink(filepath.Dir(secret), filepath.Join(y.dir, "shop/a")); err != nil {
				t.Fatal(err)
			}
		}, "links are not followed"},
		"many": {func(y *yard) {
			for i := range maxTreeFiles {
				y.write(filepath.Join("shop/a", strings.Repeat("x", i%200+1)+string(rune('a'+i/200))), "")
			}
		}, "more than 2048 files"},
		"large": {func(y *yard) {
			for _, name := range []string{"shop/a", "shop/b", "shop/c"} {
				y.write(name, strings.Repeat("x", maxTreeSize/3+1))
			}
		}, "larger than 16777216 bytes"},
		"large file": {func(y *yard) { y.write("shop/a", strings.Repeat("x", maxTreeSize+1)) }, "a: larger than 16777216 bytes"},
		"deep":       {func(y *yard) { y.write("shop"+strings.Repeat("/d", maxTreeDepth+1)+"/a", "") }, "deeper than 16"},
		"companion":  {func(y *yard) { y.write("shop.values.yaml", "\xff") }, "shop.values.yaml, which belongs to it: file is not UTF-8"},
	} {
		t.Run(name, func(t *testing.T) {
			y := newYard(t)
			y.write("shop/Chart.yaml", "1")
			tc.make(y)
			f := y.look().files["shop"]
			if f == nil || f.err == nil || !strings.Contains(f.err.Error(), tc.why) {
				t.Errorf("got %+v, want %q", f, tc.why)
			}
		})
	}
}

// What is rendered is what the checksum is of, or nothing.
func TestTreeThatMoves(t *testing.T) {
	y := newYard(t)
	y.write("shop/Chart.yaml", "1")
	y.write("shop/a", "2")
	f := y.look().files["shop"]
	y.write("shop/a", "3")
	if _, err := f.tree(); err == nil || !strings.Contains(err.Error(), "changed while") {
		t.Errorf("got %v", err)
	}
	y.remove("shop/a")
	if err := os.Symlink("Chart.yaml", filepath.Join(y.dir, "shop/a")); err != nil {
		t.Fatal(err)
	}
	if _, err := f.tree(); err == nil {
		t.Error("a link was followed")
	}
}
