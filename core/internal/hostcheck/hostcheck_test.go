package hostcheck

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// facts are a made-up machine.
type facts struct {
	files   map[string]string
	fs      unix.Statfs_t // of the disk
	cgroup  int64
	absent  string // programs that are not in PATH
	failing map[Trial]error
	taken   string // port numbers
	user    string
	release string
	now     time.Time
	synced  bool
	answers bool
	openMax uint64
	nameErr error
	links   map[string]string // of /proc/<pid>/fd
	dialErr error
}

// goodHost lacks nothing.
func goodHost() *facts {
	files := map[string]string{
		"/dev/kmsg": "", "/proc/sys/kernel/seccomp/actions_avail": "kill allow",
		"/sys/fs/cgroup/cgroup.controllers":       "cpuset cpu io memory hugetlb pids rdma\n",
		"/proc/sys/fs/inotify/max_user_instances": "8192\n", "/proc/sys/fs/inotify/max_user_watches": "524288\n",
		"/proc/sys/kernel/random/entropy_avail": "256\n", "/proc/swaps": "Filename Type Size Used Priority\n",
		"/proc/self/mountinfo":          "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n",
		"/proc/sys/net/ipv4/ip_forward": "1\n",
		"/proc/config.gz":               "CONFIG_CFS_BANDWIDTH=y\nCONFIG_POSIX_MQUEUE=y\nCONFIG_KEYS=y\nCONFIG_SECCOMP_FILTER=y\nCONFIG_CGROUP_PIDS=y\n",
		"/proc/1/comm":                  "systemd\n", "/": "", "/var/lib": "",
		"/proc/self/status": "Name:\tcleat\nUid:\t0\t0\t0\t0\n", "/proc/1/status": "Uid:\t0\t0\t0\t0\n", "/proc/2/status": "Uid:\t1000\t1000\t1000\t1000\n",
	}
	for _, ns := range []string{"ipc", "mnt", "net", "pid", "uts"} {
		files["/proc/self/ns/"+ns] = ""
	}
	return &facts{
		files: files, cgroup: unix.CGROUP2_SUPER_MAGIC,
		fs:   unix.Statfs_t{Type: unix.EXT4_SUPER_MAGIC, Bsize: 4096, Blocks: 10 << 20, Bavail: 5 << 20, Files: 1 << 20, Ffree: 1 << 19},
		user: "root", release: "6.1.0-30-amd64", now: time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC), synced: true, openMax: 1 << 20,
		failing: map[Trial]error{},
	}
}

func (f *facts) machine() Machine {
	return Machine{
		Now: func() time.Time { return f.now }, Root: func() bool { return f.user == "root" },
		ReadFile: func(path string) (string, error) {
			if text, ok := f.files[path]; ok {
				return text, nil
			}
			return "", &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
		},
		ReadDir: func(path string) ([]string, error) {
			if path == "/proc" {
				return []string{"1", "2", "self"}, nil
			}
			var names []string
			for link := range f.links {
				if filepath.Dir(link) == path {
					names = append(names, filepath.Base(link))
				}
			}
			return names, nil
		},
		Readlink: func(path string) (string, error) {
			if to, ok := f.links[path]; ok {
				return to, nil
			}
			return "", fs.ErrNotExist
		},
		Connect: func(_ context.Context, address string) error { return f.dialErr },
		Stat: func(path string) error {
			if _, ok := f.files[path]; ok {
				return nil
			}
			return fs.ErrNotExist
		},
		Writable: func(string) bool { return false },
		Statfs: func(path string) (unix.Statfs_t, error) {
			switch path {
			case "/sys/fs/cgroup":
				return unix.Statfs_t{Type: f.cgroup}, nil
			case "/var/lib":
				return f.fs, nil
			}
			return unix.Statfs_t{}, fmt.Errorf("asked about %s", path)
		},
		Program: func(name string) error {
			if strings.Contains(f.absent, name) {
				return errors.New("absent")
			}
			return nil
		},
		Resolve:  func(context.Context, string) error { return f.nameErr },
		Hostname: func() (string, error) { return "n1", nil },
		Release:  func() string { return f.release },
		Listen: func(_ context.Context, p Port) error {
			_, number, _ := net.SplitHostPort(p.Address)
			if strings.Contains(f.taken, number) {
				return errors.New("in use")
			}
			return nil
		},
		Answers: func(context.Context, string) bool { return f.answers },
		OpenMax: func() (uint64, error) { return f.openMax, nil },
		Synced:  func() (bool, error) { return f.synced, nil },
		Try:     func(_ context.Context, t Trial) error { return f.failing[t] },
	}
}

