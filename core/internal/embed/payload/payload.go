// Package payload holds what `make bundle` built and the binary carries:
// the node's programs, the packaged images and the default plugins. It only
// hands them out; extract writes them to disk, pluginhost runs them.
package payload

import (
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
)

// ErrNotBuilt says that the binary was linked before its payload existed.
var ErrNotBuilt = errors.New("this binary was built without its payload; build it with `make build`")

// Names below files, as the Makefile writes them.
const (
	binName    = "bin.tar.zst"
	imagesName = "images.tar.zst"
	sdkName    = "sdk.tar.zst"
	lockName   = "plugins.lock"
	pluginsDir = "plugins"
	cacheDir   = "plugincache"
	digestExt  = ".sha256"
)

//go:embed all:files
var embedded embed.FS

// Archive is a tar archive, compressed with zstd.
type Archive struct {
	Name   string // base name, such as images.tar.zst
	Digest string // sha256 of the compressed bytes in hex
	open   func() (io.ReadCloser, error)
}

// Open returns the compressed bytes. It may be called again.
func (a Archive) Open() (io.ReadCloser, error) { return a.open() }

// Bin is the archive of the node's programs: runc, containerd-shim-runc-v2 and
// the CNI plugins, each as bin/<name>. Without a payload the error is ErrNotBuilt.
func Bin() (Archive, error) { return archive(files(), binName) }

// Images is an OCI layout of the packaged images, with their names in the
// index's annotations. Without a payload the error is ErrNotBuilt.
func Images() (Archive, error) { return archive(files(), imagesName) }

// SDK is the sources of the plugin SDKs: hostabi/… and pluginsdk/…. Without a
// payload the error is ErrNotBuilt.
func SDK() (Archive, error) { return archive(files(), sdkName) }

// Plugins holds the default plugins as <name>.wasm in its root. Without a
// payload the error is ErrNotBuilt.
func Plugins() (fs.FS, error) { return dir(files(), pluginsDir) }

// PluginCache is the machine code of the default plugins as pluginhost's
// Precompile wrote it. Without a payload the error is ErrNotBuilt.
func PluginCache() (fs.FS, error) { return dir(files(), cacheDir) }

// Lock is the plugins.lock the default plugins were built against. Without a
// payload the error is ErrNotBuilt.
func Lock() ([]byte, error) { return read(files(), lockName) }

func files() fs.FS {
	below, err := fs.Sub(embedded, "files")
	if err != nil { // the name is a constant and valid
		return embedded
	}
	return below
}

func archive(from fs.FS, name string) (Archive, error) {
	digest, err := read(from, name+digestExt)
	if err != nil {
		return Archive{}, err
	}
	return Archive{
		Name:   name,
		Digest: strings.TrimSpace(string(digest)),
		open:   func() (io.ReadCloser, error) { return open(from, name) },
	}, nil
}

func dir(from fs.FS, name string) (fs.FS, error) {
	info, err := fs.Stat(from, name)
	if err != nil {
		return nil, notBuilt(name, err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("payload: %s is not a directory", name)
	}
	return fs.Sub(from, name)
}

func read(from fs.FS, name string) ([]byte, error) {
	body, err := fs.ReadFile(from, name)
	if err != nil {
		return nil, notBuilt(name, err)
	}
	return body, nil
}

func open(from fs.FS, name string) (io.ReadCloser, error) {
	f, err := from.Open(name)
	if err != nil {
		return nil, notBuilt(name, err)
	}
	return f, nil
}

func notBuilt(name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("payload %s: %w", name, ErrNotBuilt)
	}
	return fmt.Errorf("payload %s: %w", name, err)
}
