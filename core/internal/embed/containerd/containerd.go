// Package containerd runs containerd's server inside this process, and its
// ctr command. It installs no signal handlers and never exits: the caller's
// context decides how long the server lives.
//
// containerd registers its plugins and metrics in process-wide registries, so
// Run may be called once in a process.
package containerd

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/containerd/containerd/v2/cmd/containerd/server"
	srvconfig "github.com/containerd/containerd/v2/cmd/containerd/server/config"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/version"
	"github.com/containerd/log"
	"github.com/containerd/plugin"
	"github.com/containerd/plugin/registry"
)

// stopTimeout bounds how long Run waits for containerd to stop: its plugins
// close databases and listeners, none of which should take a second.
const stopTimeout = 10 * time.Second

// Run loads the configuration file, serves the sockets it names and returns
// nil when ctx is done and the server has stopped. Containers and their shims
// outlive it and are found again by the next start. The sockets are there
// some time after Run was called: ask the CRI to know when it is ready.
func Run(ctx context.Context, configPath string) error {
	cfg, err := load(ctx, configPath)
	if err != nil {
		return err
	}
	if err := server.CreateTopLevelDirectories(cfg); err != nil {
		return fmt.Errorf("containerd: directories of %s: %w", configPath, err)
	}
	if err := cleanTempMounts(ctx, cfg.Root); err != nil {
		return err
	}

	// The server's own work must not die while its listeners still serve.
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	srv, err := server.New(base, cfg)
	if err != nil {
		return fmt.Errorf("containerd: %w", err)
	}
	startErr := srv.Start(base)
	if startErr == nil {
		startErr = restrictSockets(cfg)
	}
	if startErr == nil {
		<-ctx.Done()
	}
	return errors.Join(startErr, stop(srv, cancel))
}

// load reads the configuration as containerd itself does, without its
// defaults for files in /etc/containerd.
func load(ctx context.Context, path string) (*srvconfig.Config, error) {
	cfg := &srvconfig.Config{Version: version.ConfigVersion}
	all := registry.Graph(func(*plugin.Registration) bool { return false })
	plugins := func() iter.Seq[plugin.Registration] { return slices.Values(all) }
	if err := srvconfig.LoadConfigWithPlugins(ctx, path, plugins, cfg); err != nil {
		return nil, fmt.Errorf("containerd: load %s: %w", path, err)
	}
	return cfg, nil
}

// cleanTempMounts removes what an earlier process left mounted when it was
// killed in the middle of unpacking an image.
func cleanTempMounts(ctx context.Context, root string) error {
	if err := mount.SetTempMountLocation(filepath.Join(root, "tmpmounts")); err != nil {
		return fmt.Errorf("containerd: temporary mounts: %w", err)
	}
	warnings, err := mount.CleanupTempMounts(0)
	for _, w := range warnings {
		log.G(ctx).WithError(w).Warn("cleaning up a temporary mount")
	}
	if err != nil {
		log.G(ctx).WithError(err).Warn("cleaning up temporary mounts")
	}
	return nil
}

// restrictSockets takes away the group's access, which containerd gives.
func restrictSockets(cfg *srvconfig.Config) error {
	for _, id := range []string{"io.containerd.server.v1.grpc", "io.containerd.server.v1.ttrpc"} {
		section, _ := cfg.Plugins[id].(map[string]any)
		address, _ := section["address"].(string)
		if !filepath.IsAbs(address) {
			continue
		}
		if err := os.Chmod(address, 0o600); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("containerd: socket: %w", err)
		}
	}
	return nil
}

// stop ends the server. The CRI plugin can only be closed once it runs: closed
// earlier it waits for a collector that never started.
func stop(srv *server.Server, cancel context.CancelFunc) error {
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		srv.Wait()
		cancel()
		srv.Stop()
	}()
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-stopped:
		return nil
	case <-timer.C:
		return fmt.Errorf("containerd: not stopped within %s", stopTimeout)
	}
}
