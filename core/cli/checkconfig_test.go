package cli

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/hostcheck"
)

// checkApp is an app on a machine that is fit for a control plane and on which no
// trial succeeds.
func checkApp(t *testing.T) *app {
	t.Helper()
	a := serverApp(t, nil)
	a.machine = func() hostcheck.Machine {
		m := hostcheck.This()
		m.Root, m.Release = func() bool { return true }, func() string { return "6.1.0" }
		m.Now = func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }
		m.Synced, m.Hostname = func() (bool, error) { return true, nil }, func() (string, error) { return "n1", nil }
		m.Resolve = func(context.Context, string) error { return nil }
		m.ReadDir = func(string) ([]string, error) { return nil, nil }
		m.Answers = func(context.Context, string) bool { return false }
		m.Listen = func(context.Context, hostcheck.Port) error { return nil }
		m.Connect = func(context.Context, string) error { return nil }
		m.Statfs = func(string) (unix.Statfs_t, error) {
			return unix.Statfs_t{Type: unix.EXT4_SUPER_MAGIC, Bsize: 4096, Blocks: 10 << 20, Bavail: 5 << 20}, nil
		}
		m.Try = func(context.Context, hostcheck.Trial) error { return errors.New("no\x1b[31m such thing") }
		return m
	}
	return a
}

func TestCheckConfig(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	code, stdout, stderr := call(checkApp(t), "check-config", "--disable-agent", "--data-dir", dir)
	want := `CHECK           RESULT  FOUND                                 FOR
root            ok      yes                                   mounts, namespaces and network devices
kernel          ok      6.1.0                                 what containers need is there from 4.19 on
disk ` + dir + `  ok      20.0 GiB free of 40.0                 state, images and volumes
port 6443/tcp   ok      free                                  API server and joining nodes (--https-listen-port)
port 10259/tcp  ok      free                                  kube-scheduler
port 10257/tcp  ok      free                                  kube-controller-manager
clock           ok      2026-01-02 03:04:05 UTC               certificates begin and end at a time
host name       ok      n1                                    tools on this machine that look it up
other software  ok      none that clashes                     one machine runs one Kubernetes
configuration   ok      node , address 192.0.2.10             what a node finds out by itself
`
	if words(stdout) != words(want) {
		t.Errorf("got\n%s", stdout)
	}
	if code != 0 || stderr != "" {
		t.Errorf("exit code %d, said %q", code, stderr)
	}

	code, stdout, stderr = call(checkApp(t), "check-config", "--data-dir", dir)
	if code != 1 || !strings.HasPrefix(stderr, "cleat: a server would not work here: ") || !strings.Contains(stderr, "veth, bridge, vxlan") {
		t.Errorf("exit code %d, said %q", code, stderr)
	}
	if !strings.Contains(stdout, "\nWhat to do:\n") || !strings.Contains(stdout, "  veth (missing): modprobe veth") || strings.Contains(stdout, "\x1b") {
		t.Errorf("wrote\n%s", stdout)
	}

	code, stdout, _ = call(checkApp(t), "check-config", "-o", "json", "--data-dir", dir)
	var rows []hostcheck.Row
	if err := json.Unmarshal([]byte(stdout), &rows); err != nil || code != 1 {
		t.Fatalf("exit code %d, %v", code, err)
	}
	at := slices.IndexFunc(rows, func(r hostcheck.Row) bool { return r.Name == "overlayfs" })
	if at < 0 || rows[at].Result != hostcheck.Missing || rows[at].Found != "no\x1b[31m such thing" || rows[at].Do == "" {
		t.Errorf("overlayfs: %+v", rows)
	}
}

