package plugincmd

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/cleat-dev/cleat/core/internal/localapi"
	"github.com/cleat-dev/cleat/core/pluginhost"
	"github.com/spf13/cobra"
)

// reloadTimeout bounds a reload: compiling a plugin takes seconds, and its
// conformance is checked.
const reloadTimeout = 5 * time.Minute

func (c *command) reload() *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "Make the server on this machine follow plugins.lock as it is now",
		Long: `The running server reads its lock again. Plugins that changed are verified,
compiled, checked for conformance and started beside those that decide; then all
requests go to the new ones at once, and the old ones end when their last call
has returned. If anything is wrong, nothing changes. For half a minute the new
plugins are on trial: if one fails, the old ones decide and come back.

The lock is the one that the server was started with; a server without
--plugins-lock follows the one in its binary, which does not change. Only root may
ask. A plugin for the network or the datastore is asked at the next start.`,
		Example: `  cleat plugin lock --plugins-lock /etc/cleat/plugins.lock --accept /var/lib/cleat/plugins/my-policy.wasm
  cleat plugin reload`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.reloadServer(cmd.Context(), &printer{w: cmd.OutOrStdout()})
		},
	}
}

func (c *command) reloadServer(ctx context.Context, out *printer) error {
	ctx, cancel := context.WithTimeout(ctx, reloadTimeout)
	defer cancel()
	raw, err := localapi.Ask(ctx, c.Socket, http.MethodPost, "/plugins/reload")
	if err != nil {
		return err
	}
	var result pluginhost.Reloaded
	if err := json.Unmarshal(raw, &result); err != nil {
		return fmt.Errorf("the server's answer: %w", err)
	}
	for _, p := range result.Opened {
		out.linef("+ %s", p)
	}
	for _, p := range result.Closed {
		out.linef("- %s", p)
	}
	out.linef("generation %d decides", result.Generation)
	return out.err
}

func (c *command) enable() *cobra.Command {
	return c.toggle("enable", "Ask a disabled plugin again", `Lets a plugin decide again that was disabled.`, false)
}

func (c *command) disable() *cobra.Command {
	return c.toggle("disable", "Leave a plugin out without removing it from the lock",
		`Leaves a plugin out; its shadow is not asked either. It protects nothing then: what
it would have denied is allowed.`, true)
}

func (c *command) toggle(verb, short, long string, disabled bool) *cobra.Command {
	return &cobra.Command{
		Use:   verb + " NAME",
		Short: short,
		Long: long + `

The lock file is changed, and if a server runs on this machine, it reloads its
lock; else the change takes effect at the next start.`,
		Example: "  cleat plugin " + verb + " admission-baseline --plugins-lock /etc/cleat/plugins.lock",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			out := &printer{w: cmd.OutOrStdout()}
			e, err := c.edit(out)
			if err != nil {
				return err
			}
			entry, err := e.find(args[0])
			if err != nil {
				return err
			}
			if entry.Disabled == disabled {
				out.linef("%s is %sd already", args[0], verb)
				return out.err
			}
			entry.Disabled = disabled
			return e.save(cmd.Context(), fmt.Sprintf("%s %sd in %s", args[0], verb, c.lockFile))
		},
	}
}
