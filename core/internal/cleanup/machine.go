package cleanup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/cgroups"
	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"

	"github.com/cleat-dev/cleat/core/internal/etcdstore"
	"github.com/cleat-dev/cleat/core/internal/nodepassword"
	"github.com/cleat-dev/cleat/core/internal/paths"
)

// errNoProgram: a command is not installed.
var errNoProgram = errors.New("is not installed")

// commandTimeout bounds a command; stopping a service takes longest.
const commandTimeout = 2 * time.Minute

// machine is this machine.
type machine struct{}

func (machine) Processes() ([]process, error) {
	found, err := procfs.AllProcs()
	if err != nil {
		return nil, err
	}
	mount, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		return nil, err
	}
	network, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return nil, err
	}
	var all []process
	for _, f := range found {
		if f.PID == os.Getpid() {
			continue
		}
		if p, ok := readProcess(f); ok {
			dir := fmt.Sprintf("/proc/%d/ns/", f.PID)
			p.SameMount, p.SameNet = linksTo(dir+"mnt", mount), linksTo(dir+"net", network)
			all = append(all, p)
		}
	}
	return all, nil
}

func linksTo(link, want string) bool {
	got, err := os.Readlink(link)
	return err == nil && got == want
}

// readProcess is false for a process that has ended. What a kernel thread does
// not have stays empty.
func readProcess(f procfs.Proc) (process, bool) {
	stat, err := f.Stat()
	if err != nil || stat.State == "Z" || stat.State == "X" {
		return process{}, false
	}
	p := process{PID: f.PID, PPID: stat.PPID, Start: stat.Starttime}
	if exe, err := f.Executable(); err == nil {
		p.Exe = strings.TrimSuffix(exe, " (deleted)")
	}
	if args, err := f.CmdLine(); err == nil {
		p.Args = args
	}
	if groups, err := cgroups.ParseCgroupFile(fmt.Sprintf("/proc/%d/cgroup", f.PID)); err == nil {
		p.Cgroup = deepest(groups)
	}
	return p, true
}

// deepest picks the path of version 2 or of the service manager; memory's in a
// container that has neither.
func deepest(groups map[string]string) string {
	for _, name := range []string{"", "name=systemd", "memory"} {
		if p := groups[name]; p != "" && p != "/" {
			return p
		}
	}
	return "/"
}

// Holder tries the lock and, if it is taken, looks who has the file open: only
// servers open it.
func (machine) Holder(lock string) (int, error) {
	f, err := os.Open(lock)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if err == nil {
		return 0, nil
	}
	if !errors.Is(err, unix.EWOULDBLOCK) {
		return 0, fmt.Errorf("lock %s: %w", lock, err)
	}
	want, err := f.Stat()
	if err != nil {
		return 0, err
	}
	fds, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return 0, err
	}
	for _, fd := range fds {
		pid, err := strconv.Atoi(strings.Split(fd, "/")[2])
		if err != nil || pid == os.Getpid() {
			continue
		}
		if have, err := os.Stat(fd); err == nil && os.SameFile(want, have) {
			return pid, nil
		}
	}
	return 0, fmt.Errorf("%s is locked, but by no process that can be seen; run this where the server runs", lock)
}

// Signal goes through a descriptor of the process, so that it cannot reach a
// later process of the same number.
func (machine) Signal(p process, s syscall.Signal) error {
	fd, err := open(p)
	if err != nil || fd < 0 {
		return err
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, s, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal process %d: %w", p.PID, err)
	}
	return nil
}

// open returns a descriptor of that very process, -1 if it has ended.
func open(p process) (int, error) {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return -1, nil
	}
	if err != nil {
		return -1, fmt.Errorf("open process %d: %w", p.PID, err)
	}
	if f, err := procfs.NewProc(p.PID); err == nil {
		if now, ok := readProcess(f); ok && now.Start == p.Start {
			return fd, nil
		}
	}
	return -1, unix.Close(fd)
}

func (machine) Await(ctx context.Context, all []process, patience time.Duration) ([]process, error) {
	deadline := time.Now().Add(patience)
	var left []process
	for _, p := range all {
		ended, err := await(ctx, p, deadline)
		if err != nil {
			return all, err
		}
		if !ended {
			left = append(left, p)
		}
	}
	return left, nil
}

func await(ctx context.Context, p process, deadline time.Time) (ended bool, err error) {
	fd, err := open(p)
	if err != nil || fd < 0 {
		return err == nil, err
	}
	defer unix.Close(fd)
	for {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		// In steps, so that a signal to this process is heard.
		step := max(0, min(time.Until(deadline), 200*time.Millisecond))
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(step.Milliseconds()))
		switch {
		case err != nil && !errors.Is(err, unix.EINTR):
			return false, fmt.Errorf("wait for process %d: %w", p.PID, err)
		case n > 0:
			return true, nil
		case !time.Now().Before(deadline):
			return false, nil
		}
	}
}

// storeTimeout bounds what is asked of the datastore.
const storeTimeout = 10 * time.Second

func (machine) FreeNodeName(ctx context.Context, node string) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	store, err := etcdstore.New("unix://" + paths.KineSocket)
	if err != nil {
		return err
	}
	key := nodepassword.Prefix + node
	_, rev, err := store.Get(ctx, key)
	if err == nil && rev != 0 {
		_, err = store.Delete(ctx, key, rev)
	}
	return errors.Join(err, store.Close())
}

func (machine) Command(ctx context.Context, stdin, name string, args ...string) (string, error) {
	path, err := exec.LookPath(name)
	if errors.Is(err, exec.ErrNotFound) {
		return "", fmt.Errorf("%s %w", name, errNoProgram)
	}
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		said := strings.TrimSpace(stderr.String())
		return "", fmt.Errorf("%s %s: %w: %.500s", name, strings.Join(args, " "), err, said)
	}
	return stdout.String(), nil
}
