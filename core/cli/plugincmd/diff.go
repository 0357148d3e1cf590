package plugincmd

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/cleat-dev/cleat/core/pluginhost"
	"github.com/spf13/cobra"
)

func (c *command) diff() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "diff OLD NEW",
		Short: "Show what a version of a plugin may do that another may not",
		Long: `Compares two plugins, each a file or a name in the lock, without running either:
points, capabilities, field paths, lookups, version, ABI and digest. The exit
code is 1 when the new one asks for powers that the old one does not have.`,
		Example: `  cleat plugin diff admission-baseline ./admission-baseline-0.2.0.wasm
  cleat plugin diff old.wasm new.wasm -o json`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(output, "text"); err != nil {
				return err
			}
			old, err := c.entryOf(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			next, err := c.entryOf(cmd.Context(), args[1])
			if err != nil {
				return err
			}
			changes := pluginhost.Compare(old, next)
			if output == "json" {
				err = writeJSON(cmd.OutOrStdout(), changes)
			} else {
				err = printDiff(&printer{w: cmd.OutOrStdout()}, old, next, changes)
			}
			if err == nil && slices.ContainsFunc(changes, func(c pluginhost.Change) bool { return c.Power }) {
				err = errors.New("the new one asks for powers that the old one does not have")
			}
			return err
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

// entryOf is the lock entry of a plugin given as a file or by its name.
func (c *command) entryOf(ctx context.Context, arg string) (pluginhost.LockedPlugin, error) {
	if filepath.Ext(arg) != ".wasm" {
		lock, name, err := c.readLock()
		if err != nil {
			return pluginhost.LockedPlugin{}, err
		}
		if locked := lock.Find(arg); locked != nil {
			return *locked, nil
		}
		return pluginhost.LockedPlugin{}, fmt.Errorf("%s has no plugin %q; a file is given as <path>.wasm", name, arg)
	}
	wasm, err := c.readPlugin(ctx, arg)
	if err != nil {
		return pluginhost.LockedPlugin{}, err
	}
	ins, err := pluginhost.Inspect(wasm)
	if err != nil {
		return pluginhost.LockedPlugin{}, fmt.Errorf("%s: %w", arg, err)
	}
	return pluginhost.Propose(ins, "file:"+filepath.Base(arg), 0)
}

func printDiff(p *printer, old, next pluginhost.LockedPlugin, changes []pluginhost.Change) error {
	p.linef("%s %s → %s %s", old.Name, old.Version, next.Name, next.Version)
	for _, c := range changes {
		mark := ""
		if c.Power {
			mark = "   (new power)"
		}
		for _, v := range c.Gained {
			p.linef("  + %s: %s%s", c.Field, v, mark)
		}
		for _, v := range c.Lost {
			p.linef("  - %s: %s", c.Field, v)
		}
	}
	if len(changes) == 0 {
		p.linef("no difference")
	}
	return p.err
}
