package hostcheck

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func (c *checker) user() {
	c.either(c.m.Root(), Missing, "root", yesOrNo(c.m.Root()), "mounts, namespaces and network devices", "run it as root: sudo cleat …")
	if c.n.Node {
		c.either(c.exists("/dev/kmsg"), Missing, "kernel log", c.there("/dev/kmsg"), "the kubelet sees there who was killed for lack of memory",
			"make /dev/kmsg readable for this process; in a container, mount it")
	}
}

func yesOrNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func (c *checker) kernel(ctx context.Context) {
	release := c.m.Release()
	major, minor := version(release)
	atLeast := func(wantMajor, wantMinor int) bool {
		return major > wantMajor || major == wantMajor && minor >= wantMinor
	}
	c.either(atLeast(4, 19), Missing, "kernel", release, "what containers need is there from 4.19 on", "install a newer kernel")
	if c.n.Node && c.n.Proxy && c.n.ProxyMode == "nftables" && !atLeast(5, 13) {
		c.add("kernel for nftables", Missing, release, "service rules with nftables need 5.13", "start with --kube-proxy-arg proxy-mode=iptables")
	}
	if !c.n.Node {
		return
	}
	c.either(c.exists("/proc/sys/kernel/seccomp/actions_avail"), Missing, "seccomp", c.there("/proc/sys/kernel/seccomp/actions_avail"),
		"pods with a seccomp profile, which is the default of runtimes", "use a kernel with CONFIG_SECCOMP_FILTER")
	for _, ns := range []string{"ipc", "mnt", "net", "pid", "uts"} {
		if path := "/proc/self/ns/" + ns; !c.exists(path) {
			c.add("namespace "+ns, Missing, "no "+path, "every container has its own", "use a kernel with CONFIG_NAMESPACES and all kinds of them")
		}
	}
	c.kernelConfig(release)
	if err := c.m.Try(ctx, TryNamespaces); err != nil {
		c.add("namespaces", Missing, err.Error(), "containers, and the trials of this command",
			"run it as root; in a container, as a privileged one")
	}
}

// kernelOptions are those that a trial does not find missing.
func kernelOptions() []struct{ name, purpose string } {
	return []struct{ name, purpose string }{
		{"CONFIG_CFS_BANDWIDTH", "CPU limits of pods"},
		{"CONFIG_POSIX_MQUEUE", "/dev/mqueue in every container"},
		{"CONFIG_KEYS", "runc gives every container a keyring"},
		{"CONFIG_SECCOMP_FILTER", "seccomp profiles"},
		{"CONFIG_CGROUP_PIDS", "limits on the processes of pods"},
	}
}

// kernelConfig reads how the kernel was built, where it tells.
func (c *checker) kernelConfig(release string) {
	const name = "kernel options"
	for _, path := range []string{"/proc/config.gz", "/boot/config-" + release} {
		text, err := c.m.ReadFile(path)
		if err != nil {
			continue
		}
		set := map[string]bool{}
		for line := range strings.Lines(text) {
			option, value, ok := strings.Cut(strings.TrimSpace(line), "=")
			if ok && (value == "y" || value == "m") {
				set[option] = true
			}
		}
		all := true
		for _, o := range kernelOptions() {
			if !set[o.name] {
				all = false
				c.add(o.name, Warning, "not set in "+path, o.purpose, "use a kernel with it, or do without")
			}
		}
		if all {
			c.add(name, OK, path, "what cannot be tried out", "")
		}
		return
	}
	c.add(name, OK, "this kernel does not publish them", "what cannot be tried out", "")
}

// version reads the first two numbers of a kernel release.
func version(release string) (major, minor int) {
	parts := strings.FieldsFunc(release, func(r rune) bool { return r < '0' || r > '9' })
	if len(parts) > 1 {
		// What is no number is 0, and too old.
		major, _ = strconv.Atoi(parts[0])
		minor, _ = strconv.Atoi(parts[1])
	}
	return major, minor
}

