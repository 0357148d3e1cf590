package cleanup

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cleat-dev/cleat/core/internal/paths"
)

const (
	web      = "aaaa" // a container of ours
	uid      = "3f1c-77"
	foreign  = "ffff" // a container of another runtime
	conflist = `{"name":"cbr0","plugins":[{"type":"bridge","bridge":"cni0"},{"type":"portmap"}]}`
)

// scene is a machine with a server, one pod, and others' things beside them.
func scene(t *testing.T) (*job, *fakeHost, *strings.Builder) {
	t.Helper()
	root := t.TempDir()
	put := func(path, content string) { write(t, root, path, content) }
	put("/var/lib/cleat/server/.lock", "100\n")
	put("/var/lib/cleat/server/tls/server-ca.crt", "CA")
	put("/var/lib/cleat/agent/kubelet.kubeconfig", "")
	put("/var/lib/cleat/agent/network.json", fmt.Sprintf(
		`{"conflist":"10-flannel.conflist","conflist_sum":"%x","flannel":{"backend":"vxlan","network":"10.42.0.0/16","vni":1}}`,
		sha256.Sum256([]byte(conflist))))
	put("/var/lib/cleat/data/d1/bin/runc", "")
	put("/etc/cleat/config.yaml", "")
	put("/etc/cleat/node/password", "secret")
	put("/etc/cni/net.d/10-flannel.conflist", conflist)
	put("/root/admin.yaml", "ca: "+base64.StdEncoding.EncodeToString([]byte("CA")))
	put("/run/cleat/status.sock", "")
	put("/run/cleat/containerd/io.containerd.runtime.v2.task/k8s.io/"+web+"/config.json", `{
		"annotations": {"io.kubernetes.cri.sandbox-uid":"`+uid+`","io.kubernetes.cri.sandbox-log-directory":"/var/log/pods/a_b_`+uid+`"},
		"linux": {"cgroupsPath":"/kubepods/besteffort/pod`+uid+`/`+web+`","namespaces":[{"type":"pid"},{"type":"network","path":"/var/run/netns/cni-1"}]}}`)
	put("/run/cleat/containerd/io.containerd.runtime.v2.task/k8s.io/"+web+"/bootstrap.json", `{"address":"unix:///run/containerd/s/5eed"}`)
	put("/run/containerd/s/5eed", "")
	put("/run/containerd/s/other", "")
	put("/run/containerd/runc/k8s.io/"+web+"/state.json", "")
	put("/run/containerd/runc/moby/"+foreign+"/state.json", "")
	put("/run/netns/cni-1", "")
	put("/run/netns/cni-2", "")
	put("/run/netns/cni-other", "")
	put("/var/lib/cni/results/cbr0-gone-eth0", `{"containerId":"gone","networkName":"cbr0","netns":"/run/netns/cni-2"}`)
	put("/var/lib/cni/results/other-ffff-eth0", `{"containerId":"ffff","networkName":"other","netns":"/run/netns/cni-other"}`)
	put("/var/lib/cni/networks/cbr0/10.42.0.2", web+"\neth0")
	put("/var/lib/cni/networks/cbr0/last_reserved_ip.0", "10.42.0.2")
	put("/var/lib/cni/networks/cbr0/lock", "")
	put("/var/lib/cni/networks/other/10.9.0.1", foreign)
	put("/var/lib/kubelet/pods/"+uid+"/etc-hosts", "")
	put("/var/log/pods/a_b_"+uid+"/0.log", "")
	put("/var/log/pods/x_y_other/0.log", "")
	put("/sys/fs/cgroup/kubepods/besteffort/pod"+uid+"/"+web+"/cgroup.procs", "")
	put("/sys/fs/cgroup/docker/"+foreign+"/cgroup.procs", "")

	shim := func(namespace, socket string) []string {
		return []string{"containerd-shim-runc-v2", "-namespace", namespace, "-id", "x", "-address", socket}
	}
	f := &fakeHost{
		root:    root,
		holders: map[string]int{"/var/lib/cleat/server/.lock": 100, "/run/cleat/.lock": 100},
		processes: []process{
			{PID: 1, Args: []string{"init"}, SameMount: true, SameNet: true},
			{PID: 100, PPID: 1, Args: []string{"cleat", "server"}, SameMount: true, SameNet: true},
			{PID: 200, PPID: 1, Args: shim("k8s.io", "/run/cleat/containerd/containerd.sock"), SameMount: true},
			{PID: 201, PPID: 200, Args: []string{"httpd"}},
			{PID: 202, PPID: 201, Args: []string{"child"}},
			{PID: 203, PPID: 1, Args: []string{"its shim is dead"}},
			{PID: 204, PPID: 1, Exe: "/var/lib/cleat/data/d1/bin/runc", SameMount: true},
			{PID: 300, PPID: 1, Args: shim("moby", "/run/containerd/containerd.sock"), SameMount: true},
			{PID: 301, PPID: 300, Args: []string{"sleep"}},
			// A cleat in a container of somebody's: the same paths in another file system.
			{PID: 302, PPID: 1, Exe: "/var/lib/cleat/data/d1/bin/runc", Args: shim("k8s.io", "/run/cleat/containerd/containerd.sock")},
		},
		mounts: []string{
			"/", "/var/lib/kubelet", "/run/cleat/containerd/io.containerd.runtime.v2.task/k8s.io/" + web + "/rootfs",
			"/var/lib/kubelet/pods/" + uid + "/volumes/x", "/var/lib/kubelet/pods/" + uid + "/volumes/x/y",
			"/var/lib/cleat/agent/containerd/tmpmounts/1", "/run/netns/cni-1", "/run/netns/cni-2", "/run/netns/cni-other",
			"/run/containerd/x/rootfs", "/run/cleat2", "/mnt",
		},
		links: []link{
			{Name: "lo"}, {Name: "eth0", Kind: "veth"}, {Name: "cni0", Kind: "bridge"}, {Name: "veth1", Kind: "veth", Master: "cni0"},
			{Name: "flannel.1", Kind: "vxlan"}, {Name: "flannel.7", Kind: "vxlan"}, {Name: "docker0", Kind: "bridge"},
			{Name: "veth2", Kind: "veth", Master: "docker0"},
		},
		hierarchy: []string{"/sys/fs/cgroup"},
		members:   map[string][]int{"/sys/fs/cgroup/kubepods/besteffort/pod" + uid + "/" + web: {203}},
		nft: map[string]string{
			"tables": `{"nftables":[{"metainfo":{}},{"table":{"family":"ip","name":"kube-proxy"}},{"table":{"family":"ip","name":"flannel-ipv4"}},
				{"table":{"family":"ip","name":"nat"}},{"table":{"family":"inet","name":"kube-proxy"}},{"table":{"family":"inet","name":"cleat-policy"}},{"table":{"family":"ip","name":"cni_hostport"}}]}`,
			"table ip cni_hostport": `{"nftables":[{"rule":{"chain":"output","handle":3}},{"rule":{"chain":"hostports","handle":4,"comment":"` + web + `"}},
				{"rule":{"chain":"hostports","handle":5,"comment":"ffff"}}]}`,
		},
		saved: map[string]string{"iptables-save": `*nat
:POSTROUTING ACCEPT [0:0]
:KUBE-MARK-MASQ - [0:0]
:DOCKER - [0:0]
:CNI-HOSTPORT-DNAT - [0:0]
:CNI-DN-1 - [0:0]
:CNI-DN-2 - [0:0]
-A POSTROUTING -m comment --comment "-j KUBE-MARK-MASQ" -j DOCKER
-A POSTROUTING -m comment --comment "masq" -j KUBE-MARK-MASQ
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A CNI-HOSTPORT-DNAT -m comment --comment "dnat name: \"cbr0\" id: \"aaaa\"" -j CNI-DN-1
-A CNI-HOSTPORT-DNAT -m comment --comment "dnat name: \"other\" id: \"ffff\"" -j CNI-DN-2
COMMIT
`},
	}
	var out strings.Builder
	return &job{Options: Options{Data: "/var/lib/cleat", Out: &out, Kubeconfig: "/root/admin.yaml"}, host: f, root: root}, f, &out
}

