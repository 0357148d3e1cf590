package pluginhost

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/cleat-dev/cleat/hostabi/wasmfile"
)

// Sources is where plugins come from.
type Sources struct {
	Embedded   fs.FS  // the bundle, by file name; nil = none
	PluginsDir string // for file: sources; "" = none
	// OCI returns the wasm of "<reference>@sha256:<digest of the manifest>", from
	// a local store or a registry, checked against that digest; nil = none.
	OCI func(ctx context.Context, reference string) ([]byte, error)
	// Fetch, unless nil, returns the wasm of every plugin, whatever its source: that
	// of a lock from another machine is where that machine has it from.
	Fetch func(ctx context.Context, p LockedPlugin) ([]byte, error)

	embedded map[string]string // digests of Embedded's files that were made with them
}

// digest is the SHA-256 of a plugin's bytes as Read returned them. What is part of
// the binary is not hashed at every start.
func (s Sources) digest(p LockedPlugin, wasm []byte) string {
	if s.Fetch != nil {
		return Digest(wasm)
	}
	if kind, name, err := p.parseSource(); err == nil && kind == sourceEmbedded && s.embedded[name] != "" {
		return s.embedded[name]
	}
	return Digest(wasm)
}

// Read returns the bytes of a plugin. They are read once and those very bytes
// are hashed, verified and compiled, so nobody can swap the file in between.
func (s Sources) Read(ctx context.Context, p LockedPlugin) ([]byte, error) {
	kind, name, err := p.parseSource()
	if err != nil {
		return nil, fmt.Errorf("plugin %s: %w", p.Name, err)
	}
	bounded := func(data []byte, err error) ([]byte, error) {
		if err == nil && len(data) > wasmfile.MaxBytes {
			err = fmt.Errorf("%d bytes, the most is %d", len(data), wasmfile.MaxBytes)
		}
		if err != nil {
			return nil, fmt.Errorf("plugin %s: source %s: %w", p.Name, p.Source, err)
		}
		return data, nil
	}
	var file fs.File
	switch {
	case s.Fetch != nil:
		return bounded(s.Fetch(ctx, p))
	case kind == sourceEmbedded:
		if s.Embedded == nil {
			return nil, fmt.Errorf("plugin %s: source %s: this build has no embedded plugins", p.Name, p.Source)
		}
		file, err = s.Embedded.Open(name)
	case kind == sourceFile:
		file, err = s.openBelow(name)
	case s.OCI == nil:
		return nil, fmt.Errorf("plugin %s: source %s: no registry can be asked here; "+
			"put the file in the plugins directory and lock it as file:<name>.wasm", p.Name, p.Source)
	default:
		return bounded(s.OCI(ctx, name))
	}
	if err != nil {
		return nil, fmt.Errorf("plugin %s: source %s: %w", p.Name, p.Source, err)
	}
	data, err := readBounded(file, wasmfile.MaxBytes)
	if err != nil {
		return nil, fmt.Errorf("plugin %s: source %s: %w", p.Name, p.Source, err)
	}
	return data, nil
}

// openBelow opens a file of the plugins directory and nothing outside it,
// whatever symbolic links are in the way.
func (s Sources) openBelow(name string) (_ fs.File, err error) {
	if s.PluginsDir == "" {
		return nil, errors.New("no plugins directory is set (--plugins-dir)")
	}
	root, err := os.OpenRoot(s.PluginsDir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	return root.OpenFile(name, readOnly, 0)
}

// ReadFile reads a file that must be regular and at most limit bytes.
func ReadFile(path string, limit int64) ([]byte, error) {
	file, err := os.OpenFile(path, readOnly, 0)
	if err != nil {
		return nil, err
	}
	return readBounded(file, limit)
}

// readOnly opens a file without waiting: a pipe has nobody at its other end, and
// is refused once it is open.
const readOnly = os.O_RDONLY | syscall.O_NONBLOCK

func readBounded(file fs.File, limit int64) (_ []byte, err error) {
	defer func() { err = errors.Join(err, file.Close()) }()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", info.Name())
	}
	// A file that grows meanwhile is read to its end, or to the limit.
	data := bytes.NewBuffer(make([]byte, 0, min(info.Size(), limit)+bytes.MinRead))
	if _, err := data.ReadFrom(io.LimitReader(file, limit+1)); err != nil {
		return nil, err
	}
	if int64(data.Len()) > limit {
		return nil, fmt.Errorf("%s is larger than the %d bytes allowed", info.Name(), limit)
	}
	return data.Bytes(), nil
}

// oneFile is a file system of one file in memory.
type oneFile struct {
	name string
	data []byte
}

// Open implements fs.FS.
func (f oneFile) Open(name string) (fs.File, error) {
	if name != f.name {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &openFile{oneFile: f, rest: bytes.NewReader(f.data)}, nil
}

// openFile is oneFile, open; it is its own fs.FileInfo.
type openFile struct {
	oneFile
	rest *bytes.Reader
}

func (f *openFile) Stat() (fs.FileInfo, error) { return f, nil }
func (f *openFile) Read(b []byte) (int, error) { return f.rest.Read(b) }
func (f *openFile) Close() error               { return nil }
func (f *openFile) Name() string               { return f.name }
func (f *openFile) Size() int64                { return int64(len(f.data)) }
func (f *openFile) Mode() fs.FileMode          { return 0o444 }
func (f *openFile) ModTime() time.Time         { return time.Time{} }
func (f *openFile) IsDir() bool                { return false }
func (f *openFile) Sys() any                   { return nil }
