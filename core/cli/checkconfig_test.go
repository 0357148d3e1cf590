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
configuration   ok      node , address 192.0.2.10             what the server finds out by itself
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
	if n = needs(map[string][]string{"disable-agent": {"true"}, "disable-scheduler": {"true"}}); n.Node || n.Proxy || n.Policy || len(n.Ports) != 2 {
		t.Errorf("control plane: %+v", n)
	}
}
