package config

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	v1Proc = `tmpfs /sys/fs/cgroup tmpfs rw 0 0
cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0
cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0
cgroup /sys/fs/cgroup/net_cls cgroup rw,net_cls 0 0
cgroup /sys/fs/cgroup/systemd cgroup rw,name=systemd 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0
`
	v1Own = "4:memory:/docker/abc\n1:cpu,cpuacct:/docker/abc\n0::/docker/abc\n"
)

// fakeMachine is a machine with one interface, cgroup v2 and full powers.
// Files are given as path and content in turn.
func fakeMachine(t *testing.T, files ...string) machine {
	t.Helper()
	root := t.TempDir()
	all := append([]string{
		"/proc/self/status", "Name:\tx\nCapEff:\t000001ffffffffff\n",
		"/proc/self/uid_map", "         0          0 4294967295\n",
		"/proc/self/cgroup", "0::/\n",
		"/proc/mounts", "",
		"/etc/resolv.conf", "nameserver 192.0.2.53\n",
	}, files...)
	for i := 0; i < len(all); i += 2 {
		write(t, root, all[i], all[i+1])
	}
	return machine{
		root:     root,
		hostname: func() (string, error) { return "Node-1", nil },
		network: func() (network, error) {
			return network{"eth0", addrs("192.0.2.10", "fd00::10", "198.51.100.7")}, nil
		},
		fsMagic:  func(string) (int64, error) { return unix.CGROUP2_SUPER_MAGIC, nil },
		writable: func(string) bool { return true },
		program:  func(string) bool { return true },
	}
}