func TestKillall(t *testing.T) {
	j, f, out := scene(t)
	if err := j.killall(context.Background()); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"signal 100 15", "signal 200 9", "signal 204 9", "signal 201 9", "signal 202 9", "signal 203 9",
		"unmount /var/lib/cleat/agent/containerd/tmpmounts/1",
		"unmount /var/lib/kubelet/pods/" + uid + "/volumes/x/y", "unmount /var/lib/kubelet/pods/" + uid + "/volumes/x",
		"unmount /run/cleat/containerd/io.containerd.runtime.v2.task/k8s.io/" + web + "/rootfs",
		"unmount /run/netns/cni-1", "unmount /run/netns/cni-2",
		"link veth1", "link flannel.1", "link cni0",
		"nft -f - < delete table ip kube-proxy", "nft -f - < delete table ip flannel-ipv4",
		"nft -f - < delete table inet cleat-policy",
		"nft -f - < delete rule ip cni_hostport hostports handle 4",
		"iptables-restore --noflush --wait 5 < *nat\n" + `-D POSTROUTING -m comment --comment "masq" -j KUBE-MARK-MASQ` + "\n" +
			`-D CNI-HOSTPORT-DNAT -m comment --comment "dnat name: \"cbr0\" id: \"aaaa\"" -j CNI-DN-1` + "\n" +
			"-F KUBE-MARK-MASQ\n-F CNI-DN-1\n-X KUBE-MARK-MASQ\n-X CNI-DN-1\nCOMMIT",
		"cgroup /sys/fs/cgroup/kubepods",
	}
	if diff := cmp.Diff(want, f.did); diff != "" {
		t.Errorf("-want +did:\n%s", diff)
	}
	for _, gone := range []string{"/run/cleat", "/run/containerd/s/5eed", "/run/containerd/runc/k8s.io", "/run/netns/cni-1", "/run/netns/cni-2", "/var/lib/cni/networks/cbr0", "/var/lib/cni/results/cbr0-gone-eth0"} {
		if exists(j.root + gone) {
			t.Errorf("%s is still there", gone)
		}
	}
	for _, stays := range []string{"/run/netns/cni-other", "/var/lib/cni/networks/other/10.9.0.1", "/var/lib/cni/results/other-ffff-eth0",
		"/var/lib/kubelet/pods/" + uid + "/etc-hosts", "/var/lib/cleat/server/.lock", "/etc/cleat/node/password"} {
		if !exists(j.root + stays) {
			t.Errorf("%s is gone", stays)
		}
	}
	if !strings.Contains(out.String(), "process 100 stopped in order\n") || !strings.Contains(out.String(), "killed 5 processes of 1 containers\n") {
		t.Errorf("said\n%s", out)
	}

	// Nothing is left for a second time.
	f.did, f.nft, f.saved = nil, nil, nil
	j.errs = nil
	if err := j.killall(context.Background()); err != nil || len(f.did) > 0 {
		t.Errorf("the second time: %v, did %q", err, f.did)
	}
}

