// Package atomicfile replaces files so that a reader, or a machine that lost
// power, sees the old content or the new one and never a part of either.
package atomicfile

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteFile replaces path with data, with exactly the permission bits of mode
// (the umask does not apply). The directory must exist. A symbolic link at
// path is replaced, not followed.
func WriteFile(path string, data []byte, mode fs.FileMode) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("write %s: %w", path, errors.Join(err, ignoreMissing(os.Remove(f.Name()))))
		}
	}()
	if _, err = f.Write(data); err == nil {
		err = f.Chmod(mode.Perm())
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

// WriteIfChanged is WriteFile when path does not already hold data with these
// permission bits as a regular file; it reports whether it wrote. Unchanged
// files keep their modification time, so nobody who watches them reloads.
func WriteIfChanged(path string, data []byte, mode fs.FileMode) (changed bool, err error) {
	same, err := holds(path, data, mode)
	if err != nil {
		return false, fmt.Errorf("write %s: %w", path, err)
	}
	if same {
		return false, nil
	}
	return true, WriteFile(path, data, mode)
}

// Symlink makes path a symbolic link to target, replacing what was there.
func Symlink(target, path string) error {
	if have, err := os.Readlink(path); err == nil && have == target {
		return nil
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("link %s: %w", path, err)
	}
	temp := filepath.Join(dir, "link")
	if err = os.Symlink(target, temp); err == nil {
		err = os.Rename(temp, path)
	}
	if err = errors.Join(err, os.RemoveAll(dir)); err != nil {
		return fmt.Errorf("link %s to %s: %w", path, target, err)
	}
	return syncDir(filepath.Dir(path))
}

func holds(path string, data []byte, mode fs.FileMode) (bool, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return false, ignoreMissing(err)
	}
	if !info.Mode().IsRegular() || info.Mode().Perm() != mode.Perm() || info.Size() != int64(len(data)) {
		return false, nil
	}
	have, err := os.ReadFile(path)
	return bytes.Equal(have, data), err
}

// syncDir makes a rename survive a power cut.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
