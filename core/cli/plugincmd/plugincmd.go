// Package plugincmd is the command `cleat plugin`: what authors, vendors and
// operators do with plugins. Only verify, bench and replay run one, in the
// sandbox; of the others, some ask the server on this machine to reload.
package plugincmd

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cleat-dev/cleat/core/extension"
	"github.com/cleat-dev/cleat/core/internal/paths"
	"github.com/cleat-dev/cleat/core/pluginhost"
	"github.com/cleat-dev/cleat/hostabi/wasmfile"
	"github.com/spf13/cobra"
)

// Deps is what the command needs from the binary it is part of.
type Deps struct {
	Embedded   fs.FS                         // the wasm files of the embedded bundle, by name
	Lock       []byte                        // the lock of the embedded bundle
	CacheSeed  fs.FS                         // compiled code of the embedded bundle, nil for none
	PluginsDir string                        // default of --plugins-dir
	Captures   string                        // directory of calls kept for a replay
	SDK        func() (io.ReadCloser, error) // the archive of SDK sources, nil for none
	Renderer   extension.Renderer            // for plugins that ask for one, nil for none
	Socket     string                        // of the server on this machine; "" is the usual one
}

// command carries the flags every subcommand has.
type command struct {
	Deps
	lockFile string // "" = the embedded lock
}

// New returns the command `plugin`.
func New(deps Deps) *cobra.Command {
	if deps.Socket == "" {
		deps.Socket = paths.StatusSocket
	}
	c := &command{Deps: deps}
	cmd := &cobra.Command{
		Use:   "plugin",
		Short: "Write, check, ship and operate WebAssembly plugins",
		Long: `Plugins decide what a cluster uses for its datastore, its network, admission
and deployment. plugins.lock says which plugins those are and what each may do;
a server refuses to start when a plugin differs from its lock.

Authors begin with new, bench, verify and diff; vendors ship with push, sign, pull,
bundle and install. Operators say with lock, enable, disable, promote and remove
which plugins decide, look with list and inspect, make a server follow with reload,
and ask again about what happened with replay.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	flags := cmd.PersistentFlags()
	flags.StringVar(&c.lockFile, "plugins-lock", os.Getenv("CLEAT_PLUGINS_LOCK"), "plugins.lock to use (default: CLEAT_PLUGINS_LOCK; else the lock of the embedded bundle, unless the command says otherwise)")
	flags.StringVar(&c.PluginsDir, "plugins-dir", deps.PluginsDir, "directory in which file: sources of the lock are looked up")
	cmd.AddCommand(c.new(), c.bench(), c.list(), c.inspect(), c.diff(), c.lock(), c.verify(), c.enable(), c.disable(), c.promote(), c.remove(),
		c.reload(), c.replay(), c.push(), c.sign(), c.pull(), c.bundle(), c.install())
	return cmd
}

// readLock returns the lock in use and what to call it in messages.
func (c *command) readLock() (lock *pluginhost.Lock, name string, err error) {
	text, name := c.Lock, "the embedded lock"
	if c.lockFile != "" {
		name = c.lockFile
		if text, err = pluginhost.ReadFile(c.lockFile, pluginhost.MaxLockBytes); err != nil {
			return nil, name, fmt.Errorf("read the lock: %w", err)
		}
	}
	if lock, err = pluginhost.ParseLock(text); err != nil {
		return nil, name, fmt.Errorf("%s: %w", name, err)
	}
	return lock, name, nil
}

// readPlugin returns the bytes of a plugin given as a file, or by its name in
// the lock.
func (c *command) readPlugin(ctx context.Context, arg string) ([]byte, error) {
	if filepath.Ext(arg) == ".wasm" {
		wasm, err := pluginhost.ReadFile(arg, wasmfile.MaxBytes)
		if err != nil {
			return nil, fmt.Errorf("read the plugin: %w", err)
		}
		return wasm, nil
	}
	lock, name, err := c.readLock()
	if err != nil {
		return nil, err
	}
	locked := lock.Find(arg)
	if locked == nil {
		return nil, fmt.Errorf("%s has no plugin %q; `cleat plugin list` shows what it has, and a file is given as <path>.wasm", name, arg)
	}
	return c.sources().Read(ctx, *locked)
}

func (c *command) sources() pluginhost.Sources {
	return pluginhost.Sources{Embedded: c.Embedded, PluginsDir: c.PluginsDir, OCI: c.readStored}
}

// checkOutput refuses an unknown -o; json is known everywhere.
func checkOutput(format string, known ...string) error {
	known = append(known, "json")
	if !slices.Contains(known, format) {
		last := len(known) - 1
		return fmt.Errorf("--output %q is unknown; use %s or %s", format, strings.Join(known[:last], ", "), known[last])
	}
	return nil
}

// replaceFile writes data to path in one step.
func replaceFile(path string, data []byte) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".plugins-lock-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("write %s: %w", path, err)
			_ = os.Remove(tmp.Name()) // best effort: the write has failed already
		}
	}()
	if _, err = tmp.Write(data); err != nil {
		_ = tmp.Close()
		return err
	}
	if err = tmp.Chmod(0o644); err != nil {
		_ = tmp.Close()
		return err
	}
	if err = tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// printer writes lines and keeps the first error.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) linef(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}
