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
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/cleat-dev/cleat/hostabi"
)

const (
	maxFileSize = 4 << 20
	maxFiles    = 4096
	maxDepth    = 8

	// Bounds of an archive or directory that is one addon.
	maxTreeSize  = 16 << 20
	maxTreeFiles = 2048
	maxTreeDepth = 16

	// settleTime is how long a file must lie still before it is believed: one
	// that is being written may parse and yet lack its second half, and one
	// that an editor is replacing is gone for a moment.
	settleTime = 300 * time.Millisecond
	// treeSettleTime is the same for a directory as a whole, which is copied file
	// by file.
	treeSettleTime = time.Second

	skipSuffix = ".skip"
)

var (
	errTooLarge     = fmt.Errorf("file is larger than %d bytes: split it", maxFileSize)
	errTreeTooLarge = fmt.Errorf("larger than %d bytes: leave out what is not deployed", maxTreeSize)
	errEmpty        = errors.New("file is empty, which is taken for a write that has not ended: delete the file to delete its objects")
	errNotText      = errors.New("file is not UTF-8 text")
	errNotFile      = errors.New("not a regular file")
)

// manifestFile is what stands for one addon: a text file of the manifests
// directory, an archive, or a directory with all below it.
type manifestFile struct {
	kind     string // a hostabi.DeployKind constant
	rel      string // slash-separated, relative to the directory
	path     string // absolute
	checksum string // SHA-256, hexadecimal: of a lone text file its content's, else see digestOfParts
	content  string // of a text file
	err      error  // why there is no content
	pending  bool   // still being written, or just gone: leave its objects alone

	parts      map[string]string // of an archive or directory: path below the directory it is in -> checksum
	companions map[string]string // text files that belong to it, by the pattern that they fit
}

// snapshot is the directory as it may be acted on.
type snapshot struct {
	files   map[string]*manifestFile // by rel
	skipped map[string]bool          // rel of what has a .skip file beside it
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

// reading is how a file is read.
type reading int

const (
	readText    reading = iota // its content is kept
	readArchive                // only its checksum is
	readMember                 // of a directory: as an archive, and no link
)

func (r reading) most() int64 {
	if r == readText {
		return maxFileSize
	}
	return maxTreeSize
}

type seenFile struct {
	sig   signature
	since time.Time // when sig was first seen
	how   reading
	owner string // rel of the manifestFile it is part of
	file  *manifestFile
	sure  bool // file was read long enough after its last change to have seen it
	gone  time.Time
}

// age is for how long the file has been as it is.
func (f *seenFile) age(now time.Time) time.Duration {
	return max(now.Sub(f.sig.changed()), now.Sub(f.since))
}

// scanner reads a manifests directory again and again, opening only what changed.
type scanner struct {
	dir     string
	salt    string // goes into the checksum of archives and directories
	now     func() time.Time
	seen    map[string]*seenFile
	trusted map[string]string // rel -> checksum of files this process wrote in one step
}

func newScanner(dir string, now func() time.Time) *scanner {
	return &scanner{dir: dir, now: now, seen: map[string]*seenFile{}, trusted: map[string]string{}}
}

// trust exempts a file with this content from settling.
func (s *scanner) trust(rel, checksum string) { s.trusted[rel] = checksum }

// scan returns the directory's state, divided as the claims of the plugins say.
// sources are the paths that Addons come from: a directory among them stays one
// thing even if nobody claims it any more. On an error nothing is known, in
// particular not that a file is gone.
func (s *scanner) scan(claims []hostabi.DeployerManifest, sources map[string]bool) (*snapshot, error) {
	snap := &snapshot{files: map[string]*manifestFile{}, skipped: map[string]bool{}}
	l := &lister{scanner: s, snap: snap, claims: claims, sources: sources}
	if err := l.list("", 0); err != nil {
		return nil, fmt.Errorf("list manifests directory %s: %w", s.dir, err)
	}
	present := map[string]bool{}
	for _, i := range l.items {
		for _, rel := range i.every() {
			present[rel] = true
		}
		f := s.assemble(i)
		snap.files[i.rel] = f
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
		// What it was part of is not yet what it will be without it.
		snap.files[seen.owner] = s.pending(seen.owner)
		snap.settle = true
	}
	return snap, nil
}

func (s *scanner) abs(rel string) string { return filepath.Join(s.dir, filepath.FromSlash(rel)) }

// ignoredName reports whether a directory entry is an editor's or a mount's
// own business.
func ignoredName(name string) bool {
	return strings.HasPrefix(name, ".") || strings.HasSuffix(name, "~") || strings.HasPrefix(name, "#")
}

// visit returns the last settled state of a file that is, or is part of, owner.
func (s *scanner) visit(rel, owner string, how reading) *manifestFile {
	now := s.now()
	info, err := os.Stat(s.abs(rel))
	if err != nil || !info.Mode().IsRegular() {
		if err == nil {
			err = errNotFile
		}
		delete(s.seen, rel)
		return &manifestFile{kind: hostabi.DeployKindFile, rel: rel, path: s.abs(rel), err: err}
	}
	sig := signatureOf(info)
	seen := s.seen[rel]
	if seen == nil {
		seen = &seenFile{}
		s.seen[rel] = seen
	}
	if seen.owner, seen.gone = owner, (time.Time{}); seen.how != how {
		seen.how, seen.file, seen.sure = how, nil, false
	}
	if seen.file != nil && seen.sure && seen.sig == sig {
		return seen.file
	}
	if seen.sig != sig {
		seen.sig, seen.since, seen.sure = sig, now, false
	}
	still := seen.age(now) >= settleTime
	if !still && s.trusted[rel] == "" {
		return s.pending(rel)
	}
	f, moved := s.read(rel, sig, how)
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
	return &manifestFile{kind: hostabi.DeployKindFile, rel: rel, path: s.abs(rel), pending: true}
}

// read returns the file's state; moved is true if it changed meanwhile.
func (s *scanner) read(rel string, want signature, how reading) (f *manifestFile, moved bool) {
	f = &manifestFile{kind: hostabi.DeployKindFile, rel: rel, path: s.abs(rel)}
	file, err := openFile(f.path, how)
	if err != nil {
		f.err = err
		return f, false
	}
	defer file.Close()
	var kept strings.Builder
	sum := sha256.New()
	to := io.Writer(sum)
	if how == readText {
		to = io.MultiWriter(sum, &kept)
	}
	n, err := io.Copy(to, io.LimitReader(file, how.most()+1))
	if err != nil {
		f.err = err
		return f, false
	}
	info, err := file.Stat()
	if err != nil || signatureOf(info) != want {
		return f, true
	}
	f.checksum = hex.EncodeToString(sum.Sum(nil))
	switch {
	case n > how.most() && how == readText:
		f.err = errTooLarge
	case n > how.most():
		f.err = errTreeTooLarge
	case how != readText:
	case strings.TrimSpace(kept.String()) == "":
		f.err = errEmpty
	case !utf8.ValidString(kept.String()):
		f.err = errNotText
	default:
		f.content = kept.String()
	}
	return f, false
}

// openFile opens a file that was looked at a moment ago. It does not block: the
// name may have become a FIFO since.
func openFile(name string, how reading) (*os.File, error) {
	flags := os.O_RDONLY | syscall.O_NONBLOCK
	if how == readMember {
		flags |= syscall.O_NOFOLLOW
	}
	return os.OpenFile(name, flags, 0)
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
