package main

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// each makes the directory out anew, with every file of the one directory in
// names compressed by itself: a reader that needs one unpacks only that.
func each(out string, names []string) error {
	if len(names) != 1 {
		return fmt.Errorf("one directory is packed at a time, not %d", len(names))
	}
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	z, err := newZstd(io.Discard, densest)
	if err != nil {
		return err
	}
	defer z.Close()
	root := os.DirFS(names[0])
	return fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		target := filepath.Join(out, filepath.FromSlash(name))
		switch {
		case err != nil:
			return err
		case d.IsDir():
			return os.MkdirAll(target, 0o755)
		case !d.Type().IsRegular():
			return fmt.Errorf("path %q: only files and directories are packed, this is %v", name, d.Type())
		}
		data, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		// One call for all of it puts the size into the frame's header.
		return os.WriteFile(target+".zst", z.EncodeAll(data, nil), 0o644)
	})
}
