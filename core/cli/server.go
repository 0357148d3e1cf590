package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
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
	return a.runCommand(cmd, nodeCommand{serverRole(), a.programs.Server})
}

func (a *app) agentCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run a node that joins the cluster of a server",
		Long: `Run a node in this process until a signal ends it. It joins the cluster of the
server that --server names with the token that the server has in its node-token
file, /var/lib/cleat/server/node-token. The first SIGINT or SIGTERM stops it in
order and leaves the pods running; the second ends it at once.`,
		Args: noArgs,
	}
	return a.runCommand(cmd, nodeCommand{agentRole(), a.programs.Agent})
}

// nodeCommand is what the two commands that run a node differ in.
type nodeCommand struct {
	role
	run func(ctx context.Context, cfg *config.Config, log *slog.Logger) error
}

// runCommand completes a command that runs a node.
func (a *app) runCommand(cmd *cobra.Command, n nodeCommand) *cobra.Command {
	flags := addOptions(cmd, n.of, true)
	cmd.SetHelpFunc(func(cmd *cobra.Command, _ []string) { optionsHelp(cmd, n.of) })
	if err := cmd.RegisterFlagCompletionFunc("log-format", cobra.FixedCompletions(
		[]string{logging.FormatAuto, logging.FormatText, logging.FormatJSON}, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		cmd.PrintErrln(err) // the flag is a row of the table
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return a.serve(cmd, n, flags) }
	return cmd
}

func (a *app) serve(cmd *cobra.Command, n nodeCommand, flags given) error {
	environ := a.environ()
	cfg, err := n.load(flags, environ)
	if err == nil {
		err = cfg.Validate()
	}
	if err != nil {
		// What is missing may have been given by another name.
		hints := config.ForeignEnv(environ)
		unknown := config.UnknownEnv(environ)
		for _, name := range slices.Sorted(maps.Keys(unknown)) {
			hint := name + " is no option and was ignored"
			if near := unknown[name]; near != "" {
				hint += "; the nearest is " + near
			}
			hints = append(hints, hint)
		}
		return hinted{err, strings.Join(append(hints, fmt.Sprintf("`%s --help` explains each option", cmd.CommandPath())), "\n")}
	}
	out, closeLog, err := logOutput(&cfg.Options, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	defer closeLog()
	view := newBootView(out, &cfg.Options, environ)
	if view != nil {
		out = view
	}
	log := logging.New(out, cfg.LogFormat, cfg.Debug)
	a.hideSecrets(cmd.Name(), flags, log)
	if a.euid() != 0 {
		return hinted{errors.New("a node must run as root"), fmt.Sprintf("try `sudo %s`", cmd.CommandPath())}
	}
	unknown := config.UnknownEnv(environ)
	for _, name := range slices.Sorted(maps.Keys(unknown)) {
		log.Warn("variable is no option and was ignored", "variable", name, "nearest", unknown[name])
	}
	for _, line := range config.ForeignEnv(environ) {
		log.Warn(line)
	}
	for _, o := range config.Table() {
		// A server's variables are left alone on agents, which share them; the reverse is a slip.
		if o.Commands == config.Agent && !cfg.IsAgent() && slices.ContainsFunc(environ, func(kv string) bool {
			value, ok := strings.CutPrefix(kv, o.Env()+"=")
			return ok && value != ""
		}) {
			log.Warn("variable is an option of `cleat agent` only and was ignored: this is a server", "variable", o.Env())
		}
	}
	for _, where := range cfg.Foreign() {
		log.Info("an option of a server, left alone", "where", where)
	}
	err = a.untilSignal(cmd.Context(), log, func(ctx context.Context) error {
		if err := a.detect(ctx, cfg); err != nil {
			return err
		}
		if err := cfg.Validate(); err != nil {
			return err
		}
		if err := a.extendNoProxy(cfg, environ); err != nil {
			return err
		}
		log.Debug("configuration", "options", cfg.Options, "host", cfg.Host)
		if view != nil {
			defer a.showBoot(ctx, view)()
		}
		return n.run(ctx, cfg, log)
	})
	if err != nil && cfg.LogFile != "" {
		log.Error("the node has ended", "err", err) // it goes to standard error anyway
	}
	return err
}

// logOutput is where the log goes: standard error, --log, or both. The file is
// for root alone: what components log is not for everybody.
func logOutput(o *config.Options, stderr io.Writer) (w io.Writer, closeLog func(), err error) {
	if o.LogFile == "" {
		return stderr, func() {}, nil
	}
	f, err := os.OpenFile(o.LogFile, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("--log: %w; name a file in a directory that exists", err)
	}
	closeLog = func() { _ = f.Close() } // there is no place left to tell of a failure
	if o.AlsoLogToStderr {
		return io.MultiWriter(f, stderr), closeLog, nil
	}
	return f, closeLog, nil
}

// hideSecrets keeps secrets from those who may list processes or are started
// by this one, and makes the process list show the bare command. Both are best
// effort: the secrets were visible until now.
func (a *app) hideSecrets(command string, flags given, log *slog.Logger) {
	var variables []string
	onCommandLine := false
	for _, o := range config.Table() {
		if !o.Secret {
			continue
		}
		variables = append(variables, o.Env())
		onCommandLine = onCommandLine || len(flags[o.Name]) > 0
		if err := a.unsetenv(o.Env()); err != nil {
			log.Debug("variable stays visible to child processes", "variable", o.Env(), "err", err)
		}
	}
	if err := a.setTitle(command, variables); err != nil {
		level := slog.LevelDebug
		if onCommandLine {
			level = slog.LevelWarn
		}
		log.Log(context.Background(), level, "arguments stay visible in the process list; give secrets by file or variable", "err", err)
	}
}

// extendNoProxy keeps what the cluster sends to itself away from a proxy that
// the variables name, for this process and those it starts.
func (a *app) extendNoProxy(cfg *config.Config, environ []string) error {
	given := make(map[string]string)
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		given[name] = value
	}
	if given["HTTP_PROXY"]+given["http_proxy"]+given["HTTPS_PROXY"]+given["https_proxy"] == "" {
		return nil
	}
	list := cfg.NoProxy(given["NO_PROXY"], given["no_proxy"])
	for _, name := range []string{"NO_PROXY", "no_proxy"} {
		if err := a.setenv(name, list); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
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