func needs() Needs {
	return Needs{
		DataDir: "/var/lib/cleat", KubeletDir: "/var/lib/kubelet", Node: true, Proxy: true, ProxyMode: "nftables", Policy: true, VXLAN: true,
		StatusSocket: "/run/cleat/status.sock", Inotify: 25,
		Ports: []Port{{"tcp", "0.0.0.0:6443", "API server"}, {"udp", ":8472", "flannel"}},
	}
}

func TestGoodHost(t *testing.T) {
	rows := Check(t.Context(), goodHost().machine(), needs())
	if len(rows) < 25 {
		t.Errorf("only %d checks", len(rows))
	}
	names := map[string]bool{}
	for _, r := range rows {
		if r.Result != OK || r.Do != "" || r.Name == "" {
			t.Errorf("%+v", r)
		}
		if names[r.Name] {
			t.Errorf("check %q twice", r.Name)
		}
		names[r.Name] = true
	}
}

// TestLacks: each thing that is wrong is one row, which says what to do.
func TestLacks(t *testing.T) {
	for _, tt := range []struct {
		what   string
		spoil  func(*facts)
		row    string
		result Result
		says   string // in Found or Do
	}{
		{"user", func(f *facts) { f.user = "nobody" }, "root", Missing, "sudo"},
		{"kmsg", func(f *facts) { delete(f.files, "/dev/kmsg") }, "kernel log", Missing, "/dev/kmsg"},
		{"old kernel", func(f *facts) { f.release = "4.18.0-553.el8" }, "kernel", Missing, "newer"},
		{"no kernel release", func(f *facts) { f.release = "" }, "kernel", Missing, "newer"},
		{"kernel without nftables", func(f *facts) { f.release = "5.10.0-33" }, "kernel for nftables", Missing, "proxy-mode=iptables"},
		{"seccomp", func(f *facts) { delete(f.files, "/proc/sys/kernel/seccomp/actions_avail") }, "seccomp", Missing, "CONFIG_SECCOMP"},
		{"namespace", func(f *facts) { delete(f.files, "/proc/self/ns/pid") }, "namespace pid", Missing, "CONFIG_NAMESPACES"},
		{"kernel option", func(f *facts) {
			f.files["/proc/config.gz"] = "CONFIG_KEYS=m\n# CONFIG_CFS_BANDWIDTH is not set\nCONFIG_POSIX_MQUEUE=y\nCONFIG_SECCOMP_FILTER=y\nCONFIG_CGROUP_PIDS=y"
		},
			"CONFIG_CFS_BANDWIDTH", Warning, "not set in /proc/config.gz"},
		{"namespaces", func(f *facts) { f.failing[TryNamespaces] = errors.New("not permitted") }, "namespaces", Missing, "not permitted"},
		{"cgroup v1", func(f *facts) {
			f.cgroup = unix.TMPFS_MAGIC
			f.files["/proc/mounts"] = "x /sys/fs/cgroup/cpu cgroup rw,cpu,cpuacct 0 0\nx /y cgroup rw,memory 0 0\nx /z cgroup rw,pids 0 0\nx /c cgroup rw,cpuset 0 0\n"
		}, "cgroups", Warning, "version 1"},
		{"controller", func(f *facts) { f.files["/sys/fs/cgroup/cgroup.controllers"] = "cpuset cpu pids" }, "cgroup memory", Missing, "cgroup_enable=memory"},
		{"inotify", func(f *facts) { f.files["/proc/sys/fs/inotify/max_user_instances"] = "56\n" }, "inotify instances", Warning, "sysctl -w fs.inotify.max_user_instances=8192"},
		{"watches", func(f *facts) { f.files["/proc/sys/fs/inotify/max_user_watches"] = "4095\n" }, "inotify watches", Warning, "sysctl -w fs.inotify.max_user_watches=524288"},
		{"inotify without proc", func(f *facts) { delete(f.files, "/proc/sys/fs/inotify/max_user_watches") }, "inotify watches", Warning, "mount /proc"},
		{"entropy", func(f *facts) { f.files["/proc/sys/kernel/random/entropy_avail"] = "12\n" }, "entropy", Warning, "virtio-rng"},
		{"open files", func(f *facts) { f.openMax = 1024 }, "open files", Warning, "LimitNOFILE"},
		{"swap", func(f *facts) { f.files["/proc/swaps"] += "/dev/sda2 partition 1 0 -2\n" }, "swap", Warning, "swapoff"},
		{"AppArmor", func(f *facts) {
			f.files["/sys/module/apparmor/parameters/enabled"], f.absent = "Y\n", "apparmor_parser"
		}, "AppArmor", Warning, "package apparmor"},
		{"SELinux", func(f *facts) { f.files["/sys/fs/selinux/enforce"] = "1" }, "SELinux", Warning, "permissive"},
		{"propagation", func(f *facts) { f.files["/proc/self/mountinfo"] = "22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n" }, "mount propagation", Warning, "rshared"},
		{"nft", func(f *facts) { f.absent = "nft" }, "program nft", Missing, "nftables"},
		{"overlay", func(f *facts) { f.failing[TryOverlay] = errors.New("no such device") }, "overlayfs", Missing, "modprobe overlay"},
		{"veth", func(f *facts) { f.failing[TryVeth] = errors.New("no such device") }, "veth", Missing, "modprobe veth"},
		{"bridge", func(f *facts) { f.failing[TryBridge] = errors.New("no such device") }, "bridge", Missing, "modprobe bridge"},
		{"vxlan", func(f *facts) { f.failing[TryVXLAN] = errors.New("no such device") }, "vxlan", Missing, "host-gw"},
		{"nftables", func(f *facts) { f.failing[TryNFTables] = errors.New("no such file") }, "nftables rules", Missing, "modprobe nf_tables"},
		{"br_netfilter", func(f *facts) { f.failing[TryNetfilter] = fs.ErrNotExist }, "br_netfilter", Missing, "--disable-network-policy"},
		{"sets", func(f *facts) { f.failing[TryPolicy] = errors.New("no such file") }, "nftables sets", Missing, "--disable-network-policy"},
		{"forwarding", func(f *facts) { f.files["/proc/sys/net/ipv4/ip_forward"] = "0\n" }, "IP forwarding", Missing, "ip_forward=1"},
		{"full disk", func(f *facts) { f.fs.Bavail = 1000 }, "disk /var/lib/cleat", Missing, "free some space"},
		{"filling disk", func(f *facts) { f.fs.Bavail = 1 << 19 }, "disk /var/lib/cleat", Warning, "2.0 GiB free of 40.0"},
		{"inodes", func(f *facts) { f.fs.Ffree = 99 }, "disk /var/lib/cleat", Warning, "99 inodes"},
		{"read-only", func(f *facts) { f.fs.Flags = unix.ST_RDONLY }, "disk /var/lib/cleat", Missing, "remount"},
		{"noexec", func(f *facts) { f.fs.Flags = unix.ST_NOEXEC }, "noexec", Missing, "remount,exec the file system of /var/lib"},
		{"NFS", func(f *facts) { f.fs.Type = unix.NFS_SUPER_MAGIC }, "file system", Missing, "nfs"},
		{"port", func(f *facts) { f.taken = "6443" }, "port 6443/tcp", Missing, "sport = 6443"},
		{"UDP port", func(f *facts) { f.taken = "8472" }, "port 8472/udp", Missing, "in use"},
		{"past", func(f *facts) { f.now = time.Unix(0, 0) }, "clock", Missing, "1970-01-01"},
		{"alone", func(f *facts) { f.synced = false }, "clock", Warning, "chrony"},
		{"host name", func(f *facts) { f.nameErr = errors.New("no such host") }, "host name", Warning, "/etc/hosts"},
		{"k3s", func(f *facts) { f.files["/proc/2/comm"] = "k3s-server\n" }, "other software", Missing, "k3s-killall.sh"},
		{"docker", func(f *facts) { f.files["/proc/2/comm"] = "dockerd\n" }, "other software", Warning, "FORWARD"},
		{"ufw", func(f *facts) { f.files["/etc/ufw/ufw.conf"] = "# x\nENABLED=yes\n" }, "other software", Warning, "ufw"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			f := goodHost()
			tt.spoil(f)
			found := false
			for _, r := range Check(t.Context(), f.machine(), needs()) {
				switch {
				case r.Name == tt.row:
					found = true
					if r.Result != tt.result || !strings.Contains(r.Found+" "+r.Do, tt.says) || r.Do == "" {
						t.Errorf("got %+v, want %s and %q", r, tt.result, tt.says)
					}
				case r.Result != OK && strings.HasPrefix(r.Name, "disk "), r.Name == "kernel for nftables": // two rows of one cause
				case r.Result != OK:
					t.Errorf("also %+v", r)
				}
			}
			if !found {
				t.Errorf("no row %q", tt.row)
			}
		})
	}
}

