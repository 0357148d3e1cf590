package plugincmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cleat-dev/cleat/conformance"
	"github.com/cleat-dev/cleat/core/pluginhost"
	"github.com/cleat-dev/cleat/core/pluginregistry"
	"github.com/cleat-dev/cleat/hostabi/wasmfile"
	"github.com/spf13/cobra"
)

func (c *command) lock() *cobra.Command {
	var accept, embedded, shadow bool
	var signer string
	var reports []string
	cmd := &cobra.Command{
		Use:   "lock [FILE.wasm | DIRECTORY | oci:REFERENCE@sha256:DIGEST]...",
		Short: "Write plugins.lock from plugin files",
		Long: `Pins the given plugins in plugins.lock (--plugins-lock, by default the file of
that name in the working directory). What is locked already keeps its order,
limits, failure policy, trust, signer and config; a new plugin is asked last.
Without arguments the plugins of the lock are read from their sources again, and
a config that was edited is pinned.

A plugin from a registry is given as the source line that ` + "`cleat plugin pull`" + ` prints.

With --shadow a version runs beside the locked one of its name: both are asked
about live requests, the locked one decides, and differences are reported.

When a plugin asks for more than its lock grants, the difference is shown and
nothing is written unless --accept is given. A lock that does not exist yet is
written at once. A running server follows with ` + "`cleat plugin reload`" + `.`,
		Example: `  cleat plugin lock --plugins-dir /var/lib/cleat/plugins /var/lib/cleat/plugins/my-policy.wasm
  cleat plugin lock --signer key:0442… oci:registry.example.com/plugins/my-policy:1.0@sha256:96fc…
  cleat plugin lock --embedded --accept build/plugins`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if c.lockFile == "" {
				c.lockFile = "plugins.lock"
			}
			l := &locker{command: c, ctx: cmd.Context(), out: &printer{w: cmd.OutOrStdout()}, embedded: embedded, shadow: shadow, signer: signer}
			if err := l.readReports(reports); err != nil {
				return err
			}
			return l.run(args, accept)
		},
	}
	cmd.Flags().BoolVar(&accept, "accept", false, "grant the new powers that are shown")
	cmd.Flags().StringVar(&signer, "signer", "", "who must have signed the plugins given: key: and the fingerprint that 'cleat plugin pull' prints")
	cmd.Flags().StringSliceVar(&reports, "report", nil, "conformance reports of the plugins, whose digests are pinned")
	cmd.Flags().BoolVar(&shadow, "shadow", false, "lock the files as shadows: they run beside the plugins of their names and decide nothing")
	cmd.Flags().BoolVar(&embedded, "embedded", false, "record the files as part of the embedded bundle (for building cleat)")
	return cmd
}

// locker is one run of `plugin lock`.
type locker struct {
	*command
	ctx      context.Context // of the one run
	out      *printer
	embedded bool
	shadow   bool
	signer   string
	reports  map[string]string // digest of the report by that of the plugin

	lock   *pluginhost.Lock
	fresh  bool     // there was no lock
	powers []string // plugins that ask for more than before
}

// candidate is a plugin to lock.
type candidate struct {
	wasm   []byte
	source string
	where  string // for messages
	shadow bool
}

func (l *locker) run(args []string, accept bool) error {
	before, err := l.open()
	if err != nil {
		return err
	}
	candidates, err := l.gather(args)
	if err != nil {
		return err
	}
	for _, c := range candidates {
		if err := l.enter(c); err != nil {
			return fmt.Errorf("%s: %w", c.where, err)
		}
	}
	after, err := l.lock.Marshal()
	switch {
	case err != nil:
		return err
	case l.out.err != nil:
		return l.out.err
	case bytes.Equal(before, after):
		l.out.linef("%s is up to date", l.lockFile)
		return l.out.err
	case len(l.powers) > 0 && !accept:
		return fmt.Errorf("%s asks for powers that %s does not grant; nothing was written. "+
			"Review the difference above and run the command again with --accept", strings.Join(l.powers, ", "), l.lockFile)
	}
	if err := replaceFile(l.lockFile, after); err != nil {
		return err
	}
	l.out.linef("%s written, %d plugins", l.lockFile, len(l.lock.Plugins))
	return l.out.err
}

// open reads the lock if there is one. A config that was edited by hand is no
// error here, since pinning it again is what the command is for.
func (l *locker) open() (text []byte, err error) {
	text, err = pluginhost.ReadFile(l.lockFile, pluginhost.MaxLockBytes)
	if errors.Is(err, fs.ErrNotExist) {
		l.lock, l.fresh = &pluginhost.Lock{Version: pluginhost.LockVersion}, true
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the lock: %w", err)
	}
	if l.lock, err = pluginhost.ParseEditedLock(text); err != nil {
		return nil, fmt.Errorf("%s: %w", l.lockFile, err)
	}
	return text, nil
}

// gather reads the plugins named by args, or all of the lock.
func (l *locker) gather(args []string) ([]candidate, error) {
	if len(args) == 0 {
		if l.fresh {
			return nil, fmt.Errorf("%s does not exist yet; name the plugins to lock, as files or a directory", l.lockFile)
		}
		var all []candidate
		for _, p := range l.lock.Plugins {
			wasm, err := l.sources().Read(l.ctx, p)
			if err != nil {
				return nil, err
			}
			all = append(all, candidate{wasm, p.Source, p.Source, p.Shadow})
		}
		return all, nil
	}
	var all []candidate
	var paths []string
	for _, a := range args {
		if !isReference(a) {
			paths = append(paths, a)
			continue
		}
		ref, err := pluginregistry.ParseReference(a)
		if err != nil {
			return nil, err
		}
		wasm, err := l.readStored(l.ctx, strings.TrimPrefix(ref.Source(), pluginregistry.SourcePrefix))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", a, err)
		}
		all = append(all, candidate{wasm, ref.Source(), a, l.shadow})
	}
	files, err := expand(paths)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		wasm, err := pluginhost.ReadFile(f, wasmfile.MaxBytes)
		if err != nil {
			return nil, fmt.Errorf("read the plugin: %w", err)
		}
		source, err := l.sourceOf(f)
		if err != nil {
			return nil, err
		}
		all = append(all, candidate{wasm, source, f, l.shadow})
	}
	return all, nil
}

