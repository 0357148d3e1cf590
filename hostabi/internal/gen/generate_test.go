package main

import (
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

func TestGoName(t *testing.T) {
	for _, tt := range []struct{ name, want string }{
		{"log", "Log"}, {"object_json", "ObjectJSON"}, {"render_yaml", "RenderYAML"}, {"path_id", "PathID"},
	} {
		if got := goName(tt.name); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
}
