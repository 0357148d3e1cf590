//go:build bench

package cluster

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/cleat-dev/cleat/test/e2e/lab"
)

const (
	upstreamDir = "/var/lib/cleat/upstream" // on a real disk in the machine, as cleat's own
	runtimeBin  = upstreamDir + "/bin"
	cniBin      = "/opt/cni/bin"
	criSocket   = "/run/containerd/containerd.sock"
	kineSocket  = "/run/kine.sock"
	etcdClients = "127.0.0.1:2379"

	podNetwork     = "10.42.0.0/16"
	serviceNetwork = "10.43.0.0/16"
	serviceAddress = "10.43.0.1" // of the service kubernetes
	dnsAddress     = "10.43.0.10"
)

// upstreamPrograms are what a machine needs to be upstream's cluster, below build/upstream.
func upstreamPrograms() []string {
	return []string{"containerd", "ctr", "etcd", "flannel", "kine", "kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubelet"}
}

// prepareUpstream writes what an operator has before he starts a cluster for the first time:
// certificates, configuration, images as archives, CNI plugins.
func prepareUpstream(t *testing.T, m *lab.Machine) {
	t.Helper()
	pki := newAuthority(t, m, filepath.Join(upstreamDir, "pki"), "https://127.0.0.1:6443")
	pki.serving("apiserver", []string{"localhost", m.Name, "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"},
		net.IPv4(127, 0, 0, 1), net.IP(m.Addr.AsSlice()), net.ParseIP(serviceAddress))
	pki.serving("kubelet", []string{m.Name}, net.IP(m.Addr.AsSlice()))
	pki.serving("service-account", nil) // only its key is used
	pki.client("admin", "admin", "system:masters")
	pki.client("kubelet-client", "kube-apiserver", "system:masters")
	pki.client("front-proxy", "system:auth-proxy")
	pki.client("controller-manager", "system:kube-controller-manager")
	pki.client("scheduler", "system:kube-scheduler")
	pki.client("kube-proxy", "system:kube-proxy")
	pki.client("node", "system:node:"+m.Name, "system:nodes")
	pki.client("flannel", "flannel", "system:masters")

	m.WriteFile(t, filepath.Join(upstreamDir, "containerd.toml"), containerdConfig(pauseImage(t)))
	m.WriteFile(t, filepath.Join(upstreamDir, "kubelet.yaml"), kubeletConfig(pki))
	m.WriteFile(t, filepath.Join(upstreamDir, "images.tar"), packagedImages(t))
	m.CopyFile(t, artefact(t, "test-images.tar"), filepath.Join(upstreamDir, "test-images.tar"), 0o644)
	// On a disk: runc mounts an overlay over its own directory, which a lab's root is already.
	for _, program := range []string{"runc", "containerd-shim-runc-v2"} {
		m.CopyFile(t, artefact(t, "bundle/"+program), filepath.Join(runtimeBin, program), 0o755)
	}
	for _, plugin := range []string{"bridge", "host-local", "loopback", "portmap"} {
		m.CopyFile(t, artefact(t, "bundle/"+plugin), filepath.Join(cniBin, plugin), 0o755)
	}
	if err := os.MkdirAll(m.Path(filepath.Join(upstreamDir, "kine")), 0o700); err != nil {
		t.Fatal(err)
	}
}

// pauseImage is the name of the sandbox image that both sides use.
func pauseImage(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../../bundle/images/pause.json")
	if err != nil {
		t.Fatal(err)
	}
	var image struct{ Ref string }
	if err := json.Unmarshal(text, &image); err != nil {
		t.Fatal(err)
	}
	return image.Ref
}