func TestDryRun(t *testing.T) {
	j, f, out := scene(t)
	j.DryRun = true
	before := files(t, j.root)
	if err := j.uninstall(context.Background()); err != nil {
		t.Fatal(err)
	}
	if len(f.did) > 0 {
		t.Errorf("did %q", f.did)
	}
	if diff := cmp.Diff(before, files(t, j.root)); diff != "" {
		t.Errorf("-before +after:\n%s", diff)
	}
	for _, want := range []string{"would end process 100", "would kill 5 processes", "veth1\n", "flannel.1\n", " /etc/cleat\n", "/var/lib/cleat/agent"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("did not say %q:\n%s", want, out)
		}
	}
}

func TestServer(t *testing.T) {
	t.Run("does not stop", func(t *testing.T) {
		j, f, out := scene(t)
		f.stubborn = []int{100}
		if err := j.killall(context.Background()); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(f.did[:2], []string{"signal 100 15", "signal 100 9"}) || !strings.Contains(out.String(), "process 100 killed") {
			t.Errorf("did %q, said\n%s", f.did, out)
		}
	})
	t.Run("is a service", func(t *testing.T) {
		j, f, _ := scene(t)
		write(t, j.root, "/run/systemd/system/x", "")
		f.mainPID = "100\n"
		f.processes[1].Cgroup = "/system.slice/cleat.service/below"
		if err := j.killall(context.Background()); err != nil {
			t.Fatal(err)
		}
		if f.did[0] != "systemctl stop cleat.service" || slices.Contains(f.did, "signal 100 15") {
			t.Errorf("did %q", f.did)
		}
	})
	t.Run("is about to be started by its service", func(t *testing.T) {
		j, f, _ := scene(t)
		f.end(100)
		write(t, j.root, "/run/systemd/system/x", "")
		write(t, j.root, "/etc/systemd/system/cleat.service", "[Service]\nExecStart=/opt/cleat server\n")
		j.Program = "/opt/cleat"
		if err := j.killall(context.Background()); err != nil || f.did[0] != "systemctl stop cleat.service" {
			t.Errorf("%v, did %q", err, f.did)
		}
	})
	t.Run("was started by a service", func(t *testing.T) {
		j, f, _ := scene(t)
		write(t, j.root, "/run/systemd/system/x", "")
		f.mainPID = "7\n"
		f.processes[1].Cgroup = "/system.slice/cron.service"
		if err := j.killall(context.Background()); err != nil || f.did[0] != "signal 100 15" {
			t.Errorf("%v, did %q", err, f.did)
		}
	})
	t.Run("comes back", func(t *testing.T) {
		j, f, _ := scene(t)
		f.revenant = 100
		if err := j.uninstall(context.Background()); err == nil || !strings.Contains(err.Error(), "started meanwhile") || len(f.did) > 1 {
			t.Errorf("%v, did %q", err, f.did)
		}
	})
	t.Run("cannot be seen", func(t *testing.T) {
		j, f, _ := scene(t)
		f.blind = true
		if err := j.uninstall(context.Background()); err == nil || len(f.did) > 0 {
			t.Errorf("%v, did %q", err, f.did)
		}
	})
	t.Run("has another data directory", func(t *testing.T) {
		j, f, _ := scene(t)
		delete(f.holders, "/var/lib/cleat/server/.lock")
		for _, run := range []func(context.Context) error{j.killall, j.uninstall} {
			if err := run(context.Background()); err == nil || !strings.Contains(err.Error(), "process 100") || len(f.did) > 0 {
				t.Errorf("%v, did %q", err, f.did)
			}
		}
	})
}

