package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/cleat-dev/cleat/core/cli/display"
	"github.com/cleat-dev/cleat/core/internal/cleanup"
)

func (a *app) uninstallCommand(with cleaner) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Remove everything of cleat from this machine",
		Long: `Do what killall does, and delete all files: the data directory with the
cluster's state, /etc/cleat with the configuration and the node's password, the
CNI configuration, the kubelet's directory and the pods' logs as far as cleat
made them, and the links to this program under the names of its tools. If the
systemd unit cleat.service starts this program, the unit goes too, and the
program if it is in /usr/local/bin. A datastore that is elsewhere stays. On a
terminal it asks first; otherwise it wants --yes.`,
		Args: noArgs,
	}
	flags := cleanFlags(cmd)
	yes := cmd.Flags().BoolP("yes", "y", false, "do not ask")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o, err := a.cleanOptions(cmd, flags)
		if err != nil {
			return err
		}
		if !o.DryRun {
			targets, err := with.targets(o)
			if err != nil {
				return err
			}
			if err := confirm(cmd, targets, o, *yes); err != nil {
				return err
			}
		}
		ctx, stop := untilInterrupt(cmd.Context())
		defer stop()
		return with.uninstall(ctx, o)
	}
	return cmd
}

// confirm says exactly what will be deleted and returns an error unless it is wanted.
func confirm(cmd *cobra.Command, targets []string, o cleanup.Options, yes bool) error {
	out := cmd.OutOrStdout()
	if err := fprint(out, "This ends cleat and all pods of this machine and deletes:\n"); err != nil {
		return err
	}
	if len(targets) == 0 {
		targets = []string{"no file: none of cleat's is left"}
	}
	for _, t := range targets {
		if err := fprint(out, "  %s\n", display.Cell(t)); err != nil {
			return err
		}
	}
	if o.Node != "" {
		if err := fprint(out, "A datastore elsewhere keeps the cluster's state, which only the token in %s opens.\n", o.Data.Token()); err != nil {
			return err
		}
	}
	if yes {
		return nil
	}
	in, ok := cmd.InOrStdin().(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return hinted{errors.New("nothing was done: there is no terminal to ask on"), "with --yes it does not ask"}
	}
	return ask(out, in)
}

// ask wants the word yes.
func ask(out io.Writer, in io.Reader) error {
	if err := fprint(out, "Write yes to go on: "); err != nil {
		return err
	}
	line, err := bufio.NewReader(io.LimitReader(in, 256)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the answer: %w", err)
	}
	if strings.TrimSpace(line) != "yes" {
		return errors.New("nothing was done")
	}
	return nil
}
