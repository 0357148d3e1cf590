package kine

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/k3s-io/kine/pkg/drivers"
	kinesqlite "github.com/k3s-io/kine/pkg/drivers/sqlite"
	clientv3 "go.etcd.io/etcd/client/v3"
	"modernc.org/sqlite"

	"github.com/cleat-dev/cleat/core/internal/embed/quirks"
)

// keeping opens a database whose connections keep their statements.
func keeping(t *testing.T, dsn string) *sql.DB {
	t.Helper()
	text, _, err := driverDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	base, err := sqlite.NewConnector(text)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(keepingConnector{base})
	t.Cleanup(func() { db.Close() })
	return db
}

// TestDriverDSN compares the settings that a database gets from us with those that
// it gets from kine for the same DSN.
func TestDriverDSN(t *testing.T) {
	for _, settings := range []string{
		"_journal_mode=WAL&_busy_timeout=30000&_synchronous=NORMAL&_txlock=immediate",
		"_journal=DELETE&_timeout=17&_sync=FULL&cache=shared",
		"_synchronous=OFF&_pragma=cache_size(-1234)",
		"",
	} {
		dsn := filepath.Join(t.TempDir(), "state.db") + "?" + settings
		var kept sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		_, dialect, err := kinesqlite.NewVariant(ctx, &kept, "sqlite3", &drivers.Config{DataSourceName: dsn})
		if err != nil {
			t.Fatal(err)
		}
		ours := keeping(t, dsn)
		for _, name := range []string{"journal_mode", "busy_timeout", "synchronous", "cache_size", "foreign_keys"} {
			var want, got string
			for db, to := range map[*sql.DB]*string{dialect.DB: &want, ours: &got} {
				if err := db.QueryRow("PRAGMA " + name).Scan(to); err != nil {
					t.Fatal(err)
				}
			}
			if got != want {
				t.Errorf("%q: %s is %s, want kine's %s", settings, name, got, want)
			}
		}
		cancel()
		kept.Wait()
	}
	if _, _, err := driverDSN("file?a=%zz"); err == nil {
		t.Error("settings that are no query were accepted")
	}
}

func TestStatementsAreKept(t *testing.T) {
	db := keeping(t, filepath.Join(t.TempDir(), "state.db")+"?_journal_mode=WAL")
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("CREATE TABLE numbers (n INTEGER, word TEXT)"); err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		if _, err := db.Exec("INSERT INTO numbers VALUES (?, ?)", i, fmt.Sprint("w", i)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := db.Exec("INSERT INTO numbers VALUES (?, ?)", 1); err == nil {
		t.Error("a statement with an argument too few was run")
	}
	if _, err := db.Exec("INSERT INTO nowhere VALUES (?)", 1); err == nil {
		t.Error("a statement about no table was prepared")
	}
	// The same text twice at once, as in a transaction, and once given up half-way.
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	const below = "SELECT n FROM numbers WHERE n < ? ORDER BY n"
	outer, err := tx.Query(below, 3)
	if err != nil {
		t.Fatal(err)
	}
	var seen []int
	for outer.Next() {
		var n, inner int
		if err := outer.Scan(&n); err != nil {
			t.Fatal(err)
		}
		if err := tx.QueryRow(below, 100).Scan(&inner); err != nil || inner != 0 {
			t.Errorf("the inner query says %d, %v; want 0", inner, err)
		}
		seen = append(seen, n)
	}
	if err := outer.Err(); err != nil || fmt.Sprint(seen) != "[0 1 2]" {
		t.Errorf("the outer query says %v, %v; want 0, 1 and 2", seen, err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	// More texts than are kept, over and over, and a table that changes meanwhile.
	for i := range 3 * keptStatements {
		var n int
		if err := db.QueryRow(fmt.Sprintf("SELECT COUNT(*) FROM numbers WHERE n < ? LIMIT %d", 1+i%(2*keptStatements)), 50).Scan(&n); err != nil || n != 50 {
			t.Fatalf("query %d: %d, %v; want 50", i, n, err)
		}
		if i == keptStatements {
			if _, err := db.Exec("ALTER TABLE numbers ADD COLUMN more TEXT"); err != nil {
				t.Fatal(err)
			}
		}
	}
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.Raw(func(inner any) error {
		if kept := len(inner.(*keepingConn).kept); kept != keptStatements {
			t.Errorf("%d statements are kept, want %d", kept, keptStatements)
		}
		return nil
	})
}

// BenchmarkWrites compares creations on SQLite as kine opens it with ours, from 16
// clients, and reads of one key.
func BenchmarkWrites(b *testing.B) {
	for _, way := range []struct {
		name string
		open drivers.Constructor
	}{{"kine", kinesqlite.New}, {"cleat", openSQLite}} {
		quirks.ServeKine("sqlite", way.open)
		dir := b.TempDir()
		ctx, cancel := context.WithCancel(b.Context())
		done := make(chan error, 1)
		socket := filepath.Join(dir, "kine.sock")
		go func() { done <- run(ctx, socket, sqlitePlan(dir)) }()
		client, err := clientv3.New(clientv3.Config{Endpoints: []string{"unix://" + socket}})
		if err != nil {
			b.Fatal(err)
		}
		for {
			if _, err := client.Get(ctx, "/none"); err == nil {
				break
			}
		}
		var next atomic.Int64
		b.Run(way.name+"/create", func(b *testing.B) {
			b.SetParallelism(8)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					key := fmt.Sprintf("/test/%d", next.Add(1))
					if _, err := client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", 0)).
						Then(clientv3.OpPut(key, string(make([]byte, 1024)))).Commit(); err != nil {
						b.Error(err)
					}
				}
			})
		})
		b.Run(way.name+"/get", func(b *testing.B) {
			b.SetParallelism(8)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := client.Get(ctx, "/test/1"); err != nil {
						b.Error(err)
					}
				}
			})
		})
		_ = client.Close()
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	}
}