// What another Kubernetes node on the machine may use stays, even if only its
// pods run.
func TestNeighbour(t *testing.T) {
	for name, p := range map[string]process{
		"kubelet": {PID: 303, PPID: 1, Args: []string{"/usr/bin/kubelet", "--x"}, SameMount: true, SameNet: true},
		"shim": {PID: 303, PPID: 1, SameMount: true, SameNet: true,
			Args: []string{"/bin/shim", "-namespace", "k8s.io", "-address", "/run/k3s/containerd/containerd.sock"}},
	} {
		t.Run(name, func(t *testing.T) { spareNeighbour(t, name, p) })
	}
	// A container of our own is none, whatever it runs.
	j, f, _ := scene(t)
	f.processes = append(f.processes, process{PID: 303, PPID: 200, Args: []string{"kube-proxy"}, SameNet: true})
	if err := j.killall(context.Background()); err != nil || !slices.Contains(f.did, "signal 303 9") || !slices.Contains(f.did, "link cni0") {
		t.Errorf("%v, did %q", err, f.did)
	}
}

func spareNeighbour(t *testing.T, name string, p process) {
	j, f, out := scene(t)
	f.processes = append(f.processes, p)
	f.mounts = append(f.mounts, "/var/lib/kubelet/pods/theirs/volumes/x")
	if err := j.uninstall(context.Background()); err != nil {
		t.Fatal(err)
	}
	for _, did := range f.did {
		if strings.Contains(did, "theirs") || strings.HasPrefix(did, "link") || strings.Contains(did, "KUBE-") ||
			strings.Contains(did, "kube-proxy") || did == "cgroup /sys/fs/cgroup/kubepods" || strings.HasPrefix(did, "signal 303") {
			t.Errorf("did %q", did)
		}
	}
	for _, did := range []string{"signal 201 9", "unmount /var/lib/kubelet/pods/" + uid + "/volumes/x", "unmount /run/netns/cni-1",
		"cgroup /sys/fs/cgroup/kubepods/besteffort/pod" + uid} {
		if !slices.Contains(f.did, did) {
			t.Errorf("did not %q", did)
		}
	}
	if !exists(j.root+"/var/lib/kubelet/pods") || !strings.Contains(out.String(), "/var/lib/kubelet stays") || !strings.Contains(out.String(), name+" (process 303)") {
		t.Errorf("said\n%s", out)
	}
}

