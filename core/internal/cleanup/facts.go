package cleanup

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cleat-dev/cleat/core/internal/paths"
)

// maxFile bounds what is read of a file; a container's specification is the largest.
const maxFile = 4 << 20

// The two halves of a data directory, and who runs on it.
const (
	roleServer = "server"
	roleAgent  = "agent"
)

// facts are what there is of cleat on the machine.
type facts struct {
	processes  []process
	server     process // or agent; PID 0: none runs
	role       string  // server or agent
	refusal    error   // why nothing at all may be done
	containers []container
	neighbours []string // other Kubernetes nodes on this machine: "kubelet (process 7)"
	node       bool     // a node of cleat was here
	pods       []string // UIDs
	network    network
}

// container is what the bundle of a container or a pod's sandbox says.
type container struct {
	id     string
	cgroup string // below each hierarchy, "" if it cannot be told to be this one's
	netns  string // "" unless it is one that containerd made for a pod
	pod    string // UID
	logs   string // of its pod
	socket string // of its shim
}

// network is the record of what a network plan left on the machine.
type network struct {
	Conflist    string   `json:"conflist"`
	ConflistSum string   `json:"conflist_sum"`
	Flannel     *flannel `json:"flannel"`

	name    string   // of the CNI network
	bridges []string // of the CNI configuration
}

type flannel struct {
	Backend   string `json:"backend"`
	Network   string `json:"network"`    // cluster CIDR of IPv4, "" for none
	NetworkV6 string `json:"network_v6"` // of IPv6, "" for none
	VNI       int    `json:"vni"`
}

// find fills in the facts. What cannot be read is reported and taken for absent.
func (j *job) find() {
	j.facts = facts{}
	all, err := j.host.Processes()
	j.fail("processes", err)
	j.facts.processes = all
	j.findServer()
	j.findContainers()
	j.findNeighbours()
	// Who deleted the data directory by hand has the run directory still.
	j.facts.node = len(j.present(j.Data.Kubeconfig("kubelet"), paths.ContainerdDir)) > 0
	j.findPods()
	j.findPodCgroups()
	j.findNetwork()
}

// lockFile is held by a server or an agent for as long as it runs, in its half of
// the data directory and in the run directory.
const lockFile = ".lock"

func (j *job) dataLock(role string) string { return filepath.Join(string(j.Data), role, lockFile) }

func (j *job) findServer() {
	asServer, err := j.host.Holder(j.at(j.dataLock(roleServer)))
	asAgent, err2 := j.host.Holder(j.at(j.dataLock(roleAgent)))
	onMachine, err3 := j.host.Holder(j.at(filepath.Join(paths.RunDir, lockFile)))
	onData := cmp.Or(asServer, asAgent)
	j.facts.role = roleServer
	if asServer == 0 && (asAgent != 0 || !exists(j.at(j.dataLock(roleServer))) && exists(j.at(j.dataLock(roleAgent)))) {
		j.facts.role = roleAgent
	}
	if err := errors.Join(err, err2, err3); err != nil {
		j.facts.refusal = fmt.Errorf("%s: %w", j.facts.role, err)
		return
	}
	if onMachine != 0 && onData != onMachine {
		j.facts.refusal = fmt.Errorf("data-dir %q: what runs on this machine (process %d) uses another data directory; give its --data-dir",
			string(j.Data), onMachine)
		return
	}
	ours := j.real(j.Data.Payload())
	for _, p := range j.facts.processes {
		if p.PID == onData && onData != 0 {
			j.facts.server = p
		}
		// <data directory>/data/<digest>/bin/<shim>
		payload := filepath.Dir(filepath.Dir(filepath.Dir(p.Exe)))
		if p.SameMount && servedBy(p) == paths.CRISocket && filepath.Base(payload) == filepath.Base(ours) && payload != ours {
			j.facts.refusal = fmt.Errorf("data-dir %q: the pods on this machine (process %d) are of the data directory %q; give that as --data-dir",
				string(j.Data), p.PID, filepath.Dir(payload))
		}
	}
}

// findNeighbours looks for what runs another Kubernetes node here, or has left
// its pods running. A wrong guess only leaves something behind.
func (j *job) findNeighbours() {
	names := []string{"kubelet", "kube-proxy", "k3s", "k3s-server", "k3s-agent", "rke2", "k0s", "kubelite", "hyperkube"}
	ours := j.victims()
	for _, p := range j.facts.processes {
		if !p.SameMount && !p.SameNet || p.PID == j.facts.server.PID || len(p.Args) == 0 ||
			slices.ContainsFunc(ours, func(o process) bool { return o.PID == p.PID }) {
			continue
		}
		if servedBy(p) != "" && slices.Contains(p.Args, "k8s.io") {
			j.facts.neighbours = append(j.facts.neighbours, fmt.Sprintf("%s (process %d)", filepath.Base(p.Args[0]), p.PID))
			continue
		}
		// Some programs replace their arguments by one title.
		first, _, _ := strings.Cut(p.Args[0], " ")
		for _, name := range []string{filepath.Base(first), filepath.Base(p.Exe)} {
			if slices.Contains(names, name) {
				j.facts.neighbours = append(j.facts.neighbours, fmt.Sprintf("%s (process %d)", name, p.PID))
				break
			}
		}
	}
}

