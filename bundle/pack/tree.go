package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"
)

// entry is a file, directory or symbolic link of a tree.
type entry struct {
	name string // slash separated, relative, no trailing slash
	mode int64
	kind byte   // tar.TypeReg, TypeDir or TypeSymlink
	link string // target of a symlink
	data []byte
}

// tree collects entries; parents are made as needed and a name is taken once.
type tree struct {
	entries map[string]entry
}

func newTree() *tree { return &tree{entries: map[string]entry{}} }

func (t *tree) add(e entry) error {
	if !fs.ValidPath(e.name) || e.name == "." {
		return fmt.Errorf("path %q: must be relative, clean and inside the archive", e.name)
	}
	if old, taken := t.entries[e.name]; taken {
		if old.kind == tar.TypeDir && e.kind == tar.TypeDir {
			t.entries[e.name] = e // an explicit mode wins over an implied parent's
			return nil
		}
		return fmt.Errorf("path %q: named twice", e.name)
	}
	for dir := path.Dir(e.name); dir != "."; dir = path.Dir(dir) {
		parent, exists := t.entries[dir]
		if exists && parent.kind != tar.TypeDir {
			return fmt.Errorf("path %q: %q is not a directory", e.name, dir)
		}
		if !exists {
			t.entries[dir] = entry{name: dir, mode: 0o755, kind: tar.TypeDir}
		}
	}
	t.entries[e.name] = e
	return nil
}

func (t *tree) addFile(name string, mode int64, data []byte) error {
	return t.add(entry{name: name, mode: mode, kind: tar.TypeReg, data: data})
}

// unpack adds what a tar archive holds; its modes count, its owners and times do not.
func (t *tree) unpack(archive string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		e := entry{name: path.Clean(h.Name), mode: h.Mode & 0o7777, kind: h.Typeflag, link: h.Linkname}
		switch h.Typeflag {
		case tar.TypeDir:
			if e.name == "." {
				continue
			}
		case tar.TypeSymlink:
		case tar.TypeReg:
			if e.data, err = io.ReadAll(r); err != nil {
				return fmt.Errorf("%s: %w", h.Name, err)
			}
		case tar.TypeLink:
			first, ok := t.entries[path.Clean(h.Linkname)]
			if !ok {
				return fmt.Errorf("%s: link to %s, which is not before it in the archive", h.Name, h.Linkname)
			}
			e.mode, e.kind, e.link, e.data = first.mode, first.kind, "", first.data
		default:
			return fmt.Errorf("%s: type %q: only files, directories and links can be packed", h.Name, h.Typeflag)
		}
		if err := t.add(e); err != nil {
			return err
		}
	}
}

// WriteTo writes the tree as a tar archive, sorted by name, so that parents
// come before what they hold.
func (t *tree) WriteTo(w io.Writer) (int64, error) {
	all := make([]entry, 0, len(t.entries))
	for _, e := range t.entries {
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b entry) int { return cmp.Compare(a.name, b.name) })

	counted := &counter{w: w}
	tw := tar.NewWriter(counted)
	for _, e := range all {
		header := &tar.Header{
			Typeflag: e.kind,
			Name:     e.name,
			Linkname: e.link,
			Mode:     e.mode,
			Size:     int64(len(e.data)),
			ModTime:  time.Unix(0, 0),
			Format:   tar.FormatPAX,
		}
		if e.kind == tar.TypeDir {
			header.Name += "/"
		}
		if err := tw.WriteHeader(header); err != nil {
			return counted.n, fmt.Errorf("%s: %w", e.name, err)
		}
		if _, err := tw.Write(e.data); err != nil {
			return counted.n, fmt.Errorf("%s: %w", e.name, err)
		}
	}
	return counted.n, tw.Close()
}

func (t *tree) bytes() ([]byte, error) {
	var b bytes.Buffer
	_, err := t.WriteTo(&b)
	return b.Bytes(), err
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

func executables(names []string) (*tree, error) {
	t := newTree()
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		if err := t.addFile("bin/"+filepath.Base(name), 0o755, data); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// sources puts files that nobody runs into a tree, under their names below dir.
func sources(dir string, names []string) (*tree, error) {
	t := newTree()
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil {
			return nil, err
		}
		if err := t.addFile(name, 0o644, data); err != nil {
			return nil, err
		}
	}
	return t, nil
}
