package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cleat-dev/cleat/core/internal/atomicfile"
	"github.com/cleat-dev/cleat/core/internal/embed/payload"
	"github.com/cleat-dev/cleat/core/internal/joinapi"
	"github.com/cleat-dev/cleat/core/pluginhost"
	"github.com/cleat-dev/cleat/hostabi/wasmfile"
)

// wasmExt ends the name of a fetched file; its digest is before it.
const wasmExt = ".wasm"

// read returns the wasm of a plugin: from this binary's bundle or the disk if the
// digest is there, else from the server. The host verifies what it gets.
func (n *networkPlugin) read(ctx context.Context, p pluginhost.LockedPlugin) ([]byte, error) {
	if wasm, err := bundled(p.SHA256); err == nil {
		return wasm, nil
	}
	path := n.data.FetchedPlugins(p.SHA256 + wasmExt)
	wasm, err := pluginhost.ReadFile(path, wasmfile.MaxBytes)
	switch {
	case err == nil && pluginhost.Digest(wasm) == p.SHA256:
		return wasm, nil
	case err == nil:
		err = fmt.Errorf("its digest is %s", pluginhost.Digest(wasm))
	}
	if !errors.Is(err, fs.ErrNotExist) {
		n.log.Warn("a plugin's file is damaged and is fetched again", "plugin", p.Name, "file", path, "error", err)
	}
	wasm, err = n.await(ctx, joinapi.PathPlugin+"?"+url.Values{joinapi.QueryDigest: {p.SHA256}}.Encode(), wasmfile.MaxBytes)
	if err != nil {
		return nil, err
	}
	if got := pluginhost.Digest(wasm); got != p.SHA256 {
		return nil, fmt.Errorf("the server sent a file with the digest %s, its lock says %s: "+
			"put the file that was locked in its place on the server, or lock the one that is there with `cleat plugin lock`", got, p.SHA256)
	}
	if err := n.keep(path, wasm); err != nil {
		n.log.Warn("a plugin's file was not kept and will be fetched again when it is needed", "plugin", p.Name, "error", err)
	}
	return wasm, nil
}

func (n *networkPlugin) keep(path string, wasm []byte) error {
	n.files.Lock()
	defer n.files.Unlock()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return atomicfile.WriteFile(path, wasm, 0o600)
}

// tidy removes what was fetched and is neither named by a lock nor in use. It
// reports whether that was all: false means that calls still run in a plugin that
// was replaced, and that it should be called again soon. What cannot be removed
// stays until the lock changes again.
func (n *networkPlugin) tidy() bool {
	now := [2]string{n.digest, n.wanted}
	if n.tidied == now {
		return true
	}
	n.files.Lock()
	defer n.files.Unlock()
	dir := n.data.FetchedPlugins()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		n.log.Warn("fetched plugins were not looked through", "error", err)
	}
	done, inUse := true, n.host.Load().InUse()
	for _, e := range entries {
		digest := strings.TrimSuffix(e.Name(), wasmExt)
		switch {
		case digest == n.wanted || digest == n.digest:
		case slices.Contains(inUse, digest):
			done = false
		default:
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				n.log.Warn("a fetched plugin that is not needed any more was not removed", "error", err)
			}
		}
	}
	if done {
		n.tidied = now
	}
	return done
}

// bundled finds a plugin of this binary by its digest.
func bundled(sha256 string) ([]byte, error) {
	text, err := payload.Lock()
	if err != nil {
		return nil, err
	}
	lock, err := pluginhost.ParseLock(text)
	if err != nil {
		return nil, err
	}
	files, err := payload.Plugins()
	if err != nil {
		return nil, err
	}
	for _, p := range lock.Plugins {
		if name, ok := strings.CutPrefix(p.Source, "embedded:"); ok && p.SHA256 == sha256 {
			return fs.ReadFile(files, name)
		}
	}
	return nil, fs.ErrNotExist
}