func TestUninstall(t *testing.T) {
	j, f, _ := scene(t)
	write(t, j.root, "/usr/local/bin/cleat", "")
	for link, to := range map[string]string{"kubectl": "cleat", "ctr": "/bin/true"} {
		if err := os.Symlink(to, filepath.Join(j.root, "usr/local/bin", link)); err != nil {
			t.Fatal(err)
		}
	}
	j.Program = "/usr/local/bin/cleat"
	write(t, j.root, "/run/systemd/system/x", "")
	write(t, j.root, "/etc/systemd/system/cleat.service", "[Service]\nExecStart=-/usr/local/bin/cleat server\n")
	write(t, j.root, "/etc/systemd/system/cleat.service.env", "")
	write(t, j.root, "/etc/systemd/system/multi-user.target.wants/cleat.service", "")
	// What /etc and /var/lib/kubelet are in is on another disk.
	for path, to := range map[string]string{"/etc": "/disk/etc", "/var": "/disk/var"} {
		if err := os.MkdirAll(j.root+"/disk", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(j.root+path, j.root+to); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(j.root+to, j.root+path); err != nil {
			t.Fatal(err)
		}
	}
	f.processes[6].Exe = "/disk" + f.processes[6].Exe // as the kernel tells it
	f.mounts = append(f.mounts, "/disk", "/disk/var/lib/kubelet/pods/"+uid+"/volumes/z")
	j.Node = "n1"
	if err := j.uninstall(context.Background()); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(f.did[:3], []string{"free n1", "systemctl stop cleat.service", "signal 100 15"}) ||
		!slices.Equal(f.did[len(f.did)-2:], []string{"systemctl disable cleat.service", "systemctl daemon-reload"}) ||
		!slices.Contains(f.did, "signal 204 9") || !slices.Contains(f.did, "unmount /disk/var/lib/kubelet/pods/"+uid+"/volumes/z") {
		t.Errorf("did %q", f.did)
	}
	want := []string{
		"/disk/var/lib/cni/networks/other/10.9.0.1", "/disk/var/lib/cni/results/other-ffff-eth0", "/disk/var/log/pods/x_y_other/0.log",
		"/etc", "/run/containerd/runc/moby/ffff/state.json", "/run/containerd/s/other", "/run/netns/cni-other", "/run/systemd/system/x",
		"/sys/fs/cgroup/docker/ffff/cgroup.procs", "/usr/local/bin/ctr", "/var",
	}
	// Directories of the system that are empty now.
	got := slices.DeleteFunc(files(t, j.root), func(p string) bool {
		return slices.Contains([]string{"/root", "/disk/etc/systemd/system/multi-user.target.wants"}, p)
	})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +left:\n%s", diff)
	}
	f.did, f.nft, f.saved, j.errs = nil, nil, nil, nil
	j.Node = ""
	if err := j.uninstall(context.Background()); err != nil || len(f.did) > 0 {
		t.Errorf("the second time: %v, did %q", err, f.did)
	}
}

