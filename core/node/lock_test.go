package node

import (
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/core/internal/paths"
)

func TestLockNode(t *testing.T) {
	data, run := paths.Data(t.TempDir()), t.TempDir()
	unlock, err := lockNode(data, run)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		data paths.Data
		run  string
		want string
	}{
		{"same data directory", data, t.TempDir(), "runs on " + string(data) + " (process "},
		{"same machine", paths.Data(t.TempDir()), run, "runs on this machine (process "},
	} {
		if _, err := lockNode(tt.data, tt.run); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
	unlock()
	if unlock, err = lockNode(data, run); err != nil {
		t.Fatalf("after unlock: %v", err)
	}
	unlock()
}
