package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/atomicfile"
	"github.com/cleat-dev/cleat/core/internal/component/join"
	"github.com/cleat-dev/cleat/core/internal/component/plugins"
	"github.com/cleat-dev/cleat/core/internal/embed/payload"
	"github.com/cleat-dev/cleat/core/internal/embed/quirks"
	"github.com/cleat-dev/cleat/core/internal/joinapi"
	"github.com/cleat-dev/cleat/core/internal/paths"
	"github.com/cleat-dev/cleat/core/internal/serverstatus"
	"github.com/cleat-dev/cleat/core/kernel"
	"github.com/cleat-dev/cleat/core/pluginhost"
	"github.com/cleat-dev/cleat/hostabi/wasmfile"
)

const (
	// followEvery is how often an agent asks whether the server's lock has changed.
	followEvery = 30 * time.Second
	// fetchPause is between two tries to get what a start needs.
	fetchPause = time.Second
)

// networkPlugin is the one plugin that an agent runs: the server's choice, with
// the lock, the wasm and the configuration that the server has.
type networkPlugin struct {
	cfg  *config.Config
	data paths.Data
	log  *slog.Logger
	join *join.Join
	host atomic.Pointer[pluginhost.Host]
	lock []byte // what the host follows; of the goroutine that opens and follows
}

// open opens the host for the server's lock.
func (n *networkPlugin) open(ctx context.Context) (plugins.Host, error) {
	cluster, err := n.join.NodeConfig()
	if err != nil {
		return nil, err
	}
	if n.lock, err = n.await(ctx, joinapi.PathPlugins, pluginhost.MaxLockBytes); err != nil {
		return nil, fmt.Errorf("the server's plugins: %w", err)
	}
	compiled, err := payload.PluginCache()
	if err != nil {
		return nil, err
	}
	host, err := pluginhost.Open(ctx, pluginhost.Options{
		Lock: n.lock, Fetch: n.read, Logger: n.log,
		CacheDir: n.data.PluginCache(), CacheSeed: compiled,
		// The server has checked the signature of the very bytes that its lock pins.
		VerifySigner: func(context.Context, pluginhost.LockedPlugin, []byte) error { return nil },
	})
	if err != nil {
		return nil, err
	}
	if err := host.CheckCNI(cluster.CNI); err != nil {
		return nil, errors.Join(err, host.Close(ctx))
	}
	if err := quirks.AddMetrics(host.Metrics()); err != nil {
		return nil, errors.Join(err, host.Close(ctx))
	}
	n.host.Store(host)
	return host, nil
}

// follow makes the host follow the server's lock until ctx is done.
func (n *networkPlugin) follow(ctx context.Context) {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		lock, err := n.join.Fetch(ctx, joinapi.PathPlugins, pluginhost.MaxLockBytes)
		if err != nil {
			n.log.Debug("the server was not asked for its plugins", "error", err)
			continue
		}
		if bytes.Equal(lock, n.lock) {
			continue
		}
		if _, err := n.host.Load().Reload(ctx, lock); err != nil {
			n.log.Error("the server's network plugin was not taken over, the old one stays", "error", err)
			continue
		}
		n.lock = lock
	}
}

// await fetches what the node cannot start without. A server that went away since
// the node joined comes back, or another one answers.
func (n *networkPlugin) await(ctx context.Context, path string, limit int64) (answer []byte, err error) {
	stopped := kernel.Poll(ctx, fetchPause, func(ctx context.Context) error {
		if answer, err = n.join.Fetch(ctx, path, limit); err != nil && !join.Permanent(err) {
			return err
		}
		return nil
	})
	if stopped != nil {
		return nil, stopped
	}
	return answer, err
}

// read returns the wasm of a plugin: from this binary's bundle or the disk if the
// digest is there, else from the server. The host verifies what it gets.
func (n *networkPlugin) read(ctx context.Context, p pluginhost.LockedPlugin) ([]byte, error) {
	if wasm, err := bundled(p.SHA256); err == nil {
		return wasm, nil
	}
	path := n.data.Agent("plugins", p.SHA256+".wasm")
	if wasm, err := pluginhost.ReadFile(path, wasmfile.MaxBytes); err == nil && pluginhost.Digest(wasm) == p.SHA256 {
		return wasm, nil
	}
	wasm, err := n.await(ctx, joinapi.PathPlugin+"?"+url.Values{joinapi.QueryDigest: {p.SHA256}}.Encode(), wasmfile.MaxBytes)
	if err != nil {
		return nil, err
	}
	if got := pluginhost.Digest(wasm); got != p.SHA256 {
		return nil, fmt.Errorf("the server sent a file of the digest %s, its lock says %s", got, p.SHA256)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	return wasm, atomicfile.WriteFile(path, wasm, 0o600)
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

// report is what a Status says of the plugin.
func (n *networkPlugin) report() (all []serverstatus.Plugin) {
	host := n.host.Load()
	if host == nil {
		return nil
	}
	for _, p := range host.Stats() {
		all = append(all, reportedPlugin(p))
	}
	return all
}
