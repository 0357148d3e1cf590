package kine

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/cleat-dev/cleat/core/internal/embed/quirks"
	"github.com/cleat-dev/cleat/core/kernel"
	"github.com/cleat-dev/cleat/core/kernel/kerneltest"
	"github.com/cleat-dev/cleat/hostabi"
)

const patience = 30 * time.Second

func TestMain(m *testing.M) {
	quirks.MendKineMigration() // as the server does
	quirks.ServeKine("sqlite", openSQLite)
	os.Exit(m.Run())
}

func sqlitePlan(dir string) hostabi.DatastorePlan {
	return hostabi.DatastorePlan{
		Endpoint:   "sqlite://" + filepath.Join(dir, "state.db") + "?_journal_mode=WAL&_busy_timeout=30000&_synchronous=NORMAL&_txlock=immediate",
		Compaction: hostabi.CompactionPlan{IntervalSeconds: 300},
	}
}

// start runs kine; stop ends it and returns its error.
func start(t *testing.T, socket string, plan hostabi.DatastorePlan) (client *clientv3.Client, stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	done := make(chan error, 1)
	go func() { done <- run(ctx, socket, plan) }()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"unix://" + socket}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	wait, enough := context.WithTimeout(t.Context(), patience)
	defer enough()
	err = kernel.Poll(wait, 20*time.Millisecond, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		_, err := client.Get(ctx, "/none")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return client, func() error {
		_ = client.Close() // only says that it is closed
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(patience):
			t.Fatalf("kine did not end within %s", patience)
			return nil
		}
	}
}

func create(t *testing.T, client *clientv3.Client, key, value string) *clientv3.TxnResponse {
	t.Helper()
	res, err := client.Txn(t.Context()).
		If(clientv3.Compare(clientv3.ModRevision(key), "=", 0)).
		Then(clientv3.OpPut(key, value)).Commit()
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// update writes a key whose revision is the one given and returns the next.
func update(t *testing.T, client *clientv3.Client, key, value string, revision int64) int64 {
	t.Helper()
	res, err := client.Txn(t.Context()).
		If(clientv3.Compare(clientv3.ModRevision(key), "=", revision)).
		Then(clientv3.OpPut(key, value)).
		Else(clientv3.OpGet(key)).Commit()
	if err != nil || !res.Succeeded {
		t.Fatalf("update of revision %d: %v, %v", revision, res, err)
	}
	return res.Header.Revision
}

func read(t *testing.T, client *clientv3.Client, key string) string {
	t.Helper()
	res, err := client.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Kvs) == 0 {
		return ""
	}
	return string(res.Kvs[0].Value)
}

func TestServesAndKeeps(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "run", "kine.sock")
	// The first run starts what the SQL driver and grpc keep for the process.
	_, stop := start(t, socket, sqlitePlan(t.TempDir()))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	kerneltest.NoLeaks(t)

	client, stop := start(t, socket, sqlitePlan(dir))
	for path, want := range map[string]os.FileMode{filepath.Dir(socket): 0o700, socket: 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want mode %o", path, info, err, want)
		}
	}
	watching := client.Watch(t.Context(), "/test/", clientv3.WithPrefix())
	if !create(t, client, "/test/a", "one").Succeeded {
		t.Fatal("the first create did not succeed")
	}
	if create(t, client, "/test/a", "two").Succeeded {
		t.Error("the second create of one key succeeded")
	}
	if got := read(t, client, "/test/a"); got != "one" {
		t.Errorf("read back %q, want %q", got, "one")
	}
	select {
	case event := <-watching:
		if len(event.Events) != 1 || string(event.Events[0].Kv.Value) != "one" {
			t.Errorf("watched %v (%v)", event.Events, event.Err())
		}
	case <-time.After(patience):
		t.Error("the watch saw nothing")
	}
	status, err := client.Status(t.Context(), client.Endpoints()[0])
	if err != nil || status.Version != emulatedEtcd {
		t.Errorf("version: %v, %v, want %s", status, err, emulatedEtcd)
	}
	if err := stop(); err != nil {
		t.Errorf("told to stop, Run returned %v", err)
	}

	// A socket file of a process that was killed is no obstacle.
	if err := os.WriteFile(socket, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	client, stop = start(t, socket, sqlitePlan(dir))
	if got := read(t, client, "/test/a"); got != "one" {
		t.Errorf("after a restart: read %q, want %q", got, "one")
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// A server may be told to stop while its database is not there yet.
func TestStopsWhileTheDatabaseIsAway(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan struct{})
	go func() { // a database that hangs up, as one does that starts
		for first := true; ; first = false {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conn.Close()
			if first {
				close(asked)
			}
		}
	}()
	t.Cleanup(func() { listener.Close() })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, filepath.Join(t.TempDir(), "kine.sock"), hostabi.DatastorePlan{
			Endpoint: "postgres://cleat:secret@" + listener.Addr().String() + "/cleat?sslmode=disable",
		})
	}()
	select {
	case <-asked:
	case err := <-done:
		t.Fatalf("Run returned %v", err)
	case <-time.After(patience):
		t.Fatal("the database was not asked")
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("told to stop, Run returned %v", err)
		}
	case <-time.After(patience):
		t.Fatalf("Run did not return within %s", patience)
	}
}

