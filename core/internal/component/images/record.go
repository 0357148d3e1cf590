package images

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/cleat-dev/cleat/core/internal/atomicfile"
	"github.com/cleat-dev/cleat/core/internal/paths"
)

const maxRecordBytes = 4 << 20

// record remembers what was imported, so that a restart reads no archive that
// did not change. It is a cache: without it everything is imported again.
type record struct {
	path     string
	Archives map[string]archive `json:"archives"` // by file name, or embedded:<name>
}

// archive is one imported archive.
type archive struct {
	Size    int64     `json:"size,omitempty"`
	ModTime time.Time `json:"mod_time,omitzero"`
	SHA256  string    `json:"sha256"`
	Images  []string  `json:"images"`
}

func (a archive) sameFile(b archive) bool { return a.Size == b.Size && a.ModTime.Equal(b.ModTime) }

func recordPath(data paths.Data) string { return data.Agent("images", ".imported.json") }

func loadRecord(log *slog.Logger, path string) *record {
	r := &record{path: path, Archives: map[string]archive{}}
	err := r.read()
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		log.Warn("record of imported images not usable, everything is imported again", "file", path, "error", err)
		r.Archives = map[string]archive{}
	}
	return r
}

func (r *record) read() error {
	info, err := os.Stat(r.path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Size() > maxRecordBytes {
		return fmt.Errorf("not a file of at most %d bytes", maxRecordBytes)
	}
	content, err := os.ReadFile(r.path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(content, r); err != nil {
		return err
	}
	if r.Archives == nil {
		r.Archives = map[string]archive{}
	}
	return nil
}

func (r *record) put(key string, a archive) error {
	r.Archives[key] = a
	content, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.WriteFile(r.path, append(content, '\n'), 0o600)
}