// TestCheckConfigOfAnAgent: which server and with what is two rows, and nothing of a
// server is looked at or taken.
func TestCheckConfigOfAnAgent(t *testing.T) {
	able := func() *app {
		a := checkApp(t)
		machine := a.machine
		a.machine = func() hostcheck.Machine {
			m := machine()
			m.Try = func(context.Context, hostcheck.Trial) error { return nil }
			m.Stat = func(string) error { return nil }
			m.Program = func(string) error { return nil }
			m.ReadFile = func(path string) (string, error) {
				return map[string]string{
					"/proc/mounts":                  "x /sys/fs/cgroup cgroup rw,cpu,cpuset,memory,pids 0 0\n",
					"/proc/sys/net/ipv4/ip_forward": "1",
				}[path], nil
			}
			return m
		}
		a.detect = func(_ context.Context, cfg *config.Config) error {
			cfg.NodeName, cfg.NodeIP = "n2", []string{"192.0.2.11"}
			return nil
		}
		return a
	}
	dir := t.TempDir()
	code, stdout, stderr := call(able(), "check-config", "--agent", "--data-dir", dir)
	if code != 1 || stderr != "cleat: an agent would not work here: server, token\n" {
		t.Errorf("exit code %d, said %q", code, stderr)
	}
	for _, want := range []string{"server missing none is given", "configuration ok node n2, address 192.0.2.11", "port 6444/tcp ok free", "vxlan ok", "nftables sets ok"} {
		if !strings.Contains(words(stdout), want) {
			t.Errorf("%q is missing in\n%s", want, stdout)
		}
	}
	for _, not := range []string{"6443/tcp", "10257", "10259"} {
		if strings.Contains(stdout, not) {
			t.Errorf("%s is in\n%s", not, stdout)
		}
	}
	code, stdout, stderr = call(able(), "check-config", "--agent", "--data-dir", dir, "--server", "https://[fd99::1]:6443", "--token", "hunter2", "--lb-server-port", "7444")
	if code != 0 || stderr != "" || !strings.Contains(stdout, "[fd99::1]:6443 answers") || !strings.Contains(stdout, "port 7444/tcp") || strings.Contains(stdout, "hunter2") {
		t.Errorf("exit code %d, said %q, wrote\n%s", code, stderr, stdout)
	}
	code, stdout, _ = call(able(), "check-config", "--agent", "--data-dir", dir, "--server", "https://n1:6443", "--token", "K10abc::node:hunter2")
	if code != 1 || !strings.Contains(stdout, "the CA hash has 3 characters") || strings.Contains(stdout, "hunter2") {
		t.Errorf("a token that was cut: exit code %d\n%s", code, stdout)
	}
	code, stdout, stderr = call(able(), "check-config", "--agent", "--server", "https://a", "--cluster-cidr", "10.0.0.0/8")
	if code != 1 || stdout != "" || !strings.Contains(stderr, "--cluster-cidr is an option of a server; leave it out for an agent") {
		t.Errorf("exit code %d, said %q, wrote\n%s", code, stderr, stdout)
	}
	if code, _, stderr = call(able(), "check-config", "--agent", "--server", "https://a"); code != 1 || !strings.Contains(stderr, `--server "https://a": has no port`) {
		t.Errorf("exit code %d, said %q", code, stderr)
	}
}

func words(s string) string { return strings.Join(strings.Fields(s), " ") }

func TestCheckConfigTellsWhatDetectionSays(t *testing.T) {
	a := checkApp(t)
	a.detect = func(context.Context, *config.Config) error { return errors.New("no address for this node") }
	code, stdout, stderr := call(a, "check-config", "--disable-agent", "--data-dir", t.TempDir())
	if code != 1 || !strings.Contains(stdout, "no address for this node") || stderr != "cleat: a server would not work here: configuration\n" {
		t.Errorf("exit code %d, wrote %q, said %q", code, stdout, stderr)
	}
	code, _, stderr = call(a, "check-config", "--cluster-cidr", "nonsense")
	if code != 1 || !strings.Contains(stderr, "--cluster-cidr") {
		t.Errorf("exit code %d, said %q", code, stderr)
	}
}

func TestNeedsFollowTheOptions(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	needs := func(flags map[string][]string) hostcheck.Needs {
		t.Helper()
		flags["config"] = []string{file}
		cfg, err := config.Load(flags, nil)
		if err != nil {
			t.Fatal(err)
		}
		return needsOf(cfg)
	}
	n := needs(map[string][]string{})
	if !n.Node || !n.Proxy || !n.VXLAN || !n.Policy || n.ProxyMode != "nftables" || n.DataDir != config.DefaultDataDir || len(n.Ports) != 8 {
		t.Errorf("defaults: %+v", n)
	}
	n = needs(map[string][]string{"kube-proxy-arg": {"proxy-mode=iptables"}, "flannel-backend": {"host-gw"}, "https-listen-port": {"7443"}, "bind-address": {"::1"}})
	if n.ProxyMode != "iptables" || n.VXLAN || n.Ports[0].Address != "[::1]:7443" {
		t.Errorf("other choices: %+v", n)
	}
	if n = needs(map[string][]string{"disable-kube-proxy": {"true"}, "cni": {"cni-bridge"}}); n.Proxy || n.VXLAN || !n.Node {
		t.Errorf("no proxy: %+v", n)
	}
	for flag, value := range map[string]string{"disable-network-policy": "true", "cni": "cni-none"} {
		if n = needs(map[string][]string{flag: {value}}); n.Policy {
			t.Errorf("--%s %s: network policies are checked for", flag, value)
		}
	}
	if n.Inotify != serverInotify || n.Joins != nil {
		t.Errorf("a server's inotify and joining: %+v", n)
	}
	cfg, err := config.LoadAgent(map[string][]string{"config": {file}, "server": {"https://n1:6443"}, "token-file": {"/t"}, "kube-proxy-arg": {"proxy-mode=iptables"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	n = needsOf(cfg)
	if !n.Node || !n.Proxy || n.ProxyMode != "iptables" || !n.VXLAN || !n.Policy || n.Inotify != agentInotify || *n.Joins != (hostcheck.Joins{Server: "n1:6443", Token: true}) || len(n.Ports) != 6 {
		t.Errorf("an agent: %+v", n)
	}
	if n = needs(map[string][]string{"disable-agent": {"true"}, "disable-scheduler": {"true"}}); n.Node || n.Proxy || n.Policy || len(n.Ports) != 2 {
		t.Errorf("control plane: %+v", n)
	}
}
