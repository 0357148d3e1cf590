package pluginregistry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/cleat-dev/cleat/core/internal/atomicfile"
	"github.com/cleat-dev/cleat/hostabi/wasmfile"
)

// Names in the store's directory of one plugin.
const (
	FileManifest   = "manifest.json"
	FileConfig     = "config.json"
	FileWasm       = "plugin.wasm"
	FileSignatures = "signatures.json"
	reportPrefix   = "report-" // then the SHA-256 of the report
	reportSuffix   = ".yaml"
)

// Bounds of what stands beside a plugin.
const (
	MaxReportBytes = 1 << 20
	maxReports     = 8
	maxSigFile     = 2 << 20
)

// Store keeps pulled plugins in a directory, each in a directory of its own that
// is named after the digest of its manifest (sha256-…) and holds the three texts
// of the artifact, its signatures and conformance reports. What is read from it
// is checked against that digest every time.
type Store struct{ Dir string }

// StoreIn returns the store of a plugins directory.
func StoreIn(pluginsDir string) Store { return Store{Dir: filepath.Join(pluginsDir, StoreName)} }

// StoreName is the directory of the store in the plugins directory.
const StoreName = "oci"

// DirName is the directory of a plugin in the store, from the digest of its
// manifest.
func DirName(manifestDigest string) string { return strings.Replace(manifestDigest, ":", "-", 1) }

// Path is where the plugin with that manifest is kept.
func (s Store) Path(manifestDigest string) string {
	return filepath.Join(s.Dir, DirName(manifestDigest))
}

// Read returns the plugin with that manifest digest ("sha256:…"), checked down
// to its last byte. The error wraps fs.ErrNotExist if it is not in the store.
func (s Store) Read(manifestDigest string) (*Artifact, error) {
	d, err := s.open(manifestDigest)
	if err != nil {
		return nil, err
	}
	defer func() { _ = d.Close() }()
	var texts [3][]byte
	for i, f := range []struct {
		name string
		most int64
	}{{FileManifest, maxManifest}, {FileConfig, maxConfig}, {FileWasm, wasmfile.MaxBytes}} {
		if texts[i], err = readBelow(d, f.name, f.most); err != nil {
			return nil, fmt.Errorf("plugin store: %s: %w", s.Path(manifestDigest), err)
		}
	}
	a, err := ReadArtifact(manifestDigest, texts[0], texts[1], texts[2])
	if err != nil {
		return nil, fmt.Errorf("plugin store: %s: %w; remove the directory and pull the plugin again", s.Path(manifestDigest), err)
	}
	return a, nil
}

// Signatures returns what was found at the registry, unverified.
func (s Store) Signatures(manifestDigest string) ([]Signature, error) {
	d, err := s.open(manifestDigest)
	if err != nil {
		return nil, err
	}
	defer func() { _ = d.Close() }()
	text, err := readBelow(d, FileSignatures, maxSigFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		var list []Signature
		if list, err = ParseSignatures(text); err == nil {
			return list, nil
		}
	}
	return nil, fmt.Errorf("plugin store: %s: %w", filepath.Join(s.Path(manifestDigest), FileSignatures), err)
}

// Reports returns the conformance reports of the plugin by their SHA-256.
func (s Store) Reports(manifestDigest string) (map[string][]byte, error) {
	d, err := s.open(manifestDigest)
	if err != nil {
		return nil, err
	}
	defer func() { _ = d.Close() }()
	names, err := fs.ReadDir(d.FS(), ".")
	if err != nil {
		return nil, err
	}
	reports := map[string][]byte{}
	for _, n := range names {
		sum, ok := ReportDigest(n.Name())
		if !ok || len(reports) == maxReports {
			continue
		}
		text, err := readBelow(d, n.Name(), MaxReportBytes)
		if err == nil {
			err = checkDigest("the report", text, digestPrefix+sum)
		}
		if err != nil {
			return nil, fmt.Errorf("plugin store: %s: %w", filepath.Join(s.Path(manifestDigest), n.Name()), err)
		}
		reports[sum] = text
	}
	return reports, nil
}

// ReportName is the file of a report in the store; ReportDigest reads the name.
func ReportName(sha256 string) string { return reportPrefix + sha256 + reportSuffix }

