package deployer

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/cleat-dev/cleat/core/internal/atomicfile"
	"github.com/cleat-dev/cleat/hostabi"
)

//go:embed manifests/*.yaml
var bundled embed.FS

// Sources of packaged manifests.
const (
	fromBundle = "bundle" // embedded in the binary
	fromPlan   = "plan"   // asked for by the network plan
)

const (
	recordName    = ".packaged.json"
	recordVersion = 1
	maxRecordSize = 1 << 20
)

// packagedRecord remembers what was written, which is how an edited file is told
// from an older version of the same file.
type packagedRecord struct {
	Version int                      `json:"version"`
	Files   map[string]packagedEntry `json:"files"` // by base name
}

type packagedEntry struct {
	SHA256 string `json:"sha256"` // of the content written last, hexadecimal
	Source string `json:"source"`
}

// packagedAction is what to do with one packaged file.
type packagedAction int

const (
	packagedLeave    packagedAction = iota // nothing to do
	packagedWrite                          // absent, or an unedited older version
	packagedRecorded                       // already as wanted: note it down
	packagedKeep                           // edited, and there is a version its owner has not seen: say so
	packagedRemove                         // disabled or dropped, and unedited
	packagedForget                         // disabled or dropped, but edited: it is the user's now
)

// decidePackaged compares three digests: what is wanted (empty = the file is
// not packaged any more), what is on disk (empty = absent) and what was written
// last (empty = never).
func decidePackaged(want, disk, recorded string, skipped, disabled bool) packagedAction {
	switch {
	case skipped:
		return packagedLeave
	case disabled || want == "":
		switch {
		case disk == "" && recorded == "":
			return packagedLeave
		case disk == "" || (disk != recorded && disk != want):
			return packagedForget
		}
		return packagedRemove
	case disk == "":
		return packagedWrite
	case disk == want:
		if recorded == want {
			return packagedLeave
		}
		return packagedRecorded
	case disk == recorded:
		return packagedWrite
	case want == recorded:
		return packagedLeave // edited, and nothing newer to tell of
	}
	return packagedKeep
}

// packager keeps packaged manifests in the manifests directory.
type packager struct {
	dir      string
	disabled map[string]bool
	log      *slog.Logger
	trust    func(rel, checksum string)
}

// bundledManifests returns the manifests embedded in the binary by base name.
func bundledManifests() (map[string][]byte, error) {
	entries, err := bundled.ReadDir("manifests")
	if err != nil {
		return nil, fmt.Errorf("read embedded manifests: %w", err)
	}
	files := make(map[string][]byte, len(entries))
	for _, e := range entries {
		content, err := bundled.ReadFile(path.Join("manifests", e.Name()))
		if err != nil {
			return nil, fmt.Errorf("read embedded manifest: %w", err)
		}
		files[e.Name()] = content
	}
	return files, nil
}

// planManifests returns a network plan's manifests by base name, or an error if
// a name could leave the directory or would not be picked up from it.
func planManifests(manifests []hostabi.PlanManifest) (map[string][]byte, error) {
	files := make(map[string][]byte, len(manifests))
	for _, m := range manifests {
		if m.Name != filepath.Base(m.Name) || ignoredName(m.Name) || !isManifestName(m.Name) || len(m.Name) > 128 {
			return nil, fmt.Errorf("manifest name %q of the network plan: want a plain file name that ends in .yaml, .yml or .json", m.Name)
		}
		if len(m.Content) > maxFileSize {
			return nil, fmt.Errorf("manifest %q of the network plan: %w", m.Name, errTooLarge)
		}
		if _, twice := files[m.Name]; twice {
			return nil, fmt.Errorf("manifest %q is in the network plan twice", m.Name)
		}
		files[m.Name] = []byte(m.Content)
	}
	return files, nil
}

// sync brings the directory's packaged files of one source up to date.
func (p *packager) sync(source string, want map[string][]byte) error {
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return fmt.Errorf("create manifests directory: %w", err)
	}
	record := p.readRecord()
	names := slices.Collect(maps.Keys(want))
	for name, entry := range record.Files {
		if _, wanted := want[name]; entry.Source == source && !wanted {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var errs []error
	for _, name := range names {
		if entry, ok := record.Files[name]; ok && entry.Source != source {
			errs = append(errs, fmt.Errorf("packaged manifest %s comes from both %s and %s: disable one", name, entry.Source, source))
			continue
		}
		if err := p.syncFile(record, source, name, want[name]); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, p.writeRecord(record))...)
}