func TestRefusesEndpoints(t *testing.T) {
	for _, tt := range []struct{ name, endpoint, want string }{
		{"etcd", "http://user:secret@127.0.0.1:1", "etcd"},
		{"unknown scheme", "carrier-pigeon://user:secret@loft", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			err := run(ctx, filepath.Join(t.TempDir(), "kine.sock"), hostabi.DatastorePlan{Endpoint: tt.endpoint})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want an error with %q", err, tt.want)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("%v shows the password", err)
			}
		})
	}
}

// Compaction has to leave what is current and drop what is old.
func TestCompacts(t *testing.T) {
	dir := t.TempDir()
	plan := sqlitePlan(dir)
	plan.Compaction = hostabi.CompactionPlan{IntervalSeconds: 1, MinRetain: 1}
	client, stop := start(t, filepath.Join(dir, "kine.sock"), plan)
	revision := create(t, client, "/test/a", "0").Header.Revision
	first := revision
	for n := range 20 {
		revision = update(t, client, "/test/a", strconv.Itoa(n+1), revision)
	}
	wait, enough := context.WithTimeout(t.Context(), patience)
	defer enough()
	err := kernel.Poll(wait, 100*time.Millisecond, func(ctx context.Context) error {
		_, err := client.Get(ctx, "/test/a", clientv3.WithRev(first))
		if err == nil || !strings.Contains(err.Error(), "compacted") {
			return context.DeadlineExceeded
		}
		return nil
	})
	if err != nil {
		t.Errorf("the first revision is still there: %v", err)
	}
	if got := read(t, client, "/test/a"); got != "20" {
		t.Errorf("after compaction: read %q, want 20", got)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// The write-ahead log begins anew when it has been worked off; a read that
// never ends would keep it from doing so, and stall the next start as well.
func TestWriteAheadLogStaysSmall(t *testing.T) {
	const (
		writes = 300
		value  = 64 << 10
		limit  = writes * value / 4
	)
	dir := t.TempDir()
	client, stop := start(t, filepath.Join(dir, "kine.sock"), sqlitePlan(dir))
	revision := create(t, client, "/test/a", "").Header.Revision
	for n := range writes {
		revision = update(t, client, "/test/a", strings.Repeat(string(rune('a'+n%26)), value), revision)
	}
	info, err := os.Stat(filepath.Join(dir, "state.db-wal"))
	if err != nil || info.Size() > limit {
		t.Errorf("after %d writes of %d bytes: %v, %v, want at most %d bytes", writes, value, info, err, limit)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "state.db-wal")); !os.IsNotExist(err) {
		t.Errorf("a write-ahead log is left after the end (%v): a connection was not closed", err)
	}
}
