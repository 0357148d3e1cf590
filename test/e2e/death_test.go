//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/test/e2e/lab"
)

// leftovers are scripts that list, one a line, what a server may leave on a machine.
func leftovers() map[string]string {
	return map[string]string{
		// Not the script itself, nor what it runs.
		"processes": `for p in /proc/[0-9]*; do [ "$p" = /proc/$$ ] || { read -r _ _ _ parent _ <$p/stat && [ "$parent" != $$ ] &&
			tr '\0' ' ' <$p/cmdline && echo; }; done`,
		"namespaces":         `readlink /proc/[0-9]*/ns/*`,
		"mounts":             `sed -E 's/^([^ ]+ ){3}([^ ]+ [^ ]+).* - ([^ ]+) .*/\2 \3/' /proc/self/mountinfo`,
		"links":              `ls /sys/class/net; ip -o route; ip -6 -o route | sed 's/expires.*//'; ip rule`,
		"nft":                `nft -j list ruleset`,
		"iptables":           `iptables-save; ip6tables-save`,
		"cgroups":            `find /sys/fs/cgroup -type d`,
		"run files":          `find /run /var/lib/cni ! -name 'lab-*.pid' ! -name xtables.lock`,
		"data":               `find /etc/cleat /etc/cni /opt/cni /var/lib/cleat /var/lib/kubelet /var/log`,
		"programs and links": `find /usr/local/bin`,
	}
}

// snapshot is what the leftovers print, sorted.
type snapshot map[string][]string

func takeSnapshot(t *testing.T, m *lab.Machine) snapshot {
	t.Helper()
	s := make(snapshot)
	for what, script := range leftovers() {
		out, err := m.Run("sh", "-c", "{ "+script+"; } 2>/dev/null; true")
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		switch what {
		case "nft":
			all = nftRules(t, out)
		case "iptables":
			all = chainsAndRules(out)
		default:
			all = strings.Split(strings.TrimSpace(out), "\n")
		}
		slices.Sort(all)
		s[what] = slices.Compact(all)
	}
	return s
}

// builtin reports whether a chain is one that every iptables command makes.
func builtin(chain string) bool {
	return slices.Contains([]string{"INPUT", "FORWARD", "OUTPUT", "PREROUTING", "POSTROUTING"}, chain)
}

// nftRules lists everything in the rule set but the empty tables and chains that
// every iptables command makes.
func nftRules(t *testing.T, out string) []string {
	t.Helper()
	var set struct {
		Nftables []map[string]map[string]any
	}
	if err := json.Unmarshal([]byte(out), &set); err != nil {
		t.Fatalf("rule set: %v: %s", err, out)
	}
	var all []string
	for _, item := range set.Nftables {
		for kind, object := range item {
			delete(object, "handle")
			if expr, ok := object["expr"].([]any); ok {
				object["expr"] = slices.DeleteFunc(expr, func(e any) bool {
					statement, ok := e.(map[string]any)
					return ok && statement["counter"] != nil
				})
			}
			name := fmt.Sprint(object["name"])
			switch {
			case kind == "metainfo",
				kind == "table" && slices.Contains([]string{"filter", "nat", "mangle", "raw"}, name),
				kind == "chain" && builtin(name):
				continue
			}
			text, err := json.Marshal(object)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, kind+" "+string(text))
		}
	}
	return all
}

func chainsAndRules(saved string) []string {
	var all []string
	for line := range strings.Lines(saved) {
		line = strings.TrimSpace(line)
		chain, _, _ := strings.Cut(strings.TrimPrefix(line, ":"), " ")
		switch {
		case line == "COMMIT", strings.HasPrefix(line, "#"), strings.HasPrefix(line, "*"):
		case strings.HasPrefix(line, ":") && builtin(chain):
		case strings.HasPrefix(line, ":"):
			all = append(all, ":"+chain)
		default:
			all = append(all, line)
		}
	}
	return all
}

// compare reports what was not there before and what is not there any more.
func (s snapshot) compare(t *testing.T, when string, after snapshot, but ...string) {
	t.Helper()
	for what := range leftovers() {
		if slices.Contains(but, what) {
			continue
		}
		for _, one := range after[what] {
			if !slices.Contains(s[what], one) {
				t.Errorf("%s, of %s there is still: %s", when, what, one)
			}
		}
		for _, one := range s[what] {
			if !slices.Contains(after[what], one) {
				t.Errorf("%s, of %s there is no longer: %s", when, what, one)
			}
		}
	}
}

