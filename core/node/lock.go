package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/cleat-dev/cleat/core/internal/paths"
)

// lockNode keeps a second server off the data directory, whose database and
// containers both would write, and off this machine, whose sockets, network and
// service rules there is one set of. The kernel drops the locks with the
// process, however it ends.
func lockNode(data paths.Data, runDir string) (unlock func(), err error) {
	unlockData, err := lockDir(data.Server(), "on "+string(data))
	if err != nil {
		return nil, err
	}
	unlockRun, err := lockDir(runDir, "on this machine")
	if err != nil {
		unlockData()
		return nil, err
	}
	return func() {
		unlockRun()
		unlockData()
	}, nil
}

func lockDir(dir, where string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("%w; is %s on a disk that can be written? --data-dir chooses another one for the data", err, dir)
	}
	path := filepath.Join(dir, ".lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("%w; is %s on a disk that can be written? --data-dir chooses another one for the data", err, dir)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("another cleat server runs %s%s; stop it first", where, holder(f))
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
