package plugincmd

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cleat-dev/cleat/core/internal/paths"
	"github.com/cleat-dev/cleat/core/pluginarchive"
	"github.com/cleat-dev/cleat/core/pluginhost"
	"github.com/cleat-dev/cleat/core/pluginregistry"
	"github.com/klauspost/compress/zstd"
	"github.com/spf13/cobra"
)

// usualLock is where install puts the lock if --plugins-lock does not say.
const usualLock = paths.EtcDir + "/plugins.lock"

// installer is one run of `plugin install`.
type installer struct {
	*command
	keyFlags
	sha256, cacheDir, imagesDir string
	force                       bool

	out   *printer
	stage string // where the archive is unpacked, below the plugins directory
}

func (c *command) install() *cobra.Command {
	i := &installer{command: c}
	cmd := &cobra.Command{
		Use:   "install ARCHIVE",
		Short: "Install the archive that `cleat plugin bundle` wrote, without a network",
		Long: `Checks an archive against the lock inside it, every digest and every signature
that the lock asks for, and then puts plugins, lock and images where a server
finds them: all of it or nothing. A different lock, plugin or image archive that
is there already is replaced with --force only, and kept as FILE.<digest>.bak.
The lock goes to ` + usualLock + ` unless --plugins-lock says otherwise. A running
server follows with ` + "`cleat plugin reload`" + `.

Compiled code is machine code that the server runs, and nothing in the lock pins
it. It is installed only if the archive is vouched for: by --sha256, by --key, or
by a trusted key whose signature is beside the archive (ARCHIVE` + pluginarchive.SignatureSuffix + `). Otherwise
the server compiles the plugins at its first start. Images are not pinned by the
lock either: they are as trustworthy as the archive.`,
		Example: `  cleat plugin install plugins.tar.zst
  cleat plugin install plugins.tar.zst --key vendor.pub --plugins-lock /etc/cleat/plugins.lock`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			i.out = &printer{w: cmd.OutOrStdout()}
			return i.run(cmd.Context(), args[0])
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&i.sha256, "sha256", "", "SHA-256 that the archive must have, in hex")
	flags.StringVar(&i.cacheDir, "cache-dir", "", "directory of compiled code (default: cache in the plugins directory)")
	flags.StringVar(&i.imagesDir, "images-dir", "/var/lib/cleat/agent/images", "directory of image archives that a node imports")
	flags.BoolVar(&i.force, "force", false, "replace a different lock, plugin or image archive")
	i.keyFlags.add(cmd)
	return cmd
}

func (i *installer) run(ctx context.Context, archive string) (err error) {
	if i.lockFile == "" {
		i.lockFile = usualLock
	}
	if i.cacheDir == "" {
		i.cacheDir = filepath.Join(i.PluginsDir, "cache")
	}
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	sum, by, err := i.vouched(f, archive)
	if err != nil {
		return fmt.Errorf("%s: %w", archive, err)
	}
	if err := os.MkdirAll(i.PluginsDir, 0o755); err != nil {
		return err
	}
	if i.stage, err = os.MkdirTemp(i.PluginsDir, ".install-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(i.stage)) }()

	index, err := i.extract(ctx, f, sum)
	if err != nil {
		return fmt.Errorf("%s: %w", archive, err)
	}
	lock, err := i.check(ctx, index)
	if err != nil {
		return fmt.Errorf("%s: %w", archive, err)
	}
	before, err := i.showChanges(lock)
	if err != nil {
		return err
	}
	list, err := i.placements(index, by != "")
	if err != nil {
		return err
	}
	changed, err := pluginarchive.Place(list)
	if err != nil {
		return err
	}
	i.report(index, lock, by, before, changed)
	return i.out.err
}

// vouched returns the digest of the archive, and who vouches for it, "" for
// nobody. It fails if somebody was asked for who does not.
func (i *installer) vouched(f *os.File, archive string) (sum, by string, err error) {
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", "", err
	}
	sum = hex.EncodeToString(h.Sum(nil))
	if i.sha256 != "" {
		if !strings.EqualFold(i.sha256, sum) {
			return "", "", fmt.Errorf("--sha256: the archive has the SHA-256 %s; it is damaged, or another one", sum)
		}
		by = "--sha256"
	}
	keys, err := i.keys()
	if err != nil {
		return "", "", err
	}
	sig, err := pluginhost.ReadFile(archive+pluginarchive.SignatureSuffix, pluginregistry.MaxBlobSignature)
	if errors.Is(err, fs.ErrNotExist) && i.key == "" {
		return sum, by, nil
	}
	if err != nil {
		return "", "", fmt.Errorf("signature of the archive: %w", err)
	}
	fingerprint, err := pluginregistry.VerifyBlob(f, sig, keys)
	switch {
	case err == nil:
		return sum, pluginregistry.SignerPrefix + fingerprint, nil
	case i.key != "" || !errors.Is(err, pluginregistry.ErrNotSigned):
		return "", "", fmt.Errorf("signature of the archive: %w", err)
	}
	return sum, by, nil
}

