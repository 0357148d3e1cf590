package extract

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// What an archive of programs may be.
const (
	maxEntries = 256
	maxBytes   = 512 << 20 // of all files, unpacked
	maxDepth   = 8
	maxName    = 255
	maxWindow  = 64 << 20 // bytes of history a zstd frame may ask for
	mode       = 0o755    // of everything, whatever the archive or the umask say
)

// file is a regular file that was unpacked.
type file struct {
	Name string `json:"name"` // slash separated, relative
	Size int64  `json:"size"`
}

// unpack writes the archive into the empty directory dir and syncs it. Only
// files and directories are accepted. What it wrote must not be used when it
// fails: the digest is known to be right only at the end.
func unpack(ctx context.Context, dir, digest string, open Open) (files []file, err error) {
	archive, err := open()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, archive.Close()) }()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, root.Close()) }()

	sum := sha256.New()
	compressed := io.TeeReader(&contextReader{ctx, archive}, sum)
	z, err := zstd.NewReader(compressed, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return nil, err
	}
	defer z.Close()

	w := writer{root: root}
	if err := w.writeAll(tar.NewReader(z)); err != nil {
		return nil, err
	}
	// The padding of the tar and the trailer of the zstd frame count as well.
	if _, err := io.Copy(io.Discard, io.LimitReader(z, maxBytes)); err != nil {
		return nil, err
	}
	if _, err := io.Copy(io.Discard, compressed); err != nil {
		return nil, err
	}
	if have := hex.EncodeToString(sum.Sum(nil)); have != digest {
		return nil, fmt.Errorf("the archive has sha256 %s, not %s: the binary is damaged, install it again", have, digest)
	}
	return w.files, w.syncDirs()
}

type writer struct {
	root    *os.Root
	entries int
	bytes   int64
	files   []file
	dirs    map[string]struct{}
}

func (w *writer) writeAll(archive *tar.Reader) error {
	w.dirs = map[string]struct{}{".": {}}
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read archive: %w", err)
		}
		if w.entries++; w.entries > maxEntries {
			return fmt.Errorf("archive has more than %d entries", maxEntries)
		}
		if err := w.write(header, archive); err != nil {
			return fmt.Errorf("archive entry %q: %w", header.Name, err)
		}
	}
}

func (w *writer) write(header *tar.Header, body io.Reader) error {
	name, err := checkPath(header.Name)
	if err != nil {
		return err
	}
	switch header.Typeflag {
	case tar.TypeDir:
		return w.mkdir(name)
	case tar.TypeReg:
		if err := w.mkdir(path.Dir(name)); err != nil {
			return err
		}
		return w.writeFile(name, header.Size, body)
	default:
		return fmt.Errorf("type %q: only files and directories are allowed", header.Typeflag)
	}
}

// checkPath checks a name from an archive and returns it without a trailing slash.
func checkPath(name string) (string, error) {
	clean := strings.TrimSuffix(name, "/")
	switch {
	case len(name) > maxName:
		return "", fmt.Errorf("path is longer than %d bytes", maxName)
	case !fs.ValidPath(clean) || clean == "." || strings.ContainsAny(clean, "\\\x00"):
		return "", errors.New("path must be relative, clean and stay inside")
	case strings.Count(clean, "/") >= maxDepth:
		return "", fmt.Errorf("path is deeper than %d", maxDepth)
	case clean != binName && !strings.HasPrefix(clean, binName+"/"):
		return "", fmt.Errorf("path must be below %s/", binName)
	}
	return clean, nil
}

func (w *writer) mkdir(name string) error {
	for dir := name; dir != "."; dir = path.Dir(dir) {
		w.dirs[dir] = struct{}{}
	}
	return w.root.MkdirAll(name, mode)
}

func (w *writer) writeFile(name string, size int64, body io.Reader) (err error) {
	if w.bytes += size; size < 0 || w.bytes > maxBytes {
		return fmt.Errorf("archive unpacks to more than %d bytes", maxBytes)
	}
	f, err := w.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := io.CopyN(f, body, size); err != nil {
		return err
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	w.files = append(w.files, file{Name: name, Size: size})
	return f.Sync()
}

func (w *writer) syncDirs() error {
	for name := range w.dirs {
		if err := w.syncDir(name); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) syncDir(name string) error {
	d, err := w.root.Open(name)
	if err != nil {
		return err
	}
	defer d.Close()
	if name != "." {
		if err := d.Chmod(mode); err != nil {
			return err
		}
	}
	return d.Sync()
}

// contextReader ends a long read when its context does.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}
