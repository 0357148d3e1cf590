package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"k8s.io/apiserver/pkg/storage/etcd3"

	"github.com/cleat-dev/cleat/core/internal/etcdstore"
	"github.com/cleat-dev/cleat/core/kernel"
	"github.com/cleat-dev/cleat/hostabi"
)

const patience = 60 * time.Second

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// freeURL is a URL with a port nobody listens on now.
func freeURL(t *testing.T, scheme string) url.URL {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return url.URL{Scheme: scheme, Host: listener.Addr().String()}
}

// cluster starts a real etcd of so many members; files is empty for one without
// TLS towards its clients. It returns how to stop each member, and its URL.
func cluster(t *testing.T, size int, files transport.TLSInfo) (stops []func(), endpoints []string) {
	t.Helper()
	var configs []*embed.Config
	var initial []string
	for i := range size {
		scheme := "http"
		if !files.Empty() {
			scheme = "https"
		}
		client, peer := freeURL(t, scheme), freeURL(t, "http")
		c := embed.NewConfig()
		c.Name, c.Dir = fmt.Sprintf("m%d", i), t.TempDir()
		c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
		c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
		c.ClientTLSInfo = files
		c.UnsafeNoFsync, c.ZapLoggerBuilder = true, embed.NewZapLoggerBuilder(zap.NewNop())
		configs, initial = append(configs, c), append(initial, c.Name+"="+peer.String())
		endpoints = append(endpoints, client.String())
	}
	members := make([]*embed.Etcd, size)
	for i, c := range configs {
		c.InitialCluster = strings.Join(initial, ",")
		c.ElectionMs = 5000 // a busy machine does not change the leader, which moves connections
		e, err := embed.StartEtcd(c)
		if err != nil {
			t.Fatal(err)
		}
		stop := sync.OnceFunc(e.Close)
		t.Cleanup(stop)
		members[i], stops = e, append(stops, stop)
	}
	for _, e := range members {
		select {
		case <-e.Server.ReadyNotify():
		case <-time.After(patience):
			t.Fatal("etcd does not become ready")
		}
	}
	return stops, endpoints
}

// start runs the driver and returns its socket; stop ends it.
func start(t *testing.T, plan hostabi.DatastorePlan) (socket string, stop func() error) {
	t.Helper()
	m, err := newMembers(plan, quiet())
	if err != nil {
		t.Fatal(err)
	}
	m.pace = pace{every: 100 * time.Millisecond, again: 50 * time.Millisecond, timeout: time.Second}
	return startMembers(t, m)
}

func startMembers(t *testing.T, m *members) (socket string, stop func() error) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "run", "kine.sock")
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	listener, err := listen(ctx, socket)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- serve(ctx, listener, m) }()
	return socket, func() error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(patience):
			t.Fatal("the driver does not end")
			return nil
		}
	}
}

func dial(t *testing.T, socket string) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"unix://" + socket}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// eventually repeats try until it succeeds.
func eventually(t *testing.T, try func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := kernel.Poll(ctx, 20*time.Millisecond, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		return try(ctx)
	}); err != nil {
		t.Fatal(err)
	}
}

func TestServesAndStops(t *testing.T) {
	_, endpoints := cluster(t, 1, transport.TLSInfo{})
	socket := filepath.Join(t.TempDir(), "run", "kine.sock")
	if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
		t.Fatal(err)
	}
	// What a killed process left behind is no obstacle.
	if err := os.WriteFile(socket, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Driver(quiet())(ctx, socket, hostabi.DatastorePlan{Endpoint: endpoints[0]}) }()
	store, err := etcdstore.New("unix://" + socket)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func(ctx context.Context) error {
		_, err := store.Create(ctx, "/test/key", []byte("value"))
		return err
	})
	value, revision, err := store.Get(t.Context(), "/test/key")
	if err != nil || string(value) != "value" {
		t.Errorf("read back %q, %v", value, err)
	}
	if ok, err := store.Update(t.Context(), "/test/key", []byte("other"), revision); err != nil || !ok {
		t.Errorf("update: %v, %v", ok, err)
	}
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v", info, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("told to stop, the driver returned %v", err)
	}
	if err := store.Close(); err != nil {
		t.Error(err)
	}
}

