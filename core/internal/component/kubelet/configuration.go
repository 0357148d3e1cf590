package kubelet

import (
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/componentargs"
	"github.com/cleat-dev/cleat/core/internal/paths"
)

// StaticPods is the directory whose manifests the kubelet runs by itself.
func StaticPods(data paths.Data) string { return data.Agent("pod-manifests") }

// Configuration is the kubelet's, before the operator's --kubelet-arg. Images
// come from imageEndpoint, or from criEndpoint if that is "".
func Configuration(cfg *config.Config, data paths.Data, criEndpoint, imageEndpoint string) *kubeletconfig.KubeletConfiguration {
	yes, no := true, false
	return &kubeletconfig.KubeletConfiguration{
		Address:     "0.0.0.0",
		HealthzPort: new(int32(10248)), HealthzBindAddress: "127.0.0.1",
		Authentication: kubeletconfig.KubeletAuthentication{
			Anonymous: kubeletconfig.KubeletAnonymousAuthentication{Enabled: &no},
			Webhook:   kubeletconfig.KubeletWebhookAuthentication{Enabled: &yes},
			X509:      kubeletconfig.KubeletX509Authentication{ClientCAFile: data.AgentTLS("client-ca.crt")},
		},
		Authorization:     kubeletconfig.KubeletAuthorization{Mode: kubeletconfig.KubeletAuthorizationModeWebhook},
		TLSCertFile:       data.AgentTLS("serving-kubelet.crt"),
		TLSPrivateKeyFile: data.AgentTLS("serving-kubelet.key"),

		ContainerRuntimeEndpoint: criEndpoint,
		ImageServiceEndpoint:     imageEndpoint,
		CgroupDriver:             "cgroupfs",
		CgroupRoot:               cfg.Host.CgroupRoot,
		// Upstream refuses cgroup v1 since 1.35 unless told otherwise; machines
		// that still have it are worth running on.
		FailCgroupV1: &no,
		FailSwapOn:   &no,

		ClusterDNS:     cfg.ClusterDNS,
		ClusterDomain:  cfg.ClusterDomain,
		ResolverConfig: &cfg.ResolvConf,

		ProtectKernelDefaults: cfg.ProtectKernelDefaults,

		SerializeImagePulls: &no,
		// Percentages, as k3s: upstream's defaults stop small disks from running anything.
		EvictionHard:           map[string]string{"imagefs.available": "5%", "nodefs.available": "5%"},
		EvictionMinimumReclaim: map[string]string{"imagefs.available": "10%", "nodefs.available": "10%"},
		StaticPodPath:          StaticPods(data),
		FileCheckFrequency:     metav1.Duration{Duration: 20 * time.Second},
		// Looked at every 2 s, written only when it changed or after 5 min. At
		// upstream's 10 s a restarted node is sometimes not Ready for that long: its
		// first status, written before the kubelet has seen its pods, says so.
		NodeStatusUpdateFrequency: metav1.Duration{Duration: 2 * time.Second},
		NodeStatusReportFrequency: metav1.Duration{Duration: 5 * time.Minute},
		VolumePluginDir:           data.Agent("volume-plugins"),
		PodLogsDir:                "/var/log/pods",
		EnableDebuggingHandlers:   &yes,
		EnableProfilingHandler:    &no,
	}
}

// Args are the arguments that have no place in the configuration.
func Args(cfg *config.Config, data paths.Data) []string {
	args := map[string]string{
		"cert-dir":          data.Agent("kubelet-pki"),
		"hostname-override": cfg.NodeName,
		"kubeconfig":        data.Kubeconfig("kubelet"),
		"node-ip":           strings.Join(cfg.NodeIP, ","),
		"root-dir":          paths.KubeletDir,
	}
	if !cfg.DisableCloudController {
		args["cloud-provider"] = "external"
	}
	if len(cfg.NodeLabel) > 0 {
		args["node-labels"] = strings.Join(cfg.NodeLabel, ",")
	}
	if len(cfg.NodeTaint) > 0 {
		args["register-with-taints"] = strings.Join(cfg.NodeTaint, ",")
	}
	if cfg.ImageCredentialProviderConfig != "" {
		args["image-credential-provider-bin-dir"] = cfg.ImageCredentialProviderBinDir
		args["image-credential-provider-config"] = cfg.ImageCredentialProviderConfig
	}
	return componentargs.Merge(args, cfg.KubeletArg)
}
