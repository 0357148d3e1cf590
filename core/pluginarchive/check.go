package pluginarchive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cleat-dev/cleat/core/pluginhost"
	"github.com/cleat-dev/cleat/core/pluginregistry"
)

// Check holds an extracted archive to the lock inside it: every plugin is there
// and all its entry says, and there is nothing that the lock does not name.
// embedded is the bundle of this cleat, keys those of trusted signers.
func Check(ctx context.Context, dir string, x *Index, embedded fs.FS, keys []pluginregistry.PublicKey) (*pluginhost.Lock, error) {
	text, err := pluginhost.ReadFile(filepath.Join(dir, LockName), maxLock)
	if err != nil {
		return nil, err
	}
	lock, err := pluginhost.ParseLock(text)
	if err != nil {
		return nil, err
	}
	files := filepath.Join(dir, filepath.FromSlash(FilesDir))
	if err := os.MkdirAll(files, 0o755); err != nil {
		return nil, err
	}
	o := Origin{
		Sources:  pluginhost.Sources{Embedded: embedded, PluginsDir: files},
		Registry: &pluginregistry.Source{Store: pluginregistry.StoreIn(dir), PluginsDir: files, Keys: keys},
	}
	o.Sources.OCI = o.Registry.Read
	explained := map[string]bool{LockName: true}
	var errs []error
	for _, p := range lock.Plugins {
		if _, err := verified(ctx, o, p); err != nil {
			if strings.HasPrefix(p.Source, "embedded:") {
				err = fmt.Errorf("%w; the plugin is part of the cleat binary: install the archive with the cleat it was made for", err)
			}
			errs = append(errs, err)
			continue
		}
		names, err := belonging(p, o.Registry.Store)
		if err != nil {
			errs = append(errs, fmt.Errorf("plugin %s: %w", p.Name, err))
		}
		for _, n := range names {
			explained[n] = true
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	for _, f := range x.Files {
		if !explained[f.Path] && !strings.HasPrefix(f.Path, CacheDir) && !strings.HasPrefix(f.Path, ImagesDir) {
			return nil, fmt.Errorf("%s is in the archive, and no plugin of its lock needs it", f.Path)
		}
	}
	return lock, checkReports(dir, x, lock)
}

// belonging lists the files of an archive that a plugin accounts for.
func belonging(p pluginhost.LockedPlugin, store pluginregistry.Store) ([]string, error) {
	kind, rest, _ := strings.Cut(p.Source, ":")
	switch kind {
	case "file":
		return []string{FilesDir + rest, FilesDir + rest + SignatureSuffix, FilesDir + rest + ReportSuffix}, CheckFile(rest)
	case "oci":
		ref, err := pluginregistry.ParseReference(rest)
		if err != nil {
			return nil, err
		}
		reports, err := store.Reports(ref.Digest)
		if err != nil {
			return nil, err
		}
		if _, err := store.Signatures(ref.Digest); err != nil {
			return nil, err
		}
		dir := StoreDir + pluginregistry.DirName(ref.Digest) + "/"
		names := []string{dir + pluginregistry.FileManifest, dir + pluginregistry.FileConfig, dir + pluginregistry.FileWasm, dir + pluginregistry.FileSignatures}
		for sum := range reports {
			names = append(names, dir+pluginregistry.ReportName(sum))
		}
		return names, nil
	}
	return nil, nil
}

// checkReports refuses a report beside a file that is not the one the lock pins.
// Those of the store have their digest as a name.
func checkReports(dir string, x *Index, lock *pluginhost.Lock) error {
	for _, p := range lock.Plugins {
		rest, ok := strings.CutPrefix(p.Source, "file:")
		name := FilesDir + rest + ReportSuffix
		if !ok || p.ConformanceSHA256 == "" || !slices.ContainsFunc(x.Files, func(f File) bool { return f.Path == name }) {
			continue
		}
		text, err := pluginhost.ReadFile(filepath.Join(dir, filepath.FromSlash(name)), maxText)
		if err != nil {
			return err
		}
		if got := digest(text); got != p.ConformanceSHA256 {
			return fmt.Errorf("plugin %s: conformance_sha256: the lock has %s, the report in the archive %s", p.Name, p.ConformanceSHA256, got)
		}
	}
	return nil
}
