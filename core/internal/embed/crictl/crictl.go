// Package crictl is the part of crictl that people type on a node: it lists,
// inspects, stops and removes pods, containers and images, shows logs and runs
// commands in containers. Commands, flags, output columns and JSON shapes are
// those of crictl of sigs.k8s.io/cri-tools, which cannot be embedded.
package crictl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	internalapi "k8s.io/cri-api/pkg/apis"
	criclient "k8s.io/cri-client/pkg"
	"k8s.io/klog/v2"
)

// Stdio is what a command reads and writes. If In and Out are terminals
// (*os.File), `exec -t` uses them as such.
type Stdio struct {
	In       io.Reader
	Out, Err io.Writer
}

// Run runs crictl with args, which do not hold the program's name, and returns
// the exit status: 0, 1 after an error (written to stdio.Err), or that of a
// command run by `exec`. It does not end the process.
func Run(ctx context.Context, args []string, stdio Stdio) int {
	// The client logs every error that it also returns.
	ctx = klog.NewContext(ctx, logr.Discard())
	a := &app{stdio: stdio, getenv: os.Getenv}
	root := a.rootCommand()
	root.SetArgs(args)
	root.SetIn(stdio.In)
	root.SetOut(stdio.Out)
	root.SetErr(stdio.Err)
	err := errors.Join(root.ExecuteContext(ctx), a.close(ctx))
	if err == nil {
		return 0
	}
	var exit exitError
	if errors.As(err, &exit) {
		return exit.status
	}
	fmt.Fprintf(stdio.Err, "crictl: %v\n", err)
	return 1
}

// exitError carries the exit status of a command that ran in a container.
type exitError struct{ status int }

func (e exitError) Error() string { return fmt.Sprintf("command ended with exit status %d", e.status) }

// app is one invocation.
type app struct {
	stdio  Stdio
	getenv func(string) string

	configFile      string
	runtimeEndpoint string
	imageEndpoint   string
	timeout         time.Duration

	runtime internalapi.RuntimeService
	images  internalapi.ImageManagerService
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "crictl",
		Short:         "Look at and handle the pods, containers and images of a node's container runtime",
		SilenceErrors: true,
		SilenceUsage:  true,
		// The flags here stand before the command, where -t and -i mean other
		// things than behind `exec`.
		TraverseChildren: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("unknown command %q: see `crictl help`", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	flags := root.Flags()
	flags.StringVarP(&a.configFile, "config", "c", "", "configuration file (default $CRI_CONFIG_FILE, else the node's own)")
	flags.StringVarP(&a.runtimeEndpoint, "runtime-endpoint", "r", "", "socket of the container runtime (default $CONTAINER_RUNTIME_ENDPOINT, else as configured)")
	flags.StringVarP(&a.imageEndpoint, "image-endpoint", "i", "", "socket of the image service (default $IMAGE_SERVICE_ENDPOINT, else that of the runtime)")
	flags.DurationVarP(&a.timeout, "timeout", "t", 0, "how long a request may take (default 2s)")
	root.AddCommand(
		a.versionCommand(), a.infoCommand(),
		a.psCommand(), a.podsCommand(), a.imagesCommand(),
		a.inspectCommand(), a.inspectpCommand(), a.inspectiCommand(), a.imagefsinfoCommand(),
		a.logsCommand(), a.execCommand(), a.statsCommand(),
		a.stopCommand(), a.stoppCommand(), a.rmCommand(), a.rmpCommand(),
		a.rmiCommand(), a.pullCommand(),
	)
	return root
}

// runtimeService connects to the runtime, once.
func (a *app) runtimeService(ctx context.Context) (internalapi.RuntimeService, error) {
	if a.runtime != nil {
		return a.runtime, nil
	}
	s, err := a.settings()
	if err != nil {
		return nil, err
	}
	if err := checkSocket(s.runtimeEndpoint); err != nil {
		return nil, err
	}
	a.runtime, err = criclient.NewRemoteRuntimeService(ctx, s.runtimeEndpoint, s.timeout, nil, false)
	if err != nil {
		return nil, fmt.Errorf("connect to the container runtime at %s: %w", s.runtimeEndpoint, err)
	}
	return a.runtime, nil
}

// imageService connects to the image service, once.
func (a *app) imageService(ctx context.Context) (internalapi.ImageManagerService, error) {
	if a.images != nil {
		return a.images, nil
	}
	s, err := a.settings()
	if err != nil {
		return nil, err
	}
	if err := checkSocket(s.imageEndpoint); err != nil {
		return nil, err
	}
	a.images, err = criclient.NewRemoteImageService(ctx, s.imageEndpoint, s.timeout, nil, false)
	if err != nil {
		return nil, fmt.Errorf("connect to the image service at %s: %w", s.imageEndpoint, err)
	}
	return a.images, nil
}

func (a *app) close(ctx context.Context) error {
	var errs []error
	if a.runtime != nil {
		errs = append(errs, a.runtime.Close(ctx))
	}
	if a.images != nil {
		errs = append(errs, a.images.Close(ctx))
	}
	return errors.Join(errs...)
}

// checkSocket tells at once of a socket that is not there, which the client
// would keep dialling.
func checkSocket(endpoint string) error {
	path, ok := strings.CutPrefix(endpoint, "unix://")
	if !ok {
		return nil
	}
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("container runtime: %w: start the server, or name another socket with --runtime-endpoint", err)
	}
	return nil
}

// each does something to every argument and reports all failures together.
func each(args []string, do func(id string) error) error {
	var errs []error
	for _, id := range args {
		errs = append(errs, do(id))
	}
	return errors.Join(errs...)
}
