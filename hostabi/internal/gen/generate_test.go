package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestGeneratedFilesAreUpToDate(t *testing.T) {
	outputs, err := generate("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range outputs {
		have, err := os.ReadFile(filepath.Join("../..", filepath.FromSlash(o.path)))
		if err != nil {
			t.Error(err)
			continue
		}
		if string(have) != string(o.data) {
			t.Errorf("%s is out of date; run go generate in hostabi", o.path)
		}
	}
}

// What is generated comes from the directory that is given, wherever it is done.
func TestGenerateElsewhere(t *testing.T) {
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	if _, err := generate(dir); err != nil {
		t.Error(err)
	}
	if _, err := generate("."); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty directory: %v", err)
	}
}

func TestGoName(t *testing.T) {
	for _, tt := range []struct{ name, want string }{
		{"log", "Log"}, {"object_json", "ObjectJSON"}, {"render_yaml", "RenderYAML"}, {"path_id", "PathID"},
	} {
		if got := goName(tt.name); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
}
