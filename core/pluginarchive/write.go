package pluginarchive

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// Entry is a file to put into an archive: its text, or the file that has it.
type Entry struct {
	Path string // in the archive
	Data []byte // read if From is ""
	From string // file to read, for what does not fit into memory
}

// Write writes an archive. Equal entries give equal bytes, in whatever order they
// are given. Files are read twice and must not change in between.
func Write(w io.Writer, cleat string, entries []Entry) (*Index, error) {
	entries = slices.Clone(entries)
	slices.SortFunc(entries, func(a, b Entry) int { return strings.Compare(a.Path, b.Path) })
	x := &Index{Format: Format, Cleat: cleat, Files: []File{}}
	for _, e := range entries {
		f, err := e.file()
		if err != nil {
			return nil, fmt.Errorf("archive: %s: %w", e.Path, err)
		}
		x.Files = append(x.Files, f)
	}
	if err := x.check(); err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	text, err := json.MarshalIndent(x, "", " ")
	if err != nil {
		return nil, err
	}
	// One worker, because the split of the work shows in the output.
	z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(window))
	if err != nil {
		return nil, err
	}
	t := tar.NewWriter(z)
	err = add(t, File{Path: IndexName, Size: int64(len(text)), SHA256: digest(text)}, Entry{Data: text})
	for i := 0; i < len(entries) && err == nil; i++ {
		err = add(t, x.Files[i], entries[i])
	}
	if err = errors.Join(err, t.Close(), z.Close()); err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	return x, nil
}

// window is how far back the compression looks, which is the memory a reader needs.
const window = 8 << 20

func (e Entry) open() (io.ReadCloser, error) {
	if e.From == "" {
		return io.NopCloser(bytes.NewReader(e.Data)), nil
	}
	f, err := os.Open(e.From)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", e.From)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (e Entry) file() (_ File, err error) {
	r, err := e.open()
	if err != nil {
		return File{}, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	sum := sha256.New()
	n, err := io.Copy(sum, r)
	return File{Path: e.Path, Size: n, SHA256: hex.EncodeToString(sum.Sum(nil))}, err
}

func add(t *tar.Writer, f File, e Entry) (err error) {
	r, err := e.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f.Path, Size: f.Size, Mode: 0o644}); err != nil {
		return err
	}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(t, sum), io.LimitReader(r, f.Size))
	if err == nil && (n != f.Size || hex.EncodeToString(sum.Sum(nil)) != f.SHA256) {
		err = fmt.Errorf("%s changed while it was read", e.From)
	}
	return err
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
