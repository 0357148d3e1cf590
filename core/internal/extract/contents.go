package extract

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/cleat-dev/cleat/core/internal/atomicfile"
)

// contentsName is written last into an unpacked directory: it lists the files,
// so a directory without it, or with a file of another size, is not whole.
const contentsName = ".contents.json"

const maxContents = 1 << 20 // bytes

func writeContents(dir string, files []file) error {
	body, err := json.Marshal(files)
	if err != nil {
		return err
	}
	return atomicfile.WriteFile(filepath.Join(dir, contentsName), body, 0o644)
}

// isWhole reports whether dir holds everything that was unpacked into it. An
// absent or damaged directory is not whole; an unreadable one is an error.
func isWhole(dir string) (bool, error) {
	info, err := os.Stat(filepath.Join(dir, contentsName))
	if err != nil {
		return false, ignoreAbsent(err)
	}
	if info.Size() > maxContents {
		return false, nil
	}
	body, err := os.ReadFile(filepath.Join(dir, contentsName))
	if err != nil {
		return false, err
	}
	files, err := parseContents(body)
	if err != nil {
		return false, nil // cut short: the directory is made again
	}
	for _, f := range files {
		info, err := os.Lstat(filepath.Join(dir, filepath.FromSlash(f.Name)))
		if err != nil {
			return false, ignoreAbsent(err)
		}
		if !info.Mode().IsRegular() || info.Mode().Perm() != mode || info.Size() != f.Size {
			return false, nil
		}
	}
	return true, nil
}

func parseContents(body []byte) ([]file, error) {
	var files []file
	if err := json.Unmarshal(body, &files); err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, errors.New("no files")
	}
	for _, f := range files {
		if !fs.ValidPath(f.Name) {
			return nil, fmt.Errorf("name %q", f.Name)
		}
	}
	return files, nil
}

// ignoreAbsent drops the errors that say a path is not there, which it is not
// either when a parent of it is a file.
func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	return err
}
