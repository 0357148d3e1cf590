package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// lockNode keeps a second server or agent off the data directory, dir being its
// half of it, whose database and containers both would write, and off this machine, whose sockets, network and
// service rules there is one set of. The kernel drops the locks with the
// process, however it ends.
func lockNode(ctx context.Context, dir, runDir string) (unlock func(), err error) {
	unlockData, err := lockDir(ctx, dir, "on "+filepath.Dir(dir))
	if err != nil {
		return nil, err
	}
	unlockRun, err := lockDir(ctx, runDir, "on this machine")
	if err != nil {
		unlockData()
		return nil, err
	}
	return func() {
		unlockRun()
		unlockData()
	}, nil
}

func lockDir(ctx context.Context, dir, where string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("%w; is %s on a disk that can be written? --data-dir chooses another one for the data", err, dir)
	}
	path := filepath.Join(dir, ".lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("%w; is %s on a disk that can be written? --data-dir chooses another one for the data", err, dir)
	}
	if err := takeLock(ctx, f, where); err != nil {
		f.Close()
		return nil, err
	}
	if err := f.Truncate(0); err == nil {
		fmt.Fprintf(f, "%d\n", os.Getpid())
	}
	return func() { f.Close() }, nil
}

// orphanPatience is how long a lock is waited for whose process has ended. A
// server that is killed between the fork and the exec of a program it starts
// leaves the lock to that child until the exec.
const (
	orphanPatience = 10 * time.Second
	orphanPause    = 20 * time.Millisecond
)

func takeLock(ctx context.Context, f *os.File, where string) error {
	deadline := time.Now().Add(orphanPatience)
	pause := time.NewTicker(orphanPause) // flock cannot be waited for with a bound
	defer pause.Stop()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, unix.EWOULDBLOCK):
			return fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		pid := holder(f)
		switch {
		case pid == 0:
			return fmt.Errorf("cleat runs %s already; stop it first", where)
		case lives(pid):
			return fmt.Errorf("cleat runs %s already (process %d); stop it first", where, pid)
		case time.Now().After(deadline):
			return fmt.Errorf("the cleat that ran %s (process %d) has ended, and a program that it started still holds the lock; `fuser %s` names it, end it and start again", where, pid, f.Name())
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for the lock %s of a server that has ended: %w", f.Name(), context.Cause(ctx))
		}
	}
}

// holder is the process that wrote itself into the lock file, 0 if none did.
func holder(f *os.File) int {
	var pid int
	if _, err := fmt.Fscan(io.NewSectionReader(f, 0, 32), &pid); err != nil {
		return 0
	}
	return pid
}

// lives tells whether a process of this machine runs; one in another process
// namespace does not count, but holds its lock longer than orphanPatience.
func lives(pid int) bool {
	return !errors.Is(unix.Kill(pid, 0), unix.ESRCH)
}
