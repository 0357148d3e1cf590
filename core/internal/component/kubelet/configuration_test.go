package kubelet

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/paths"
)

func testConfig() *config.Config {
	return &config.Config{
		Options: config.Options{
			NodeName: "n1", NodeIP: []string{"192.0.2.7", "2001:db8::7"}, ResolvConf: "/run/resolv.conf",
			ClusterDNS: []string{"10.43.0.10"}, ClusterDomain: "cluster.local",
		},
		Host: config.Host{CgroupRoot: "/confined"},
	}
}

func TestConfiguration(t *testing.T) {
	got, err := yaml.Marshal(Configuration(testConfig(), paths.Data("/data"), "unix:///cri.sock", ""))
	if err != nil {
		t.Fatal(err)
	}
	// What the machine of a pod, and a stranger who can reach the node, depend on.
	var lines []string
	for line := range strings.Lines(string(got)) {
		if !strings.Contains(line, ": 0s") && !strings.Contains(line, "{}") { // left to the kubelet
			lines = append(lines, strings.TrimSuffix(line, "\n"))
		}
	}
	want := []string{
		"address: 0.0.0.0",
		"authentication:",
		"  anonymous:",
		"    enabled: false",
		"  webhook:",
		"    enabled: true",
		"  x509:",
		"    clientCAFile: /data/agent/tls/client-ca.crt",
		"authorization:",
		"  mode: Webhook",
		"  webhook:",
		"cgroupDriver: cgroupfs",
		"cgroupRoot: /confined",
		"clusterDNS:",
		"- 10.43.0.10",
		"clusterDomain: cluster.local",
		"containerRuntimeEndpoint: unix:///cri.sock",
		"enableDebuggingHandlers: true",
		"enableProfilingHandler: false",
		"evictionHard:",
		"  imagefs.available: 5%",
		"  nodefs.available: 5%",
		"evictionMinimumReclaim:",
		"  imagefs.available: 10%",
		"  nodefs.available: 10%",
		"failCgroupV1: false",
		"failSwapOn: false",
		"fileCheckFrequency: 20s",
		"healthzBindAddress: 127.0.0.1",
		"healthzPort: 10248",
		"logging:",
		"  flushFrequency: 0",
		"  options:",
		"    json:",
		`      infoBufferSize: "0"`,
		"    text:",
		`      infoBufferSize: "0"`,
		"  verbosity: 0",
		"nodeStatusReportFrequency: 5m0s",
		"nodeStatusUpdateFrequency: 2s",
		"podLogsDir: /var/log/pods",
		"resolvConf: /run/resolv.conf",
		"serializeImagePulls: false",
		"staticPodPath: /data/agent/pod-manifests",
		"tlsCertFile: /data/agent/tls/serving-kubelet.crt",
		"tlsPrivateKeyFile: /data/agent/tls/serving-kubelet.key",
		"volumePluginDir: /data/agent/volume-plugins",
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestConfigurationOptions(t *testing.T) {
	cfg := testConfig()
	cfg.ProtectKernelDefaults = true
	got := Configuration(cfg, paths.Data("/data"), "unix:///cri.sock", "unix:///images.sock")
	if !got.ProtectKernelDefaults || got.ImageServiceEndpoint != "unix:///images.sock" || got.ContainerRuntimeEndpoint != "unix:///cri.sock" {
		t.Errorf("protect %v, images %q, runtime %q", got.ProtectKernelDefaults, got.ImageServiceEndpoint, got.ContainerRuntimeEndpoint)
	}
}

func TestArgs(t *testing.T) {
	always := []string{
		"--cert-dir=/data/agent/kubelet-pki",
		"--cloud-provider=external",
		"--hostname-override=n1",
		"--kubeconfig=/data/agent/kubelet.kubeconfig",
		"--node-ip=192.0.2.7,2001:db8::7",
		"--root-dir=/var/lib/kubelet",
	}
	for _, tt := range []struct {
		name   string
		change func(*config.Config)
		more   []string
		less   string
	}{
		{"defaults", func(*config.Config) {}, nil, ""},
		{"without a cloud controller", func(c *config.Config) { c.DisableCloudController = true }, nil, "--cloud-provider=external"},
		{"labels and taints", func(c *config.Config) {
			c.NodeLabel = []string{"disk=ssd", "zone=a"}
			c.NodeTaint = []string{"dedicated=db:NoSchedule", "x=:NoExecute"}
		}, []string{"--node-labels=disk=ssd,zone=a", "--register-with-taints=dedicated=db:NoSchedule,x=:NoExecute"}, ""},
		{"credential providers", func(c *config.Config) {
			c.ImageCredentialProviderBinDir, c.ImageCredentialProviderConfig = "/opt/cred", "/etc/cred.yaml"
		}, []string{"--image-credential-provider-bin-dir=/opt/cred", "--image-credential-provider-config=/etc/cred.yaml"}, ""},
		{"the operator's", func(c *config.Config) { c.KubeletArg = []string{"max-pods=200", "root-dir=/kubelet"} },
			[]string{"--max-pods=200", "--root-dir=/kubelet"}, "--root-dir=/var/lib/kubelet"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := testConfig()
			tt.change(cfg)
			want := append(slices.DeleteFunc(slices.Clone(always), func(a string) bool { return a == tt.less }), tt.more...)
			got := Args(cfg, paths.Data("/data"))
			slices.Sort(want)
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