// extract unpacks the archive that was vouched for, and no other.
func (i *installer) extract(ctx context.Context, f *os.File, sum string) (*pluginarchive.Index, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	h := sha256.New()
	index, err := pluginarchive.Extract(ctx, io.TeeReader(f, h), i.stage)
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(h, f); err != nil {
		return nil, err
	}
	if hex.EncodeToString(h.Sum(nil)) != sum {
		return nil, errors.New("the archive changed while it was read")
	}
	return index, nil
}

func (i *installer) check(ctx context.Context, index *pluginarchive.Index) (*pluginhost.Lock, error) {
	keys, err := i.trusted()
	if err != nil {
		return nil, err
	}
	if i.key != "" {
		more, err := i.keys()
		if err != nil {
			return nil, err
		}
		keys = append(keys, more...)
	}
	return pluginarchive.Check(ctx, i.stage, index, i.Embedded, keys)
}

// showChanges prints what the plugins of the lock may do that those of the lock
// in place may not, and returns that lock's text.
func (i *installer) showChanges(lock *pluginhost.Lock) ([]byte, error) {
	text, err := pluginhost.ReadFile(i.lockFile, pluginhost.MaxLockBytes)
	if errors.Is(err, fs.ErrNotExist) {
		text, err = nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the lock: %w", err)
	}
	before := &pluginhost.Lock{}
	if text != nil {
		if before, err = pluginhost.ParseEditedLock(text); err != nil {
			before = &pluginhost.Lock{} // unreadable: everything counts as new
		}
	}
	for _, p := range lock.Plugins {
		old := before.Find(p.Name)
		if p.Shadow {
			old = before.FindShadow(p.Name)
		}
		if old == nil {
			old = &pluginhost.LockedPlugin{}
		}
		i.out.linef("%s %s", p.Name, p.Version)
		for _, c := range pluginhost.Compare(*old, p) {
			for _, v := range c.Gained {
				if c.Power {
					i.out.linef("  + %s: %s", c.Field, v)
				}
			}
		}
		if p.Trusted && !old.Trusted {
			i.out.linef("  + trusted: its loops are not interrupted")
		}
	}
	return text, i.out.err
}

