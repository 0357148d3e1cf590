//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/test/e2e/lab"
)

// leftovers are scripts that list, one a line, what a server may leave on a machine.
func leftovers() map[string]string {
	return map[string]string{
		// Not the script itself, nor what it runs.
		"processes": `for p in /proc/[0-9]*; do [ "$p" = /proc/$$ ] || { read -r _ _ _ parent _ <$p/stat && [ "$parent" != $$ ] &&
			tr '\0' ' ' <$p/cmdline && echo; }; done`,
		"namespaces": `readlink /proc/[0-9]*/ns/*`,
		"mounts":     `sed -E 's/^([^ ]+ ){3}([^ ]+ [^ ]+).* - ([^ ]+) .*/\2 \3/' /proc/self/mountinfo`,
		"links": `ls /sys/class/net; ip -o addr; for v in 4 6; do
			ip -$v -o route show table all | sed 's/expires.*//'; ip -$v rule; done`,
		"nft":      `nft -j list ruleset`,
		"iptables": `iptables-save; ip6tables-save`,
		"cgroups":  `find /sys/fs/cgroup -type d`,
		// Files of the lab, of iptables and of mount(8) aside.
		"run files":          `find /run /var/lib/cni ! -name 'lab-*.pid' ! -name xtables.lock ! -path /run/mount`,
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
		// A process that has ended but is not yet waited for has no command line.
		s[what] = slices.DeleteFunc(slices.Compact(all), func(one string) bool { return one == "" })
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

// restingSnapshot waits until two snapshots in a row are the same.
func restingSnapshot(t *testing.T, m *lab.Machine) snapshot {
	t.Helper()
	var last snapshot
	lab.Eventually(t, podPatience, "the machine is at rest", func() error {
		before := last
		last = takeSnapshot(t, m)
		return before.compare(last)
	})
	return last
}

// compare reports what was not there before and what is not there any more.
func (s snapshot) compare(after snapshot, but ...string) error {
	var errs []error
	for what := range leftovers() {
		if slices.Contains(but, what) {
			continue
		}
		for _, one := range after[what] {
			if !slices.Contains(s[what], one) {
				errs = append(errs, fmt.Errorf("of %s there is still: %s", what, one))
			}
		}
		for _, one := range s[what] {
			if !slices.Contains(after[what], one) {
				errs = append(errs, fmt.Errorf("of %s there is no longer: %s", what, one))
			}
		}
	}
	return errors.Join(errs...)
}

// await waits until a machine is as it was: the kernel takes a moment for what the dead
// have used.
func (s snapshot) await(t *testing.T, when string, m *lab.Machine, but ...string) {
	t.Helper()
	lab.Eventually(t, 30*time.Second, when, func() error { return s.compare(takeSnapshot(t, m), but...) })
}

// stranger puts things on the machine that are not cleat's and look much like it.
const stranger = `set -e
ip link add other0 type bridge
ip link add other1 type veth peer name other2
ip link set other1 master other0
ip netns add cni-other
nft add table ip other
nft add chain ip other kube-proxy
iptables -N OTHER-FORWARD
iptables -A FORWARD -m comment --comment 'not KUBE-FORWARD' -j OTHER-FORWARD
mkdir -p /run/other /etc/cni/net.d /var/lib/cni/networks/other /var/lib/cni/results /run/containerd/s \
	/run/containerd/runc/moby/other /var/log/pods/other_other_other
mount -t tmpfs other /run/other
echo '{}' >/etc/cni/net.d/99-other.conflist
echo other >/var/lib/cni/networks/other/10.9.9.9
echo '{"containerId":"other","networkName":"other"}' >/var/lib/cni/results/other-other-eth0
touch /run/containerd/s/other
for top in /sys/fs/cgroup /sys/fs/cgroup/*; do
	[ ! -e $top/cgroup.procs ] || mkdir $top/other
done
`

// life is how a server of TestDeath lives and dies.
type life struct {
	config string
	data   string // data directory
	killed bool   // before killall: else that ends the server
	alone  bool   // on the machine
}

// TestDeath kills a server and removes it, with killall and with uninstall, and
// wants the machine as it was. The commands and their output are those of the guide.
func TestDeath(t *testing.T) {
	for name, l := range map[string]life{
		"nftables": {data: "/var/lib/cleat", killed: true},
		"iptables": {data: "/var/lib/cleat", alone: true, config: "flannel-backend: host-gw\nkube-proxy-arg: [proxy-mode=iptables]\n"},
		"bridge": {data: "/var/lib/cleat/here", killed: true, alone: true, config: "cni: cni-bridge\ndata-dir: /var/lib/cleat/here\n" +
			"write-kubeconfig: /var/log/admin.yaml\ndatastore-endpoint: sqlite:///srv/state.db\ntoken: a-secret-of-this-test\n"},
	} {
		t.Run(name, l.run)
	}
}

// workload uses all that a pod may leave behind.
const workload = `
apiVersion: v1
kind: ConfigMap
metadata: {name: page}
data: {index.html: it works}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080, nodePort: 30080}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      volumes: [{name: page, configMap: {name: page}}]
      containers:
      - name: web
        image: cleat.dev/busybox:test
        command: [httpd, -f, -p, "8080", -h, /page]
        volumeMounts: [{name: page, mountPath: /page}]
---
apiVersion: v1
kind: Pod
metadata: {name: long}
spec:
  volumes: [{name: disk, emptyDir: {}}, {name: memory, emptyDir: {medium: Memory}}]
  containers:
  - name: main
    image: cleat.dev/busybox:test
    command: [sh, -c, 'sleep 900000 & exec sleep 1000000']
    ports: [{containerPort: 8080, hostPort: 18082}]
    volumeMounts: [{name: disk, mountPath: /disk}, {name: memory, mountPath: /memory}]
`

func (l life) run(t *testing.T) {
	guide := readGuide(t, "guides/remove.md").does
	if len(guide) != 2 {
		t.Fatalf("the guide has %d commands, want killall and uninstall", len(guide))
	}
	n := &node{Machine: newLab(t).Machine("n1")}
	t.Cleanup(func() {
		if t.Failed() && n.server != nil {
			n.dump(t)
		}
	})
	n.Start(t, "other", "sleep", "1234567") // what is not cleat's
	if !l.alone {
		n.Must(t, "sh", "-c", stranger)
	}
	n.awaitAddresses(t)
	first := restingSnapshot(t, n.Machine)
	install := func() {
		n.CopyFile(t, artefact(t, "CLEAT_TEST_IMAGES", "build/test-images.tar"), l.data+"/agent/images/test-images.tar", 0o644)
		n.WriteFile(t, "/etc/cleat/config.yaml", l.config)
		t.Logf("Ready after %.1f s", n.serve(t))
	}
	do := func(args ...string) string {
		t.Helper()
		out := n.Must(t, args...)
		t.Logf("%s:\n%s", strings.Join(args, " "), out)
		return out
	}
	follow := func(a action) {
		t.Helper()
		a.run(t, n.Name, func(command string) (string, error) {
			out, err := n.Run("sh", "-c", "exec 2>&1; "+command)
			t.Logf("%s:\n%s", command, out)
			return out, err
		})
	}

	install()
	n.apply(t, "default", workload)
	n.awaitWork(t)
	client := n.Start(t, "exec", "kubectl", "exec", "long", "--", "sleep", "900001")
	eventuallyPrints(t, n.Machine, podPatience, "sleep 900001", "sh", "-c", `for p in /proc/[0-9]*; do tr '\0' ' ' <$p/cmdline; echo; done | grep -v kubectl`)
	for what, lines := range takeSnapshot(t, n.Machine) {
		if what != "programs and links" && slices.Equal(lines, first[what]) {
			t.Errorf("a running server shows no %s, so the test would not see what is left", what)
		}
	}
	if l.killed {
		n.server.Signal(t, "KILL")
		if err := n.server.Wait(t, podPatience); err == nil {
			t.Error("cleat server ended well after SIGKILL")
		}
		// What ends and settles by itself must not look like the dry run's doing.
		if err := client.Wait(t, podPatience); err == nil {
			t.Error("kubectl exec ended well after the server was killed")
		}
		n.awaitAddresses(t)
		before := restingSnapshot(t, n.Machine)
		if out, err := n.Run("cleat", "uninstall"); err == nil || !strings.Contains(err.Error(), "--yes") {
			t.Errorf("uninstall without a terminal: %v\n%s", err, out)
		}
		do("cleat", "killall", "--dry-run")
		before.await(t, "after a dry run", n.Machine)
		do("cleat", "killall")
	} else {
		follow(guide[0])
	}
	first.await(t, "after killall", n.Machine, "data")
	if out := do("cleat", "killall"); strings.Contains(out, "removed") || strings.Contains(out, "killed") {
		t.Error("a second killall found something")
	}

	t.Logf("Ready after killall after %.1f s", n.serve(t))
	eventuallyPrints(t, n.Machine, podPatience, "running 1", "kubectl", "get", "pod", "long", "-o",
		`jsonpath={range .status.containerStatuses[*]}{.state.running.startedAt} running {.restartCount}{end}`)
	n.awaitWork(t)

	// The links to the program were the lab's, but are such as an installer makes.
	first["programs and links"] = slices.DeleteFunc(first["programs and links"], func(path string) bool {
		return slices.Contains([]string{"/usr/local/bin/kubectl", "/usr/local/bin/ctr", "/usr/local/bin/crictl"}, path)
	})
	for _, fresh := range []bool{false, true} {
		if fresh {
			n.Must(t, "ln", "-s", "cleat", "/usr/local/bin/kubectl")
			install()
		}
		follow(guide[1])
		if err := n.server.Wait(t, podPatience); err != nil {
			t.Errorf("cleat server after uninstall: %v, want status 0", err)
		}
		first.await(t, "after uninstall", n.Machine)
	}
	// What somebody else mounted is in the way.
	mine := l.data + "/agent/mine"
	n.Must(t, "sh", "-c", "mkdir -p "+mine+" "+l.data+"/server && touch "+l.data+"/server/.lock && mount -t tmpfs mine "+mine)
	if out, err := n.Run("cleat", "uninstall", "--yes", "--data-dir", l.data); err == nil || !strings.Contains(err.Error(), mine+" is mounted in it") {
		t.Errorf("uninstall in spite of a mount: %v\n%s", err, out)
	}
	n.Must(t, "umount", mine)
	do("cleat", "uninstall", "--yes", "--data-dir", l.data)
	do("cleat", "uninstall", "--yes")
	first.await(t, "after another uninstall", n.Machine)
}

// awaitAddresses waits until the kernel has made sure that no neighbour has the machine's
// addresses, which changes how they are listed.
func (n *node) awaitAddresses(t *testing.T) {
	t.Helper()
	lab.Eventually(t, podPatience, "addresses of the machine", func() error {
		out, err := n.Run("ip", "-6", "-o", "addr")
		// The link's own address comes a moment after the link is up.
		if err == nil && (strings.Contains(out, "tentative") || !strings.Contains(out, "eth0    inet6 fe80:")) {
			err = errors.New(out)
		}
		return err
	})
}

// awaitWork waits until everything in the workload does its work.
func (n *node) awaitWork(t *testing.T) {
	t.Helper()
	n.awaitPod(t, "default", "long")
	n.kubectl(t, "rollout", "status", "deployment/web", "--timeout", podPatience.String())
	eventuallyPrints(t, n.Machine, podPatience, "it works", "curl", "-s", "-m", "5", fmt.Sprintf("http://%s:30080", n.Addr))
}
