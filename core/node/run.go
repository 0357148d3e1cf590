// Package node joins the units of a server or an agent: which there are, what each
// needs, and which plugin, embedded program or other unit it gets its answers from.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/collector"
	"github.com/cleat-dev/cleat/core/internal/embed/quirks"
	"github.com/cleat-dev/cleat/core/internal/paths"
	"github.com/cleat-dev/cleat/core/internal/sdnotify"
	"github.com/cleat-dev/cleat/core/internal/serverstatus"
	"github.com/cleat-dev/cleat/core/internal/token"
	"github.com/cleat-dev/cleat/core/kernel"
)

// RunServer runs a server, with its own node unless --disable-agent, until ctx
// is done or a unit fails. cfg is complete: loaded, detected and validated.
func RunServer(ctx context.Context, cfg *config.Config, logger *slog.Logger) error {
	return run(ctx, cfg, logger, paths.Data(cfg.DataDir).Server(), newServer)
}

// RunAgent runs a node that joins the server of --server, as RunServer does a server.
func RunAgent(ctx context.Context, cfg *config.Config, logger *slog.Logger) error {
	// A slip of copying is said before anything starts.
	if _, err := token.Parse(cfg.Token); err != nil {
		from := cfg.Origin("token")
		if cfg.TokenFile != "" {
			from = "--token-file " + cfg.TokenFile
		}
		return fmt.Errorf("token from %s: %w", from, err)
	}
	return run(ctx, cfg, logger, paths.Data(cfg.DataDir).Agent(), newAgent)
}

// parts are what the local socket serves.
type parts struct {
	report  *serverstatus.Reporter
	serve   []func(*http.ServeMux)
	metrics []prometheus.Collector // beside the report's
}

// run runs the units that build makes. home is their half of the data directory.
func run(ctx context.Context, cfg *config.Config, logger *slog.Logger, home string,
	build func(cfg *config.Config, started time.Time, logger *slog.Logger) (*kernel.Kernel, *parts, error)) (err error) {
	started := time.Now()
	// First of all: whoever finds the manager's variables speaks for the process.
	manager, err := sdnotify.Take()
	if err != nil {
		return err
	}
	unlock, err := lockNode(ctx, home, paths.RunDir)
	if err != nil {
		return err
	}
	defer unlock()
	if err := quirks.BridgeLogs(logger, quirks.LogOptions{Debug: cfg.Debug, Verbosity: cfg.Verbosity}); err != nil {
		return err
	}
	k, parts, err := build(cfg, started, logger)
	if err != nil {
		return err
	}
	stopFollowing := collector.Follow(ctx, k.WaitReady, logger)
	defer stopFollowing()
	stopTelling := tellService(k, manager, logger)
	defer func() { stopTelling(err) }()
	if err := quirks.Settle(); err != nil {
		return err
	}
	quirks.CatchFatal(kernel.Label, func(unit, said string) { k.Fail(unit, errors.New(said)) })
	for _, m := range append(parts.metrics, serverstatus.Metrics(parts.report.Status)) {
		if err := quirks.AddMetrics(m); err != nil {
			return err
		}
	}
	closeStatus, err := serveStatus(ctx, k, parts.report.Status, parts.serve...)
	if err != nil {
		return err
	}
	defer closeStatus()
	stopAnnouncing := announce(ctx, k, cfg, started, logger)
	defer stopAnnouncing()
	return k.Run(ctx)
}