// spec is the part of a bundle's config.json that we read.
type spec struct {
	Annotations map[string]string `json:"annotations"`
	Linux       struct {
		CgroupsPath string `json:"cgroupsPath"`
		Namespaces  []struct {
			Type string `json:"type"`
			Path string `json:"path"`
		} `json:"namespaces"`
	} `json:"linux"`
}

func (j *job) findContainers() {
	// <namespace>/<id>/config.json
	files, err := filepath.Glob(j.at(paths.ContainerdDir) + "/io.containerd.runtime.v2.task/*/*/config.json")
	j.fail("containers", err)
	for _, file := range files {
		content, err := readBounded(file)
		if err != nil {
			j.fail("containers", err)
			continue
		}
		c := container{id: filepath.Base(filepath.Dir(file))}
		var s spec
		if json.Unmarshal(content, &s) == nil { // else half written: its id is enough
			c.read(s)
		}
		c.socket = shimSocket(filepath.Dir(file))
		j.facts.containers = append(j.facts.containers, c)
	}
}

func (c *container) read(s spec) {
	if p := path.Clean("/" + s.Linux.CgroupsPath); path.Base(p) == c.id {
		c.cgroup = p
	}
	for _, n := range s.Linux.Namespaces {
		if ns := normal(n.Path); n.Type == "network" && path.Dir(ns) == netnsDir && strings.HasPrefix(path.Base(ns), "cni-") {
			c.netns = ns
		}
	}
	c.pod = s.Annotations["io.kubernetes.cri.sandbox-uid"]
	if !isName(c.pod) {
		c.pod = ""
	}
	if logs := path.Clean(s.Annotations["io.kubernetes.cri.sandbox-log-directory"]); path.Dir(logs) == podLogs && c.pod != "" {
		c.logs = logs
	}
}

// shimSocket is where the shim of a bundle listens, "" if it is not in the
// directory in which all shims of a machine do.
func shimSocket(bundle string) string {
	content, err := readBounded(filepath.Join(bundle, "bootstrap.json"))
	var b struct {
		Address string `json:"address"`
	}
	if err != nil || json.Unmarshal(content, &b) != nil {
		return ""
	}
	socket := normal(strings.TrimPrefix(b.Address, "unix://"))
	if path.Dir(socket) != shimSockets {
		return ""
	}
	return socket
}

const (
	shimSockets   = "/run/containerd/s"
	runcStates    = "/run/containerd/runc" // <namespace>/<id>, of every containerd of the machine
	netnsDir      = "/run/netns"
	podLogs       = "/var/log/pods"
	containerLogs = "/var/log/containers"
	cniDir        = "/var/lib/cni"
)

// normal is a path without the old name of /run.
func normal(p string) string {
	p = path.Clean(p)
	if rest, ok := strings.CutPrefix(p, "/var/run/"); ok {
		return "/run/" + rest
	}
	return p
}

// findPods collects the UIDs of pods. The kubelet's directory is another's
// where one runs.
func (j *job) findPods() {
	for _, c := range j.facts.containers {
		if c.pod != "" && !slices.Contains(j.facts.pods, c.pod) {
			j.facts.pods = append(j.facts.pods, c.pod)
		}
	}
	if !j.alone() {
		return
	}
	entries, err := os.ReadDir(j.at(paths.KubeletDir + "/pods"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		j.fail("pods", err)
	}
	for _, e := range entries {
		if isName(e.Name()) && !slices.Contains(j.facts.pods, e.Name()) {
			j.facts.pods = append(j.facts.pods, e.Name())
		}
	}
}

// alone reports whether a node of cleat was here and no other one is: what nodes
// share is ours.
func (j *job) alone() bool { return j.facts.node && len(j.facts.neighbours) == 0 }

// findNetwork reads the record of the network plan and the CNI configuration
// that it names.
func (j *job) findNetwork() {
	content, err := readBounded(j.at(j.Data.Agent("network.json")))
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var n network
	if err == nil {
		err = json.Unmarshal(content, &n)
	}
	if err != nil {
		j.fail("network", fmt.Errorf("record of the network plan: %w; links and CNI configuration stay", err))
		return
	}
	if n.Conflist == "" || !isName(n.Conflist) {
		n.Conflist = ""
		j.facts.network = n
		return
	}
	var config struct {
		Name    string `json:"name"`
		Plugins []struct {
			Bridge string `json:"bridge"`
		} `json:"plugins"`
	}
	content, err = readBounded(j.at(filepath.Join(paths.CNIConfDir, n.Conflist)))
	if err == nil {
		err = json.Unmarshal(content, &config)
	}
	if err != nil {
		// What the bundled plugins choose.
		config.Name, n.bridges = "cbr0", []string{"cni0"}
	}
	for _, p := range config.Plugins {
		if p.Bridge != "" {
			n.bridges = append(n.bridges, p.Bridge)
		}
	}
	if isName(config.Name) {
		n.name = config.Name
	}
	j.facts.network = n
}

// isName reports whether s can be one element of a path, and nothing else.
func isName(s string) bool {
	return s != "" && s != "." && s != ".." && len(s) < 256 && !strings.ContainsAny(s, "/\x00")
}

func readBounded(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(content) > maxFile {
		return nil, fmt.Errorf("%s: larger than %d MiB", file, maxFile>>20)
	}
	return content, nil
}
