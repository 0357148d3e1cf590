package cli

import (
	"github.com/spf13/cobra"

	"github.com/cleat-dev/cleat/core/config"
)

func (a *app) graphCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "graph",
		Short: "Show which unit of a server needs which",
		Long: `Show the boot graph that a server with these options has: each unit and the
units it needs. Nothing is started and nothing of the machine is looked at.

It takes the options of a server, which ` + "`cleat server --help`" + ` explains.`,
		Args: noArgs,
	}
	output := outputFlag(cmd, "text", "mermaid", "dot")
	flags := addOptions(cmd, config.Server, false)
	hideOptions(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := config.Load(flags, a.environ())
		if err == nil {
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

// hideOptions keeps the options of a server out of a command's help, which would
// be a page of which two lines matter.
func hideOptions(cmd *cobra.Command) {
	for _, o := range config.Table() {
		if f := cmd.Flags().Lookup(o.Name); f != nil {
			f.Hidden = true
		}
	}
}
