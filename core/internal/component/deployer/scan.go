package deployer

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"
)

const (
	maxFileSize = 4 << 20
	maxFiles    = 4096
	maxDepth    = 8

	// settleTime is how long a file must lie still before it is believed: one
	// that is being written may parse and yet lack its second half, and one
	// that an editor is replacing is gone for a moment.
	settleTime = 300 * time.Millisecond

	skipSuffix = ".skip"
)

var (
	errTooLarge = fmt.Errorf("file is larger than %d bytes: split it", maxFileSize)
	errEmpty    = errors.New("file is empty, which is taken for a write that has not ended: delete the file to delete its objects")
	errNotText  = errors.New("file is not UTF-8 text")
	errNotFile  = errors.New("not a regular file")
)

// manifestFile is one file of the manifests directory.
type manifestFile struct {
	rel      string // slash-separated, relative to the directory
	path     string // absolute
	checksum string // SHA-256 of content, hexadecimal
	content  string
	err      error // why there is no content
	pending  bool  // still being written, or just gone: leave its objects alone
}

// snapshot is the directory as it may be acted on.
type snapshot struct {
	files   map[string]*manifestFile // by rel
	skipped map[string]bool          // rel of the files that have a .skip file beside them
	dirs    []string                 // absolute, for the watcher
	settle  bool                     // something is pending: scan again after settleTime
}

// signature changes whenever a file's content does: unlike mtime, which an
// archive or a read-only store sets to whatever it likes, ctime is the kernel's.
type signature struct {
	dev, ino     uint64
	size         int64
	mtime, ctime syscall.Timespec
}

func signatureOf(info fs.FileInfo) signature {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return signature{size: info.Size()}
	}
	return signature{dev: uint64(st.Dev), ino: st.Ino, size: st.Size, mtime: st.Mtim, ctime: st.Ctim}
}

func (s signature) changed() time.Time { return time.Unix(s.ctime.Sec, s.ctime.Nsec) }

type seenFile struct {
	sig   signature
	since time.Time // when sig was first seen
	file  *manifestFile
	sure  bool // file was read long enough after its last change to have seen it
	gone  time.Time
}

// scanner reads a manifests directory again and again, opening only what changed.
type scanner struct {
	dir     string
	now     func() time.Time
	seen    map[string]*seenFile
	trusted map[string]string // rel -> checksum of files this process wrote in one step
}

func newScanner(dir string, now func() time.Time) *scanner {
	return &scanner{dir: dir, now: now, seen: map[string]*seenFile{}, trusted: map[string]string{}}
}

// trust exempts a file with this content from settling.
func (s *scanner) trust(rel, checksum string) { s.trusted[rel] = checksum }

// scan returns the directory's state. On an error nothing is known, in
// particular not that a file is gone.
func (s *scanner) scan() (*snapshot, error) {
	snap := &snapshot{files: map[string]*manifestFile{}, skipped: map[string]bool{}}
	names, err := s.list(snap, "", 0)
	if err != nil {
		return nil, fmt.Errorf("list manifests directory %s: %w", s.dir, err)
	}
	present := make(map[string]bool, len(names))
	for _, rel := range names {
		present[rel] = true
		f := s.visit(rel)
		snap.files[rel] = f
		snap.settle = snap.settle || f.pending
	}
	for rel, seen := range s.seen {
		if present[rel] {
			seen.gone = time.Time{}
			continue
		}
		if seen.gone.IsZero() {
			seen.gone = s.now()
		}
		if s.now().Sub(seen.gone) >= settleTime {
			delete(s.seen, rel)
			continue
		}
		snap.files[rel] = &manifestFile{rel: rel, path: s.abs(rel), pending: true}
		snap.settle = true
	}
	return snap, nil
}

func (s *scanner) abs(rel string) string { return filepath.Join(s.dir, filepath.FromSlash(rel)) }