// expand replaces directories by their .wasm files, sorted by name.
func expand(args []string) ([]string, error) {
	var files []string
	for _, a := range args {
		info, err := os.Stat(a)
		switch {
		case err != nil:
			return nil, err
		case !info.IsDir():
			files = append(files, a)
			continue
		}
		found, err := filepath.Glob(filepath.Join(a, "*.wasm"))
		if err != nil {
			return nil, err
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("%s has no .wasm files", a)
		}
		files = append(files, found...)
	}
	return files, nil
}

// sourceOf is how the lock spells where the file is.
func (l *locker) sourceOf(file string) (string, error) {
	if l.embedded {
		return "embedded:" + filepath.Base(file), nil
	}
	if l.PluginsDir == "" {
		return "", fmt.Errorf("%s: no plugins directory is set (--plugins-dir)", file)
	}
	dir, err := filepath.Abs(l.PluginsDir)
	if err != nil {
		return "", err
	}
	abs, err := filepath.Abs(file)
	if err != nil {
		return "", err
	}
	rel, err := filepath.Rel(dir, abs)
	if err != nil || !filepath.IsLocal(rel) {
		return "", fmt.Errorf("%s is outside the plugins directory %s; copy it there, or name another with --plugins-dir", file, dir)
	}
	return "file:" + rel, nil
}

// enter puts a plugin into the lock and shows what that changes.
func (l *locker) enter(c candidate) error {
	ins, err := pluginhost.Inspect(c.wasm)
	if err != nil {
		return err
	}
	name := ins.Manifest.Name
	old := l.lock.Find(name)
	kind := ""
	if c.shadow {
		kind = " (shadow)"
		if old == nil {
			return fmt.Errorf("%s has no plugin %s that it could be a shadow of; lock that one first", l.lockFile, name)
		}
		old = l.lock.FindShadow(name)
	}
	if old == nil {
		entry, err := pluginhost.Propose(ins, c.source, l.lock.NextOrder())
		if err != nil {
			return err
		}
		entry.Shadow = c.shadow
		l.pin(&entry, nil)
		l.out.linef("%s %s%s: new, order %d", name, entry.Version, kind, entry.Order)
		l.show(pluginhost.Compare(pluginhost.LockedPlugin{}, entry), true)
		if !l.fresh {
			l.powers = append(l.powers, name)
		}
		l.lock.Plugins = append(l.lock.Plugins, entry)
		return nil
	}
	entry, err := old.Repin(ins, c.source)
	if err != nil {
		return err
	}
	l.pin(&entry, old)
	changes := pluginhost.Compare(*old, entry)
	if len(changes) == 0 {
		l.out.linef("%s %s%s: unchanged", name, entry.Version, kind)
		return nil
	}
	l.out.linef("%s %s%s:", name, entry.Version, kind)
	l.show(changes, false)
	if slices.ContainsFunc(changes, func(c pluginhost.Change) bool { return c.Power }) {
		l.powers = append(l.powers, name)
	}
	*old = entry
	return nil
}

// pin adds what else is known of a plugin: who must have signed it, and its
// conformance report. A report of other bytes than those in old, the entry before
// or nil, says nothing about these.
func (l *locker) pin(entry, old *pluginhost.LockedPlugin) {
	if l.signer != "" {
		entry.Signer = l.signer
	}
	if digest, ok := l.reports[entry.SHA256]; ok {
		entry.ConformanceSHA256 = digest
	} else if old == nil || old.SHA256 != entry.SHA256 {
		entry.ConformanceSHA256 = ""
	}
}

// readReports reads conformance reports.
func (l *locker) readReports(files []string) error {
	l.reports = map[string]string{}
	for _, f := range files {
		text, err := pluginhost.ReadFile(f, conformance.MaxReportBytes)
		if err != nil {
			return fmt.Errorf("--report: %w", err)
		}
		report, err := conformance.ParseReport(text)
		if err != nil {
			return fmt.Errorf("--report %s: %w", f, err)
		}
		if !report.Conforms {
			return fmt.Errorf("--report %s: %s does not conform; correct the plugin, or lock it without a report", f, report.Plugin.Name)
		}
		if l.reports[report.Plugin.SHA256], err = report.SHA256(); err != nil {
			return err
		}
	}
	return nil
}

// show prints changes; onlyPowers leaves out what every new plugin has.
func (l *locker) show(changes []pluginhost.Change, onlyPowers bool) {
	for _, line := range changeLines(changes, onlyPowers) {
		l.out.linef("%s", line)
	}
}

func changeLines(changes []pluginhost.Change, onlyPowers bool) []string {
	var lines []string
	for _, c := range changes {
		if onlyPowers && !c.Power {
			continue
		}
		for _, v := range c.Gained {
			lines = append(lines, "  + "+c.Field+": "+v)
		}
		for _, v := range c.Lost {
			lines = append(lines, "  - "+c.Field+": "+v)
		}
	}
	return lines
}
