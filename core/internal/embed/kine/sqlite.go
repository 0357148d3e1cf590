package kine

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

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
	dsn, file, err := driverDSN(cfg.DataSourceName)
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
		awaitClosed(db)
		bringIn(base, file+"-wal")
	})
	return false, backend, nil
}

const (
	closing      = 3 * time.Second // the longest that a statement under way is waited for
	closingPause = 2 * time.Millisecond
)

// awaitClosed waits for connections that were in use when db was closed: they close
// when they are given back.
func awaitClosed(db *sql.DB) {
	tick := time.NewTicker(closingPause)
	defer tick.Stop()
	for deadline := time.Now().Add(closing); db.Stats().OpenConnections > 0 && time.Now().Before(deadline); {
		<-tick.C
	}
}

// bringIn moves what is in the write-ahead log into the database. SQLite does it when
// the last connection closes, but of two that close at once each may take the other
// for the last. A log that stays is no loss: the next start reads it.
func bringIn(connector driver.Connector, log string) {
	if _, err := os.Stat(log); err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closing)
	defer cancel()
	db := sql.OpenDB(connector)
	_, _ = db.ExecContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)")
	_ = db.Close()
}

// driverDSN is what kine makes of its DSN, which has the parameters of another
// driver, for the one in pure Go, and the database's file.
func driverDSN(dsn string) (translated, file string, err error) {
	file, query, _ := strings.Cut(dsn, "?")
	given, err := url.ParseQuery(query)
	if err != nil {
		return "", "", fmt.Errorf("SQLite: settings %q: %w", query, err)
	}
	file, err = filepath.Abs(file)
	if err != nil {
		return "", "", fmt.Errorf("SQLite: %w", err)
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
	return "file://" + file + "?" + settings.Encode(), file, nil
}
