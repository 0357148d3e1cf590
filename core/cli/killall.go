package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/cleanup"
	"github.com/cleat-dev/cleat/core/internal/paths"
)

// cleaner is what `cleat killall` and `cleat uninstall` do the work with.
type cleaner struct {
	killall   func(context.Context, cleanup.Options) error
	uninstall func(context.Context, cleanup.Options) error
	targets   func(cleanup.Options) ([]string, error)
}

func thisMachine() cleaner {
	return cleaner{killall: cleanup.Killall, uninstall: cleanup.Uninstall, targets: cleanup.Targets}
}

// defaultGrace is how long a server may take to stop in order.
const defaultGrace = 30 * time.Second

func (a *app) killallCommand(with cleaner) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "killall",
		Short: "End the server or agent on this machine and all its pods",
		Long: `End the server or agent on this machine and its pods, and remove what they
hold: processes, mounts, network namespaces, links, rules of the packet filter,
cgroups and the run directory. Data stays: the next start brings the pods back.
What is not cleat's is not touched.`,
		Args: noArgs,
	}
	flags := cleanFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o, err := a.cleanOptions(cmd, flags)
		if err != nil {
			return err
		}
		ctx, stop := untilInterrupt(cmd.Context())
		defer stop()
		return with.killall(ctx, o)
	}
	return cmd
}

// cleanGiven is what was given on the command line of both commands.
type cleanGiven struct {
	dataDir, configFile string
	grace               time.Duration
	dryRun              bool
}

func cleanFlags(cmd *cobra.Command) *cleanGiven {
	g := new(cleanGiven)
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVarP(&g.dataDir, "data-dir", "d", "",
		"data directory of the server or agent (default: as the configuration says, else "+config.DefaultDataDir+")")
	flags.StringVarP(&g.configFile, "config", "c", "", "config file of the server or agent (default "+config.DefaultConfigFile+")")
	flags.DurationVar(&g.grace, "grace-period", defaultGrace, "how long it may take to stop before it is killed")
	flags.BoolVar(&g.dryRun, "dry-run", false, "print what would be done and do nothing")
	return g
}

// cleanOptions finds out where the server's things are, as the server does.
func (a *app) cleanOptions(cmd *cobra.Command, g *cleanGiven) (cleanup.Options, error) {
	if a.euid() != 0 {
		return cleanup.Options{}, hinted{errors.New("this ends processes and removes mounts, so it must run as root"),
			"try `sudo " + cmd.CommandPath() + "`"}
	}
	if g.grace < 0 {
		return cleanup.Options{}, hinted{fmt.Errorf("--grace-period %s is negative", g.grace), "write a duration such as 30s"}
	}
	options := make(map[string][]string)
	if g.dataDir != "" {
		options["data-dir"] = []string{g.dataDir}
	}
	if g.configFile != "" {
		options["config"] = []string{g.configFile}
	}
	o := cleanup.Options{Grace: g.grace, DryRun: g.dryRun, Out: cmd.OutOrStdout(), Program: ownProgram()}
	dataDir := g.dataDir
	cfg, err := loadEither(options, a.environ())
	switch {
	case err == nil:
		dataDir, o.Kubeconfig = cfg.DataDir, cfg.WriteKubeconfig
		if cfg.DatastoreEndpoint != "" {
			o.Node = nodeName(cfg)
		}
	case dataDir == "" || g.configFile != "":
		return cleanup.Options{}, hinted{err, "with --data-dir, the configuration is not needed"}
	}
	if dataDir, err = filepath.Abs(dataDir); err != nil {
		return cleanup.Options{}, err
	}
	o.Data = paths.Data(dataDir)
	return o, nil
}

// nodeName is the name under which the server joined.
func nodeName(cfg *config.Config) string {
	if cfg.NodeName != "" {
		return cfg.NodeName
	}
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	return strings.ToLower(name)
}

// ownProgram is this executable without links, "" if that cannot be told.
func ownProgram() string {
	path, err := os.Executable()
	if err == nil {
		path, err = filepath.EvalSymlinks(path)
	}
	if err != nil {
		return ""
	}
	return path
}

// untilInterrupt ends the context with the first signal; what was begun is then
// reported, and can be begun again.
func untilInterrupt(parent context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(parent, os.Interrupt, syscall.SIGTERM)
}