func addrs(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func load(t *testing.T, kv ...string) *Config {
	t.Helper()
	c, err := Load(flags(append([]string{"config", noFile(t)}, kv...)...), nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func detected(t *testing.T, m machine, kv ...string) *Config {
	t.Helper()
	c := load(t, kv...)
	if err := c.detect(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestDetectFillsWhatWasLeftOpen(t *testing.T) {
	c := detected(t, fakeMachine(t))
	for _, x := range []struct{ name, got, want string }{
		{"node-name", c.NodeName, "node-1"},
		{"node-ip", strings.Join(c.NodeIP, ","), "192.0.2.10"},
		{"advertise-address", c.AdvertiseAddress, "192.0.2.10"},
		{"cluster-dns", strings.Join(c.ClusterDNS, ","), "10.43.0.10"},
		{"resolv-conf", c.ResolvConf, "/etc/resolv.conf"},
		{"plugins-dir", c.PluginsDir, "/var/lib/cleat/plugins"},
	} {
		if x.got != x.want || c.Origin(x.name) != "detected" {
			t.Errorf("%s = %q (%s), want %q", x.name, x.got, c.Origin(x.name), x.want)
		}
	}
	if c.BindAddress != "0.0.0.0" || c.Origin("bind-address") != "default" {
		t.Errorf("bind-address %s from %s", c.BindAddress, c.Origin("bind-address"))
	}
	h := c.Host
	if h.Hostname != "Node-1" || h.DefaultInterface != "eth0" || len(h.Addresses) != 3 || h.CgroupVersion != 2 || h.CgroupRoot != "/" ||
		!h.CanRaiseOOMScore || h.UserNamespace || h.ResolvConfUnusable {
		t.Errorf("host %+v", h)
	}
	if err := c.Validate(); err != nil {
		t.Errorf("defaults on an ordinary machine: %v", err)
	}
}

// TestDetectNodeID: the ID is what was kept, or a new one each time, and nothing is
// written.
func TestDetectNodeID(t *testing.T) {
	if c := detected(t, fakeMachine(t, "/etc/cleat/node/id", "0a1b2c3d\n")); c.NodeName != "node-1" || c.Host.NodeID != "" {
		t.Errorf("without the option: %q %q", c.NodeName, c.Host.NodeID)
	}
	if c := detected(t, fakeMachine(t, "/etc/cleat/node/id", "0a1b2c3d\n"), "with-node-id", "true", "node-name", "x"); c.NodeName != "x-0a1b2c3d" {
		t.Errorf("node name %q", c.NodeName)
	}
	if c := detected(t, fakeMachine(t), "with-node-id", "true", "disable-agent", "true"); c.NodeName != "node-1" {
		t.Errorf("without a node: %q", c.NodeName)
	}
	m := fakeMachine(t)
	one, two := detected(t, m, "with-node-id", "true"), detected(t, m, "with-node-id", "true")
	if len(one.Host.NodeID) != 8 || one.Host.NodeID == two.Host.NodeID || one.NodeName != "node-1-"+one.Host.NodeID {
		t.Errorf("made up %q and %q for the name %q", one.Host.NodeID, two.Host.NodeID, one.NodeName)
	}
	for _, content := range []string{"", "0A1B2C3D", "../../x1", "0a1b2c3d4e"} {
		c := load(t, "with-node-id", "true")
		if err := c.detect(t.Context(), fakeMachine(t, "/etc/cleat/node/id", content)); err == nil || !strings.Contains(err.Error(), "/etc/cleat/node/id does not hold 8") {
			t.Errorf("an ID of %q: %v", content, err)
		}
	}
}

func TestDetectKeepsChoices(t *testing.T) {
	c := detected(t, fakeMachine(t), "node-name", "x", "node-ip", "198.51.100.7", "advertise-address", "198.51.100.8",
		"cluster-dns", "10.43.0.53", "resolv-conf", "/my/resolv.conf", "plugins-dir", "/my/plugins")
	if c.NodeName != "x" || c.NodeIP[0] != "198.51.100.7" || c.AdvertiseAddress != "198.51.100.8" || c.ClusterDNS[0] != "10.43.0.53" ||
		c.ResolvConf != "/my/resolv.conf" || c.PluginsDir != "/my/plugins" || c.Origin("node-ip") != "--node-ip" {
		t.Errorf("got %v", c)
	}
}

func TestDetectDualStack(t *testing.T) {
	c := detected(t, fakeMachine(t), "cluster-cidr", "fd01::/48,10.42.0.0/16", "service-cidr", "fd02::/112,10.43.0.0/16")
	if got := strings.Join(c.NodeIP, " "); got != "fd00::10 192.0.2.10" {
		t.Errorf("node-ip %s", got)
	}
	if got := strings.Join(c.ClusterDNS, " "); got != "fd02::a 10.43.0.10" {
		t.Errorf("cluster-dns %s", got)
	}
	if c.BindAddress != "::" || c.AdvertiseAddress != "fd00::10" {
		t.Errorf("bind %s advertise %s", c.BindAddress, c.AdvertiseAddress)
	}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}

func TestClusterAddressesAreNotTheNodes(t *testing.T) {
	m := fakeMachine(t)
	m.network = func() (network, error) { return network{"", addrs("10.42.0.1", "192.0.2.10")}, nil }
	if c := detected(t, m); c.NodeIP[0] != "192.0.2.10" || len(c.Host.Addresses) != 1 {
		t.Errorf("node-ip %v, addresses %v", c.NodeIP, c.Host.Addresses)
	}
}

func TestDetectErrors(t *testing.T) {
	none := func(t *testing.T) machine {
		m := fakeMachine(t)
		m.network = func() (network, error) { return network{}, nil }
		return m
	}
	for _, x := range []struct {
		name    string
		machine func(t *testing.T) machine
		flags   []string
		want    string
	}{
		{"no address", none, nil, "no interface that is up has a global IPv4 address"},
		{"no IPv6 address", fakeV4, []string{"cluster-cidr", "10.42.0.0/16,fd01::/48"}, "global IPv6 address"},
		{"address in the cluster", fakeV4, []string{"cluster-cidr", "192.0.0.0/16"}, "the machine's 192.0.2.10 lies in --cluster-cidr"},
		{"no cgroups", func(t *testing.T) machine {
			m := fakeMachine(t)
			m.fsMagic = func(string) (int64, error) { return unix.TMPFS_MAGIC, nil }
			return m
		}, nil, "no cgroup hierarchy is mounted"},
		{"cgroups not writable", func(t *testing.T) machine {
			m := fakeMachine(t)
			m.writable = func(string) bool { return false }
			return m
		}, nil, "neither the top of /sys/fs/cgroup"},
		{"no host name", func(t *testing.T) machine {
			m := fakeMachine(t)
			m.hostname = func() (string, error) { return "", errors.New("gone") }
			return m
		}, nil, "--node-name"},
		{"token file missing", fakeMachineOnly, []string{"token-file", "/nonexistent/token"}, "--token-file"},
	} {
		t.Run(x.name, func(t *testing.T) {
			err := load(t, x.flags...).detect(t.Context(), x.machine(t))
			if err == nil || !strings.Contains(err.Error(), x.want) {
				t.Errorf("error %v, want it to say %q", err, x.want)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := load(t).detect(ctx, fakeMachine(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if c := detected(t, none(t), "node-ip", "192.0.2.77"); c.AdvertiseAddress != "192.0.2.77" {
		t.Errorf("an address that was given needs none found: %v", c)
	}
}

func fakeMachineOnly(t *testing.T) machine { return fakeMachine(t) }

func fakeV4(t *testing.T) machine {
	m := fakeMachine(t)
	m.network = func() (network, error) { return network{"eth0", addrs("192.0.2.10")}, nil }
	return m
}

func TestDetectCgroupV1(t *testing.T) {
	m := fakeMachine(t, "/proc/mounts", v1Proc, "/proc/self/cgroup", v1Own)
	m.fsMagic = func(string) (int64, error) { return unix.TMPFS_MAGIC, nil }
	var asked []string
	m.writable = func(path string) bool {
		asked = append(asked, strings.TrimPrefix(path, m.root))
		return true
	}
	if c := detected(t, m); c.Host.CgroupVersion != 1 || c.Host.CgroupRoot != "/" {
		t.Errorf("host %+v", c.Host)
	}
	want := []string{"/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/systemd"}
	if !slices.Equal(asked, want) {
		t.Errorf("looked at %v, want %v", asked, want)
	}

	m.writable = func(path string) bool { return strings.HasSuffix(path, "/docker/abc") }
	if c := detected(t, m); c.Host.CgroupRoot != "/docker/abc" {
		t.Errorf("confined: host %+v", c.Host)
	}
}

func TestDetectConfinedCgroupV2(t *testing.T) {
	m := fakeMachine(t, "/proc/self/cgroup", "0::/user.slice/s\n")
	m.writable = func(path string) bool { return strings.HasSuffix(path, "/user.slice/s") }
	if c := detected(t, m); c.Host.CgroupRoot != "/user.slice/s" {
		t.Errorf("host %+v", c.Host)
	}
}

func TestDetectPrivileges(t *testing.T) {
	m := fakeMachine(t,
		"/proc/self/status", "CapEff:\t000001fffeffffff\n",
		"/proc/self/uid_map", "0 100000 65536\n",
		"/sys/module/apparmor/parameters/enabled", "Y\n")
	c := detected(t, m)
	if c.Host.CanRaiseOOMScore || !c.Host.UserNamespace || !c.Host.AppArmor {
		t.Errorf("host %+v", c.Host)
	}
	m.program = func(string) bool { return false }
	if detected(t, m).Host.AppArmor {
		t.Error("AppArmor without apparmor_parser")
	}
}

func TestDetectResolvConf(t *testing.T) {
	const stub, real = "/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"
	for _, x := range []struct{ name, etc, resolved, want string }{
		{"good", "nameserver 192.0.2.1\n", "", stub},
		{"systemd-resolved", "nameserver 127.0.0.53\n", "nameserver 192.0.2.1\n", real},
		{"one bad among good", "nameserver 192.0.2.1\nnameserver 127.0.0.1\n", "", ""},
		{"link-local", "nameserver fe80::1%eth0\n", "nameserver 169.254.1.1\n", ""},
		{"none named", "search example.org\n", "", ""},
		{"IPv6", "# comment\nnameserver\t2001:db8::1\noptions edns0\n", "", stub},
	} {
		t.Run(x.name, func(t *testing.T) {
			c := detected(t, fakeMachine(t, stub, x.etc, real, x.resolved))
			want := x.want
			if want == "" {
				want = "/var/lib/cleat/agent/etc/resolv.conf"
			}
			if c.ResolvConf != want || c.Host.ResolvConfUnusable != (x.want == "") {
				t.Errorf("resolv-conf %q, unusable %v", c.ResolvConf, c.Host.ResolvConfUnusable)
			}
		})
	}
}

func TestTokenFile(t *testing.T) {
	file := write(t, t.TempDir(), "token", "s3cret\n")
	c := detected(t, fakeMachine(t), "token-file", file, "agent-token-file", write(t, t.TempDir(), "agent", "another\n"))
	if c.Token != "s3cret" || c.AgentToken != "another" {
		t.Errorf("token %q, of agents %q", c.Token, c.AgentToken)
	}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(file, []byte("s3cret\ns3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := detected(t, fakeMachine(t), "token-file", file).Validate()
	if want := fmt.Sprintf("--token-file %q: holds white space", file); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("two words: %v, want %s", err, want)
	}
	if err := os.WriteFile(file, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"token-file", "agent-token-file"} {
		if err := load(t, name, file).detect(t.Context(), fakeMachine(t)); err == nil || !strings.Contains(err.Error(), "--"+name) || !strings.Contains(err.Error(), "is empty") {
			t.Errorf("empty: %v", err)
		}
	}
	if err := os.WriteFile(file, make([]byte, maxToken+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := load(t, "token-file", file).detect(t.Context(), fakeMachine(t)); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("too large: %v", err)
	}
}

func TestSummarize(t *testing.T) {
	links := []link{
		{3, "docker0", addrs("172.17.0.1")},
		{2, "eth0", addrs("192.0.2.9", "192.0.2.10", "fd00::10")},
		{4, "wlan0", addrs("198.51.100.7")},
	}
	for _, x := range []struct {
		name     string
		defaults []route
		iface    string
		want     string
	}{
		{"no route", nil, "", "192.0.2.9 192.0.2.10 fd00::10 172.17.0.1 198.51.100.7"},
		{"lowest metric", []route{{link: 2, metric: 600}, {link: 4, metric: 100}}, "wlan0",
			"198.51.100.7 192.0.2.9 192.0.2.10 fd00::10 172.17.0.1"},
		{"source", []route{{link: 2, source: netip.MustParseAddr("192.0.2.10")}}, "eth0",
			"192.0.2.10 192.0.2.9 fd00::10 172.17.0.1 198.51.100.7"},
		{"IPv4 before IPv6", []route{{link: 4, six: true}, {link: 2, metric: 9}}, "eth0",
			"192.0.2.9 192.0.2.10 fd00::10 198.51.100.7 172.17.0.1"},
		{"link gone", []route{{link: 77}}, "", "192.0.2.9 192.0.2.10 fd00::10 172.17.0.1 198.51.100.7"},
	} {
		t.Run(x.name, func(t *testing.T) {
			n := summarize(slices.Clone(links), x.defaults)
			if n.defaultInterface != x.iface || !slices.Equal(n.addresses, addrs(strings.Fields(x.want)...)) {
				t.Errorf("got %+v", n)
			}
		})
	}
}

func FuzzProcFiles(f *testing.F) {
	f.Add(v1Proc)
	f.Add(v1Own)
	f.Add("nameserver 127.0.0.1\nCapEff:\tzz\n0::/../..\n")
	f.Fuzz(func(t *testing.T, s string) {
		usableResolvConf(s)
		effectiveCaps(s)
		v1Mounts(s)
		if root := ownCgroup(s, ""); !filepath.IsAbs(root) || strings.Contains(root+"/", "/../") {
			t.Errorf("cgroup root %q", root)
		}
	})
}
