package pluginarchive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cleat-dev/cleat/core/pluginhost"
	"github.com/cleat-dev/cleat/core/pluginregistry"
)

// Origin is where the plugins of a lock are read.
type Origin struct {
	Sources pluginhost.Sources // its OCI is replaced by Registry's
	// Registry has the store and the keys that signers are checked with. What the
	// store lacks is pulled, if it has a client.
	Registry *pluginregistry.Source
}

// Gathered is what belongs into the archive of a lock.
type Gathered struct {
	Entries []Entry
	Lock    *pluginhost.Lock
	// Modules are the plugins that are not embedded and whose compiled code can
	// be of use.
	Modules [][]byte
	// NoReport names the plugins whose conformance report the lock pins and which
	// is not at hand.
	NoReport []string
}

// Gather reads the plugins of a lock, with their signatures and reports, and
// checks each against its entry as a server does. Embedded plugins are checked
// and left out, since every cleat has its own.
func Gather(ctx context.Context, lockText []byte, o Origin) (*Gathered, error) {
	lock, err := pluginhost.ParseLock(lockText)
	if err != nil {
		return nil, err
	}
	g := &Gathered{Lock: lock, Entries: []Entry{{Path: LockName, Data: lockText}}}
	o.Sources.OCI = o.Registry.Read
	for _, p := range lock.Plugins {
		wasm, err := verified(ctx, o, p)
		if err != nil {
			return nil, err
		}
		kind, rest, _ := strings.Cut(p.Source, ":")
		var reports []string
		switch kind {
		case "oci":
			reports, err = g.addStored(o.Registry.Store, rest)
		case "file":
			reports, err = g.addFile(o.Sources.PluginsDir, rest, wasm)
		default:
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("plugin %s: %w", p.Name, err)
		}
		if p.ConformanceSHA256 != "" && !slices.Contains(reports, p.ConformanceSHA256) {
			g.NoReport = append(g.NoReport, p.Name)
		}
		if !p.Trusted {
			g.Modules = append(g.Modules, wasm)
		}
	}
	return g, nil
}

// verified returns the module of a plugin that is all its lock entry says.
func verified(ctx context.Context, o Origin, p pluginhost.LockedPlugin) ([]byte, error) {
	wasm, err := o.Sources.Read(ctx, p)
	if err != nil {
		return nil, err
	}
	if _, err := pluginhost.Verify(p, wasm); err != nil {
		return nil, err
	}
	if err := o.Registry.VerifySigner(p.Source, p.Signer, wasm); err != nil {
		return nil, fmt.Errorf("plugin %s: signer: %w", p.Name, err)
	}
	return wasm, nil
}

// addStored adds what the store has of a plugin; one that two entries share,
// such as a shadow, is added once.
func (g *Gathered) addStored(store pluginregistry.Store, reference string) (reports []string, err error) {
	ref, err := pluginregistry.ParseReference(reference)
	if err != nil {
		return nil, err
	}
	a, err := store.Read(ref.Digest)
	if err != nil {
		return nil, err
	}
	dir := StoreDir + pluginregistry.DirName(ref.Digest) + "/"
	g.add(dir+pluginregistry.FileManifest, a.Manifest)
	g.add(dir+pluginregistry.FileConfig, a.Config)
	g.add(dir+pluginregistry.FileWasm, a.Wasm)
	signatures, err := store.Signatures(ref.Digest)
	if err != nil {
		return nil, err
	}
	if len(signatures) > 0 {
		text, err := pluginregistry.MarshalSignatures(signatures)
		if err != nil {
			return nil, err
		}
		g.add(dir+pluginregistry.FileSignatures, text)
	}
	texts, err := store.Reports(ref.Digest)
	if err != nil {
		return nil, err
	}
	for sum, text := range texts {
		g.add(dir+pluginregistry.ReportName(sum), text)
		reports = append(reports, sum)
	}
	return reports, nil
}

// addFile adds a plugin of the plugins directory, and what stands beside it.
func (g *Gathered) addFile(pluginsDir, name string, wasm []byte) (reports []string, err error) {
	if err := CheckFile(name); err != nil {
		return nil, fmt.Errorf("source: %w; move the plugin", err)
	}
	g.add(FilesDir+name, wasm)
	for _, suffix := range []string{SignatureSuffix, ReportSuffix} {
		text, err := pluginhost.ReadFile(filepath.Join(pluginsDir, filepath.FromSlash(name)+suffix), maxText)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		g.add(FilesDir+name+suffix, text)
		if suffix == ReportSuffix {
			reports = append(reports, digest(text))
		}
	}
	return reports, nil
}

func (g *Gathered) add(name string, data []byte) {
	if !slices.ContainsFunc(g.Entries, func(e Entry) bool { return e.Path == name }) {
		g.Entries = append(g.Entries, Entry{Path: name, Data: data})
	}
}

// AddCompiled adds the compiled code of the modules; it takes a few seconds for
// each.
func (g *Gathered) AddCompiled(ctx context.Context) (err error) {
	if len(g.Modules) == 0 {
		return nil
	}
	dir, err := os.MkdirTemp("", "cleat-bundle-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := pluginhost.Precompile(ctx, dir, g.Modules...); err != nil {
		return err
	}
	return fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		g.add(CacheDir+name, data)
		return err
	})
}

// AddImages adds archives of container images, by their file names.
func (g *Gathered) AddImages(files ...string) error {
	for _, f := range files {
		name := filepath.Base(f)
		if err := CheckImage(name); err != nil {
			return err
		}
		if slices.ContainsFunc(g.Entries, func(e Entry) bool { return e.Path == ImagesDir+name }) {
			return fmt.Errorf("%s: two archives of images are called %s", f, name)
		}
		g.Entries = append(g.Entries, Entry{Path: path.Join(ImagesDir, name), From: f})
	}
	return nil
}
