package extract

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// countingOpen counts how often an archive was opened.
func countingOpen(archive []byte) (Open, *atomic.Int32) {
	var n atomic.Int32
	return func() (io.ReadCloser, error) {
		n.Add(1)
		return opener(archive)()
	}, &n
}

func mustExtract(t *testing.T, dir string, archive []byte) string {
	t.Helper()
	bin, err := Extract(t.Context(), dir, sumOf(archive), opener(archive))
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

func wantFile(t *testing.T, name, want string, mode os.FileMode) {
	t.Helper()
	body, err := os.ReadFile(name)
	if err != nil || string(body) != want {
		t.Errorf("%s holds %q, %v; want %q", name, body, err, want)
	}
	if info, err := os.Stat(name); err != nil || info.Mode() != mode {
		t.Errorf("%s has mode %v, %v; want %v", name, info.Mode(), err, mode)
	}
}

func wantNoLeftovers(t *testing.T, dir string) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(dir, tempPrefix+"*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestExtractOnceForEachDigest(t *testing.T) {
	dir, archive := filepath.Join(t.TempDir(), "data"), programArchive(t, "1")
	open, opened := countingOpen(archive)
	for range 3 {
		bin, err := Extract(t.Context(), dir, sumOf(archive), open)
		if err != nil {
			t.Fatal(err)
		}
		if want := filepath.Join(dir, sumOf(archive), "bin"); bin != want {
			t.Fatalf("got %s, want %s", bin, want)
		}
		wantFile(t, filepath.Join(bin, "runc"), "runc 1", 0o755)
		wantFile(t, filepath.Join(bin, "bridge"), "bridge 1", 0o755) // no set-user-id bit
	}
	if n := opened.Load(); n != 1 {
		t.Errorf("the archive was opened %d times", n)
	}
	wantNoLeftovers(t, dir)
}

func TestLinksFollowUpgradesAndDowngrades(t *testing.T) {
	dir := t.TempDir()
	one, two := programArchive(t, "1"), programArchive(t, "2")
	for _, step := range []struct {
		archive         []byte
		current, before string
	}{
		{one, sumOf(one), ""},
		{two, sumOf(two), sumOf(one)},
		{two, sumOf(two), sumOf(one)},
		{one, sumOf(one), sumOf(two)},
	} {
		mustExtract(t, dir, step.archive)
		if got, err := os.Readlink(filepath.Join(dir, currentLink)); err != nil || got != step.current {
			t.Errorf("current is %q, %v; want %q", got, err, step.current)
		}
		if got, err := os.Readlink(filepath.Join(dir, previous)); got != step.before || (err == nil) != (step.before != "") {
			t.Errorf("previous is %q, %v; want %q", got, err, step.before)
		}
	}
	wantFile(t, filepath.Join(dir, currentLink, "bin", "runc"), "runc 1", 0o755)
}

func TestDamagedDirectoryIsMadeAgain(t *testing.T) {
	for name, damage := range map[string]func(dir string) error{
		"no list":        func(dir string) error { return os.Remove(filepath.Join(dir, contentsName)) },
		"list cut":       func(dir string) error { return os.Truncate(filepath.Join(dir, contentsName), 9) },
		"list empty":     func(dir string) error { return os.Truncate(filepath.Join(dir, contentsName), 0) },
		"file cut":       func(dir string) error { return os.Truncate(filepath.Join(dir, "bin", "runc"), 0) },
		"file absent":    func(dir string) error { return os.Remove(filepath.Join(dir, "bin", "runc")) },
		"not executable": func(dir string) error { return os.Chmod(filepath.Join(dir, "bin", "runc"), 0o644) },
		"bin is a file": func(dir string) error {
			return errors.Join(os.RemoveAll(filepath.Join(dir, "bin")), os.WriteFile(filepath.Join(dir, "bin"), nil, 0o644))
		},
		"all is a file": func(dir string) error {
			return errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o644))
		},
		"file is a link": func(dir string) error {
			runc := filepath.Join(dir, "bin", "runc")
			return errors.Join(os.Remove(runc), os.Symlink("/bin/true", runc))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, archive := t.TempDir(), programArchive(t, "1")
			bin := mustExtract(t, dir, archive)
			if err := damage(filepath.Dir(bin)); err != nil {
				t.Fatal(err)
			}
			mustExtract(t, dir, archive)
			wantFile(t, filepath.Join(bin, "runc"), "runc 1", 0o755)
			wantNoLeftovers(t, dir)
		})
	}
}