// Everything the API server does with etcd goes through, its compaction too.
func TestWhatTheAPIServerDoes(t *testing.T) {
	_, endpoints := cluster(t, 1, transport.TLSInfo{})
	socket, stop := start(t, hostabi.DatastorePlan{Endpoint: endpoints[0]})
	client := dial(t, socket)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()

	watch := client.Watch(clientv3.WithRequireLeader(ctx), "/registry/", clientv3.WithPrefix(), clientv3.WithProgressNotify(), clientv3.WithPrevKV())
	large := strings.Repeat("x", 1<<20)
	var revisions []int64
	for _, value := range []string{"one", large, "three"} {
		res, err := client.Put(ctx, "/registry/a", value)
		if err != nil {
			t.Fatal(err)
		}
		revisions = append(revisions, res.Header.Revision)
		if event := <-watch; event.Err() != nil || len(event.Events) != 1 || string(event.Events[0].Kv.Value) != value {
			t.Fatalf("watched %d events, %v", len(event.Events), event.Err())
		}
	}
	if err := client.RequestProgress(clientv3.WithRequireLeader(ctx)); err != nil {
		t.Error(err)
	}
	if event := <-watch; !event.IsProgressNotify() || event.Header.Revision != revisions[2] {
		t.Errorf("progress: %+v", event)
	}
	lease, err := client.Grant(ctx, 60)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Put(ctx, "/registry/event", "x", clientv3.WithLease(lease.ID)); err != nil {
		t.Error(err)
	}
	status, err := client.Status(ctx, client.Endpoints()[0])
	if err != nil || !strings.HasPrefix(status.Version, "3.") {
		t.Errorf("status %v, %v", status, err)
	}

	// The API server compacts what it found current the time before.
	version, revision, _, err := etcd3.Compact(ctx, client, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, compacted, err := etcd3.Compact(ctx, client, version, revision); err != nil || compacted != revision {
		t.Errorf("compacted to %d, %v, want %d", compacted, err, revision)
	}
	if _, err := client.Get(ctx, "/registry/a", clientv3.WithRev(revisions[0])); !errors.Is(err, rpctypes.ErrCompacted) {
		t.Errorf("an old revision: %v", err)
	}
	if res, err := client.Get(ctx, "/registry/a"); err != nil || string(res.Kvs[0].Value) != "three" {
		t.Errorf("the newest: %v", err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// A member that ends takes nothing with it: clients of it go on with another.
func TestAMemberEnds(t *testing.T) {
	stops, endpoints := cluster(t, 3, transport.TLSInfo{})
	m, err := newMembers(hostabi.DatastorePlan{Endpoint: strings.Join(endpoints, ",")}, quiet())
	if err != nil {
		t.Fatal(err)
	}
	socket, stop := startMembers(t, m)
	used := map[string]int{}
	var clients []*clientv3.Client
	for i := range 6 {
		client := dial(t, socket)
		clients = append(clients, client)
		eventually(t, func(ctx context.Context) error {
			_, err := client.Put(ctx, fmt.Sprintf("/test/%d", i), "before")
			return err
		})
	}
	for _, one := range m.list {
		one.mu.Lock()
		used[one.host] = len(one.conns)
		one.mu.Unlock()
	}
	if len(used) != 3 || used[m.list[0].host] == 0 || used[m.list[1].host] == 0 || used[m.list[2].host] == 0 {
		t.Errorf("connections by member: %v", used)
	}
	stops[1]()
	for i, client := range clients {
		eventually(t, func(ctx context.Context) error {
			_, err := client.Put(ctx, fmt.Sprintf("/test/%d", i), "after")
			return err
		})
	}
	// Without a majority there is no answer, and the driver waits.
	stops[2]()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := clients[0].Put(ctx, "/test/0", "never"); err == nil {
		t.Error("a write without a majority succeeds")
	}
	if err := stop(); err != nil {
		t.Errorf("told to stop, the driver returned %v", err)
	}
}
