package memtree_test

import (
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/cleat-dev/cleat/core/internal/render/memtree"
)

func TestTree(t *testing.T) {
	files := map[string][]byte{"a": []byte("1"), "b/c": []byte("22"), "b/d/e": nil}
	tree, err := memtree.New(files)
	if err != nil {
		t.Fatal(err)
	}
	if err := fstest.TestFS(tree, "a", "b/c", "b/d/e"); err != nil {
		t.Error(err)
	}
	empty, err := memtree.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := fstest.TestFS(empty); err != nil {
		t.Error(err)
	}
	got, err := memtree.Read(tree, memtree.Bounds{Files: 3, Bytes: 3})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"a": "1", "b/c": "22", "b/d/e": ""}, texts(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func texts(files map[string][]byte) map[string]string {
	out := map[string]string{}
	for name, content := range files {
		out[name] = string(content)
	}
	return out
}

func TestNewRefuses(t *testing.T) {
	for _, names := range [][]string{{""}, {"."}, {"../a"}, {"/a"}, {"a/"}, {"a//b"}, {"a", "a/b"}} {
		files := map[string][]byte{}
		for _, name := range names {
			files[name] = nil
		}
		if _, err := memtree.New(files); err == nil {
			t.Errorf("%q makes a tree", names)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	link := fstest.MapFS{"a": {Data: []byte("b"), Mode: fs.ModeSymlink}}
	two := fstest.MapFS{"a": {Data: []byte("12")}, "b": {Data: []byte("3")}}
	for name, tc := range map[string]struct {
		tree fs.FS
		most memtree.Bounds
		why  string
	}{
		"link":     {link, memtree.Bounds{Files: 9, Bytes: 9}, "not a regular file"},
		"files":    {two, memtree.Bounds{Files: 1, Bytes: 9}, "more than 1 files"},
		"bytes":    {two, memtree.Bounds{Files: 9, Bytes: 2}, "more than 2 bytes"},
		"one file": {two, memtree.Bounds{Files: 9, Bytes: 1}, "more than 1 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := memtree.Read(tc.tree, tc.most); err == nil || !strings.Contains(err.Error(), tc.why) {
				t.Errorf("got %v, want %q", err, tc.why)
			}
		})
	}
}
