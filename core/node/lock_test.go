package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cleat-dev/cleat/core/internal/paths"
)

func TestLockNode(t *testing.T) {
	data, run := paths.Data(t.TempDir()), t.TempDir()
	unlock, err := lockNode(t.Context(), data.Server(), run)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		data paths.Data
		run  string
		want string
	}{
		{"same data directory", data, t.TempDir(), "runs on " + string(data) + " already (process "},
		{"same machine", paths.Data(t.TempDir()), run, "runs on this machine already (process "},
	} {
		if _, err := lockNode(t.Context(), tt.data.Server(), tt.run); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
	unlock()
	if unlock, err = lockNode(t.Context(), data.Server(), run); err != nil {
		t.Fatalf("after unlock: %v", err)
	}
	unlock()
}

// A program that a killed server was just starting holds its lock a little longer.
func TestLockOfTheDead(t *testing.T) {
	data, run := paths.Data(t.TempDir()), t.TempDir()
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(filepath.Join(run, ".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(file, dead.Process.Pid)
	orphan := exec.Command("cat") // until it is told to end
	orphan.ExtraFiles = []*os.File{file}
	end, err := orphan.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := orphan.Start(); err != nil {
		t.Fatal(err)
	}
	file.Close()
	stopped, stop := context.WithCancel(t.Context())
	stop()
	if _, err := lockNode(stopped, data.Server(), run); !errors.Is(err, context.Canceled) {
		t.Errorf("a stop while it waits: got %v", err)
	}
	time.AfterFunc(5*orphanPause, func() { end.Close() })
	unlock, err := lockNode(t.Context(), data.Server(), run)
	if err != nil {
		t.Fatal(err)
	}
	unlock()
	if err := orphan.Wait(); err != nil {
		t.Error(err)
	}
}