// Nothing of somebody else's is deleted, and what tells what is ours goes last.
func TestUninstallSpares(t *testing.T) {
	j, f, out := scene(t)
	write(t, j.root, "/etc/cni/net.d/10-flannel.conflist", conflist+" ")
	write(t, j.root, "/var/lib/cleat/photos/1.jpg", "")
	write(t, j.root, "/var/lib/kubelet/pods/"+uid+"/volumes/x/theirs", "")
	write(t, j.root, "/root/admin.yaml", "ca: of another cluster")
	f.busy = []string{"/var/lib/kubelet/pods/" + uid + "/volumes/x"}
	err := j.uninstall(context.Background())
	if err == nil || !strings.Contains(err.Error(), "is mounted in it") || !strings.Contains(err.Error(), "/var/lib/cleat stays") {
		t.Errorf("got %v", err)
	}
	for _, stays := range []string{"/etc/cni/net.d/10-flannel.conflist", "/var/lib/cleat/photos/1.jpg", "/var/lib/cleat/agent/network.json", "/etc/cleat/config.yaml",
		"/var/lib/kubelet/pods/" + uid + "/volumes/x/theirs", "/root/admin.yaml"} {
		if !exists(j.root + stays) {
			t.Errorf("%s is gone", stays)
		}
	}
	if !strings.Contains(out.String(), "stays, for it was edited") {
		t.Errorf("said\n%s", out)
	}
	// Once it is unmounted, all goes. A third time there is nothing to do.
	f.busy = nil
	for range 2 {
		j.errs = nil
		if err := j.uninstall(context.Background()); err != nil {
			t.Error(err)
		}
	}
	if exists(j.root+"/var/lib/cleat/agent") || exists(j.root+"/var/lib/kubelet/pods") || !exists(j.root+"/var/lib/cleat/photos/1.jpg") {
		t.Errorf("left %q", files(t, j.root))
	}
}

func TestUninstallRefuses(t *testing.T) {
	for data, why := range map[string]string{
		"": "absolute", "relative": "absolute", "/": "of the system", "/home": "of the system", "/home/me": "of the system", "/var/lib/../lib": "of the system",
		"/link": "symbolic link", "/mine": "no server or agent ever ran",
	} {
		j, f, _ := scene(t)
		for _, dir := range []string{"/", "/home", "/mine"} {
			write(t, j.root, dir+"/data/mine", "")
		}
		write(t, j.root, "/home/server/.lock", "")
		write(t, j.root, "/home/me/server/.lock", "")
		if err := os.Symlink(j.root+"/var/lib/cleat", j.root+"/link"); err != nil {
			t.Fatal(err)
		}
		before := files(t, j.root)
		j.Data = paths.Data(data)
		if err := j.uninstall(context.Background()); err == nil || !strings.Contains(err.Error(), "data-dir") || !strings.Contains(err.Error(), why) || len(f.did) > 0 {
			t.Errorf("%q: %v, did %q", data, err, f.did)
		}
		if diff := cmp.Diff(before, files(t, j.root)); diff != "" {
			t.Errorf("%q: -before +after:\n%s", data, diff)
		}
	}
}