func (c *checker) cgroups() {
	const purpose, root = "the kubelet limits and counts what pods use", "/sys/fs/cgroup"
	st, err := c.m.Statfs(root)
	if err != nil {
		c.add("cgroups", Missing, err.Error(), purpose, "mount the cgroup file system at "+root)
		return
	}
	var have []string
	found := "version 2"
	if int64(st.Type) == unix.CGROUP2_SUPER_MAGIC {
		text, err := c.m.ReadFile(root + "/cgroup.controllers")
		if err != nil {
			c.add("cgroups", Missing, err.Error(), purpose, "mount the cgroup file system at "+root)
			return
		}
		have = strings.Fields(text)
		c.add("cgroups", OK, found, purpose, "")
	} else {
		found = "version 1"
		mounts, err := c.m.ReadFile("/proc/mounts")
		if err != nil {
			c.add("cgroups", Missing, err.Error(), purpose, "mount /proc")
			return
		}
		for line := range strings.Lines(mounts) {
			if f := strings.Fields(line); len(f) > 3 && f[2] == "cgroup" {
				have = append(have, strings.Split(f[3], ",")...)
			}
		}
		c.add("cgroups", Warning, found, purpose, "works; boot with systemd.unified_cgroup_hierarchy=1 for version 2, as 1 is being given up upstream")
	}
	for _, controller := range []string{"cpu", "cpuset", "memory", "pids"} {
		c.either(slices.Contains(have, controller), Missing, "cgroup "+controller, found, "limits of pods",
			"boot with cgroup_enable="+controller+", or let version 2 have the controller: it cannot be in both")
	}
}

func (c *checker) node() {
	c.inotify()
	entropy := strings.TrimSpace(c.read("/proc/sys/kernel/random/entropy_avail"))
	bits, err := strconv.ParseUint(entropy, 10, 64)
	c.either(err == nil && bits >= 64, Warning, "entropy", entropy, "keys and certificates; the start waits for it", "install rng-tools, or give the virtual machine a virtio-rng")

	if hard, err := c.m.OpenMax(); err == nil {
		c.either(hard >= 65536, Warning, "open files", strconv.FormatUint(hard, 10), "every connection, pod and database file is one",
			"raise the hard limit, LimitNOFILE=1048576 in a systemd unit")
	}
	if swaps, err := c.m.ReadFile("/proc/swaps"); err == nil {
		on := strings.Count(strings.TrimSpace(swaps), "\n") > 0
		c.either(!on, Warning, "swap", yesOrNo(on), "pods are limited in memory, and what they swap out is not counted", "works; swapoff -a, for limits that mean what they say")
	}
	if on, err := c.m.ReadFile("/sys/module/apparmor/parameters/enabled"); err == nil && strings.HasPrefix(on, "Y") {
		c.either(c.m.Program("apparmor_parser") == nil, Warning, "AppArmor", "enabled in the kernel", "apparmor_parser loads the profiles of pods",
			"install the package apparmor; without, pods run without a profile")
	}
	if enforcing, err := c.m.ReadFile("/sys/fs/selinux/enforce"); err == nil && strings.TrimSpace(enforcing) == "1" {
		c.add("SELinux", Warning, "enforcing", "it may keep pods from their files", "cleat brings no policy: if pods are denied files, write one or use permissive mode")
	}
	if info, err := c.m.ReadFile("/proc/self/mountinfo"); err == nil {
		c.either(sharedRoot(info), Warning, "mount propagation", "of /", "volumes that a pod mounts for others, as CSI drivers do", "mount --make-rshared /")
	}
	programs := []string{"mount", "umount"}
	if c.n.Proxy {
		programs = append(programs, c.proxyPrograms()...)
	}
	if c.n.Policy && !slices.Contains(programs, "nft") {
		programs = append(programs, "nft")
	}
	for _, name := range programs {
		err := c.m.Program(name)
		purpose, from := usedFor(name)
		c.either(err == nil, Missing, "program "+name, "in PATH: "+yesOrNo(err == nil), purpose, "install "+from)
	}
}

func (c *checker) proxyPrograms() []string {
	if c.n.ProxyMode == "iptables" {
		return []string{"iptables", "iptables-save", "iptables-restore"}
	}
	return []string{"nft"}
}

// usedFor says what a program is for, and what it comes with.
func usedFor(program string) (purpose, from string) {
	switch {
	case program == "nft":
		return "rules of services and network policies", "the package nftables"
	case strings.HasPrefix(program, "iptables"):
		return "service rules", "the package iptables"
	}
	return "volumes of pods", "the package mount, or util-linux"
}

// sharedRoot tells whether mounts below / reach other namespaces.
func sharedRoot(mountinfo string) bool {
	shared := false
	for line := range strings.Lines(mountinfo) {
		if f := strings.Fields(line); len(f) > 6 && f[4] == "/" {
			shared = strings.HasPrefix(f[6], "shared:") // the last one mounted counts
		}
	}
	return shared
}