// ReportDigest returns the SHA-256 in the name of a report's file.
func ReportDigest(name string) (sha256 string, ok bool) {
	sha256, ok = strings.CutPrefix(name, reportPrefix)
	if ok {
		sha256, ok = strings.CutSuffix(sha256, reportSuffix)
	}
	return sha256, ok && isHex(sha256)
}

// ParseSignatures reads the text of a signatures.json.
func ParseSignatures(text []byte) ([]Signature, error) {
	var list []Signature
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, fmt.Errorf("not a list of signatures: %w", err)
	}
	if len(list) > maxSignatures {
		return nil, fmt.Errorf("%d signatures, at most %d are kept", len(list), maxSignatures)
	}
	return list, nil
}

// MarshalSignatures writes a signatures.json.
func MarshalSignatures(list []Signature) ([]byte, error) {
	text, err := json.Marshal(MergeSignatures(list, nil))
	return append(text, '\n'), err
}

// Put keeps a plugin with its signatures and reports, and returns its directory.
// A reader sees all of the plugin or nothing. What is there already stays;
// signatures and reports are added.
func (s Store) Put(a *Artifact, signatures []Signature, reports [][]byte) (path string, err error) {
	path = s.Path(a.Digest)
	if err := s.putArtifact(a, path); err != nil {
		return "", fmt.Errorf("plugin store: %w", err)
	}
	known, err := s.Signatures(a.Digest)
	if err != nil {
		known = nil // unreadable: what the registry has replaces it
	}
	if all := MergeSignatures(known, signatures); len(all) > 0 {
		text, err := MarshalSignatures(all[:min(len(all), maxSignatures)])
		if err == nil {
			_, err = atomicfile.WriteIfChanged(filepath.Join(path, FileSignatures), text, 0o644)
		}
		if err != nil {
			return "", fmt.Errorf("plugin store: %w", err)
		}
	}
	for _, r := range reports {
		name := ReportName(digest.FromBytes(r).Encoded())
		if _, err := atomicfile.WriteIfChanged(filepath.Join(path, name), r, 0o644); err != nil {
			return "", fmt.Errorf("plugin store: %w", err)
		}
	}
	return path, nil
}

func (s Store) putArtifact(a *Artifact, path string) (err error) {
	if have, err := s.Read(a.Digest); err == nil && bytes.Equal(have.Manifest, a.Manifest) {
		return nil
	}
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(s.Dir, ".new-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	fresh := filepath.Join(tmp, "plugin")
	if err := os.Mkdir(fresh, 0o755); err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		data []byte
	}{{FileManifest, a.Manifest}, {FileConfig, a.Config}, {FileWasm, a.Wasm}} {
		if err := atomicfile.WriteFile(filepath.Join(fresh, f.name), f.data, 0o644); err != nil {
			return err
		}
	}
	if err := os.Rename(fresh, path); err == nil {
		return nil
	}
	if _, err := s.Read(a.Digest); err == nil {
		return nil // somebody else was quicker
	}
	// Something is there that is not the plugin. It goes with tmp.
	if err := os.Rename(path, filepath.Join(tmp, "broken")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Rename(fresh, path)
}

func (s Store) open(manifestDigest string) (*os.Root, error) {
	if !isDigest(manifestDigest) {
		return nil, fmt.Errorf("plugin store: %q is no digest of a manifest", clip(manifestDigest))
	}
	root, err := os.OpenRoot(s.Dir)
	if err != nil {
		return nil, fmt.Errorf("plugin store: %w", err)
	}
	defer func() { _ = root.Close() }()
	d, err := root.OpenRoot(DirName(manifestDigest))
	if err != nil {
		return nil, fmt.Errorf("plugin store: %w", err)
	}
	return d, nil
}

// readBelow reads a file of d, never one outside it.
func readBelow(d *os.Root, name string, limit int64) ([]byte, error) {
	f, err := d.Open(name)
	if err != nil {
		return nil, err
	}
	return readOpen(f, limit)
}

// Digests lists the plugins of the store by the digests of their manifests.
func (s Store) Digests() ([]string, error) {
	entries, err := os.ReadDir(s.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var all []string
	for _, e := range entries {
		if d := strings.Replace(e.Name(), "-", ":", 1); e.IsDir() && isDigest(d) {
			all = append(all, d)
		}
	}
	slices.Sort(all)
	return all, err
}
