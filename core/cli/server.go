package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/logging"
)

func (a *app) serverCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Run a control plane and, unless told otherwise, a node",
		Long: `Run a Kubernetes control plane and, unless told otherwise, a node in this
process until a signal ends it. The first SIGINT or SIGTERM stops it in order
and leaves the pods running; the second ends it at once.`,
		Args: noArgs,
	}
	flags := addOptions(cmd, config.Server, true)
	cmd.SetHelpFunc(func(cmd *cobra.Command, _ []string) { optionsHelp(cmd, config.Server) })
	if err := cmd.RegisterFlagCompletionFunc("log-format", cobra.FixedCompletions(
		[]string{logging.FormatAuto, logging.FormatText, logging.FormatJSON}, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		cmd.PrintErrln(err) // the flag is a row of the table
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return a.serve(cmd, flags) }
	return cmd
}

func (a *app) serve(cmd *cobra.Command, flags given) error {
	environ := a.environ()
	cfg, err := config.Load(flags, environ)
	if err == nil {
		err = cfg.Validate()
	}
	if err != nil {
		return hinted{err, "`cleat server --help` explains each option"}
	}
	log := logging.New(cmd.ErrOrStderr(), cfg.LogFormat, cfg.Debug)
	a.hideSecrets(flags, log)
	if a.euid() != 0 {
		return hinted{errors.New("a server must run as root"), "try `sudo cleat server`"}
	}
	unknown := config.UnknownEnv(environ)
	for _, name := range slices.Sorted(maps.Keys(unknown)) {
		log.Warn("variable is no option and was ignored", "variable", name, "nearest", unknown[name])
	}
	return a.untilSignal(cmd.Context(), log, func(ctx context.Context) error {
		if err := a.detect(ctx, cfg); err != nil {
			return err
		}
		if err := cfg.Validate(); err != nil {
			return err
		}
		log.Debug("configuration", "options", cfg.Options, "host", cfg.Host)
		return a.programs.Server(ctx, cfg, log)
	})
}

// hideSecrets keeps secrets from those who may list processes or are started
// by this one. Both are best effort: the secrets were visible until now.
func (a *app) hideSecrets(flags given, log *slog.Logger) {
	var secrets []string
	for _, o := range config.Table() {
		if !o.Secret {
			continue
		}
		secrets = append(secrets, flags[o.Name]...)
		if err := a.unsetenv(o.Env()); err != nil {
			log.Debug("variable stays visible to child processes", "variable", o.Env(), "err", err)
		}
	}
	if len(secrets) == 0 {
		return
	}
	if err := a.hideArgs(secrets); err != nil {
		log.Warn("a secret given as a flag stays visible in the process list; use --token-file or a variable", "err", err)
	}
}

// errSecondSignal ends Main while the server still stops.
var errSecondSignal = errors.New("ended by a second signal before everything had stopped")

// untilSignal runs run with a context that the first signal cancels. It
// returns what run returns, or errSecondSignal without waiting for it.
func (a *app) untilSignal(parent context.Context, log *slog.Logger, run func(context.Context) error) error {
	signals, stop := a.notify()
	defer stop()
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	for stopping := false; ; {
		select {
		case err := <-done:
			if stopping && errors.Is(err, context.Canceled) {
				return nil
			}
			return err
		case s := <-signals:
			if stopping {
				return errSecondSignal
			}
			stopping = true
			log.Info("stopping; a second signal ends at once", "signal", s.String())
			cancel(fmt.Errorf("got signal %q: %w", s, context.Canceled))
		}
	}
}

func notifySignals() (<-chan os.Signal, func()) {
	c := make(chan os.Signal, 2)
	signal.Notify(c, syscall.SIGINT, syscall.SIGTERM)
	return c, func() { signal.Stop(c) }
}