// packagedImages is the archive that cleat carries, uncompressed.
func packagedImages(t *testing.T) string {
	t.Helper()
	packed, err := os.ReadFile("../../../core/internal/embed/payload/files/images.tar.zst")
	if err != nil {
		t.Fatalf("%v: run make build first", err)
	}
	reader, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	archive, err := reader.DecodeAll(packed, nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(archive)
}

// containerdConfig is cleat's, with the plugins disabled that cleat leaves out.
func containerdConfig(pause string) string {
	return fmt.Sprintf(`version = 4
root = '%[1]s/containerd'
state = '/run/containerd'
imports = []
disabled_plugins = [
  'io.containerd.snapshotter.v1.blockfile', 'io.containerd.snapshotter.v1.btrfs', 'io.containerd.snapshotter.v1.devmapper',
  'io.containerd.snapshotter.v1.erofs', 'io.containerd.snapshotter.v1.zfs', 'io.containerd.tracing.processor.v1.otlp',
  'io.containerd.internal.v1.tracing', 'io.containerd.nri.v1.nri', 'io.containerd.image-verifier.v1.bindir',
]
[plugins.'io.containerd.server.v1.grpc']
  address = '%[2]s'
[plugins.'io.containerd.server.v1.ttrpc']
  address = '%[2]s.ttrpc'
[plugins.'io.containerd.grpc.v1.cri']
  disable_tcp_service = true
  stream_server_address = '127.0.0.1'
  stream_server_port = '0'
[plugins.'io.containerd.cri.v1.images']
  snapshotter = 'overlayfs'
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = '%[3]s'
[plugins.'io.containerd.cri.v1.runtime']
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins.'io.containerd.cri.v1.runtime'.containerd]
    default_runtime_name = 'runc'
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
      runtime_type = 'io.containerd.runc.v2'
      runtime_path = '%[5]s/containerd-shim-runc-v2'
      [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
        BinaryName = '%[5]s/runc'
        SystemdCgroup = false
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ['%[4]s']
    conf_dir = '/etc/cni/net.d'
    use_internal_loopback = true
`, upstreamDir, criSocket, pause, cniBin, runtimeBin)
}

// kubeletConfig is cleat's.
func kubeletConfig(pki *authority) string {
	return fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: 0.0.0.0
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: %[1]s}}
authorization: {mode: Webhook}
tlsCertFile: %[2]s
tlsPrivateKeyFile: %[3]s
containerRuntimeEndpoint: unix://%[4]s
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
clusterDNS: [%[5]s]
clusterDomain: cluster.local
resolvConf: /etc/resolv.conf
serializeImagePulls: false
evictionHard: {imagefs.available: "5%%", nodefs.available: "5%%"}
evictionMinimumReclaim: {imagefs.available: "10%%", nodefs.available: "10%%"}
volumePluginDir: %[6]s/volume-plugins
podLogsDir: /var/log/pods
enableProfilingHandler: false
`, pki.file("ca.crt"), pki.file("kubelet.crt"), pki.file("kubelet.key"), criSocket, dnsAddress, upstreamDir)
}

// store is a datastore of upstream's cluster.
type store struct {
	program program
	address string   // what the API server is given
	dial    string   // what takes connections when it is up
	flags   []string // of the API server, beside the address
}

func etcdStore() store {
	return store{
		program: program{Name: "etcd", Args: []string{
			"etcd", "--name=default", "--data-dir=" + upstreamDir + "/etcd",
			"--listen-client-urls=http://" + etcdClients, "--advertise-client-urls=http://" + etcdClients,
		}},
		address: "http://" + etcdClients,
		dial:    "tcp:" + etcdClients,
	}
}

// kineStore has the settings that cleat gives its own; see RATIONALE.md, "kine is not asked how
// far its watches are".
func kineStore() store {
	return store{
		program: program{Name: "kine", Args: []string{
			"kine", "--listen-address=unix://" + kineSocket,
			"--endpoint=sqlite://" + upstreamDir + "/kine/state.db?_journal_mode=WAL&_busy_timeout=30000&_synchronous=NORMAL&_txlock=immediate",
			"--emulated-etcd-version=3.5.12", "--compact-interval=5m", "--metrics-bind-address=0",
		}},
		address: "unix://" + kineSocket,
		dial:    "unix:" + kineSocket,
		flags:   []string{"--feature-gates=WatchList=false"},
	}
}

// upstreamCluster are the programs of a cluster, with the arguments that cleat gives the same
// programs, each started as soon as what it needs is there. A controller manager that is started
// before the API server is ready ends; a scheduler and a kubelet try again at growing intervals.
func upstreamCluster(m *lab.Machine, s store, cold bool) []program {
	pki := func(name string) string { return filepath.Join(upstreamDir, "pki", name) }
	own := func(name string) []string { // how a component reaches the API server and is asked itself
		kubeconfig := pki(name + ".kubeconfig")
		return []string{
			"--kubeconfig=" + kubeconfig, "--authentication-kubeconfig=" + kubeconfig, "--authorization-kubeconfig=" + kubeconfig,
			"--bind-address=127.0.0.1", "--leader-elect=false", "--profiling=false", "--kube-api-qps=500", "--kube-api-burst=1000",
		}
	}
	programs := []program{
		s.program,
		{
			Name: "containerd", Args: []string{"containerd", "--config", upstreamDir + "/containerd.toml"},
			Env: []string{"PATH=" + runtimeBin + ":/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, // the shim looks for runc by name
		},
		{Name: "kube-apiserver", After: s.dial, Args: append([]string{
			"kube-apiserver", "--etcd-servers=" + s.address,
			"--advertise-address=" + m.Addr.String(), "--secure-port=6443", "--allow-privileged=true", "--authorization-mode=Node,RBAC",
			"--enable-admission-plugins=NodeRestriction", "--enable-bootstrap-token-auth=true", "--profiling=false",
			"--client-ca-file=" + pki("ca.crt"), "--tls-cert-file=" + pki("apiserver.crt"), "--tls-private-key-file=" + pki("apiserver.key"),
			"--kubelet-certificate-authority=" + pki("ca.crt"), "--kubelet-client-certificate=" + pki("kubelet-client.crt"),
			"--kubelet-client-key=" + pki("kubelet-client.key"), "--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname",
			"--proxy-client-cert-file=" + pki("front-proxy.crt"), "--proxy-client-key-file=" + pki("front-proxy.key"),
			"--requestheader-allowed-names=system:auth-proxy", "--requestheader-client-ca-file=" + pki("ca.crt"),
			"--requestheader-extra-headers-prefix=X-Remote-Extra-", "--requestheader-group-headers=X-Remote-Group",
			"--requestheader-username-headers=X-Remote-User",
			"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
			"--service-account-key-file=" + pki("service-account.key"), "--service-account-signing-key-file=" + pki("service-account.key"),
			"--service-cluster-ip-range=" + serviceNetwork,
		}, s.flags...)},
		{Name: "kube-controller-manager", After: afterReadyz, Args: append([]string{
			"kube-controller-manager", "--allocate-node-cidrs=true", "--cluster-cidr=" + podNetwork, "--configure-cloud-routes=false",
			"--cluster-signing-cert-file=" + pki("ca.crt"), "--cluster-signing-key-file=" + pki("ca.key"),
			"--controllers=*,tokencleaner", "--root-ca-file=" + pki("ca.crt"),
			"--service-account-private-key-file=" + pki("service-account.key"), "--service-cluster-ip-range=" + serviceNetwork,
			"--use-service-account-credentials=true",
		}, own("controller-manager")...)},
		{Name: "kube-scheduler", After: afterReadyz, Args: append([]string{"kube-scheduler"}, own("scheduler")...)},
		{Name: "kubelet", After: afterReadyz, Args: []string{
			"kubelet", "--config=" + upstreamDir + "/kubelet.yaml", "--kubeconfig=" + pki("node.kubeconfig"),
			"--hostname-override=" + m.Name, "--node-ip=" + m.Addr.String(), "--cert-dir=" + upstreamDir + "/kubelet-pki", "--root-dir=/var/lib/kubelet",
		}},
		{Name: "flannel", After: afterPodCIDR, Env: []string{"NODE_NAME=" + m.Name}, Args: []string{
			"flannel", "-kubeconfig", pki("flannel.kubeconfig"), "-network", podNetwork,
		}},
		{Name: "kube-proxy", After: afterNode, Args: []string{
			"kube-proxy", "--kubeconfig=" + pki("kube-proxy.kubeconfig"), "--hostname-override=" + m.Name, "--cluster-cidr=" + podNetwork,
			"--proxy-mode=nftables", "--healthz-bind-address=127.0.0.1:10256", "--metrics-bind-address=127.0.0.1:10249", "--profiling=false",
			"--conntrack-max-per-core=0", "--conntrack-min=0", "--conntrack-tcp-timeout-established=0s", "--conntrack-tcp-timeout-close-wait=0s",
		}},
	}
	if cold {
		importing := "ctr --address " + criSocket + " --namespace k8s.io images import --local " + upstreamDir + "/"
		programs = append(programs, program{Name: "import", After: "unix:" + criSocket, Once: true, Args: []string{
			"sh", "-c", strings.Join([]string{importing + "images.tar", importing + "test-images.tar"}, " && "),
		}})
	}
	return programs
}
