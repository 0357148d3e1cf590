package cli

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/paths"
)

// tool is a program of others that is part of the binary. It parses its own
// arguments; we only tell it, by its own variables, where this node's things
// are, and never over what the user has set.
type tool struct {
	name  string
	short string
	run   func(args []string) int
	env   func(cfg *config.Config) map[string]string
	// warn tells what is about to go wrong, if it is not nil; set are the variables
	// that have a value.
	warn func(cfg *config.Config, args []string, set map[string]bool) error
}

// tools are those that Programs has.
func (a *app) tools() []tool {
	all := []tool{
		{"kubectl", "Control the cluster", a.programs.Kubectl, kubectlEnv, noCluster},
		{"ctr", "Look into containerd", a.programs.Ctr, ctrEnv, nil},
		{"crictl", "Look into the container runtime as the kubelet does", a.programs.Crictl, crictlEnv, nil},
	}
	var have []tool
	for _, t := range all {
		if t.run != nil {
			have = append(have, t)
		}
	}
	return have
}

func (a *app) toolCommand(t tool) *cobra.Command {
	return &cobra.Command{
		Use:                t.name + " [argument…]",
		Short:              t.short,
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if code := a.runTool(t, args, cmd.ErrOrStderr()); code != 0 {
				return exitCode(code)
			}
			return nil
		},
	}
}

func (a *app) runTool(t tool, args []string, stderr io.Writer) int {
	set := make(map[string]bool)
	environ := a.environ()
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		set[name] = value != ""
	}
	cfg := nodeConfig(environ)
	for name, value := range t.env(cfg) {
		if set[name] || value == "" {
			continue
		}
		if err := a.setenv(name, value); err != nil {
			continue // then the tool works as it does without us
		}
		set[name] = true
	}
	if t.warn != nil {
		if err := t.warn(cfg, args, set); err != nil {
			report(stderr, err)
		}
	}
	return t.run(args)
}

// nodeConfig is the config of this machine's node as far as the caller may
// read it, else the defaults: `cleat kubectl version` works for anyone.
func nodeConfig(environ []string) *config.Config {
	if cfg, err := loadEither(nil, environ); err == nil {
		return cfg
	}
	cfg := new(config.Config)
	cfg.DataDir, cfg.WriteKubeconfig = config.DefaultDataDir, config.DefaultWriteKubeconfig
	return cfg
}

func kubectlEnv(cfg *config.Config) map[string]string {
	// A path that cannot be read would make kubectl fail where it might have
	// found ~/.kube/config.
	return map[string]string{"KUBECONFIG": ifReadable(cfg.WriteKubeconfig)}
}

// noCluster says why kubectl knows no cluster, as on an agent: by itself it asks one
// at localhost:8080 and says that it is not there.
func noCluster(cfg *config.Config, args []string, set map[string]bool) error {
	if set["KUBECONFIG"] || set["KUBERNETES_SERVICE_HOST"] || ifReadable(clientcmd.RecommendedHomeFile) != "" {
		return nil
	}
	alone := []string{"completion", "config", "help", "kustomize", "options", "plugin", cobra.ShellCompRequestCmd, cobra.ShellCompNoDescRequestCmd}
	command := slices.IndexFunc(args, func(a string) bool { return !strings.HasPrefix(a, "-") })
	if command < 0 || slices.Contains(alone, args[command]) || slices.ContainsFunc(args, func(a string) bool {
		name, _, _ := strings.Cut(a, "=")
		return slices.Contains([]string{"--kubeconfig", "--server", "-s", "--client", "--help", "-h"}, name)
	}) {
		return nil
	}
	_, err := os.Stat(cfg.WriteKubeconfig)
	if err == nil {
		err = fmt.Errorf("%s: %w", cfg.WriteKubeconfig, fs.ErrPermission)
	}
	return hinted{fmt.Errorf("kubectl knows no cluster: %w", err), "a server has that file, for root: run this there, or name a kubeconfig with --kubeconfig or KUBECONFIG"}
}

func ctrEnv(cfg *config.Config) map[string]string {
	return map[string]string{
		"CONTAINERD_ADDRESS":   strings.TrimPrefix(criSocket(cfg), "unix://"),
		"CONTAINERD_NAMESPACE": "k8s.io",
	}
}

func crictlEnv(cfg *config.Config) map[string]string {
	if file := ifReadable(paths.Data(cfg.DataDir).CrictlConfig()); file != "" {
		return map[string]string{"CRI_CONFIG_FILE": file}
	}
	socket := "unix://" + strings.TrimPrefix(criSocket(cfg), "unix://")
	return map[string]string{"CONTAINER_RUNTIME_ENDPOINT": socket, "IMAGE_SERVICE_ENDPOINT": socket}
}

func criSocket(cfg *config.Config) string {
	if cfg.ContainerRuntimeEndpoint != "" {
		return cfg.ContainerRuntimeEndpoint
	}
	return paths.CRISocket
}

func ifReadable(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	if f.Close() != nil {
		return ""
	}
	return path
}