// placements says where each file goes; the lock is last, because it is what
// makes a server use the rest.
func (i *installer) placements(index *pluginarchive.Index, withCode bool) ([]pluginarchive.Placement, error) {
	var list []pluginarchive.Placement
	var different []string
	owned := func(from, to string) error {
		p := pluginarchive.Placement{From: from, To: to, Mode: 0o644}
		same, err := pluginarchive.SameFile(from, to)
		if err != nil {
			return err
		}
		if old, err := digestOf(to); err != nil {
			return err
		} else if old != "" && !same {
			different = append(different, to)
			p.Keep = to + "." + old[:shortDigest] + ".bak"
		}
		list = append(list, p)
		return nil
	}
	for _, f := range index.Files {
		from := filepath.Join(i.stage, filepath.FromSlash(f.Path))
		dir, rest, _ := strings.Cut(f.Path, "/")
		var err error
		switch dir + "/" {
		case pluginarchive.StoreDir:
			to := filepath.Join(i.PluginsDir, filepath.FromSlash(f.Path))
			if filepath.Base(to) == pluginregistry.FileSignatures {
				err = mergeSignatures(from, to)
			}
			list = append(list, pluginarchive.Placement{From: from, To: to, Mode: 0o644})
		case pluginarchive.FilesDir:
			err = owned(from, filepath.Join(i.PluginsDir, filepath.FromSlash(rest)))
		case pluginarchive.ImagesDir:
			err = owned(from, filepath.Join(i.imagesDir, rest))
		case pluginarchive.CacheDir:
			if !withCode {
				continue
			}
			plain, compressed := strings.CutSuffix(rest, ".zst")
			if compressed {
				err = decompress(from)
			}
			list = append(list, pluginarchive.Placement{From: from, To: filepath.Join(i.cacheDir, filepath.FromSlash(plain)), Mode: 0o600})
		}
		if err != nil {
			return nil, err
		}
	}
	if err := owned(filepath.Join(i.stage, pluginarchive.LockName), i.lockFile); err != nil {
		return nil, err
	}
	if len(different) > 0 && !i.force {
		return nil, fmt.Errorf("%s: there already and different; nothing was installed. Compare them, then run the command again with --force, which keeps the old as FILE.<digest>.bak",
			strings.Join(different, ", "))
	}
	if withCode {
		// The server empties a directory that others could have written.
		if err := os.MkdirAll(i.cacheDir, 0o700); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func (i *installer) report(index *pluginarchive.Index, lock *pluginhost.Lock, by string, before []byte, changed int) {
	code, images := 0, 0
	for _, f := range index.Files {
		if strings.HasPrefix(f.Path, pluginarchive.CacheDir) {
			code++
		}
		if strings.HasPrefix(f.Path, pluginarchive.ImagesDir) {
			images++
		}
	}
	switch {
	case by != "":
		i.out.linef("vouched for by %s", by)
	case code > 0:
		i.out.linef("nobody vouches for the archive (--sha256, --key): its compiled code was left out, the server compiles at its first start")
	}
	i.out.linef("installed %d plugins and %d archives of images; %d files changed", len(lock.Plugins), images, changed)
	if before == nil {
		i.out.linef("start the server with --plugins-lock %s", i.lockFile)
	} else if changed > 0 {
		i.out.linef("a running server follows with `cleat plugin reload`")
	}
}

// digestOf is the SHA-256 of a file, "" if it is not there.
func digestOf(path string) (_ string, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), err
}

// mergeSignatures adds the signatures at to to those at from, which will replace
// them.
func mergeSignatures(from, to string) error {
	var all []pluginregistry.Signature
	for _, path := range []string{from, to} {
		text, err := pluginhost.ReadFile(path, 2<<20)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		list, err := pluginregistry.ParseSignatures(text)
		if err != nil && path == from {
			return err
		}
		all = pluginregistry.MergeSignatures(all, list)
	}
	text, err := pluginregistry.MarshalSignatures(all)
	if err != nil {
		return err
	}
	return os.WriteFile(from, text, 0o600)
}

// maxCode bounds what comes out of one compressed entry of compiled code.
const maxCode = 512 << 20

// decompress replaces a file by what it holds, an entry of the compile cache.
func decompress(path string) error {
	data, err := pluginhost.ReadFile(path, maxCode)
	if err != nil {
		return err
	}
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxCode))
	if err != nil {
		return err
	}
	defer z.Close()
	plain, err := z.DecodeAll(data, nil)
	if err != nil {
		return fmt.Errorf("compiled code %s: %w", filepath.Base(path), err)
	}
	return os.WriteFile(path, plain, 0o600)
}
