// Command datastore-kine is the cleat plugin that keeps cluster state in a
// database behind kine.
package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/pluginsdk"
	"github.com/cleat-dev/cleat/pluginsdk/datastore"
	"github.com/cleat-dev/cleat/pluginsdk/plan"
)

func main() {}

func init() {
	p := &plugin{}
	pluginsdk.OnInit(p.configure)
	datastore.Register(p.plan)
}

// plugin decides with its configuration.
type plugin struct {
	config config
}

type config struct {
	CompactIntervalSeconds     int   `json:"compact_interval_seconds"`
	CompactTimeoutSeconds      int   `json:"compact_timeout_seconds"`
	CompactMinRetain           int64 `json:"compact_min_retain"`
	CompactBatchSize           int64 `json:"compact_batch_size"`
	PoolMaxOpen                int   `json:"pool_max_open"`
	PoolMaxIdle                int   `json:"pool_max_idle"`
	PoolConnMaxLifetimeSeconds int   `json:"pool_conn_max_lifetime_seconds"`
}

func (p *plugin) configure() error {
	p.config = config{}
	if err := plan.Config(&p.config); err != nil {
		return err
	}
	c := p.config
	for _, field := range []struct {
		name  string
		value int64
	}{
		{"compact_interval_seconds", int64(c.CompactIntervalSeconds)},
		{"compact_timeout_seconds", int64(c.CompactTimeoutSeconds)},
		{"compact_min_retain", c.CompactMinRetain},
		{"compact_batch_size", c.CompactBatchSize},
		{"pool_max_open", int64(c.PoolMaxOpen)},
		{"pool_max_idle", int64(c.PoolMaxIdle)},
		{"pool_conn_max_lifetime_seconds", int64(c.PoolConnMaxLifetimeSeconds)},
	} {
		if field.value < 0 {
			return fmt.Errorf("config %s: %d is negative; use 0 or more", field.name, field.value)
		}
	}
	if c.PoolMaxOpen == 1 {
		return errors.New("config pool_max_open: 1 is too few, kine keeps one connection for itself; use 2 or more, or 0 for no limit")
	}
	return nil
}

const schemes = "sqlite://, postgres://, postgresql://, mysql:// or nats://"

// plan never puts the endpoint into an error: it may hold a password.
func (p *plugin) plan(req hostabi.DatastoreRequest) (hostabi.DatastorePlan, error) {
	decided := hostabi.DatastorePlan{
		Driver: hostabi.DatastoreDriverKine,
		Shared: true,
		Pool: hostabi.PoolPlan{
			MaxOpen:                p.config.PoolMaxOpen,
			MaxIdle:                p.config.PoolMaxIdle,
			ConnMaxLifetimeSeconds: p.config.PoolConnMaxLifetimeSeconds,
		},
		Compaction: hostabi.CompactionPlan{
			IntervalSeconds: p.config.CompactIntervalSeconds,
			TimeoutSeconds:  p.config.CompactTimeoutSeconds,
			MinRetain:       p.config.CompactMinRetain,
			BatchSize:       p.config.CompactBatchSize,
		},
	}
	endpoint := req.Endpoint
	if endpoint == "" {
		endpoint = "sqlite://"
	}
	scheme, address, found := strings.Cut(endpoint, "://")
	if !found {
		return hostabi.DatastorePlan{}, fmt.Errorf("datastore-endpoint has no scheme; write %s before the address, or leave it empty for SQLite", schemes)
	}
	scheme = strings.ToLower(scheme)
	decided.Endpoint = scheme + "://" + address
	switch scheme {
	case "sqlite":
		dsn, path, err := sqlite(address, req.DBDir)
		if err != nil {
			return hostabi.DatastorePlan{}, err
		}
		decided.Endpoint, decided.Description, decided.Shared = dsn, "SQLite in "+path, false
	case "postgres", "postgresql":
		decided.Description = "PostgreSQL" + at(urlAddress(address))
	case "mysql":
		decided.Description = "MySQL" + at(mysqlAddress(address))
	case "nats":
		decided.Description = "NATS" + at(urlAddress(address))
	case "http", "https": // an etcd
		return hostabi.DatastorePlan{}, plan.ErrNotMine
	default:
		return hostabi.DatastorePlan{}, fmt.Errorf("datastore-endpoint: scheme %q is unknown; use %s", clip(scheme), schemes)
	}
	return decided, nil
}

func at(address string) string {
	if address == "" {
		return ""
	}
	return " at " + address
}

func clip(s string) string { return s[:min(len(s), 20)] }
