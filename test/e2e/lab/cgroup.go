package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// hierarchy is one cgroup hierarchy of the host: version 2, or one of version 1.
type hierarchy struct {
	Options string // "" for version 2, else what names it to mount: cpu, name=systemd
	Name    string // the name of its directory below /sys/fs/cgroup, "" when it is that itself
	base    string // on the host, where the machines' cgroups are made
}

// hierarchies lists the mounted hierarchies. Those of version 1 have base at the
// test's own cgroup, so that a limit on the test holds for its machines; version 2
// allows no processes beside child groups, so there it is the root.
func hierarchies() ([]hierarchy, error) {
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	found, err := parseHierarchies(string(own), string(mounts))
	if err == nil && len(found) == 0 {
		err = errors.New("no cgroup hierarchy is mounted below /sys/fs/cgroup")
	}
	return found, err
}

func parseHierarchies(own, mounts string) ([]hierarchy, error) {
	var out []hierarchy
	for _, line := range lines(own) {
		fields := strings.SplitN(line, ":", 3) // number, controllers, path
		if len(fields) != 3 {
			return nil, fmt.Errorf("/proc/self/cgroup: cannot read %q", line)
		}
		controllers, path := fields[1], fields[2]
		mountpoint := findMount(mounts, controllers)
		if mountpoint == "" {
			continue // known to the kernel but not mounted
		}
		h := hierarchy{Options: controllers, base: filepath.Join(mountpoint, path)}
		if controllers == "" {
			h.base = mountpoint
		}
		if mountpoint != "/sys/fs/cgroup" {
			h.Name = filepath.Base(mountpoint)
		}
		out = append(out, h)
	}
	return out, nil
}

// findMount returns where the hierarchy with these controllers is mounted.
func findMount(mountinfo, controllers string) string {
	for _, line := range lines(mountinfo) {
		before, after, _ := strings.Cut(line, " - ")
		b, a := strings.Fields(before), strings.Fields(after)
		if len(b) < 5 || len(a) < 3 || !strings.HasPrefix(b[4], "/sys/fs/cgroup") || b[3] != "/" {
			continue
		}
		switch {
		case controllers == "" && a[0] == "cgroup2":
			return b[4]
		case controllers != "" && a[0] == "cgroup" && containsAll(strings.Split(a[2], ","), strings.Split(controllers, ",")):
			return b[4]
		}
	}
	return ""
}

func containsAll(all, some []string) bool {
	return !slices.ContainsFunc(some, func(s string) bool { return !slices.Contains(all, s) })
}

// cgroups is a machine's own cgroup in every hierarchy.
type cgroups struct {
	Roots []string // what the machine sees as the root of each hierarchy
	Leaf  string   // of version 2, where its processes are; "" without version 2
}

// makeCgroups makes the cgroup called name in every hierarchy.
func makeCgroups(hs []hierarchy, name string) (cgroups, error) {
	var c cgroups
	for _, h := range hs {
		dir := filepath.Join(h.base, name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return c, err
		}
		c.Roots = append(c.Roots, dir)
		var err error
		switch h.Options {
		case "":
			c.Leaf = filepath.Join(dir, "init")
			err = delegate(h.base)
		case "cpuset":
			err = inheritProcessors(h.base, dir)
		}
		if err != nil {
			return c, err
		}
	}
	return c, nil
}

// inheritProcessors fills in a cpuset, which version 1 makes empty; nobody can join it then.
func inheritProcessors(from, to string) error {
	for _, f := range []string{"cpuset.cpus", "cpuset.mems"} {
		value, err := os.ReadFile(filepath.Join(from, f))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, f), value, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// delegate hands the controllers that pods need down to the children of a version
// 2 cgroup, as a service manager does at boot. Those bound to version 1 are not
// on offer and stay where they are.
func delegate(dir string) error {
	offered, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return err
	}
	control := filepath.Join(dir, "cgroup.subtree_control")
	given, err := os.ReadFile(control)
	if err != nil {
		return err
	}
	for _, c := range strings.Fields(string(offered)) {
		if slices.Contains(strings.Fields(string(given)), c) || !slices.Contains([]string{"cpu", "cpuset", "io", "memory", "pids"}, c) {
			continue
		}
		if err := os.WriteFile(control, []byte("+"+c), 0o644); err != nil {
			return fmt.Errorf("hand cgroup controller %s down: %w", c, err)
		}
	}
	return nil
}

// enter moves the calling process into the cgroups and calls unshare, which makes
// them the roots of a namespace. Version 2 allows no processes in a
// cgroup that hands controllers down, so there the process moves on to a leaf.
func (c cgroups) enter(unshare func() error) error {
	for _, dir := range c.Roots {
		if err := joinCgroup(dir); err != nil {
			return err
		}
	}
	if err := unshare(); err != nil || c.Leaf == "" {
		return err
	}
	if err := os.MkdirAll(c.Leaf, 0o755); err != nil {
		return err
	}
	if err := joinCgroup(c.Leaf); err != nil {
		return err
	}
	return delegate(filepath.Dir(c.Leaf))
}

func joinCgroup(dir string) error {
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0o644); err != nil {
		return fmt.Errorf("join cgroup: %w", err)
	}
	return nil
}

// procs returns the files through which a process joins a machine that is up.
func (c cgroups) procs() []string {
	var files []string
	for _, dir := range c.Roots {
		if dir == filepath.Dir(c.Leaf) {
			dir = c.Leaf
		}
		files = append(files, filepath.Join(dir, "cgroup.procs"))
	}
	return files
}

// removeCgroup removes a cgroup and those below it; all must be without processes.
func removeCgroup(dir string) error {
	var dirs []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	if err != nil {
		return err
	}
	slices.Reverse(dirs) // children first
	for _, d := range dirs {
		if err := os.Remove(d); err != nil {
			return err
		}
	}
	return nil
}
