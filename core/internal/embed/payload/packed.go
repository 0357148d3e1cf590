package payload

import (
	"errors"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
)

// packedFS shows a tree of files that are each compressed as <file>.zst, as
// if they were not. A file is unpacked while it is read, and not before.
type packedFS struct{ packed fs.FS }

const packedExt = ".zst"

func (p packedFS) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	f, err := p.packed.Open(name + packedExt)
	if errors.Is(err, fs.ErrNotExist) {
		return p.openDir(name)
	}
	if err != nil {
		return nil, err
	}
	// One goroutine and a window as big as pack's: nothing is kept back.
	z, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(8<<20))
	if err != nil {
		return nil, errors.Join(&fs.PathError{Op: "open", Path: name, Err: err}, f.Close())
	}
	return &packedFile{fs: p, name: name, from: f, unpack: z}, nil
}

// openDir opens what has no .zst beside it: a directory, or nothing.
func (p packedFS) openDir(name string) (fs.File, error) {
	f, err := p.packed.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if dir, ok := f.(fs.ReadDirFile); ok && info.IsDir() {
		return &packedDir{ReadDirFile: dir, fs: p, name: name}, nil
	}
	return nil, errors.Join(&fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}, f.Close())
}

// stat describes the unpacked file: its size stands in the frame's header.
func (p packedFS) stat(name string) (fs.FileInfo, error) {
	f, err := p.packed.Open(name + packedExt)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	start := make([]byte, zstd.HeaderMaxSize)
	n, err := io.ReadFull(f, start)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	var header zstd.Header
	if err := header.Decode(start[:n]); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	return packedInfo{info, int64(header.FrameContentSize)}, nil
}

type packedFile struct {
	fs     packedFS
	name   string
	from   fs.File
	unpack *zstd.Decoder
}

func (f *packedFile) Read(p []byte) (int, error) { return f.unpack.Read(p) }

func (f *packedFile) Stat() (fs.FileInfo, error) { return f.fs.stat(f.name) }

func (f *packedFile) Close() error {
	f.unpack.Close()
	return f.from.Close()
}

type packedDir struct {
	fs.ReadDirFile
	fs   packedFS
	name string
}

func (d *packedDir) ReadDir(n int) ([]fs.DirEntry, error) {
	entries, err := d.ReadDirFile.ReadDir(n)
	for i, e := range entries {
		if !e.IsDir() {
			entries[i] = packedEntry{DirEntry: e, fs: d.fs, dir: d.name}
		}
	}
	return entries, err
}

type packedEntry struct {
	fs.DirEntry
	fs  packedFS
	dir string
}

func (e packedEntry) Name() string { return strings.TrimSuffix(e.DirEntry.Name(), packedExt) }

func (e packedEntry) Info() (fs.FileInfo, error) {
	name := e.Name()
	if e.dir != "." {
		name = e.dir + "/" + name
	}
	return e.fs.stat(name)
}

func (e packedEntry) String() string { return fs.FormatDirEntry(e) }

type packedInfo struct {
	fs.FileInfo
	size int64
}

func (i packedInfo) Name() string       { return strings.TrimSuffix(i.FileInfo.Name(), packedExt) }
func (i packedInfo) Size() int64        { return i.size }
func (i packedInfo) ModTime() time.Time { return time.Time{} }
func (i packedInfo) String() string     { return fs.FormatFileInfo(i) }