func (c *checker) network(ctx context.Context) {
	try := func(t Trial, bad Result, name, purpose, do string) {
		found, err := "works", c.m.Try(ctx, t)
		if err != nil {
			found = err.Error()
		}
		c.either(err == nil, bad, name, found, purpose, do)
	}
	module := func(name string) string {
		return "modprobe " + name + ", and name it in /etc/modules-load.d; else use a kernel that has it"
	}
	try(TryOverlay, Missing, "overlayfs", "the file systems of containers; --snapshotter native does without", module("overlay"))
	try(TryVeth, Missing, "veth", "the link of every pod", module("veth"))
	try(TryBridge, Missing, "bridge", "joins the pods of a node", module("bridge"))
	if c.n.VXLAN {
		try(TryVXLAN, Missing, "vxlan", "flannel's overlay between nodes", module("vxlan")+"; or start the servers with --flannel-backend host-gw")
	}
	if c.n.Proxy {
		if c.n.ProxyMode == "iptables" {
			try(TryIPTables, Missing, "iptables rules", "services", "load the modules that the message names; else use a kernel that has them")
		} else {
			try(TryNFTables, Missing, "nftables rules", "services", "modprobe nf_tables; if it stays, start with --kube-proxy-arg proxy-mode=iptables")
		}
	}
	switch {
	case c.n.Policy:
		const without = "; or start the servers with --disable-network-policy"
		try(TryPolicy, Missing, "nftables sets", "network policies", "modprobe nf_tables"+without)
		try(TryNetfilter, Missing, "br_netfilter", "services and network policies between pods of one node", module("br_netfilter")+without)
	case c.n.Proxy:
		try(TryNetfilter, Warning, "br_netfilter", "services between pods of one node", module("br_netfilter"))
	}
	forward := "/proc/sys/net/ipv4/ip_forward"
	text, err := c.m.ReadFile(forward)
	on := err == nil && strings.TrimSpace(text) == "1"
	found := strings.TrimSpace(text)
	if !on && c.m.Writable(forward) {
		on, found = true, "off; cleat turns it on"
	}
	c.either(on, Missing, "IP forwarding", found, "packets of pods leave the node", "sysctl -w net.ipv4.ip_forward=1")
}

const (
	gib       = 1 << 30
	leastFree = gib / 2
	goodFree  = 4 * gib
)

// upperless are file systems on which overlayfs cannot put what a container writes.
func upperless(magic int64) string {
	switch magic {
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlay"
	case unix.NFS_SUPER_MAGIC:
		return "nfs"
	case 0x65735546: // FUSE_SUPER_MAGIC
		return "fuse"
	case unix.MSDOS_SUPER_MAGIC:
		return "vfat"
	case 0x01021997: // V9FS_MAGIC
		return "9p"
	}
	return ""
}

func (c *checker) files() {
	dirs := []string{c.n.DataDir}
	if c.n.Node {
		dirs = append(dirs, c.n.KubeletDir)
	}
	for _, dir := range dirs {
		c.directory(dir, dir == c.n.DataDir)
	}
}

// directory looks at the file system that would hold dir, which need not exist.
func (c *checker) directory(dir string, data bool) {
	at := filepath.Clean(dir)
	for !c.exists(at) && at != "/" && at != "." {
		at = filepath.Dir(at)
	}
	st, err := c.m.Statfs(at)
	if err != nil {
		c.add("disk "+dir, Missing, err.Error(), "state, images and volumes", "make it a directory on a local disk (--data-dir)")
		return
	}
	free := st.Bavail * uint64(max(st.Bsize, 1))
	found := fmt.Sprintf("%.1f GiB free of %.1f", float64(free)/gib, float64(st.Blocks*uint64(max(st.Bsize, 1)))/gib)
	do := "free some space, or choose another disk with --data-dir"
	switch share := float64(st.Bavail) / float64(max(st.Blocks, 1)); {
	case st.Flags&unix.ST_RDONLY != 0:
		c.add("disk "+dir, Missing, "read-only", "state, images and volumes", "remount it read-write")
	case free < leastFree:
		c.add("disk "+dir, Missing, found, "state, images and volumes", do)
	case st.Files > 0 && st.Ffree < 10000:
		c.add("disk "+dir, Warning, fmt.Sprintf("%d inodes free", st.Ffree), "images are many small files", do)
	case free < goodFree || share < 0.1:
		c.add("disk "+dir, Warning, found, "below 5 % the kubelet evicts pods", do)
	default:
		c.add("disk "+dir, OK, found, "state, images and volumes", "")
	}
	if !data || !c.n.Node {
		return
	}
	if kind := upperless(int64(st.Type)); kind != "" {
		c.add("file system", Missing, kind, "overlayfs keeps the files of containers there", "choose a --data-dir on ext4, xfs or btrfs, or --snapshotter native")
	} else {
		c.add("file system", OK, "fit for overlayfs", "the files of containers", "")
	}
	noexec := st.Flags&unix.ST_NOEXEC != 0
	c.either(!noexec, Missing, "noexec", yesOrNo(noexec),
		"runc and the CNI plugins are run from the data directory", "mount -o remount,exec the file system of "+at)
}

