package atomicfile

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestWriteFileReplacesContentAndMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for _, c := range []struct {
		data string
		mode os.FileMode
	}{{"one", 0o644}, {"", 0o600}, {"three", 0o666}} {
		if err := WriteFile(path, []byte(c.data), c.mode); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != c.data {
			t.Fatalf("read %q, %v; want %q", got, err, c.data)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != c.mode {
			t.Fatalf("mode %v, %v; want %v", info.Mode(), err, c.mode)
		}
	}
	onlyEntry(t, path)
}

func TestWriteFileDoesNotFollowLinks(t *testing.T) {
	dir := t.TempDir()
	victim, path := filepath.Join(dir, "victim"), filepath.Join(dir, "f")
	if err := os.WriteFile(victim, []byte("keep"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, path); err != nil {
		t.Fatal(err)
	}
	if changed, err := WriteIfChanged(path, []byte("keep"), 0o600); err != nil || !changed {
		t.Fatalf("WriteIfChanged through a link: %v, %v; want a write", changed, err)
	}
	if err := WriteFile(path, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(victim); string(got) != "keep" {
		t.Fatalf("the link's target was written: %q", got)
	}
}

func TestWriteFileFailureLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "taken")
	if err := os.MkdirAll(filepath.Join(path, "child"), 0o700); err != nil {
		t.Fatal(err)
	}
	err := WriteFile(path, []byte("x"), 0o600)
	if err == nil || !strings.Contains(err.Error(), path) {
		t.Fatalf("error %v does not name %s", err, path)
	}
	onlyEntry(t, path)
	if err := WriteFile(filepath.Join(dir, "no", "such", "dir"), nil, 0o600); err == nil {
		t.Fatal("a missing directory was accepted")
	}
}

func TestWriteIfChanged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for i, c := range []struct {
		data string
		mode os.FileMode
		want bool
	}{{"a", 0o600, true}, {"a", 0o600, false}, {"a", 0o644, true}, {"b", 0o644, true}, {"bb", 0o644, true}, {"bb", 0o644, false}} {
		got, err := WriteIfChanged(path, []byte(c.data), c.mode)
		if err != nil || got != c.want {
			t.Fatalf("step %d: changed %v, %v; want %v", i, got, err, c.want)
		}
	}
}

func TestSymlink(t *testing.T) {
	path := filepath.Join(t.TempDir(), "link")
	for _, target := range []string{"token", "token", "other"} {
		if err := Symlink(target, path); err != nil {
			t.Fatal(err)
		}
		if got, err := os.Readlink(path); err != nil || got != target {
			t.Fatalf("link is %q, %v; want %q", got, err, target)
		}
	}
	onlyEntry(t, path)
}

// A reader sees one writer's whole content, whatever the number of writers.
func TestConcurrentWritersNeverMix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	content := func(i int) []byte { return bytes.Repeat(fmt.Appendf(nil, "%d", i), 5000) }
	if err := WriteFile(path, content(0), 0o600); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for range 20 {
				if err := WriteFile(path, content(i), 0o600); err != nil {
					t.Error(err)
					return
				}
				got, err := os.ReadFile(path)
				if err != nil || len(got) != 5000 || bytes.Count(got, got[:1]) != 5000 {
					t.Errorf("read a mixture of %d bytes, %v", len(got), err)
					return
				}
			}
		})
	}
	wg.Wait()
	onlyEntry(t, path)
}

func onlyEntry(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 {
		t.Fatalf("%d entries beside %s, want it alone: %v", len(entries), filepath.Base(path), entries)
	}
}