// list returns the files below the directory rel, sorted.
func (s *scanner) list(snap *snapshot, rel string, depth int) ([]string, error) {
	dir := s.abs(rel)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	snap.dirs = append(snap.dirs, dir)
	var names []string
	for _, e := range entries {
		name := path.Join(rel, e.Name())
		if ignoredName(e.Name()) {
			continue
		}
		if base, ok := strings.CutSuffix(name, skipSuffix); ok {
			snap.skipped[base] = true
			continue
		}
		isDir := e.IsDir()
		// Only a link in the top directory may lead to another directory: that
		// is what people use, and it cannot make a loop of any length.
		if depth == 0 && e.Type()&fs.ModeSymlink != 0 {
			if info, err := os.Stat(s.abs(name)); err == nil {
				isDir = info.IsDir()
			}
		}
		if !isDir {
			names = append(names, name)
		} else if depth < maxDepth {
			below, err := s.list(snap, name, depth+1)
			if err != nil {
				return nil, err
			}
			names = append(names, below...)
		}
		if len(names) > maxFiles {
			return nil, fmt.Errorf("more than %d files: keep only manifests here", maxFiles)
		}
	}
	return names, nil
}

// ignoredName reports whether a directory entry is an editor's or a mount's
// own business.
func ignoredName(name string) bool {
	return strings.HasPrefix(name, ".") || strings.HasSuffix(name, "~") || strings.HasPrefix(name, "#")
}

// visit returns the file's last settled state.
func (s *scanner) visit(rel string) *manifestFile {
	now := s.now()
	info, err := os.Stat(s.abs(rel))
	if err != nil || !info.Mode().IsRegular() {
		if err == nil {
			err = errNotFile
		}
		delete(s.seen, rel)
		return &manifestFile{rel: rel, path: s.abs(rel), err: err}
	}
	sig := signatureOf(info)
	seen := s.seen[rel]
	if seen == nil {
		seen = &seenFile{}
		s.seen[rel] = seen
	}
	if seen.file != nil && seen.sure && seen.sig == sig {
		return seen.file
	}
	if seen.sig != sig {
		seen.sig, seen.since, seen.sure = sig, now, false
	}
	still := now.Sub(sig.changed()) >= settleTime || now.Sub(seen.since) >= settleTime
	if !still && s.trusted[rel] == "" {
		return s.pending(rel)
	}
	f, moved := s.read(rel, sig)
	if moved || (!still && f.checksum != s.trusted[rel]) {
		seen.sure = false
		return s.pending(rel)
	}
	// Within one tick of the kernel's clock a second write leaves ctime as it is.
	seen.sure = still && f.checksum != ""
	if seen.file == nil || seen.file.checksum != f.checksum || f.err != nil || seen.file.err != nil {
		seen.file = f
	}
	return seen.file
}

func (s *scanner) pending(rel string) *manifestFile {
	return &manifestFile{rel: rel, path: s.abs(rel), pending: true}
}

// read returns the file's content; moved is true if it changed meanwhile.
func (s *scanner) read(rel string, want signature) (f *manifestFile, moved bool) {
	f = &manifestFile{rel: rel, path: s.abs(rel)}
	// Not blocking: the name may have become a FIFO since it was looked at.
	file, err := os.OpenFile(f.path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		f.err = err
		return f, false
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxFileSize+1))
	if err != nil {
		f.err = err
		return f, false
	}
	info, err := file.Stat()
	if err != nil || signatureOf(info) != want {
		return f, true
	}
	sum := sha256.Sum256(content)
	f.checksum = hex.EncodeToString(sum[:])
	switch {
	case len(content) > maxFileSize:
		f.err = errTooLarge
	case strings.TrimSpace(string(content)) == "":
		f.err = errEmpty
	case !utf8.Valid(content):
		f.err = errNotText
	default:
		f.content = string(content)
	}
	return f, false
}

// sorted returns the snapshot's files by name.
func (s *snapshot) sorted() []*manifestFile {
	out := make([]*manifestFile, 0, len(s.files))
	for _, rel := range slices.Sorted(maps.Keys(s.files)) {
		out = append(out, s.files[rel])
	}
	return out
}

// equal reports whether two snapshots ask for the same.
func (s *snapshot) equal(o *snapshot) bool {
	return maps.Equal(s.skipped, o.skipped) && maps.EqualFunc(s.files, o.files, func(a, b *manifestFile) bool {
		return a == b || a.pending == b.pending && a.checksum == b.checksum && fmt.Sprint(a.err) == fmt.Sprint(b.err)
	})
}