// A link is not followed: what it leads to may be anything.
func TestUninstallLinks(t *testing.T) {
	j, f, _ := scene(t)
	f.end(100)
	for _, path := range []string{"/var/lib/kubelet", "/var/lib/cleat/agent"} {
		to := j.root + "/disk/" + filepath.Base(path)
		if err := os.MkdirAll(j.root+"/disk", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(j.root+path, to); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(to, j.root+path); err != nil {
			t.Fatal(err)
		}
		j.errs = nil
		err := j.uninstall(context.Background())
		if want := path + ": is a symbolic link to /disk/" + filepath.Base(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
		if !exists(to) || !exists(j.root+path) || !exists(j.root+"/var/lib/cleat/server/.lock") {
			t.Errorf("%s or what tells that it is cleat's is gone", path)
		}
		if err := os.Remove(j.root + path); err != nil {
			t.Fatal(err)
		}
	}
	j.errs = nil
	if err := j.uninstall(context.Background()); err != nil || exists(j.root+"/var/lib/cleat") {
		t.Errorf("without the links: %v", err)
	}
}

func TestDeleteMount(t *testing.T) {
	j, f, _ := scene(t)
	f.mounts = append(f.mounts, "/etc/cleat", "/etc/cleat/config.yaml")
	if err := j.delete("/etc/cleat/config.yaml"); err == nil || !strings.Contains(err.Error(), "is a mount") {
		t.Errorf("a file that is a mount: %v", err)
	}
	if err := j.delete("/etc/cleat"); err == nil || !exists(j.root+"/etc/cleat/node/password") {
		t.Errorf("a disk with a mount in it: %v", err)
	}
	f.mounts = []string{"/etc/cleat"}
	if err := j.delete("/etc/cleat"); err != nil || exists(j.root+"/etc/cleat/node") || !exists(j.root+"/etc/cleat") {
		t.Errorf("a disk: %v", err)
	}
}

// Pods of a server that had another data directory are not touched.
func TestOtherData(t *testing.T) {
	j, f, _ := scene(t)
	f.end(100)
	f.processes[1].Exe = "/srv/cleat/data/d2/bin/containerd-shim-runc-v2"
	for _, run := range []func(context.Context) error{j.killall, j.uninstall} {
		if err := run(context.Background()); err == nil || !strings.Contains(err.Error(), `"/srv/cleat"`) || len(f.did) > 0 {
			t.Errorf("%v, did %q", err, f.did)
		}
	}
}

func TestHostGatewayRoutes(t *testing.T) {
	for record, want := range map[string][]string{
		`{"backend":"host-gw","network":"10.42.0.0/16"}`:                            {"route 10.42.1.0/24"},
		`{"backend":"host-gw","network":"10.42.0.0/16","network_v6":"fd42::/56"}`:   {"route 10.42.1.0/24", "route fd42:0:0:1::/64"},
		`{"backend":"host-gw","network":"","network_v6":"fd42::/56"}`:               {"route fd42:0:0:1::/64"},
		`{"backend":"vxlan","network":"10.42.0.0/16","network_v6":"fd42::/56"}`:     nil,
		`{"backend":"host-gw","network":"10.42.0.0/16","network_v6":"fd42::1/129"}`: nil,
	} {
		j, f, _ := scene(t)
		write(t, j.root, "/var/lib/cleat/agent/network.json", `{"flannel":`+record+`}`)
		for _, dst := range []string{"0.0.0.0/0", "10.42.1.0/24", "10.0.0.0/8", "10.43.1.0/24", "::/0", "fd42:0:0:1::/64", "fd42::/48", "fd43::/64"} {
			gateway := netip.MustParseAddr("10.99.0.2")
			if strings.Contains(dst, ":") {
				gateway = netip.MustParseAddr("fd99::2")
			}
			f.routes = append(f.routes, route{netip.MustParsePrefix(dst), gateway})
		}
		if err := j.killall(context.Background()); (err == nil) != !strings.Contains(record, "129") {
			t.Errorf("%s: %v", record, err)
		}
		var got []string
		for _, did := range f.did {
			if strings.HasPrefix(did, "route ") {
				got = append(got, did)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: -want +got:\n%s", record, diff)
		}
	}
}
