package plugincmd

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/cleat-dev/cleat/core/internal/version"
	"github.com/cleat-dev/cleat/core/pluginarchive"
	"github.com/cleat-dev/cleat/core/pluginhost"
	"github.com/cleat-dev/cleat/core/pluginregistry"
	"github.com/spf13/cobra"
)

// bundler is one run of `plugin bundle`.
type bundler struct {
	*command
	registryFlags
	signerFlags
	keysDir string
	output  string
	images  []string
	noCache bool
}

func (c *command) bundle() *cobra.Command {
	b := &bundler{command: c}
	cmd := &cobra.Command{
		Use:   "bundle -o ARCHIVE.tar.zst",
		Short: "Write one archive with all plugins of the lock, for machines without a network",
		Long: `Writes an archive with the lock, its plugins, their signatures and conformance
reports, their compiled code, and archives of container images. Every plugin is
checked against the lock first; what the plugin store lacks is pulled. Embedded
plugins stay out, since they are part of the cleat binary. The same plugins
always give the same archive.

With --key the archive is signed too, in ARCHIVE` + pluginarchive.SignatureSuffix + `. Only an archive that is
vouched for has its compiled code installed.`,
		Example: `  cleat plugin bundle --plugins-lock plugins.lock -o plugins.tar.zst --key vendor.key
  cleat plugin bundle --plugins-lock plugins.lock -o plugins.tar.zst --images images.tar.zst`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return b.run(cmd) },
	}
	cmd.Flags().StringVarP(&b.output, "output", "o", "", "archive to write")
	cmd.Flags().StringArrayVar(&b.images, "images", nil, "archive of container images to include; may be given several times")
	cmd.Flags().BoolVar(&b.noCache, "no-compiled-code", false, "leave compiled code out: smaller, but a server compiles at its first start")
	cmd.Flags().StringVar(&b.keysDir, "keys-dir", usualKeys, "directory of trusted public keys, *.pub, for plugins whose entry has a signer")
	b.signerFlags.add(cmd, "private key to sign the archive with, in PEM")
	b.registryFlags.add(cmd)
	return cmd
}

func (b *bundler) run(cmd *cobra.Command) error {
	if b.output == "" {
		return errors.New("-o: name the archive to write, as in -o plugins.tar.zst")
	}
	var signer *pluginregistry.Signer
	if b.key != "" {
		var err error
		if signer, err = b.signer(cmd); err != nil {
			return err
		}
	}
	content, err := b.gather(cmd)
	if err != nil {
		return err
	}
	out := &printer{w: cmd.OutOrStdout()}
	index, sum, err := writeArchive(b.output, content.Entries)
	if err != nil {
		return err
	}
	for _, p := range content.Lock.Plugins {
		out.linef("%s %s: %s", p.Name, p.Version, p.Source)
	}
	for _, name := range content.NoReport {
		out.linef("%s: the conformance report that the lock pins is not at hand and not in the archive", name)
	}
	out.linef("%s written, %d files", b.output, len(index.Files))
	out.linef("sha256     %s", sum)
	if signer == nil || out.err != nil {
		return out.err
	}
	return signFile(out, b.output, signer)
}

// gather collects and checks what goes into the archive.
func (b *bundler) gather(cmd *cobra.Command) (*pluginarchive.Gathered, error) {
	text, name := b.Lock, "the embedded lock"
	if b.lockFile != "" {
		var err error
		name = b.lockFile
		if text, err = pluginhost.ReadFile(b.lockFile, pluginhost.MaxLockBytes); err != nil {
			return nil, fmt.Errorf("read the lock: %w", err)
		}
	}
	trusted := keyFlags{dir: b.keysDir}
	keys, err := trusted.trusted()
	if err != nil {
		return nil, err
	}
	client, err := b.client(cmd)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	content, err := pluginarchive.Gather(cmd.Context(), text, pluginarchive.Origin{Sources: b.sources(), Registry: b.source(client, keys)})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if !b.noCache {
		if err := content.AddCompiled(cmd.Context()); err != nil {
			return nil, err
		}
	}
	if err := content.AddImages(b.images...); err != nil {
		return nil, fmt.Errorf("--images: %w", err)
	}
	return content, nil
}

// writeArchive writes an archive in one step and returns its digest.
func writeArchive(path string, entries []pluginarchive.Entry) (index *pluginarchive.Index, sum string, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".bundle-*")
	if err != nil {
		return nil, "", err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	h := sha256.New()
	index, err = pluginarchive.Write(io.MultiWriter(f, h), version.Cleat, entries)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, "", err
	}
	return index, hex.EncodeToString(h.Sum(nil)), os.Rename(f.Name(), path)
}
