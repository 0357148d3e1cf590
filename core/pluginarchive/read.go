package pluginarchive

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"github.com/klauspost/compress/zstd"
)

// Extract unpacks an archive into dir, which must exist and be empty, and returns
// its index. Everything that arrives is as the index says; on an error dir holds
// whatever came before it.
func Extract(ctx context.Context, r io.Reader, dir string) (_ *Index, err error) {
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(2*window), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	defer z.Close()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	x, err := extract(ctx, z, root)
	if err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	return x, nil
}

func extract(ctx context.Context, plain io.Reader, root *os.Root) (*Index, error) {
	t := tar.NewReader(plain)
	text, err := readIndex(t)
	if err != nil {
		return nil, fmt.Errorf("not an archive of plugins, as `cleat plugin bundle` writes them: %w", err)
	}
	x, err := parseIndex(text)
	if err != nil {
		return nil, err
	}
	for _, f := range x.Files {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := next(t, f.Path, f.Size); err != nil {
			return nil, err
		}
		if err := store(ctx, t, f, root); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Path, err)
		}
	}
	if h, err := t.Next(); !errors.Is(err, io.EOF) {
		if err == nil {
			err = fmt.Errorf("it has %q, which its index does not list", clip(h.Name))
		}
		return nil, err
	}
	// Whatever stands behind the end of the tar is no part of it; reading it
	// checks the sum of the compression.
	if n, err := io.Copy(io.Discard, io.LimitReader(plain, maxPadding)); err != nil || n == maxPadding {
		return nil, errors.Join(errors.New("it goes on after its end"), err)
	}
	return x, nil
}

const maxPadding = 1 << 20

func readIndex(t *tar.Reader) ([]byte, error) {
	h, err := t.Next()
	if err != nil {
		return nil, err
	}
	if h.Name != IndexName || h.Typeflag != tar.TypeReg || h.Size > maxIndexBytes {
		return nil, fmt.Errorf("it begins with %q, %d bytes, instead of %s", clip(h.Name), h.Size, IndexName)
	}
	return io.ReadAll(io.LimitReader(t, maxIndexBytes))
}

// next expects a certain file.
func next(t *tar.Reader, name string, size int64) error {
	h, err := t.Next()
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("it ends before %s", name)
	}
	switch {
	case err != nil:
		return err
	case h.Name != name:
		return fmt.Errorf("it has %q where its index lists %s", clip(h.Name), name)
	case h.Typeflag != tar.TypeReg:
		return fmt.Errorf("%s is not a regular file in it", name)
	case h.Size != size:
		return fmt.Errorf("%s has %d bytes, its index says %d", name, h.Size, size)
	}
	return nil
}

// store writes one file and checks it on the way.
func store(ctx context.Context, r io.Reader, f File, root *os.Root) (err error) {
	if dir := path.Dir(f.Path); dir != "." {
		if err := root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	out, err := root.OpenFile(f.Path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(out, sum), &interruptible{ctx, io.LimitReader(r, f.Size)})
	switch {
	case err != nil:
		return err
	case n != f.Size:
		return fmt.Errorf("it ends after %d of %d bytes", n, f.Size)
	case !bytes.Equal(sum.Sum(nil), unhex(f.SHA256)):
		return fmt.Errorf("the content has the SHA-256 %x, the index says %s: the archive is damaged or was changed", sum.Sum(nil), f.SHA256)
	}
	return out.Sync()
}

// interruptible ends with its context.
type interruptible struct {
	ctx  context.Context // of the one copy
	from io.Reader
}

func (i *interruptible) Read(b []byte) (int, error) {
	if err := i.ctx.Err(); err != nil {
		return 0, err
	}
	return i.from.Read(b)
}

// unhex is nil for what is no hex, which equals no digest.
func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		return nil
	}
	return b
}
