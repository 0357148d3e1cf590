package node

import (
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/core/internal/paths"
)

func TestLockDataDir(t *testing.T) {
	data := paths.Data(t.TempDir())
	unlock, err := lockDataDir(data)
	if err != nil {
		t.Fatal(err)
	}
	_, err = lockDataDir(data)
	if err == nil || !strings.Contains(err.Error(), "another cleat server") || !strings.Contains(err.Error(), "process ") {
		t.Errorf("second lock: got %v, want an error that names the process", err)
	}
	unlock()
	unlock, err = lockDataDir(data)
	if err != nil {
		t.Fatalf("after unlock: %v", err)
	}
	unlock()
}
