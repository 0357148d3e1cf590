package kine

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"sync"

	"github.com/k3s-io/kine/pkg/drivers"
	kinesqlite "github.com/k3s-io/kine/pkg/drivers/sqlite"
	"github.com/k3s-io/kine/pkg/server"
	"modernc.org/sqlite"
)

// idleConnections is kine's own default.
const idleConnections = 20

// openSQLite opens kine's backend on SQLite as kine does, and takes over the
// connections: statements are kept prepared, because preparing one costs more
// than running it, and this process writes one at a time, because SQLite lets
// writers that meet sleep for milliseconds before they try again.
func openSQLite(ctx context.Context, wg *sync.WaitGroup, cfg *drivers.Config) (leaderElect bool, backend server.Backend, err error) {
	backend, dialect, err := kinesqlite.NewVariant(ctx, wg, "sqlite3", cfg)
	if err != nil {
		return false, nil, err
	}
	dsn, err := driverDSN(cfg.DataSourceName)
	if err != nil {
		return false, nil, err
	}
	base, err := sqlite.NewConnector(dsn)
	if err != nil {
		return false, nil, fmt.Errorf("SQLite: %w", err)
	}
	db := sql.OpenDB(keepingConnector{base})
	pool := cfg.ConnectionPoolConfig
	if pool.MaxIdle == 0 {
		pool.MaxIdle = idleConnections
	}
	db.SetMaxIdleConns(pool.MaxIdle)
	db.SetMaxOpenConns(pool.MaxOpen)
	db.SetConnMaxLifetime(pool.MaxLifetime)
	db.SetConnMaxIdleTime(pool.MaxIdleTime)
	if err := errors.Join(db.PingContext(ctx), dialect.DB.Close()); err != nil {
		return false, nil, errors.Join(fmt.Errorf("SQLite: %w", err), db.Close())
	}
	dialect.DB = db
	dialect.LockWrites = true
	wg.Go(func() {
		<-ctx.Done()
		_ = db.Close() // every statement has been answered or is of no use now
	})
	return false, backend, nil
}

// driverDSN is what kine makes of its DSN, which has the parameters of another
// driver, for the one in pure Go.
func driverDSN(dsn string) (string, error) {
	file, query, _ := strings.Cut(dsn, "?")
	given, err := url.ParseQuery(query)
	if err != nil {
		return "", fmt.Errorf("SQLite: settings %q: %w", query, err)
	}
	file, err = filepath.Abs(file)
	if err != nil {
		return "", fmt.Errorf("SQLite: %w", err)
	}
	pragmas := map[string]string{
		"_busy_timeout": "busy_timeout", "_timeout": "busy_timeout",
		"_journal_mode": "journal_mode", "_journal": "journal_mode",
		"_synchronous": "synchronous", "_sync": "synchronous",
	}
	settings := url.Values{}
	for name, values := range given {
		for _, value := range values {
			switch pragma := pragmas[name]; {
			case name == "cache": // is not known there
			case pragma != "":
				settings.Add("_pragma", pragma+"("+value+")")
			default:
				settings.Add(name, value)
			}
		}
	}
	return "file://" + file + "?" + settings.Encode(), nil
}