func TestConcurrentExtraction(t *testing.T) {
	dir := t.TempDir()
	archives := [][]byte{programArchive(t, "1"), programArchive(t, "2")}
	var all sync.WaitGroup
	for i := range 16 {
		archive := archives[i%2]
		all.Go(func() {
			bin, err := Extract(t.Context(), dir, sumOf(archive), opener(archive))
			if err != nil {
				t.Error(err)
				return
			}
			if body, err := os.ReadFile(filepath.Join(bin, "runc")); err != nil || !strings.HasPrefix(string(body), "runc ") {
				t.Errorf("got %q, %v", body, err)
			}
		})
	}
	all.Wait()
	wantNoLeftovers(t, dir)
}

func TestRefusedArchives(t *testing.T) {
	many := make([]member, maxEntries+1)
	for i := range many {
		many[i] = member{name: "bin/" + strings.Repeat("x", i%200+1) + string(rune('a'+i/200))}
	}
	for name, tc := range map[string]struct {
		members []member
		want    string
	}{
		"empty":          {nil, "no programs"},
		"parent":         {[]member{{name: "bin/../../evil"}}, "stay inside"},
		"absolute":       {[]member{{name: "/bin/evil"}}, "stay inside"},
		"dot":            {[]member{{name: "bin/./x"}}, "stay inside"},
		"outside bin":    {[]member{{name: "etc/passwd"}}, "below bin/"},
		"own list":       {[]member{{name: contentsName}}, "below bin/"},
		"deep":           {[]member{{name: "bin" + strings.Repeat("/d", 20)}}, "deeper"},
		"long":           {[]member{{name: "bin/" + strings.Repeat("n", 300)}}, "longer"},
		"symlink":        {[]member{{name: "bin/x", kind: tar.TypeSymlink, link: "/etc"}}, "only files"},
		"hard link":      {[]member{{name: "bin/x", kind: tar.TypeLink, link: "/etc/passwd"}}, "only files"},
		"device":         {[]member{{name: "bin/x", kind: tar.TypeChar}}, "only files"},
		"fifo":           {[]member{{name: "bin/x", kind: tar.TypeFifo}}, "only files"},
		"huge":           {[]member{{name: "bin/x", size: 1 << 40}}, "more than"},
		"cut short":      {[]member{{name: "bin/x", size: 1 << 20}}, "EOF"},
		"twice":          {[]member{{name: "bin/x", body: "1"}, {name: "bin/x", body: "2"}}, "exists"},
		"file as parent": {[]member{{name: "bin/x"}, {name: "bin/x/y"}}, "bin/x"},
		"many":           {many, "entries"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, archive := t.TempDir(), makeArchive(t, tc.members...)
			_, err := Extract(t.Context(), dir, sumOf(archive), opener(archive))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
			if _, err := os.Lstat(filepath.Join(dir, sumOf(archive))); err == nil {
				t.Error("a refused archive has a directory")
			}
			wantNoLeftovers(t, dir)
		})
	}
}

func TestDigestIsChecked(t *testing.T) {
	dir, archive := t.TempDir(), programArchive(t, "1")
	for _, digest := range []string{"", "..", strings.Repeat("A", 64), strings.Repeat("0", 65)} {
		if _, err := Extract(t.Context(), dir, digest, opener(archive)); err == nil || !strings.Contains(err.Error(), "digest") {
			t.Errorf("digest %q: got %v", digest, err)
		}
	}
	wrong := strings.Repeat("0", 64)
	if _, err := Extract(t.Context(), dir, wrong, opener(archive)); err == nil || !strings.Contains(err.Error(), sumOf(archive)) {
		t.Errorf("got %v, want an error that says the digest found", err)
	}
	if _, err := os.Lstat(filepath.Join(dir, wrong)); err == nil {
		t.Error("a damaged archive has a directory")
	}
}

func TestGivesUpWithItsContext(t *testing.T) {
	dir, archive := t.TempDir(), programArchive(t, "1")
	unlock, err := lock(t.Context(), filepath.Join(dir, lockName))
	if err != nil {
		t.Fatal(err)
	}
	gone := errors.New("the operator left")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(gone)
	if _, err := Extract(ctx, dir, sumOf(archive), opener(archive)); !errors.Is(err, gone) || !strings.Contains(err.Error(), lockName) {
		t.Errorf("got %v, want the lock's name and the cause", err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	if _, err := Extract(ctx, dir, sumOf(archive), opener(archive)); !errors.Is(err, gone) {
		t.Errorf("while unpacking: got %v, want the cause", err)
	}
	wantNoLeftovers(t, dir)
}
