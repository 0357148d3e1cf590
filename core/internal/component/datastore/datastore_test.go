package datastore

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/paths"
	"github.com/cleat-dev/cleat/core/kernel/kerneltest"
	"github.com/cleat-dev/cleat/hostabi"
)

// planner is a plugin host that decides plan or err.
type planner struct {
	plan  hostabi.DatastorePlan
	err   error
	asked hostabi.DatastoreRequest
}

func (p *planner) PlanDatastore(_ context.Context, req hostabi.DatastoreRequest) (hostabi.DatastorePlan, error) {
	p.asked = req
	return p.plan, p.err
}

type fixture struct {
	*Component
	data    paths.Data
	planner *planner
	admit   error
	admits  int
}

func newFixture(t *testing.T, driver Driver) *fixture {
	t.Helper()
	f := &fixture{data: paths.Data(filepath.Join(t.TempDir(), "data")), planner: &planner{plan: hostabi.DatastorePlan{
		Driver: "test", Endpoint: "test://secret@db", Description: "a test's database", Shared: true,
	}}}
	cfg := &config.Config{Options: config.Options{DatastoreEndpoint: "test://db", NodeName: "n1"}}
	f.Component = New(cfg, f.data, f.planner, map[string]Driver{"test": driver}, func(context.Context) error {
		f.admits++
		return f.admit
	})
	if f.socket != paths.KineSocket {
		t.Errorf("the socket is %s, not %s, where others look for it", f.socket, paths.KineSocket)
	}
	f.socket = filepath.Join(t.TempDir(), "kine.sock")
	return f
}

func notReady(t *testing.T) func() {
	return func() { t.Error("ready was called") }
}

func TestReadyAfterWriteAndRead(t *testing.T) {
	kerneltest.NoLeaks(t)
	store := newKV()
	var got hostabi.DatastorePlan
	f := newFixture(t, func(ctx context.Context, socket string, plan hostabi.DatastorePlan) error {
		got = plan
		return store.serve(ctx, socket, plan)
	})
	for run := range 2 {
		stop := kerneltest.Run(t, f.Component)
		store.with(func() {
			if v := store.values[probeKey]; v == nil || v.ModRevision != int64(run)+1 {
				t.Errorf("run %d: ready without a write of its own: %v", run, v)
			}
		})
		if diff := cmp.Diff(f.planner.plan, got); diff != "" {
			t.Errorf("the driver got another plan: -want +got:\n%s", diff)
		}
		if diff := cmp.Diff(f.planner.plan, f.Plan()); diff != "" {
			t.Errorf("Plan: -want +got:\n%s", diff)
		}
		if err := f.Check(t.Context()); err != nil {
			t.Errorf("Check: %v", err)
		}
		f.minFree = math.MaxUint64
		if err := f.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "KiB left") || !strings.Contains(err.Error(), f.data.DB()) {
			t.Errorf("Check on a full disk: %v", err)
		}
		f.minFree = minFree
		if err := stop(); err != nil {
			t.Error(err)
		}
	}
	want := hostabi.DatastoreRequest{Endpoint: "test://db", DBDir: f.data.DB(), NodeName: "n1"}
	if diff := cmp.Diff(want, f.planner.asked); diff != "" {
		t.Errorf("the plugins were asked: -want +got:\n%s", diff)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := f.Check(ctx); err == nil {
		t.Error("Check finds a datastore that has stopped well")
	}
}

func TestNotReadyWithoutWrites(t *testing.T) {
	for name, breakIt := range map[string]func(*kv){
		"read only":  func(s *kv) { s.readOnly = true },
		"forgetting": func(s *kv) { s.forgets = true },
	} {
		t.Run(name, func(t *testing.T) {
			store := newKV()
			breakIt(store)
			f := newFixture(t, store.serve)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ready := make(chan struct{})
			done := make(chan error, 1)
			go func() { done <- f.Run(ctx, func() { close(ready) }) }()
			deadline := time.After(kerneltest.Deadline)
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for writes := 0; writes < 3; store.with(func() { writes = store.writes }) {
				select {
				case <-ready:
					t.Fatal("ready although no write was kept")
				case err := <-done:
					t.Fatalf("Run returned %v", err)
				case <-deadline:
					t.Fatal("the probe was not repeated")
				case <-tick.C:
				}
			}
			store.with(func() { store.readOnly, store.forgets = false, false })
			select {
			case <-ready:
			case <-deadline:
				t.Fatal("not ready after the repair")
			}
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			if f.admits != 1 {
				t.Errorf("admit was asked %d times, want once", f.admits)
			}
		})
	}
}

func TestRefusedBeforeTheFirstWrite(t *testing.T) {
	store := newKV()
	f := newFixture(t, store.serve)
	f.admit = errors.New("the token is another cluster's")
	ctx, cancel := context.WithTimeout(t.Context(), kerneltest.Deadline)
	defer cancel()
	if err := f.Run(ctx, notReady(t)); !errors.Is(err, f.admit) {
		t.Errorf("got %v, want %v", err, f.admit)
	}
	if store.writes != 0 {
		t.Errorf("a refused server asked for %d writes", store.writes)
	}
}

func TestUnknownDriver(t *testing.T) {
	f := newFixture(t, newKV().serve)
	f.planner.plan.Driver = "etcd"
	err := f.Run(t.Context(), notReady(t))
	if err == nil || !strings.Contains(err.Error(), `driver "etcd"`) || !strings.Contains(err.Error(), "--datastore-endpoint") {
		t.Errorf("got %v, want an error that names the driver and the option", err)
	}
}

func TestNoPlan(t *testing.T) {
	f := newFixture(t, newKV().serve)
	f.planner.err = errors.New("no plugin claims the endpoint")
	if err := f.Run(t.Context(), notReady(t)); !errors.Is(err, f.planner.err) {
		t.Errorf("got %v, want %v", err, f.planner.err)
	}
}

func TestDriverFailureIsTheUnits(t *testing.T) {
	failure := errors.New("connection refused")
	f := newFixture(t, func(context.Context, string, hostabi.DatastorePlan) error { return failure })
	err := f.Run(t.Context(), notReady(t))
	if !errors.Is(err, failure) || !strings.Contains(err.Error(), "a test's database") {
		t.Errorf("got %v, want %v and which database it is", err, failure)
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("%v shows the endpoint's password", err)
	}
}

func TestDatabaseFilesAreRootsAlone(t *testing.T) {
	store := newKV()
	var data paths.Data
	f := newFixture(t, func(ctx context.Context, socket string, plan hostabi.DatastorePlan) error {
		if err := os.WriteFile(filepath.Join(data.DB(), "state.db"), nil, 0o644); err != nil {
			return err
		}
		return store.serve(ctx, socket, plan)
	})
	data = f.data
	stop := kerneltest.Run(t, f.Component)
	for path, want := range map[string]os.FileMode{data.DB(): 0o700, filepath.Join(data.DB(), "state.db"): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want mode %o", path, info, err, want)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}
