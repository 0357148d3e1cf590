package lab

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// sharedSysctls are settings of the whole machine that a kubelet writes. A lab's
// machine gets files in their place.
func sharedSysctls() []string {
	return []string{
		"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops",
		"kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes",
	}
}

// mounter does one mount after the other until one fails.
type mounter struct {
	root string
	err  error
}

func (m *mounter) mount(source, target, fstype string, flags uintptr, data string) {
	if m.err != nil {
		return
	}
	target = filepath.Join(m.root, target)
	if err := os.MkdirAll(target, 0o755); err != nil {
		m.err = err
		return
	}
	if err := syscall.Mount(source, target, fstype, flags, data); err != nil {
		m.err = fmt.Errorf("mount %s %s on %s: %w", fstype, source, target, err)
	}
}

// bind mounts a file or directory of the host.
func (m *mounter) bind(source, target string) {
	m.do(func() error {
		target = filepath.Join(m.root, target)
		info, err := os.Stat(source)
		switch {
		case err != nil:
		case info.IsDir():
			err = os.MkdirAll(target, 0o755)
		default:
			err = writeOver(target, "")
		}
		if err != nil {
			return err
		}
		if err := syscall.Mount(source, target, "", syscall.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind %s to %s: %w", source, target, err)
		}
		return nil
	})
}

func (m *mounter) do(f func() error) {
	if m.err == nil {
		m.err = f()
	}
}

// mount makes the file system of the machine and enters it.
func (cfg initConfig) mount() error {
	m := &mounter{}
	m.do(func() error { return syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, "") })
	if cfg.Hostname == "" {
		m.mount("proc", "/proc", "proc", 0, "")
		return m.err
	}
	m.do(func() error { return syscall.Sethostname([]byte(cfg.Hostname)) })

	// The upper layer is in memory: it may not be inside the lower one.
	mem := filepath.Join(cfg.Dir, "mem")
	upper, work, root := filepath.Join(mem, "upper"), filepath.Join(mem, "work"), filepath.Join(mem, "root")
	m.mount("tmpfs", mem, "tmpfs", 0, "mode=755")
	for _, d := range []string{upper, work, root} {
		m.do(func() error { return os.Mkdir(d, 0o755) })
	}
	m.mount("overlay", root, "overlay", 0, "lowerdir=/,upperdir="+upper+",workdir="+work)

	m.root = root
	for _, inside := range slices.Sorted(maps.Keys(cfg.Binds)) {
		m.bind(cfg.Binds[inside], inside)
	}
	m.mount("/dev", "/dev", "", syscall.MS_BIND|syscall.MS_REC, "")
	m.mount("tmpfs", "/dev/shm", "tmpfs", 0, "mode=1777")
	m.mount("tmpfs", "/tmp", "tmpfs", 0, "mode=1777")
	m.mount("tmpfs", "/run", "tmpfs", 0, "mode=755")
	m.mount("proc", "/proc", "proc", 0, "")
	m.mount("sysfs", "/sys", "sysfs", 0, "")
	m.mountCgroups(cfg.Mounts)
	for _, path := range slices.Sorted(maps.Keys(cfg.Files)) {
		m.do(func() error { return writeOver(filepath.Join(root, path), cfg.Files[path]) })
	}
	for _, path := range slices.Sorted(maps.Keys(cfg.Links)) {
		m.do(func() error { return linkOver(cfg.Links[path], filepath.Join(root, path)) })
	}
	for _, s := range sharedSysctls() {
		m.do(func() error {
			return cover(filepath.Join(root, "proc/sys", s), filepath.Join(mem, strings.ReplaceAll(s, "/", ".")))
		})
	}
	m.do(func() error { return enter(root) })
	return m.err
}

// mountCgroups mounts every hierarchy as the host does; the cgroup namespace
// makes the machine's own group the root of each.
func (m *mounter) mountCgroups(hs []hierarchy) {
	if slices.ContainsFunc(hs, func(h hierarchy) bool { return h.Name != "" }) {
		m.mount("tmpfs", "/sys/fs/cgroup", "tmpfs", 0, "mode=755")
	}
	for _, h := range hs {
		target := filepath.Join("/sys/fs/cgroup", h.Name)
		switch {
		case h.Options == "":
			m.mount("cgroup2", target, "cgroup2", 0, "")
		case strings.HasPrefix(h.Options, "name="):
			m.mount("cgroup", target, "cgroup", 0, "none,"+h.Options)
		default:
			m.mount("cgroup", target, "cgroup", 0, h.Options)
		}
	}
}

// writeOver replaces a file, or the link in its place, of the overlay.
func writeOver(path, content string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return err
	}
	return os.WriteFile(path, []byte(content), 0o644)
}

// linkOver makes a symbolic link, also where something is already.
func linkOver(target, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return err
	}
	return os.Symlink(target, path)
}

// cover mounts a copy of a kernel setting over it.
func cover(setting, copied string) error {
	value, err := os.ReadFile(setting)
	if os.IsNotExist(err) {
		return nil // this kernel has no such setting
	}
	if err != nil {
		return err
	}
	if err := os.WriteFile(copied, value, 0o644); err != nil {
		return err
	}
	if err := syscall.Mount(copied, setting, "", syscall.MS_BIND, ""); err != nil {
		return fmt.Errorf("cover %s: %w", setting, err)
	}
	return nil
}

// enter makes root the root of the mount namespace and forgets the old one. Mounts
// are shared from then on, as on a booted machine, which kubelet relies on.
func enter(root string) error {
	old := filepath.Join(root, "mnt")
	if err := syscall.PivotRoot(root, old); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	if err := syscall.Unmount("/mnt", syscall.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount the old root: %w", err)
	}
	return syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_SHARED, "")
}
