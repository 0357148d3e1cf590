package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
	_ "unsafe" // for go:linkname

	"go.opentelemetry.io/otel/trace/noop"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/component-base/metrics"
	cri "k8s.io/cri-client/pkg"
	"k8s.io/cri-client/pkg/fake"
	kubeletapp "k8s.io/kubernetes/cmd/kubelet/app"
	"k8s.io/kubernetes/cmd/kubelet/app/options"
	cadvisor "k8s.io/kubernetes/pkg/kubelet/cadvisor/testing"
	"k8s.io/kubernetes/pkg/kubelet/cm"
	"k8s.io/kubernetes/pkg/kubemark"
)

const (
	runtimeTimeout = 15 * time.Second
	maxPods        = 110
	maxOpenFiles   = 1 << 20 // a kubelet sets its process's, which they all share
)

// defaultRegistry is where every kubelet registers its collectors of volumes and
// logs. A second one under the same name would be a panic.
//
//go:linkname defaultRegistry k8s.io/component-base/metrics/legacyregistry.defaultRegistry
var defaultRegistry metrics.KubeRegistry

// muted is a registry that takes no collectors.
type muted struct{ metrics.KubeRegistry }

func (muted) CustomMustRegister(...metrics.StableCollector) {}

// muteCollectors lets one process have many kubelets. Nobody asks it for metrics.
func muteCollectors() { defaultRegistry = muted{defaultRegistry} }

// startKubelet starts a kubelet with a runtime of its own. It differs from
// kubemark's in having the settings of cleat's, as far as the API server notices.
func startKubelet(ctx context.Context, config *rest.Config, name, address, dir string) error {
	config = rest.CopyConfig(config)
	config.UserAgent = "kubelet/hollow"
	config.ContentType = "application/vnd.kubernetes.protobuf"
	flags, settings := kubemark.GetHollowKubeletConfig(&kubemark.HollowKubeletOptions{
		NodeName: name, MaxPods: maxPods, NodeLabels: map[string]string{"hollow": "true"},
	})
	// It made a directory below the system's temporary one.
	if err := os.RemoveAll(flags.RootDirectory); err != nil {
		return err
	}
	flags.RootDirectory = dir
	flags.CertDirectory = filepath.Join(dir, "pki")
	settings.StaticPodPath = ""
	settings.PodLogsDir = filepath.Join(dir, "pod-logs")
	if err := os.MkdirAll(settings.PodLogsDir, 0o700); err != nil {
		return err
	}
	flags.NodeIP = address
	flags.CloudProvider = "external"
	settings.ProviderID = ""
	settings.EnableServer = false // nobody asks for logs of pods that do not run
	settings.EnableControllerAttachDetach = true
	settings.NodeStatusUpdateFrequency.Duration = 2 * time.Second
	settings.MaxOpenFiles = maxOpenFiles
	config.QPS, config.Burst = float32(settings.KubeAPIQPS), int(settings.KubeAPIBurst)

	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	beats := rest.CopyConfig(config)
	beats.QPS = -1
	beats.Timeout = settings.NodeStatusUpdateFrequency.Duration
	heartbeats, err := kubernetes.NewForConfig(beats)
	if err != nil {
		return err
	}
	endpoint := "unix://" + filepath.Join(dir, "cri.sock")
	runtime := fake.NewFakeRemoteRuntime()
	if err := runtime.Start(endpoint); err != nil {
		return fmt.Errorf("fake runtime: %w", err)
	}
	context.AfterFunc(ctx, runtime.Stop)
	service, err := cri.NewRemoteRuntimeService(ctx, endpoint, runtimeTimeout, noop.NewTracerProvider(), false)
	if err != nil {
		return fmt.Errorf("client of the fake runtime: %w", err)
	}
	kubelet := kubemark.NewHollowKubelet(flags, settings, client, heartbeats, &cadvisor.Fake{NodeName: name},
		runtime.ImageService, service, cm.NewStubContainerManager())
	// Its own Run blocks for ever.
	return kubeletapp.RunKubelet(ctx, &options.KubeletServer{KubeletFlags: *flags, KubeletConfiguration: *settings}, kubelet.KubeletDeps)
}