func TestChecksFollowTheNeeds(t *testing.T) {
	has := func(f *facts, n Needs) map[string]Result {
		out := map[string]Result{}
		for _, r := range Check(t.Context(), f.machine(), n) {
			out[r.Name] = r.Result
		}
		return out
	}
	f := goodHost()
	f.failing = map[Trial]error{TryVXLAN: errors.New("x"), TryNFTables: errors.New("x")}
	n := needs()
	n.ProxyMode, n.VXLAN, n.Policy = "iptables", false, false
	got := has(f, n)
	if got["iptables rules"] != OK || got["program iptables-restore"] != OK {
		t.Errorf("iptables is not looked at: %v", got)
	}
	for _, name := range []string{"vxlan", "nftables rules", "nftables sets", "program nft"} {
		if _, ok := got[name]; ok {
			t.Errorf("%q is looked at, but not needed", name)
		}
	}
	f.failing[TryNetfilter] = errors.New("x")
	if got = has(f, n); got["br_netfilter"] != Warning {
		t.Errorf("br_netfilter for services alone: %v", got["br_netfilter"])
	}
	n.Policy = true
	if got = has(f, n); got["program nft"] != OK || got["nftables sets"] != OK {
		t.Errorf("what network policies need is not looked at: %v", got)
	}
	control := has(f, Needs{DataDir: "/var/lib/cleat", Ports: n.Ports})
	for name := range maps.Keys(control) {
		if strings.HasPrefix(name, "cgroup") || strings.HasPrefix(name, "program") || name == "overlayfs" {
			t.Errorf("%q is looked at without a node", name)
		}
	}
	f.answers, f.taken = true, "6443"
	if got := has(f, n); got["ports"] != OK || got["port 6443/tcp"] != "" {
		t.Errorf("the ports of a running server count as taken: %v", got)
	}
}

