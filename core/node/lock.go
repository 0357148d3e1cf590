package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/cleat-dev/cleat/core/internal/paths"
)

// lockDataDir keeps a second server off the same data directory: both would
// write one database and one set of containers. The kernel drops the lock with
// the process, however it ends.
func lockDataDir(data paths.Data) (unlock func(), err error) {
	path := filepath.Join(data.Server(), ".lock")
	if err := os.MkdirAll(data.Server(), 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w; choose another one with --data-dir", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w; choose another one with --data-dir", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("another cleat server runs on %s%s; stop it or choose another --data-dir", data, holder(f))
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if err := f.Truncate(0); err == nil {
		fmt.Fprintf(f, "%d\n", os.Getpid())
	}
	return func() { f.Close() }, nil
}

// holder says which process wrote itself into the lock file.
func holder(f *os.File) string {
	var pid int
	if _, err := fmt.Fscan(f, &pid); err != nil {
		return ""
	}
	return fmt.Sprintf(" (process %d)", pid)
}
