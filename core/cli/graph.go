package cli

import (
	"github.com/spf13/cobra"

	"github.com/cleat-dev/cleat/core/config"
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
	agent := cmd.Flags().Bool("agent", false, "show the graph of an agent instead")
	flags := addOptions(cmd, config.Server|config.Agent, false)
	hideOptions(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var cfg *config.Config
		var err error
		if *agent {
			// Which server it joins and with what makes no difference.
			cfg, err = config.LoadAgent(flags, a.environ())
		} else if cfg, err = config.Load(flags, a.environ()); err == nil {
			err = cfg.Validate()
		}
		if err != nil {
			return hinted{err, "`cleat server --help` explains each option"}
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
