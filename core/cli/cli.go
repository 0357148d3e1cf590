// Package cli is the command line of cleat: a command tree whose options come
// from the option table of package config, and whose work is done by the
// functions of Programs. It imports no component, so it compiles in seconds.
package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/hostcheck"
	"github.com/cleat-dev/cleat/core/internal/paths"
	"github.com/cleat-dev/cleat/core/internal/serverstatus"
	"github.com/cleat-dev/cleat/core/internal/version"
	"github.com/cleat-dev/cleat/core/kernel"
)

// Programs is what the commands run. A program that is nil has no command.
type Programs struct {
	// Server runs a server until ctx is done. The Config is complete and valid.
	Server func(ctx context.Context, cfg *config.Config, log *slog.Logger) error
	// Agent is the same for a node that joins a server.
	Agent func(ctx context.Context, cfg *config.Config, log *slog.Logger) error
	// Kubectl, Ctr and Crictl get the arguments after the program's name and
	// return the exit code. They use the process's standard streams.
	Kubectl, Ctr, Crictl func(args []string) int
	// Graph returns the boot graph of a server with these options. The Config
	// has been loaded; nothing was detected.
	Graph func(cfg *config.Config) (kernel.Graph, error)
	// Plugin is the tree of `cleat plugin`.
	Plugin *cobra.Command
}

// app is what one call of the command line works with. The functions stand for
// the process and the machine, so that tests need neither root nor a node.
type app struct {
	programs Programs
	environ  func() []string
	setenv   func(key, value string) error
	unsetenv func(key string) error
	euid     func() int
	now      func() time.Time
	detect   func(ctx context.Context, cfg *config.Config) error
	notify   func() (signals <-chan os.Signal, stop func())
	setTitle func(command string, variables []string) error
	machine  func() hostcheck.Machine

	// bootStatus asks the server that this process runs how it is.
	bootStatus            func(context.Context) (serverstatus.Status, error)
	watchEvery, bootEvery time.Duration
}

func newApp(p Programs) *app {
	return &app{
		programs: p,
		environ:  os.Environ,
		setenv:   os.Setenv,
		unsetenv: os.Unsetenv,
		euid:     os.Geteuid,
		now:      time.Now,
		detect:   func(ctx context.Context, cfg *config.Config) error { return cfg.Detect(ctx) },
		notify:   notifySignals,
		setTitle: setTitle,
		machine:  hostcheck.This,

		bootStatus: func(ctx context.Context) (serverstatus.Status, error) {
			_, status, err := askStatus(ctx, paths.StatusSocket)
			return status, err
		},
		watchEvery: watchEvery, bootEvery: bootEvery,
	}
}

// New returns the command tree. Main is what a program calls; New is for what
// only looks at the tree, such as documentation.
func New(p Programs) *cobra.Command { return newApp(p).root() }

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "cleat",
		Short: "A Kubernetes runtime whose choices are made by WebAssembly plugins",
		Long: `cleat is a Kubernetes runtime in one binary. Its core runs the components;
which network, datastore, admission and deployment a cluster has is decided by
WebAssembly plugins that plugins.lock pins.

Called by the name kubectl, ctr or crictl, as through a symbolic link, it is
that program.`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		Version:           version.Cleat,
	}
	root.SetVersionTemplate("cleat {{.Version}}\n")
	root.SetFlagErrorFunc(flagError)
	// Runnable, so that cobra leaves an unknown command to us.
	root.Args = cobra.ArbitraryArgs
	root.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		return unknownCommand(cmd, args[0])
	}

	const cluster, tools, about = "cluster", "tools", "about"
	root.AddGroup(
		&cobra.Group{ID: cluster, Title: "Cluster:"},
		&cobra.Group{ID: tools, Title: "Tools:"},
		&cobra.Group{ID: about, Title: "About:"},
	)
	add := func(group string, cmd *cobra.Command) {
		cmd.GroupID = group
		root.AddCommand(cmd)
	}
	if a.programs.Server != nil {
		add(cluster, a.serverCommand())
	}
	if a.programs.Agent != nil {
		add(cluster, a.agentCommand())
	}
	add(cluster, a.statusCommand())
	add(cluster, a.uiCommand())
	add(cluster, a.certificateCommand())
	add(cluster, a.configCommand())
	add(cluster, a.checkConfigCommand())
	if a.programs.Graph != nil {
		add(cluster, a.graphCommand())
	}
	if a.programs.Plugin != nil {
		add(cluster, a.programs.Plugin)
	}
	add(cluster, a.killallCommand(thisMachine()))
	add(cluster, a.uninstallCommand(thisMachine()))
	for _, tool := range a.tools() {
		add(tools, a.toolCommand(tool))
	}
	add(about, versionCommand())
	add(about, completionCommand())
	root.SetHelpCommandGroupID(about)
	return root
}

// outputFlag adds -o with a fixed set of values, the first being the default.
func outputFlag(cmd *cobra.Command, values ...string) *string {
	v := &choice{value: values[0], values: values}
	cmd.Flags().VarP(v, "output", "o", "one of "+v.Type())
	if err := cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		// Only a flag that does not exist fails here, and it was added above.
		cmd.PrintErrln(err)
	}
	return &v.value
}

func fprint(w io.Writer, format string, args ...any) error {
	_, err := fmt.Fprintf(w, format, args...)
	return err
}
