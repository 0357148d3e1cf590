// Package containerd writes the configuration of the container runtime,
// starts it through the function it is given and waits until the CRI answers.
// With --container-runtime-endpoint it only waits for somebody else's.
package containerd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/atomicfile"
	"github.com/cleat-dev/cleat/core/internal/paths"
	"github.com/cleat-dev/cleat/core/kernel"
)

const probeInterval = 100 * time.Millisecond

// Component is the unit "containerd".
type Component struct {
	Config *config.Config
	Data   paths.Data
	// BinDir holds runc, containerd-shim-runc-v2 and the CNI plugins.
	BinDir string
	// Start serves containerd with the given configuration until its context
	// is done, and returns nil then. Not called for an external runtime.
	Start func(ctx context.Context, configPath string) error
	Log   *slog.Logger
}

// Endpoint is where the CRI answers, as unix://<absolute path>: the embedded
// containerd's socket, or what --container-runtime-endpoint says.
func Endpoint(cfg *config.Config) string {
	return cmp.Or(asURL(cfg.ContainerRuntimeEndpoint), "unix://"+paths.CRISocket)
}

// ImageEndpoint is where the image service answers if that is not Endpoint, as
// --image-service-endpoint says; else "".
func ImageEndpoint(cfg *config.Config) string { return asURL(cfg.ImageServiceEndpoint) }

func asURL(socket string) string {
	if strings.HasPrefix(socket, "/") {
		return "unix://" + socket
	}
	return socket
}

// Prepare writes every configuration file, so that a mistake in one is found
// before anything runs.
func (c *Component) Prepare(context.Context) error {
	endpoint := Endpoint(c.Config)
	if path, ok := strings.CutPrefix(endpoint, "unix://"); !ok || !filepath.IsAbs(path) {
		return fmt.Errorf("container-runtime-endpoint: %q is no unix socket: write unix:///path or /path", c.Config.ContainerRuntimeEndpoint)
	}
	if err := os.MkdirAll(filepath.Dir(c.Data.CrictlConfig()), 0o700); err != nil {
		return fmt.Errorf("crictl configuration: %w", err)
	}
	crictl := fmt.Sprintf("runtime-endpoint: %q\nimage-endpoint: %q\ntimeout: 10\n",
		endpoint, cmp.Or(ImageEndpoint(c.Config), endpoint))
	if _, err := atomicfile.WriteIfChanged(c.Data.CrictlConfig(), []byte(crictl), 0o644); err != nil {
		return fmt.Errorf("crictl configuration: %w", err)
	}
	if c.external() {
		return nil
	}
	return c.writeConfig()
}

func (c *Component) external() bool { return c.Config.ContainerRuntimeEndpoint != "" }

func (c *Component) writeConfig() error {
	regs, err := c.readRegistries()
	if err != nil {
		return err
	}
	content, err := render(newTemplateData(c.Config, c.Data, c.BinDir, auths(regs)), c.Data.ContainerdTemplate())
	if err != nil {
		return err
	}
	hosts, err := renderHosts(regs, c.Config.DisableDefaultRegistryEndpoint)
	if err != nil {
		return fmt.Errorf("private-registry: %s: %w", c.Config.PrivateRegistry, err)
	}
	if err := os.MkdirAll(filepath.Dir(c.Data.ContainerdConfig()), 0o700); err != nil {
		return fmt.Errorf("containerd configuration: %w", err)
	}
	if err := writeHosts(c.Log, c.Data.RegistryHosts(), hosts); err != nil {
		return fmt.Errorf("registry configuration: %w", err)
	}
	// It may hold registry passwords.
	if _, err := atomicfile.WriteIfChanged(c.Data.ContainerdConfig(), content, 0o600); err != nil {
		return fmt.Errorf("containerd configuration: %w", err)
	}
	return nil
}

// Run starts the runtime, or finds the external one, and is ready when it
// answers the CRI. Containers outlive it.
func (c *Component) Run(ctx context.Context, ready func()) error {
	cri, err := dialCRI(Endpoint(c.Config))
	if err != nil {
		return err
	}
	defer cri.close()

	if c.external() {
		if err := kernel.Poll(ctx, probeInterval, cri.probe); err != nil {
			return ctx.Err()
		}
		ready()
		<-ctx.Done()
		return nil
	}

	running, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	stopped := make(chan error, 1)
	go func() { stopped <- c.Start(running, c.Data.ContainerdConfig()) }()
	probing, stopProbing := context.WithCancel(ctx)
	probed := make(chan struct{})
	go func() {
		defer close(probed)
		probe := func(ctx context.Context) error {
			err := cri.probe(ctx)
			if final := (noCRI{}); errors.As(err, &final) {
				stop(err)
			}
			return err
		}
		if kernel.Poll(probing, probeInterval, probe) == nil {
			ready()
		}
	}()
	err = <-stopped
	stopProbing()
	<-probed
	switch cause := context.Cause(running); {
	case ctx.Err() != nil:
	case cause != nil:
		return errors.Join(cause, err)
	case err == nil:
		err = errors.New("containerd stopped by itself")
	}
	return err
}

// Check asks the CRI whether the runtime still works.
func (c *Component) Check(ctx context.Context) error {
	cri, err := dialCRI(Endpoint(c.Config))
	if err != nil {
		return err
	}
	defer cri.close()
	return cri.probe(ctx)
}
