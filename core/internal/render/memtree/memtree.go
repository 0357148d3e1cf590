// Package memtree is a read-only file tree in memory: what is rendered does not
// change while it is being rendered.
package memtree

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"time"
)

// Tree is a tree of regular files and the directories that lead to them. It is
// safe for concurrent use.
type Tree struct {
	files map[string][]byte
	dirs  map[string][]string // the names in each directory, sorted
}

var (
	_ fs.ReadFileFS = (*Tree)(nil)
	_ fs.ReadDirFS  = (*Tree)(nil)
	_ fs.StatFS     = (*Tree)(nil)
)

// New returns a tree of the files, by slash-separated path as fs.ValidPath wants
// it. It keeps the contents, which must not be written afterwards. It is an
// error when a path is malformed or a file is also a directory.
func New(files map[string][]byte) (*Tree, error) {
	t := &Tree{files: maps.Clone(files), dirs: map[string][]string{".": nil}}
	children := map[string]map[string]bool{".": {}}
	for name := range files {
		if !fs.ValidPath(name) || name == "." {
			return nil, fmt.Errorf("file name %q is no path below the directory", name)
		}
		for at := name; at != "."; at = path.Dir(at) {
			dir := path.Dir(at)
			if children[dir] == nil {
				children[dir] = map[string]bool{}
			}
			children[dir][path.Base(at)] = true
		}
	}
	for dir, names := range children {
		if _, both := files[dir]; both {
			return nil, fmt.Errorf("%q is a file and a directory", dir)
		}
		t.dirs[dir] = slices.Sorted(maps.Keys(names))
	}
	return t, nil
}

func (t *Tree) info(name string) (info, error) {
	if !fs.ValidPath(name) {
		return info{}, fs.ErrInvalid
	}
	if content, ok := t.files[name]; ok {
		return info{name: path.Base(name), size: int64(len(content))}, nil
	}
	if _, ok := t.dirs[name]; ok {
		return info{name: path.Base(name), dir: true}, nil
	}
	return info{}, fs.ErrNotExist
}

// Open implements fs.FS.
func (t *Tree) Open(name string) (fs.File, error) {
	i, err := t.info(name)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	if i.dir {
		entries, err := t.ReadDir(name)
		return &directory{info: i, entries: entries}, err
	}
	return &file{info: i, Reader: bytes.NewReader(t.files[name])}, nil
}

// ReadFile implements fs.ReadFileFS.
func (t *Tree) ReadFile(name string) ([]byte, error) {
	i, err := t.info(name)
	if err == nil && i.dir {
		err = errors.New("is a directory")
	}
	if err != nil {
		return nil, &fs.PathError{Op: "read", Path: name, Err: err}
	}
	return bytes.Clone(t.files[name]), nil
}

// ReadDir implements fs.ReadDirFS.
func (t *Tree) ReadDir(name string) ([]fs.DirEntry, error) {
	i, err := t.info(name)
	if err == nil && !i.dir {
		err = errors.New("not a directory")
	}
	if err != nil {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: err}
	}
	var out []fs.DirEntry
	for _, child := range t.dirs[name] {
		i, err := t.info(path.Join(name, child))
		if err != nil {
			return nil, &fs.PathError{Op: "readdir", Path: name, Err: err}
		}
		out = append(out, i)
	}
	return out, nil
}

// Stat implements fs.StatFS.
func (t *Tree) Stat(name string) (fs.FileInfo, error) {
	i, err := t.info(name)
	if err != nil {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	return i, nil
}

// info is a file or directory as it is listed.
type info struct {
	name string
	size int64
	dir  bool
}

func (i info) Name() string               { return i.name }
func (i info) Size() int64                { return i.size }
func (i info) ModTime() time.Time         { return time.Time{} }
func (i info) IsDir() bool                { return i.dir }
func (i info) Sys() any                   { return nil }
func (i info) Type() fs.FileMode          { return i.Mode().Type() }
func (i info) Info() (fs.FileInfo, error) { return i, nil }

func (i info) Mode() fs.FileMode {
	if i.dir {
		return fs.ModeDir | 0o555
	}
	return 0o444
}

type file struct {
	info info
	*bytes.Reader
}

func (f *file) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *file) Close() error               { return nil }

type directory struct {
	info    info
	entries []fs.DirEntry
}

func (d *directory) Stat() (fs.FileInfo, error) { return d.info, nil }
func (d *directory) Close() error               { return nil }

func (d *directory) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.info.name, Err: errors.New("is a directory")}
}

// ReadDir implements fs.ReadDirFile.
func (d *directory) ReadDir(n int) ([]fs.DirEntry, error) {
	if n <= 0 || n > len(d.entries) {
		if n > 0 && len(d.entries) == 0 {
			return nil, io.EOF
		}
		n = len(d.entries)
	}
	out := d.entries[:n]
	d.entries = d.entries[n:]
	return out, nil
}

// Bounds are the most a tree may hold; Read refuses more.
type Bounds struct {
	Files int
	Bytes int64
}

// Read returns the files of a tree. Only regular files and directories may be
// in it.
func Read(tree fs.FS, most Bounds) (map[string][]byte, error) {
	files := map[string][]byte{}
	left := most.Bytes
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			return nil
		case !d.Type().IsRegular():
			return fmt.Errorf("%s is not a regular file", name)
		case len(files) == most.Files:
			return fmt.Errorf("more than %d files", most.Files)
		}
		f, err := tree.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		content, err := io.ReadAll(io.LimitReader(f, left+1))
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		if left -= int64(len(content)); left < 0 {
			return fmt.Errorf("the files are more than %d bytes together", most.Bytes)
		}
		files[name] = content
		return nil
	})
	return files, err
}