// TestTrials carries every trial out: whatever the kernel says, nothing stays.
func TestTrials(t *testing.T) {
	before := here(t)
	m := This()
	for _, trial := range []Trial{TryNamespaces, TryBridge, TryVeth, TryVXLAN, TryOverlay, TryNFTables, TryPolicy, TryIPTables, TryNetfilter} {
		err := m.Try(t.Context(), trial)
		t.Logf("%s: %v", trial, err)
		if os.Geteuid() == 0 && (trial == TryNamespaces || trial == TryVeth || trial == TryPolicy) && err != nil {
			t.Errorf("%s: %v", trial, err)
		}
	}
	if after := here(t); after != before {
		t.Errorf("the trials left\n%s\nwhere there was\n%s", after, before)
	}
}

// here is what a trial could have changed: links, mounts, the own namespaces.
func here(t *testing.T) string {
	t.Helper()
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, l := range links {
		if strings.HasPrefix(l.Name, "try") {
			fmt.Fprintln(&out, l.Name)
		}
	}
	for _, ns := range []string{"net", "mnt"} {
		link, err := os.Readlink("/proc/self/ns/" + ns)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&out, link)
	}
	for _, path := range []string{"/tmp/lower", "/tmp/merged"} {
		if _, err := os.Stat(path); err == nil {
			fmt.Fprintln(&out, path)
		}
	}
	return out.String()
}

func TestThisMachine(t *testing.T) {
	m := This()
	if major, _ := version(m.Release()); major < 3 {
		t.Errorf("kernel %q", m.Release())
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := Port{"tcp", l.Addr().String(), "this test"}
	if err := m.Listen(t.Context(), port); err == nil || err.Error() != "in use" {
		t.Errorf("a port in use: %v", err)
	}
	if err := m.Connect(t.Context(), l.Addr().String()); err != nil {
		t.Errorf("connect to it: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := m.Listen(t.Context(), port); err != nil {
		t.Errorf("a free port: %v", err)
	}
	if err := m.Connect(t.Context(), l.Addr().String()); err == nil {
		t.Error("connected to a port that nobody has")
	}
	if m.Answers(t.Context(), t.TempDir()+"/none.sock") {
		t.Error("nobody answers")
	}
	if st, err := m.Statfs("/"); err != nil || st.Blocks == 0 {
		t.Errorf("/: %+v, %v", st, err)
	}
}
