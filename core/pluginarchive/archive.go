// Package pluginarchive writes and reads the archive that carries the plugins of
// a lock to machines without a network.
//
// The archive is a tar, compressed with zstd. Its first file is the index, which
// lists every other with size and digest, in the order in which they follow. So a
// reader knows what must come before it comes, and equal contents give equal bytes.
package pluginarchive

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/cleat-dev/cleat/core/pluginregistry"
	"github.com/cleat-dev/cleat/hostabi/wasmfile"
)

// Format names the format of the archive, and changes with it.
const Format = "cleat.dev/plugin-archive/v1"

// Where things are in an archive.
const (
	IndexName = "index.json"
	LockName  = "plugins.lock"
	StoreDir  = "oci/"    // the plugin store, as pluginregistry.Store has it
	FilesDir  = "files/"  // plugins of file: sources, by their paths
	CacheDir  = "cache/"  // compiled code, as pluginhost.Precompile writes it
	ImagesDir = "images/" // archives of container images
)

// What may stand beside a plugin of a file: source.
const (
	SignatureSuffix = ".sig"
	ReportSuffix    = ".report.yaml"
)

// Bounds of an archive.
const (
	MaxFiles      = 4096
	maxIndexBytes = 1 << 20
	maxTotal      = 64 << 30
	maxImage      = 16 << 30
	maxCacheEntry = 256 << 20
	maxLock       = 1 << 20
	maxText       = 2 << 20 // of manifests, configs, signatures, reports
)

// Index is the first file of an archive.
type Index struct {
	Format string `json:"format"`
	Cleat  string `json:"cleat"` // the version that wrote it
	Files  []File `json:"files"` // sorted by path
}

// File is one file of an archive.
type File struct {
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"` // lower-case hex
}

// parseIndex reads and checks an index.
func parseIndex(text []byte) (*Index, error) {
	var x Index
	if err := json.Unmarshal(text, &x); err != nil {
		return nil, fmt.Errorf("%s: %w", IndexName, err)
	}
	if x.Format != Format {
		return nil, fmt.Errorf("%s: format is %q, this build reads %s", IndexName, clip(x.Format), Format)
	}
	if err := x.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", IndexName, err)
	}
	return &x, nil
}

func (x *Index) check() error {
	if len(x.Files) > MaxFiles {
		return fmt.Errorf("%d files, at most %d are possible", len(x.Files), MaxFiles)
	}
	hasLock := false
	var total int64
	for i, f := range x.Files {
		most, err := limitOf(f.Path)
		switch {
		case err != nil:
			return err
		case i > 0 && f.Path <= x.Files[i-1].Path:
			return fmt.Errorf("%s is listed after %s; paths are sorted, each once", f.Path, x.Files[i-1].Path)
		case f.Size < 0 || f.Size > most:
			return fmt.Errorf("%s is said to have %d bytes, at most %d are possible", f.Path, f.Size, most)
		case !isHex(f.SHA256):
			return fmt.Errorf("%s: sha256 %q must be 64 lower-case hex digits", f.Path, clip(f.SHA256))
		}
		hasLock = hasLock || f.Path == LockName
		if total += f.Size; total > maxTotal {
			return fmt.Errorf("the files are more than %d bytes together", int64(maxTotal))
		}
	}
	if !hasLock {
		return errors.New("there is no " + LockName)
	}
	return nil
}

// limitOf returns how large a file may be, or why there is no such file in an
// archive.
func limitOf(name string) (int64, error) {
	bad := fmt.Errorf("%q is no path of an archive of plugins", clip(name))
	if len(name) > 512 || path.Clean(name) != name || !filepath.IsLocal(name) || strings.ContainsFunc(name, unprintable) {
		return 0, bad
	}
	if name == LockName {
		return maxLock, nil
	}
	dir, rest, _ := strings.Cut(name, "/")
	switch dir + "/" {
	case StoreDir:
		if matches(`^sha256-[0-9a-f]{64}/(manifest|config|signatures|report-[0-9a-f]{64})\.(json|yaml)$`, rest) {
			return maxText, nil
		}
		if matches(`^sha256-[0-9a-f]{64}/plugin\.wasm$`, rest) {
			return wasmfile.MaxBytes, nil
		}
	case FilesDir:
		if CheckFile(rest) != nil {
			return 0, bad
		}
		if strings.HasSuffix(rest, SignatureSuffix) || strings.HasSuffix(rest, ReportSuffix) {
			return maxText, nil
		}
		return wasmfile.MaxBytes, nil
	case CacheDir:
		if matches(`^wazero-[A-Za-z0-9._+-]{1,100}/[0-9a-f]{64}\.(zst|json)$`, rest) {
			return maxCacheEntry, nil
		}
	case ImagesDir:
		if CheckImage(rest) == nil {
			return maxImage, nil
		}
	}
	return 0, bad
}

// CheckImage says what is wrong with the name of an archive of images.
func CheckImage(name string) error {
	if !matches(`^[A-Za-z0-9][A-Za-z0-9._+-]{0,150}\.(tar|tgz|tar\.gz|tar\.zst)$`, name) {
		return fmt.Errorf("%q is no name for an archive of images: letters, digits and . _ + -, ending in .tar, .tar.gz, .tgz or .tar.zst", clip(name))
	}
	return nil
}

// CheckFile says what is wrong with the path of a file: source, for which the
// plugins directory keeps some places to itself.
func CheckFile(name string) error {
	first, _, _ := strings.Cut(name, "/")
	switch {
	case name == "" || path.Clean(name) != name || !filepath.IsLocal(name) || strings.ContainsFunc(name, unprintable):
		return fmt.Errorf("%q is no path below the plugins directory", clip(name))
	case first == pluginregistry.StoreName, first == "cache", first == "captures":
		return fmt.Errorf("%q is in a directory that the server keeps for itself", clip(name))
	}
	for part := range strings.SplitSeq(name, "/") {
		if strings.HasPrefix(part, ".") {
			return fmt.Errorf("%q has a hidden part", clip(name))
		}
	}
	return nil
}

func matches(pattern, s string) bool { return regexp.MustCompile(pattern).MatchString(s) }

func unprintable(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 || r == '\\' || r == '\ufffd' }

func isHex(s string) bool { return matches(`^[0-9a-f]{64}$`, s) }

func clip(s string) string {
	const most = 120
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strings.ToValidUTF8(s, "?")
}
