package plugincmd

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cleat-dev/cleat/core/pluginhost"
	"github.com/spf13/cobra"
)

func (c *command) promote() *cobra.Command {
	return &cobra.Command{
		Use:   "promote NAME",
		Short: "Make the shadow of a plugin the one that decides",
		Long: `Replaces the entry of a plugin in the lock file by that of its shadow. If a server
runs on this machine, it reloads its lock.

What was tried decides: version, powers, config, trust and signer are the shadow's.
What the cluster relies on stays: order, failure policy, and whether the plugin is
disabled. Of each limit the larger one is taken. A plugin that must be signed is
only replaced by a shadow whose entry names a signer as well.`,
		Example: `  cleat plugin lock --shadow --accept --plugins-lock /etc/cleat/plugins.lock /var/lib/cleat/plugins/my-policy-2.wasm
  cleat plugin promote my-policy --plugins-lock /etc/cleat/plugins.lock`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			out := &printer{w: cmd.OutOrStdout()}
			e, err := c.edit(out)
			if err != nil {
				return err
			}
			shadow, err := e.findShadow(args[0])
			if err != nil {
				return err
			}
			old, err := e.find(args[0])
			if err != nil {
				return err
			}
			before := *old
			next, err := promoted(before, *shadow)
			if err != nil {
				return fmt.Errorf("%s: %w", c.lockFile, err)
			}
			*old = next
			e.lock.Plugins = slices.DeleteFunc(e.lock.Plugins, func(p pluginhost.LockedPlugin) bool {
				return p.Name == args[0] && p.Shadow
			})
			done := append([]string{fmt.Sprintf("%s takes the place of %s in %s", title(&next), before.Version, c.lockFile)},
				promotion(before, next)...)
			return e.save(cmd.Context(), done...)
		},
	}
}

// promoted is the entry that decides after a promotion. Trust is a power, so the
// shadow has only what an operator wrote for it; the failure policy says what the
// cluster may rely on, which a shadow never had to keep.
func promoted(old, shadow pluginhost.LockedPlugin) (pluginhost.LockedPlugin, error) {
	if old.Signer != "" && shadow.Signer == "" {
		return old, fmt.Errorf("plugin %s must be signed by %s, and its shadow names no signer; lock the shadow again with "+
			"`cleat plugin lock --shadow --signer %s FILE.wasm`, then promote it", old.Name, old.Signer, old.Signer)
	}
	next := shadow
	next.Shadow = false
	next.Order, next.FailurePolicy, next.Disabled = old.Order, old.FailurePolicy, old.Disabled
	// The shadow may need what it was tried with, and the load may need what was
	// set for the plugin before.
	next.Limits = pluginhost.LockedLimits{
		MemoryPages: max(old.Limits.MemoryPages, shadow.Limits.MemoryPages),
		DeadlineMS:  max(old.Limits.DeadlineMS, shadow.Limits.DeadlineMS),
		PoolMax:     max(old.Limits.PoolMax, shadow.Limits.PoolMax),
	}
	return next, nil
}

// promotion tells what a promotion changes. Of the config only the names of keys
// are shown: a value may be a secret.
func promotion(old, next pluginhost.LockedPlugin) []string {
	changes := pluginhost.Compare(old, next)
	plain := func(field string, old, next any) {
		if old != next {
			changes = append(changes, pluginhost.Change{Field: field, Gained: []string{fmt.Sprint(next)}, Lost: []string{fmt.Sprint(old)}})
		}
	}
	plain("limits.memory_pages", old.Limits.MemoryPages, next.Limits.MemoryPages)
	plain("limits.deadline_ms", old.Limits.DeadlineMS, next.Limits.DeadlineMS)
	plain("limits.pool_max", old.Limits.PoolMax, next.Limits.PoolMax)
	plain("trusted", old.Trusted, next.Trusted)
	lines := changeLines(changes, false)
	if old.ConfigSHA256 != next.ConfigSHA256 {
		lines = append(lines, fmt.Sprintf("  the config is the shadow's: it sets %s; the one before set %s", keys(next.Config), keys(old.Config)))
	}
	if next.Disabled {
		lines = append(lines, "  it stays disabled; `cleat plugin enable` lets it decide")
	}
	return lines
}

func keys(config map[string]any) string {
	if len(config) == 0 {
		return "nothing"
	}
	return strings.Join(sortedKeys(config), ", ")
}
