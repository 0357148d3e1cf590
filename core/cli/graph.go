package cli

import (
	"github.com/spf13/cobra"
)

func (a *app) graphCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "graph",
		Short: "Show which unit of a server or an agent needs which",
		Long: `Show the boot graph that a server with these options has: each unit and the
units it needs. Nothing is started and nothing of the machine is looked at.

It takes the options of a server, which ` + "`cleat server --help`" + ` explains, or
with --agent those of an agent.`,
		Args: noArgs,
	}
	output := outputFlag(cmd, "text", "mermaid", "dot")
	options := addRoleOptions(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		r, cfg, err := options.load(a.environ())
		if err != nil {
			return err
		}
		if err := joining(cfg).Validate(); err != nil {
			return hinted{err, r.hint}
		}
		g, err := a.programs.Graph(cfg)
		if err != nil {
			return err
		}
		text := g.Text
		switch *output {
		case "mermaid":
			text = g.Mermaid
		case "dot":
			text = g.DOT
		}
		return fprint(cmd.OutOrStdout(), "%s", text())
	}
	return cmd
}
