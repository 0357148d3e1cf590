package plugincmd

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/cleat-dev/cleat/core/pluginhost"
	"github.com/cleat-dev/cleat/hostabi"
	"github.com/spf13/cobra"
)

func (c *command) verify() *cobra.Command {
	return &cobra.Command{
		Use:   "verify [FILE.wasm]...",
		Short: "Check plugins against the lock, or single files against the ABI",
		Long: `Without arguments, checks every plugin of the lock as a server does before it
starts, and starts each once in the sandbox. With files, checks each for
conformity to the plugin ABI: manifest, imports, exports and marker, and that an
instance starts with the default configuration.`,
		Example: `  cleat plugin verify
  cleat plugin verify --plugins-lock /etc/cleat/plugins.lock
  cleat plugin verify ./my-policy.wasm`,
		RunE: func(cmd *cobra.Command, args []string) error {
			out := &printer{w: cmd.OutOrStdout()}
			if len(args) == 0 {
				return c.verifyLock(cmd.Context(), out)
			}
			var errs []error
			for _, file := range args {
				errs = append(errs, c.verifyFile(cmd.Context(), out, file))
			}
			return errors.Join(append(errs, out.err)...)
		},
	}
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
	err = c.withCache(func(cache string) error {
		return start(ctx, pluginhost.Options{Lock: text, Embedded: c.Embedded, PluginsDir: c.PluginsDir,
			CacheDir: cache, CacheSeed: c.CacheSeed})
	})
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	for _, p := range lock.Plugins {
		out.linef("%s %s: ok", p.Name, p.Version)
	}
	return out.err
}

// verifyFile starts the plugin under a lock that grants what it asks for.
func (c *command) verifyFile(ctx context.Context, out *printer, file string) error {
	wasm, err := c.readPlugin(ctx, file)
	if err != nil {
		return err
	}
	lock, bundle, err := pluginhost.LockAlone(wasm)
	if err != nil {
		return fmt.Errorf("%s does not conform to the plugin ABI:\n%w", file, err)
	}
	if err := start(ctx, pluginhost.Options{Lock: lock, Embedded: bundle}); err != nil {
		return fmt.Errorf("%s does not start:\n%w", file, err)
	}
	out.linef("%s: conforms to ABI %d", file, hostabi.ABIMajor)
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
