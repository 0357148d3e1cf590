package node

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/component/plugins"
	"github.com/cleat-dev/cleat/core/internal/embed/payload"
	"github.com/cleat-dev/cleat/core/internal/paths"
	"github.com/cleat-dev/cleat/core/pluginhost"
)

// openPlugins opens the host for the configured lock, or for that of the
// embedded bundle, whose compiled code comes with it.
func openPlugins(ctx context.Context, cfg *config.Config, data paths.Data, logger *slog.Logger) (plugins.Host, error) {
	bundle, err := payload.Plugins()
	if err != nil {
		return nil, err
	}
	compiled, err := payload.PluginCache()
	if err != nil {
		return nil, err
	}
	options := pluginhost.Options{
		Embedded: bundle, PluginsDir: cfg.PluginsDir, CacheDir: data.PluginCache(), CacheSeed: compiled, Logger: logger,
	}
	if cfg.PluginsLock != "" {
		options.LockFile = cfg.PluginsLock
	} else if options.Lock, err = payload.Lock(); err != nil {
		return nil, err
	}
	host, err := pluginhost.Open(ctx, options)
	if err != nil {
		return nil, err
	}
	if !cfg.DisableAgent {
		if err := host.CheckCNI(cfg.CNI); err != nil {
			return nil, errors.Join(err, host.Close(ctx))
		}
	}
	return host, nil
}

// Bundle is what the binary carries of plugins, for the plugin commands. Its
// fields are empty in a binary that was built without its payload; those
// commands still work on files.
type Bundle struct {
	Plugins fs.FS  // <name>.wasm
	Lock    []byte // plugins.lock
	Cache   fs.FS  // compiled code
}

// EmbeddedBundle returns the bundle of this binary.
func EmbeddedBundle() Bundle {
	var b Bundle
	var err error
	if b.Plugins, err = payload.Plugins(); err != nil {
		return Bundle{}
	}
	if b.Lock, err = payload.Lock(); err != nil {
		return Bundle{}
	}
	if b.Cache, err = payload.PluginCache(); err != nil {
		return Bundle{}
	}
	return b
}