// stranger puts things on the machine that are not cleat's and look much like it.
const stranger = `
ip link add other0 type bridge
ip netns add cni-other
nft add table ip other
nft add chain ip other kube-proxy
iptables -N OTHER-FORWARD && iptables -A FORWARD -m comment --comment 'not KUBE-FORWARD' -j OTHER-FORWARD
mkdir -p /run/other /etc/cni/net.d /var/lib/cni/networks/other /var/lib/cni/results /run/containerd/s /run/containerd/runc/moby/other /var/log/pods/other_other_other
mount -t tmpfs other /run/other
echo '{}' >/etc/cni/net.d/99-other.conflist
echo other >/var/lib/cni/networks/other/10.9.9.9
echo '{"containerId":"other","networkName":"other"}' >/var/lib/cni/results/other-other-eth0
touch /run/containerd/s/other
for top in /sys/fs/cgroup /sys/fs/cgroup/memory; do [ -e $top/cgroup.procs ] && mkdir $top/other; done; true
`

// TestDeath kills a server and removes it, with killall and with uninstall, and
// wants the machine as it was.
func TestDeath(t *testing.T) {
	for name, config := range map[string]string{
		"defaults": "",
		"iptables": "flannel-backend: host-gw\nkube-proxy-arg: [proxy-mode=iptables]\n",
		"bridge":   "cni: cni-bridge\nwrite-kubeconfig: /var/log/admin.yaml\n",
	} {
		t.Run(name, func(t *testing.T) { die(t, config) })
	}
}

func die(t *testing.T, config string) {
	l := newLab(t)
	n := &node{Machine: l.Machine("n1")}
	n.Must(t, "sh", "-c", stranger)
	n.Start(t, "other", "sleep", "1000000")
	first := takeSnapshot(t, n.Machine)
	n.CopyFile(t, artefact(t, "CLEAT_TEST_IMAGES", "build/test-images.tar"), "/var/lib/cleat/agent/images/test-images.tar", 0o644)
	n.WriteFile(t, "/etc/cleat/config.yaml", config)

	n.serve(t)
	n.apply(t, "default", `
apiVersion: v1
kind: Pod
metadata: {name: long}
spec:
  volumes: [{name: memory, emptyDir: {medium: Memory}}]
  containers:
  - name: main
    image: cleat.dev/busybox:test
    command: [sh, -c, 'sleep 900000 & exec sleep 1000000']
    ports: [{containerPort: 8080, hostPort: 18082}]
    volumeMounts: [{name: memory, mountPath: /memory}]
`)
	n.awaitPod(t, "default", "long")
	for what, lines := range takeSnapshot(t, n.Machine) {
		if what != "programs and links" && slices.Equal(lines, first[what]) {
			t.Errorf("a running server shows no %s, so the test would not see what is left", what)
		}
	}
	n.server.Signal(t, "KILL")
	if err := n.server.Wait(t, podPatience); err == nil {
		t.Error("cleat server ended well after SIGKILL")
	}

	if out, err := n.Run("cleat", "uninstall"); err == nil || !strings.Contains(err.Error(), "--yes") {
		t.Errorf("uninstall without a terminal: %v\n%s", err, out)
	}
	before := takeSnapshot(t, n.Machine)
	t.Logf("cleat killall --dry-run:\n%s", n.Must(t, "cleat", "killall", "--dry-run"))
	before.compare(t, "after a dry run", takeSnapshot(t, n.Machine))

	t.Logf("cleat killall:\n%s", n.Must(t, "cleat", "killall"))
	first.compare(t, "after killall", takeSnapshot(t, n.Machine), "data")
	t.Logf("cleat killall again:\n%s", n.Must(t, "cleat", "killall"))

	t.Logf("start after killall: Ready after %.1f s", n.serve(t))
	eventuallyPrints(t, n.Machine, podPatience, "running 1", "kubectl", "get", "pod", "long", "-o",
		`jsonpath={range .status.containerStatuses[*]}{.state.running.startedAt} running {.restartCount}{end}`)
	n.awaitPod(t, "default", "long")

	// This time the server runs.
	t.Logf("cleat uninstall --yes:\n%s", n.Must(t, "cleat", "uninstall", "--yes"))
	if err := n.server.Wait(t, podPatience); err != nil {
		t.Errorf("cleat server after uninstall: %v, want status 0", err)
	}
	// The links to the program were the lab's, but are such as an installer makes.
	first["programs and links"] = slices.DeleteFunc(first["programs and links"], func(path string) bool {
		return slices.Contains([]string{"/usr/local/bin/kubectl", "/usr/local/bin/ctr", "/usr/local/bin/crictl"}, path)
	})
	first.compare(t, "after uninstall", takeSnapshot(t, n.Machine))
	t.Logf("cleat uninstall --yes again:\n%s", n.Must(t, "cleat", "uninstall", "--yes"))
}