func (c *checker) ports(ctx context.Context) {
	if c.running {
		c.add("ports", OK, "cleat runs here and has them", "", "")
		return
	}
	for _, p := range c.n.Ports {
		err := c.m.Listen(ctx, p)
		found := "free"
		if err != nil {
			found = err.Error()
		}
		_, number, _ := net.SplitHostPort(p.Address) // as this program wrote it
		c.either(err == nil, Missing, "port "+number+"/"+p.Network, found, p.What, "stop who listens there (`ss -lnp sport = "+number+"`)")
	}
}

func (c *checker) surroundings(ctx context.Context) {
	now := c.m.Now()
	synced, err := c.m.Synced()
	floor := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	switch stamp := now.UTC().Format(time.DateTime) + " UTC"; {
	case now.Before(floor):
		c.add("clock", Missing, stamp, "certificates begin and end at a time", "set the clock; it is in the past")
	case err == nil && !synced:
		c.add("clock", Warning, stamp+", following no other", "certificates and leases, with other servers and clients", "run chrony, ntpd or systemd-timesyncd")
	default:
		c.add("clock", OK, stamp, "certificates begin and end at a time", "")
	}
	name, err := c.m.Hostname()
	if err != nil || name == "" {
		c.add("host name", Missing, "none", "the name of the node", "hostnamectl set-hostname NAME, or start with --node-name")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	err = c.m.Resolve(ctx, name)
	c.either(err == nil, Warning, "host name", name, "tools on this machine that look it up", "add it to /etc/hosts")
}

// others looks for software that does the same work, or undoes it.
func (c *checker) others() {
	running := map[string]bool{}
	names, err := c.m.ReadDir("/proc")
	if err == nil {
		for _, name := range names {
			if _, err := strconv.Atoi(name); err != nil {
				continue
			}
			if comm, err := c.m.ReadFile("/proc/" + name + "/comm"); err == nil {
				running[strings.TrimSpace(comm)] = true
			}
		}
	}
	clash := false
	for _, o := range []struct {
		process, path string
		result        Result
		why, do       string
	}{
		{"k3s-server", "", Missing, "it has the same ports and interfaces", "systemctl disable --now k3s; k3s-killall.sh"},
		{"k3s-agent", "", Missing, "it has the same ports and interfaces", "systemctl disable --now k3s-agent; k3s-killall.sh"},
		{"kubelet", "", Missing, "two kubelets remove each other's pods", "systemctl disable --now kubelet"},
		{"dockerd", "", Warning, "it sets the policy of FORWARD to DROP, which stops packets of pods", "iptables -P FORWARD ACCEPT, or \"ip-forward-no-drop\": true in /etc/docker/daemon.json"},
		{"firewalld", "", Warning, "it drops packets of pods and services", "add the pod and service ranges to the zone trusted, or disable it"},
		{"", "/etc/ufw/ufw.conf", Warning, "it drops packets of pods and services", "ufw allow from the pod and service ranges, or ufw disable"},
	} {
		found := o.process
		if o.path != "" {
			text, err := c.m.ReadFile(o.path)
			if err != nil || !strings.Contains(text, "\nENABLED=yes") && !strings.HasPrefix(text, "ENABLED=yes") {
				continue
			}
			found = "ufw"
		} else if !running[o.process] {
			continue
		}
		if !c.n.Node && o.result == Warning {
			continue
		}
		clash = true
		c.add("other software", o.result, found, o.why, o.do)
	}
	if !clash {
		c.add("other software", OK, "none that clashes", "one machine runs one Kubernetes", "")
	}
}
