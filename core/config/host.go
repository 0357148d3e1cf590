package config

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// detectPrivileges fills what this process may do.
func (c *Config) detectPrivileges(m machine) error {
	status, err := m.read("/proc/self/status")
	if err != nil {
		return fmt.Errorf("capabilities: %w; mount /proc", err)
	}
	c.Host.CanRaiseOOMScore = effectiveCaps(status)&(1<<unix.CAP_SYS_RESOURCE) != 0

	uids, err := m.read("/proc/self/uid_map")
	if err != nil {
		return fmt.Errorf("user namespace: %w; mount /proc", err)
	}
	c.Host.UserNamespace = !slices.Equal(strings.Fields(uids), []string{"0", "0", "4294967295"})

	// containerd hands profiles to apparmor_parser, so both are needed.
	enabled, err := m.read("/sys/module/apparmor/parameters/enabled")
	c.Host.AppArmor = err == nil && strings.HasPrefix(enabled, "Y") && m.program("apparmor_parser")
	return nil
}

// effectiveCaps reads the CapEff line of a /proc/<pid>/status.
func effectiveCaps(status string) uint64 {
	for line := range strings.Lines(status) {
		if hex, ok := strings.CutPrefix(line, "CapEff:"); ok {
			caps, err := strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
			if err != nil {
				return 0
			}
			return caps
		}
	}
	return 0
}

const cgroupMount = "/sys/fs/cgroup"

// podControllers are the v1 hierarchies in which a pod's cgroup must be made;
// the kubelet does not start if one lacks its root. name=systemd is made there
// too wherever it is mounted.
const podControllers = "cpu cpuacct cpuset memory pids name=systemd"

// detectCgroups finds out which version is in use and where in its tree this
// process may put pods: the top of what it sees if it can write there (in a
// cgroup namespace that is the container's own cgroup), else its own cgroup.
func (c *Config) detectCgroups(m machine) error {
	magic, err := m.fsMagic(m.root + cgroupMount)
	if err != nil {
		return fmt.Errorf("cgroups: %s: %w; mount the cgroup file system, or run without a node with --disable-agent", cgroupMount, err)
	}
	mounts, err := m.read("/proc/mounts")
	if err != nil {
		return fmt.Errorf("cgroups: %w; mount /proc", err)
	}
	own, err := m.read("/proc/self/cgroup")
	if err != nil {
		return fmt.Errorf("cgroups: %w; mount /proc", err)
	}
	var tops []string // the mount points that must hold the pods' root
	controller := ""  // whose line of /proc/self/cgroup counts
	if magic == unix.CGROUP2_SUPER_MAGIC {
		c.Host.CgroupVersion, tops = 2, []string{cgroupMount}
	} else {
		c.Host.CgroupVersion, tops, controller = 1, v1Mounts(mounts), "memory"
		if len(tops) == 0 {
			c.Host.CgroupVersion = 0
			return errors.New("cgroups: no cgroup hierarchy is mounted at " + cgroupMount +
				"; mount cgroup2 there, or run without a node with --disable-agent")
		}
	}
	for _, root := range []string{"/", ownCgroup(own, controller)} {
		if !slices.ContainsFunc(tops, func(top string) bool { return !m.writable(m.root + path.Join(top, root)) }) {
			c.Host.CgroupRoot = root
			return nil
		}
	}
	return fmt.Errorf("cgroups: neither the top of %s nor the cgroup of this process can be written; run as root with the cgroup file system mounted rw, or run without a node with --disable-agent", cgroupMount)
}

// v1Mounts lists the mount points of the v1 hierarchies pods need.
func v1Mounts(mounts string) []string {
	var tops []string
	for line := range strings.Lines(mounts) {
		f := strings.Fields(line)
		if len(f) < 4 || f[2] != "cgroup" || !strings.HasPrefix(f[1], cgroupMount+"/") {
			continue
		}
		for option := range strings.SplitSeq(f[3], ",") {
			if slices.Contains(strings.Fields(podControllers), option) {
				tops = append(tops, f[1])
				break
			}
		}
	}
	return tops
}

// ownCgroup is the path of this process in the hierarchy of a v1 controller,
// or in the v2 one for "", from /proc/self/cgroup.
func ownCgroup(procCgroup, controller string) string {
	for line := range strings.Lines(procCgroup) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) == 3 && slices.Contains(strings.Split(f[1], ","), controller) {
			return path.Clean("/" + f[2])
		}
	}
	return "/"
}
