package plugincmd

import (
	"slices"

	"github.com/cleat-dev/cleat/core/pluginhost"
	"github.com/spf13/cobra"
)

func (c *command) remove() *cobra.Command {
	var shadow bool
	cmd := &cobra.Command{
		Use:   "remove NAME",
		Short: "Take a plugin out of the lock",
		Long: `Takes a plugin and its shadow out of the lock file, or its shadow alone. If a
server runs on this machine, it reloads its lock. The plugin's file stays, and so
does what the plugin stored; its order, limits and config are forgotten. To keep
them, use ` + "`cleat plugin disable`" + `.`,
		Example: `  cleat plugin remove my-policy --plugins-lock /etc/cleat/plugins.lock
  cleat plugin remove my-policy --shadow --plugins-lock /etc/cleat/plugins.lock`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := c.edit(&printer{w: cmd.OutOrStdout()})
			if err != nil {
				return err
			}
			find := e.find
			if shadow {
				find = e.findShadow
			}
			if _, err := find(args[0]); err != nil {
				return err
			}
			var done []string
			e.lock.Plugins = slices.DeleteFunc(e.lock.Plugins, func(p pluginhost.LockedPlugin) bool {
				gone := p.Name == args[0] && (p.Shadow || !shadow)
				if gone {
					done = append(done, title(&p)+" removed from "+c.lockFile)
				}
				return gone
			})
			return e.save(cmd.Context(), done...)
		},
	}
	cmd.Flags().BoolVar(&shadow, "shadow", false, "take out the shadow only")
	return cmd
}
