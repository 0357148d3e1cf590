package cleanup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// fakeHost is a machine that remembers what was done to it.
type fakeHost struct {
	processes []process
	holders   map[string]int // lock, without the root
	stubborn  []int          // do not end on SIGTERM
	mounts    []string
	busy      []string // mounts that cannot be unmounted
	links     []link
	routes    []route
	hierarchy []string
	members   map[string][]int
	nft       map[string]string // arguments after "nft -j list" -> output
	saved     map[string]string // iptables-save and ip6tables-save
	mainPID   string            // what systemctl shows
	revenant  int               // a process that comes back
	blind     bool              // who holds a lock cannot be seen

	did  []string
	root string
}

func (f *fakeHost) do(format string, args ...any) {
	f.did = append(f.did, strings.TrimSpace(fmt.Sprintf(format, args...)))
}

func (f *fakeHost) end(pid int) {
	if pid == f.revenant {
		return
	}
	f.processes = slices.DeleteFunc(f.processes, func(p process) bool { return p.PID == pid })
	for lock, holder := range f.holders {
		if holder == pid {
			delete(f.holders, lock)
		}
	}
}

func (f *fakeHost) Processes() ([]process, error) { return slices.Clone(f.processes), nil }
func (f *fakeHost) Holder(lock string) (int, error) {
	if f.blind {
		return 0, errors.New("is locked, but by no process that can be seen")
	}
	return f.holders[strings.TrimPrefix(lock, f.root)], nil
}

func (f *fakeHost) Signal(p process, s syscall.Signal) error {
	f.do("signal %d %d", p.PID, int(s))
	if s == syscall.SIGKILL || !slices.Contains(f.stubborn, p.PID) {
		f.end(p.PID)
	}
	return nil
}

func (f *fakeHost) Await(_ context.Context, all []process, _ time.Duration) (left []process, err error) {
	for _, p := range all {
		if p.PID != f.revenant && slices.ContainsFunc(f.processes, func(q process) bool { return p.PID == q.PID }) {
			left = append(left, p)
		}
	}
	return left, nil
}

func (f *fakeHost) Mounts() ([]string, error) { return slices.Clone(f.mounts), nil }

func (f *fakeHost) Unmount(_ context.Context, path string) error {
	f.do("unmount %s", path)
	if slices.Contains(f.busy, path) {
		return syscall.EBUSY
	}
	f.mounts = slices.DeleteFunc(f.mounts, func(m string) bool { return m == path })
	return nil
}

func (f *fakeHost) Links() ([]link, error) { return slices.Clone(f.links), nil }

func (f *fakeHost) RemoveLink(name string) error {
	f.do("link %s", name)
	f.links = slices.DeleteFunc(f.links, func(l link) bool { return l.Name == name })
	return nil
}

func (f *fakeHost) Routes() ([]route, error) { return slices.Clone(f.routes), nil }

func (f *fakeHost) RemoveRoute(r route) error {
	f.do("route %s", r.Destination)
	return nil
}

func (f *fakeHost) CgroupMounts() ([]string, error)      { return f.hierarchy, nil }
func (f *fakeHost) Members(cgroup string) ([]int, error) { return f.members[cgroup], nil }
func (f *fakeHost) RemoveCgroup(cgroup string) error {
	f.do("cgroup %s", cgroup)
	return os.RemoveAll(filepath.Join(f.root, cgroup))
}

func (f *fakeHost) Command(_ context.Context, stdin, name string, args ...string) (string, error) {
	line := strings.Join(append([]string{name}, args...), " ")
	switch {
	case strings.HasPrefix(line, "nft -j list "):
		return f.nft[strings.TrimPrefix(line, "nft -j list ")], nil
	case strings.HasSuffix(name, "-save"):
		return f.saved[name], nil
	case strings.HasPrefix(line, "systemctl show"):
		return f.mainPID, nil
	case name == "systemctl" && args[0] != "stop":
		f.do("%s", line)
		return "", nil
	case name == "systemctl":
		f.do("%s", line)
		for _, p := range f.processes {
			if fmt.Sprint(p.PID) == strings.TrimSpace(f.mainPID) {
				f.end(p.PID)
				break
			}
		}
		return "", nil
	}
	f.do("%s < %s", line, stdin)
	return "", nil
}

func (f *fakeHost) FreeNodeName(_ context.Context, node string) error {
	f.do("free %s", node)
	return nil
}

// write makes a file below the root.
func write(t *testing.T, root, path, content string) {
	t.Helper()
	path = filepath.Join(root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// files lists what is below the root, without directories that are not empty.
func files(t *testing.T, root string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if entries, err := os.ReadDir(path); err != nil || len(entries) > 0 {
				return err
			}
		}
		all = append(all, strings.TrimPrefix(path, root))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
