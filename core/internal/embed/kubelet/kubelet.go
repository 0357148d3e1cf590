// Package kubelet runs the kubelet inside this process.
package kubelet

import (
	"context"
	"fmt"

	"github.com/spf13/pflag"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
	kubeletapp "k8s.io/kubernetes/cmd/kubelet/app"
	"k8s.io/kubernetes/cmd/kubelet/app/options"
	kubeletscheme "k8s.io/kubernetes/pkg/kubelet/apis/config/scheme"
	"k8s.io/kubernetes/pkg/kubelet/apis/config/validation"

	"github.com/cleat-dev/cleat/core/internal/embed/quirks"
)

// Kubelet is a kubelet whose configuration and arguments were accepted.
type Kubelet struct {
	server *options.KubeletServer
}

// New takes a configuration and args, each "--flag=value" as the kubelet takes
// them; args win, as on a kubelet's own command line.
func New(config *kubeletconfig.KubeletConfiguration, args []string) (*Kubelet, error) {
	scheme, _, err := kubeletscheme.NewSchemeAndCodecs()
	if err != nil {
		return nil, fmt.Errorf("kubelet configuration scheme: %w", err)
	}
	internal, err := options.NewKubeletConfiguration()
	if err != nil {
		return nil, fmt.Errorf("default kubelet configuration: %w", err)
	}
	external := config.DeepCopy()
	scheme.Default(external)
	if err := scheme.Convert(external, internal, nil); err != nil {
		return nil, fmt.Errorf("convert the kubelet configuration: %w", err)
	}

	flags := options.NewKubeletFlags()
	fs := pflag.NewFlagSet("kubelet", pflag.ContinueOnError)
	flags.AddFlags(fs)
	options.AddKubeletConfigFlags(fs, internal)
	options.AddGlobalFlags(fs)
	if err := fs.Parse(args); err != nil {
		return nil, fmt.Errorf("--kubelet-arg: %w", err)
	}
	// Upstream reads these files in its command, which is not run here.
	for _, file := range []string{"config", "config-dir"} {
		if fs.Changed(file) {
			return nil, fmt.Errorf("--kubelet-arg %s has no effect here; give each setting as a --kubelet-arg of its own", file)
		}
	}
	if err := options.ValidateKubeletFlags(flags); err != nil {
		return nil, fmt.Errorf("--kubelet-arg: %w", err)
	}
	return &Kubelet{server: &options.KubeletServer{KubeletFlags: *flags, KubeletConfiguration: *internal}}, nil
}

// Run runs the node's pods until ctx is done; the pods go on without it.
func (k *Kubelet) Run(ctx context.Context) error {
	if err := utilfeature.DefaultMutableFeatureGate.SetFromMap(k.server.FeatureGates); err != nil {
		return fmt.Errorf("kubelet feature gates: %w", err)
	}
	if err := validation.ValidateKubeletConfiguration(&k.server.KubeletConfiguration, utilfeature.DefaultFeatureGate); err != nil {
		return err
	}
	deps, err := kubeletapp.UnsecuredDependencies(ctx, k.server, utilfeature.DefaultFeatureGate)
	if err != nil {
		return fmt.Errorf("dependencies: %w", err)
	}
	deps.VolumePlugins = append(deps.VolumePlugins, quirks.CSIWitness())
	err = kubeletapp.Run(ctx, k.server, deps, utilfeature.DefaultFeatureGate)
	if ctx.Err() != nil {
		return nil
	}
	return err
}
