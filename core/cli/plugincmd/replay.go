package plugincmd

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/cleat-dev/cleat/core/pluginhost"
	"github.com/spf13/cobra"
)

func (c *command) replay() *cobra.Command {
	var file, output string
	cmd := &cobra.Command{
		Use:   "replay ID | FILE.json",
		Short: "Run a captured call again and compare the outcome",
		Long: `A server that runs with --plugins-capture keeps the calls that ended in a fault,
or every denial and mutation. A replay runs such a call again, offline, with the
clock, the random numbers and the cluster of then, and says whether the outcome
is the same; the exit code is 1 when it is not. An ID is the name of a file in
/var/lib/cleat/plugins/captures. The lock must have the plugin and the configuration
of then. With --plugin another version is asked, with its default configuration, to
see what it would do.`,
		Example: `  cleat plugin replay admission-baseline-5f0c3a9be1d2
  cleat plugin replay ./fault.json --plugin ./my-policy.wasm`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(output, "text"); err != nil {
				return err
			}
			capture, err := c.readCapture(args[0])
			if err != nil {
				return err
			}
			options, locked, err := c.replayWith(cmd, capture, file)
			if err != nil {
				return err
			}
			result, err := pluginhost.Replay(cmd.Context(), options, locked, capture)
			if err != nil {
				return err
			}
			if output == "json" {
				err = writeJSON(cmd.OutOrStdout(), result)
			} else {
				err = printReplay(cmd.OutOrStdout(), capture, locked, result)
			}
			if err == nil && !result.Same {
				err = errors.New("the outcome differs from the captured one")
			}
			return err
		},
	}
	cmd.Flags().StringVar(&file, "plugin", "", "plugin to ask instead of the one in the lock, as a file")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

// readCapture reads a capture by its id or file name.
func (c *command) readCapture(arg string) (*pluginhost.Capture, error) {
	file := arg
	if filepath.Ext(arg) != ".json" {
		if arg != filepath.Base(arg) {
			return nil, fmt.Errorf("%q is neither the id of a capture nor a .json file", arg)
		}
		file = filepath.Join(c.Captures, arg+".json")
	}
	text, err := pluginhost.ReadFile(file, pluginhost.MaxCaptureBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w; captures are kept by a server that runs with --plugins-capture, the newest 256", err)
	}
	if err != nil {
		return nil, err
	}
	return pluginhost.ParseCapture(text)
}

// replayWith returns what to replay on: the plugin of the lock, which must be
// the one that was captured, or the file.
func (c *command) replayWith(cmd *cobra.Command, capture *pluginhost.Capture, file string) (pluginhost.Options, pluginhost.LockedPlugin, error) {
	options := pluginhost.Options{Embedded: c.Embedded, PluginsDir: c.PluginsDir, OCI: c.readStored, Renderer: c.Renderer, CacheSeed: c.CacheSeed}
	fail := func(err error) (pluginhost.Options, pluginhost.LockedPlugin, error) {
		return options, pluginhost.LockedPlugin{}, err
	}
	if file != "" {
		wasm, err := c.readPlugin(cmd.Context(), file)
		if err != nil {
			return fail(err)
		}
		text, bundle, err := pluginhost.LockAlone(wasm)
		if err != nil {
			return fail(fmt.Errorf("%s: %w", file, err))
		}
		lock, err := pluginhost.ParseLock(text)
		if err != nil {
			return fail(err)
		}
		options.Embedded = bundle
		return options, lock.Plugins[0], nil
	}
	lock, name, err := c.readLock()
	if err != nil {
		return fail(err)
	}
	locked := lock.Find(capture.Plugin.Name)
	switch {
	case locked == nil:
		return fail(fmt.Errorf("%s has no plugin %q; give the plugin as a file with --plugin", name, capture.Plugin.Name))
	case locked.SHA256 != capture.Plugin.SHA256:
		return fail(fmt.Errorf("the captured call was of %s %s (sha256 %s…), %s has %s (%s…); give the captured one, or the new one to compare, with --plugin",
			locked.Name, capture.Plugin.PluginVer, short(capture.Plugin.SHA256), name, locked.Version, short(locked.SHA256)))
	case locked.ConfigSHA256 != capture.Plugin.ConfigSHA256:
		return fail(fmt.Errorf("the config of %s in %s is not the one of the captured call, so the outcome would not compare; "+
			"use the lock of then with --plugins-lock", locked.Name, name))
	}
	return options, *locked, nil
}

func short(digest string) string { return digest[:min(len(digest), shortDigest)] }

func printReplay(w io.Writer, capture *pluginhost.Capture, locked pluginhost.LockedPlugin, r pluginhost.Replayed) error {
	p := &printer{w: w}
	p.linef("capture   %s, %s", capture.ID, capture.Time.Format("2006-01-02 15:04:05 MST"))
	p.linef("plugin    %s %s", locked.Name, locked.Version)
	p.linef("hook      %s", capture.Hook)
	if q := capture.Request; q != nil {
		p.linef("request   %s %s %s by %s", q.Operation, q.Resource, strings.TrimPrefix(q.Namespace+"/"+q.Name, "/"), q.User)
	}
	if capture.Redacted {
		p.linef("note      secrets were left out of the capture; a plugin that read them may decide otherwise")
	}
	was, err := r.Recorded.JSON()
	if err != nil {
		return err
	}
	is, err := r.Replayed.JSON()
	if err != nil {
		return err
	}
	p.linef("captured  %s", was)
	p.linef("replayed  %s", is)
	if r.Same {
		p.linef("same, byte for byte")
	}
	return p.err
}