func (p *packager) syncFile(record *packagedRecord, source, name string, want []byte) error {
	file := filepath.Join(p.dir, name)
	disk, err := digestOf(file)
	if err != nil {
		return fmt.Errorf("packaged manifest: %w", err)
	}
	wantDigest := ""
	if want != nil {
		wantDigest = digest(want)
	}
	_, statErr := os.Stat(file + skipSuffix)
	log := p.log.With("file", file)
	switch decidePackaged(wantDigest, disk, record.Files[name].SHA256, statErr == nil, p.disabled[stem(name)]) {
	case packagedWrite:
		if err := atomicfile.WriteFile(file, want, 0o600); err != nil {
			return fmt.Errorf("write packaged manifest: %w", err)
		}
		record.Files[name] = packagedEntry{SHA256: wantDigest, Source: source}
		p.trust(name, wantDigest)
		log.Info("packaged manifest written")
	case packagedRecorded:
		record.Files[name] = packagedEntry{SHA256: wantDigest, Source: source}
		p.trust(name, wantDigest)
	case packagedKeep:
		log.Warn("packaged manifest was edited and is kept; there is another version of it: to get that, delete the file and restart; to keep yours without this warning, disable the packaged one and rename the file")
	case packagedRemove:
		if err := os.Remove(file); err != nil {
			return fmt.Errorf("remove packaged manifest: %w", err)
		}
		delete(record.Files, name)
		log.Info("packaged manifest removed")
	case packagedForget:
		delete(record.Files, name)
		if disk != "" {
			log.Warn("packaged manifest is no longer deployed; the file was edited and is kept")
		}
	}
	return nil
}

// readRecord returns the record. One that cannot be used counts as empty: then
// every file that differs from the packaged one counts as edited and is kept.
func (p *packager) readRecord() *packagedRecord {
	record, err := readRecordFile(filepath.Join(p.dir, recordName))
	if err != nil {
		p.log.Warn("record of packaged manifests cannot be used and is made anew", "error", err)
		record = nil
	}
	if record == nil {
		record = &packagedRecord{Version: recordVersion}
	}
	if record.Files == nil {
		record.Files = map[string]packagedEntry{}
	}
	return record
}

// readRecordFile returns nil without an error if there is no file.
func readRecordFile(file string) (*packagedRecord, error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxRecordSize+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	if len(content) > maxRecordSize {
		return nil, fmt.Errorf("%s is larger than %d bytes", file, maxRecordSize)
	}
	record, err := decodeRecord(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return record, nil
}

func decodeRecord(content []byte) (*packagedRecord, error) {
	var record packagedRecord
	if err := json.Unmarshal(content, &record); err != nil {
		return nil, err
	}
	if record.Version != recordVersion {
		return nil, fmt.Errorf("version is %d, this program knows %d", record.Version, recordVersion)
	}
	for name := range record.Files {
		// A name is joined to the directory, and the file may be removed.
		if name != filepath.Base(name) || ignoredName(name) || name == "" {
			return nil, fmt.Errorf("file name %q is not a plain manifest name", name)
		}
	}
	return &record, nil
}

func (p *packager) writeRecord(record *packagedRecord) error {
	content, err := json.MarshalIndent(record, "", "  ")
	if err != nil {
		return fmt.Errorf("encode record of packaged manifests: %w", err)
	}
	if _, err := atomicfile.WriteIfChanged(filepath.Join(p.dir, recordName), content, 0o600); err != nil {
		return fmt.Errorf("write record of packaged manifests: %w", err)
	}
	return nil
}

func digest(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// digestOf returns the digest of a file, empty if there is none. Of a file too
// large to be a manifest only the first part counts, which equals nothing packaged.
func digestOf(file string) (string, error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, io.LimitReader(f, maxFileSize+1)); err != nil {
		return "", fmt.Errorf("read %s: %w", file, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
