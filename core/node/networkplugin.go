package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cleat-dev/cleat/core/internal/component/join"
	"github.com/cleat-dev/cleat/core/internal/component/plugins"
	"github.com/cleat-dev/cleat/core/internal/embed/payload"
	"github.com/cleat-dev/cleat/core/internal/embed/quirks"
	"github.com/cleat-dev/cleat/core/internal/joinapi"
	"github.com/cleat-dev/cleat/core/internal/paths"
	"github.com/cleat-dev/cleat/core/internal/serverstatus"
	"github.com/cleat-dev/cleat/core/kernel"
	"github.com/cleat-dev/cleat/core/pluginhost"
	"github.com/cleat-dev/cleat/hostabi"
)

const (
	// followEvery is how often an agent asks whether the server's lock has changed.
	followEvery = 30 * time.Second
	// fetchPause is between two tries to get what a start needs.
	fetchPause = time.Second
	// openTries is how many locks a start may find changed before it gives up.
	openTries = 3
)

// networkPlugin is the one plugin that an agent runs: the server's choice, with
// the lock, the wasm and the configuration that the server has.
type networkPlugin struct {
	data    paths.Data
	log     *slog.Logger
	cluster func() (joinapi.NodeConfig, error)
	// fetch asks the server for a path, for an answer of at most limit bytes.
	fetch func(ctx context.Context, path string, limit int64) ([]byte, error)
	host  atomic.Pointer[pluginhost.Host]
	files sync.Mutex // held while fetched files are written or removed

	// Of the goroutine that opens and follows:
	name   string    // of the plugin, which lasts as long as the process
	lock   []byte    // what the host follows
	digest string    // of the plugin in it
	wanted string    // the digest in the server's lock as it was last, followed or not
	tidied [2]string // digest and wanted, when nothing was left to remove
	said   string    // why the server's lock is not followed, as the log has it
}

// open opens the host for the server's lock, and shows what it counts.
func (n *networkPlugin) open(ctx context.Context) (plugins.Host, error) {
	compiled, err := payload.PluginCache()
	if err != nil {
		return nil, err
	}
	host, err := n.openHost(ctx, compiled)
	if err != nil {
		return nil, err
	}
	if err := quirks.AddMetrics(host.Metrics()); err != nil {
		return nil, errors.Join(err, host.Close(ctx))
	}
	return host, nil
}

// openHost opens the host; compiled is code that comes with the binary, or nil.
func (n *networkPlugin) openHost(ctx context.Context, compiled fs.FS) (*pluginhost.Host, error) {
	cluster, err := n.cluster()
	if err != nil {
		return nil, err
	}
	n.name = cluster.CNI
	var failed error
	// What was refused may be of a lock that changed while it was carried out.
	for range openTries {
		lock, err := n.await(ctx, joinapi.PathPlugins, pluginhost.MaxLockBytes)
		if err != nil {
			return nil, fmt.Errorf("the server's network plugin: %w", err)
		}
		if failed != nil && bytes.Equal(lock, n.lock) {
			break
		}
		n.lock = lock
		host, err := n.openLock(ctx, compiled)
		if err == nil {
			n.host.Store(host)
			n.tidy()
			return host, nil
		}
		failed = err
	}
	return nil, fmt.Errorf("the server's network plugin: %w", failed)
}

// openLock opens the host for n.lock.
func (n *networkPlugin) openLock(ctx context.Context, compiled fs.FS) (*pluginhost.Host, error) {
	locked, err := parseNetworkLock(n.lock, n.name)
	if err != nil {
		return nil, err
	}
	n.digest, n.wanted = locked.SHA256, locked.SHA256
	return pluginhost.Open(ctx, pluginhost.Options{
		Lock: n.lock, Fetch: n.read, Logger: n.log,
		CacheDir: n.data.PluginCache(), CacheSeed: compiled,
		// The server has checked the signature of the very bytes that its lock pins.
		VerifySigner: func(context.Context, pluginhost.LockedPlugin, []byte) error { return nil },
		// A trial is ended by faults of requests, and there are none here.
		Trial: -1,
	})
}

// parseNetworkLock reads what a server sends as its lock. An agent runs one plugin,
// so a lock with anything else in it is refused as a whole.
func parseNetworkLock(text []byte, name string) (pluginhost.LockedPlugin, error) {
	lock, err := pluginhost.ParseLock(text)
	if err != nil {
		return pluginhost.LockedPlugin{}, err
	}
	var names []string
	for _, p := range lock.Plugins {
		names = append(names, p.Name)
	}
	if len(names) != 1 {
		return pluginhost.LockedPlugin{}, fmt.Errorf("plugins.lock: the server names %d plugins (%s), want %s alone: "+
			"compare the versions of cleat on both machines", len(names), strings.Join(names, ", "), name)
	}
	switch p := lock.Plugins[0]; {
	case !slices.Contains(p.Points, hostabi.PointCNI):
		return pluginhost.LockedPlugin{}, fmt.Errorf("plugins.lock: plugin %s: it serves %v, want the point %s: "+
			"compare the versions of cleat on both machines", p.Name, p.Points, hostabi.PointCNI)
	case p.Name != name:
		return pluginhost.LockedPlugin{}, fmt.Errorf("plugins.lock: plugin %s: when this node joined, the server's --cni was %s: restart the agent",
			p.Name, name)
	case p.Disabled:
		return pluginhost.LockedPlugin{}, fmt.Errorf("plugins.lock: plugin %s: it is disabled: `cleat plugin enable %s` on the server", p.Name, p.Name)
	default:
		return p, nil
	}
}

// follow makes the host follow the server's lock until ctx is done.
func (n *networkPlugin) follow(ctx context.Context) {
	timer := time.NewTimer(followEvery)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		n.look(ctx)
		next := followEvery
		if !n.tidy() {
			next = fetchPause
		}
		timer.Reset(next)
	}
}

// look asks for the server's lock once and takes it over if it changed. What is in
// the way is logged when it is new.
func (n *networkPlugin) look(ctx context.Context) {
	level, message := slog.LevelWarn, "the server was not asked whether its network plugin changed"
	lock, err := n.fetch(ctx, joinapi.PathPlugins, pluginhost.MaxLockBytes)
	if err == nil {
		level, message = slog.LevelError, "the server's network plugin was not taken over, the old one stays"
		err = n.takeOver(ctx, lock)
	}
	switch {
	case ctx.Err() != nil:
	case err == nil:
		n.said = ""
	case err.Error() != n.said:
		n.said = err.Error()
		n.log.Log(ctx, level, message, "error", err)
	}
}

// takeOver makes the host follow another lock. The old one stays if that fails.
func (n *networkPlugin) takeOver(ctx context.Context, lock []byte) error {
	if bytes.Equal(lock, n.lock) {
		n.wanted = n.digest
		return nil
	}
	locked, err := parseNetworkLock(lock, n.name)
	if err != nil {
		return err
	}
	n.wanted = locked.SHA256
	if _, err := n.host.Load().Reload(ctx, lock); err != nil {
		return err
	}
	n.lock, n.digest = lock, locked.SHA256
	return nil
}

// await fetches what the node cannot start without. A server that went away since
// the node joined comes back, or another one answers.
func (n *networkPlugin) await(ctx context.Context, path string, limit int64) (answer []byte, err error) {
	stopped := kernel.Poll(ctx, fetchPause, func(ctx context.Context) error {
		if answer, err = n.fetch(ctx, path, limit); err != nil && !join.Permanent(err) {
			return err
		}
		return nil
	})
	if stopped != nil {
		return nil, stopped
	}
	return answer, err
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
