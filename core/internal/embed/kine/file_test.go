package kine

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/core/internal/embed/quirks"
	"github.com/cleat-dev/cleat/hostabi"
)

// written makes a database of kine's with some keys. With crash its writer is
// still there when it is copied, as after a kill.
func written(t *testing.T, crash bool) (file string) {
	t.Helper()
	plan := sqlitePlan(t.TempDir())
	client, stop := start(t, filepath.Join(t.TempDir(), "kine.sock"), plan)
	for i := range 200 {
		create(t, client, fmt.Sprintf("/registry/things/%03d", i), strings.Repeat("x", 1000))
	}
	from, _, _ := strings.Cut(strings.TrimPrefix(plan.Endpoint, "sqlite://"), "?")
	file = filepath.Join(t.TempDir(), "state.db")
	if !crash {
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	} else {
		defer func() {
			if err := stop(); err != nil {
				t.Error(err)
			}
		}()
	}
	for _, suffix := range []string{"", "-wal", "-shm"} {
		content, err := os.ReadFile(from + suffix)
		if os.IsNotExist(err) {
			continue
		}
		if err == nil {
			err = os.WriteFile(file+suffix, content, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return file
}

// damage writes over a part of a file, or with no bytes cuts it there.
func damage(t *testing.T, file string, at int64, with []byte) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err == nil && with == nil {
		err = f.Truncate(at)
	} else if err == nil {
		_, err = f.WriteAt(with, at)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func digests(t *testing.T, file string) string {
	t.Helper()
	var all strings.Builder
	for _, suffix := range []string{"", "-wal"} {
		content, err := os.ReadFile(file + suffix)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		if len(content) > 0 {
			fmt.Fprintf(&all, "%s %x\n", suffix, sha256.Sum256(content))
		}
	}
	return all.String()
}

func TestCheckFile(t *testing.T) {
	for _, tt := range []struct {
		name  string
		crash bool
		harm  func(t *testing.T, file string)
		want  string // in the error, "" for none
	}{
		{"stopped", false, func(*testing.T, string) {}, ""},
		{"killed", true, func(*testing.T, string) {}, ""},
		{"gone", false, func(t *testing.T, file string) {
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
		}, ""},
		{"empty", false, func(t *testing.T, file string) { damage(t, file, 0, nil) }, ""},
		{"no database", false, func(t *testing.T, file string) { damage(t, file, 0, []byte("a letter to somebody")) }, "is damaged"},
		{"cut short", false, func(t *testing.T, file string) { damage(t, file, 40_000, nil) }, "is damaged"},
		{"cut within the header", false, func(t *testing.T, file string) { damage(t, file, 50, nil) }, "is damaged"},
		{"a page of noise", false, func(t *testing.T, file string) { damage(t, file, 4096, bytes.Repeat([]byte{0xa5}, 4096)) }, "is damaged"},
		{"a page of zeros deep inside", false, func(t *testing.T, file string) { damage(t, file, 30*4096, make([]byte, 4096)) }, "is damaged"},
		{"killed, then a page of noise", true, func(t *testing.T, file string) { damage(t, file, 2*4096, bytes.Repeat([]byte{0xa5}, 4096)) }, ""},
		{"killed, the log gone", true, func(t *testing.T, file string) {
			for _, suffix := range []string{"-wal", "-shm"} {
				if err := os.Remove(file + suffix); err != nil {
					t.Fatal(err)
				}
			}
		}, ""},
		{"a directory", false, func(t *testing.T, file string) {
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(file, 0o700); err != nil {
				t.Fatal(err)
			}
		}, "is not a file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := written(t, tt.crash)
			tt.harm(t, file)
			info, err := os.Stat(file)
			before := ""
			if err == nil && !info.IsDir() {
				before = digests(t, file)
			}
			err = checkFile(t.Context(), "sqlite://"+file+"?_journal_mode=WAL")
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), file)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if info == nil || info.IsDir() {
				return
			}
			if after := digests(t, file); after != before {
				t.Errorf("the check changed the files:\nbefore %s\nafter  %s", before, after)
			}
			if err != nil {
				err := Driver(slog.New(slog.DiscardHandler))(t.Context(), filepath.Join(t.TempDir(), "kine.sock"), hostabi.DatastorePlan{Endpoint: "sqlite://" + file})
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("the driver says %v, want %q", err, tt.want)
				}
			}
		})
	}
}

// A database that cannot be reached is named before kine gives up.
func TestUnreachableIsTold(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close() // refused from now on
	if err := quirks.BridgeLogs(slog.New(slog.DiscardHandler), quirks.LogOptions{}); err != nil {
		t.Fatal(err)
	}
	read, write := io.Pipe()
	defer read.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Driver(slog.New(slog.NewTextHandler(write, nil)))(ctx, filepath.Join(t.TempDir(), "kine.sock"),
			hostabi.DatastorePlan{Endpoint: "postgres://u:hidden@" + address + "/db", Description: "PostgreSQL at " + address})
	}()
	line := make([]byte, 4096)
	n, err := read.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	go io.Copy(io.Discard, read)
	if text := string(line[:n]); !strings.Contains(text, "connection refused") || !strings.Contains(text, address) || strings.Contains(text, "hidden") {
		t.Errorf("the log says %q, want the address and the reason without the password", text)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func BenchmarkCheckFile(b *testing.B) {
	file := filepath.Join(b.TempDir(), "state.db")
	db, err := sql.Open("sqlite", "file:"+file)
	if err != nil {
		b.Fatal(err)
	}
	// Rows as kine has them, up to the size that is still read as a whole.
	_, err = db.Exec(`CREATE TABLE kine (id INTEGER PRIMARY KEY, name TEXT, value BLOB); CREATE INDEX i ON kine (name);
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 29000)
		INSERT INTO kine (name, value) SELECT '/registry/pods/default/' || i, randomblob(2000) FROM n`)
	if err != nil {
		b.Fatal(err)
	}
	if err := db.Close(); err != nil {
		b.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Size() > checkAtMost {
		b.Fatal(info.Size(), err)
	}
	b.SetBytes(info.Size())
	for b.Loop() {
		if err := checkFile(b.Context(), "sqlite://"+file); err != nil {
			b.Fatal(err)
		}
	}
}
