package plugincmd

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/cleat-dev/cleat/core/pluginhost"
	"github.com/cleat-dev/cleat/core/pluginregistry"
	"github.com/spf13/cobra"
)

func (c *command) verify() *cobra.Command {
	var f conformity
	cmd := &cobra.Command{
		Use:   "verify [FILE.wasm]...",
		Short: "Check plugins against the lock, or single files against the ABI",
		Long: `Without arguments, checks every plugin of the lock as a server does before it
starts, and starts each once in the sandbox. With files, runs the conformance
suite on each: what the ABI demands of the file, of its start and of its hooks.

Plugins that are disabled are not looked at. If the lock demands a signature, the
keys are those in ` + usualKeys + `. The flags of verify itself
are for files.`,
		Example: `  cleat plugin verify
  cleat plugin verify --plugins-lock /etc/cleat/plugins.lock
  cleat plugin verify ./my-policy.wasm --report report.yaml`,
		RunE: func(cmd *cobra.Command, args []string) error {
			out := &printer{w: cmd.OutOrStdout()}
			if err := f.check(len(args)); err != nil {
				return err
			}
			if len(args) == 0 {
				return c.verifyLock(cmd.Context(), out)
			}
			return c.conform(cmd.Context(), out, args, &f)
		},
	}
	f.register(cmd.Flags())
	return cmd
}

func (c *command) verifyLock(ctx context.Context, out *printer) error {
	lock, name, err := c.readLock()
	if err != nil {
		return err
	}
	text, err := lock.Marshal()
	if err != nil {
		return err
	}
	keys, err := pluginregistry.ReadPublicKeys(usualKeys)
	if err != nil {
		return err
	}
	signed := c.source(nil, keys)
	err = c.withCache(func(cache string) error {
		return start(ctx, pluginhost.Options{Lock: text, Embedded: c.Embedded, PluginsDir: c.PluginsDir,
			OCI: c.readStored, CacheDir: cache, CacheSeed: c.CacheSeed,
			VerifySigner: func(_ context.Context, p pluginhost.LockedPlugin, wasm []byte) error {
				return signed.VerifySigner(p.Source, p.Signer, wasm)
			}})
	})
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	for _, p := range lock.Plugins {
		state := "ok"
		if p.Disabled {
			state = "disabled"
		}
		out.linef("%s %s: %s", p.Name, p.Version, state)
	}
	return out.err
}

// start opens a host, starts each plugin once and closes it again.
func start(ctx context.Context, o pluginhost.Options) error {
	host, err := pluginhost.Open(ctx, o)
	if err != nil {
		return err
	}
	return errors.Join(host.Probe(ctx), host.Close(ctx))
}

// withCache hands out a directory for compiled code that is removed afterwards,
// so that a user who may not write the server's can still verify.
func (c *command) withCache(use func(dir string) error) (err error) {
	if c.CacheSeed == nil {
		return use("")
	}
	dir, err := os.MkdirTemp("", "cleat-plugin-verify-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	return use(dir)
}
