package nodepasswords

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/metadata/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/cleat-dev/cleat/core/internal/nodepassword"
)

// memory is a Store in memory.
type memory struct {
	mu      sync.Mutex
	rev     int64
	keys    map[string]entry
	fail    error
	changed chan struct{} // gets one for each key that is removed or read
	closed  int
	onGet   func(*memory, string)
}

type entry struct {
	value []byte
	rev   int64
}

func (m *memory) Close() error { m.closed++; return nil }

func (m *memory) tell() {
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

func (m *memory) put(key string, value []byte) {
	m.rev++
	m.keys[key] = entry{value, m.rev}
}

func (m *memory) Get(_ context.Context, key string) ([]byte, int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	defer m.tell()
	e := m.keys[key]
	if m.onGet != nil {
		m.onGet(m, key)
	}
	return e.value, e.rev, m.fail
}

func (m *memory) List(_ context.Context, prefix string, limit int) (keys []string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	defer m.tell()
	for k := range m.keys {
		if strings.HasPrefix(k, prefix) && len(keys) < limit {
			keys = append(keys, k)
		}
	}
	return keys, m.fail
}

func (m *memory) Delete(_ context.Context, key string, rev int64) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	defer m.tell()
	if m.keys[key].rev != rev || m.fail != nil {
		return false, m.fail
	}
	delete(m.keys, key)
	return true, nil
}

func (m *memory) names() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for k := range m.keys {
		out = append(out, strings.TrimPrefix(k, nodepassword.Prefix))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

var begun = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

// recorded stores a record that is so old, and whose machine came so long ago.
func (m *memory) recorded(t *testing.T, name string, created, seen time.Duration) {
	t.Helper()
	r, err := nodepassword.New("0123456789abcdef", begun.Add(-created))
	if err != nil {
		t.Fatal(err)
	}
	r.Seen = begun.Add(-seen)
	text, err := r.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.put(nodepassword.Prefix+name, text)
}

func node(name string, age time.Duration) *metav1.PartialObjectMetadata {
	return &metav1.PartialObjectMetadata{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Node"},
		ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(begun.Add(-age))},
	}
}

// unit is a running one. Its timers end when the test says so.
type unit struct {
	*Component
	t      *testing.T
	store  *memory
	client *fake.FakeMetadataClient
	log    lockedBuffer
	timers chan timer
	stop   func()
}

type timer struct {
	wait time.Duration
	end  chan time.Time
}

type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func newStore() *memory { return &memory{keys: map[string]entry{}, changed: make(chan struct{}, 1)} }

func start(t *testing.T, store *memory, nodes ...runtime.Object) *unit {
	t.Helper()
	scheme := fake.NewTestScheme()
	if err := metav1.AddMetaToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	u := &unit{t: t, store: store, client: fake.NewSimpleMetadataClient(scheme, nodes...), timers: make(chan timer, 16)}
	u.Component = New(Options{Store: func() (Store, error) { return store, nil }, Log: slog.New(slog.NewTextHandler(&u.log, nil))})
	u.now = func() time.Time { return begun }
	u.after = func(d time.Duration) <-chan time.Time {
		tm := timer{d, make(chan time.Time, 1)}
		u.timers <- tm
		return tm.end
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- u.run(ctx, u.client, func() { close(ready) }) }()
	u.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if store.closed != 1 {
			t.Errorf("the store was closed %d times", store.closed)
		}
	})
	t.Cleanup(u.stop)
	select {
	case <-ready:
	case err := <-done:
		t.Fatal(err)
	}
	return u
}

// timer is the next that was set.
func (u *unit) timer(want time.Duration) timer {
	u.t.Helper()
	select {
	case tm := <-u.timers:
		if tm.wait != want {
			u.t.Fatalf("it waits %v, want %v", tm.wait, want)
		}
		return tm
	case <-time.After(time.Minute):
		u.t.Fatalf("it does not wait for %v", want)
		return timer{}
	}
}

func (u *unit) deleteNode(name string) {
	u.t.Helper()
	if err := u.client.Resource(corev1.SchemeGroupVersion.WithResource("nodes")).Delete(u.t.Context(), name, metav1.DeleteOptions{}); err != nil {
		u.t.Fatal(err)
	}
}

func (u *unit) await(names string) {
	u.t.Helper()
	deadline := time.After(time.Minute)
	for u.store.names() != names {
		select {
		case <-u.store.changed:
		case <-deadline:
			u.t.Fatalf("there are records of %q, want %q; log:\n%s", u.store.names(), names, u.log.String())
		}
	}
}

// What a start finds: Nodes were deleted while no server ran, and machines are
// just joining.
func TestSweep(t *testing.T) {
	store := newStore()
	const hour = time.Hour
	store.recorded(t, "member", hour, hour)
	store.recorded(t, "gone", hour, hour)
	store.recorded(t, "joining", time.Second, time.Second)
	store.recorded(t, "comes-again", hour, time.Second)
	store.recorded(t, "slow", leftover-time.Second, leftover-time.Second)
	store.recorded(t, "too-slow", leftover, leftover)
	store.recorded(t, "from-the-future", -hour, -hour)
	store.put(nodepassword.Prefix+"damaged", []byte("x"))
	store.put(nodepassword.Prefix+"damaged-member", []byte("x"))
	store.put(nodepassword.Prefix+"No_Name", []byte("x"))
	u := start(t, store, node("member", hour), node("damaged-member", hour))
	sweep := u.timer(sweepEvery)
	const kept = "No_Name comes-again damaged-member joining member slow"
	u.await(kept)

	store.recorded(t, "gone", hour, hour)
	sweep.end <- begun
	sweep = u.timer(sweepEvery)
	u.await(kept)
	store.mu.Lock()
	store.fail = errors.New("disk full")
	store.mu.Unlock()
	sweep.end <- begun
	u.timer(sweepEvery)
	if !strings.Contains(u.log.String(), "disk full") {
		t.Errorf("the log says nothing of a datastore that fails:\n%s", u.log.String())
	}
}

// What a Node leaves when it is deleted.
func TestDeletedNode(t *testing.T) {
	store := newStore()
	const hour = time.Hour
	store.recorded(t, "old", hour+time.Second, time.Minute)
	store.recorded(t, "member", hour, hour)
	u := start(t, store, node("old", hour), node("member", hour), node("recorded-late", hour), node("restarting", hour), node("none", hour))
	u.timer(sweepEvery)
	u.deleteNode("none")
	u.deleteNode("old")
	u.await("member")

	// The record is younger than the Node was: the next machine's, as another server
	// was quicker to remove the first. It is looked at again with the leftovers.
	store.recorded(t, "recorded-late", time.Minute, time.Minute)
	u.deleteNode("recorded-late")
	late := u.timer(joining)
	u.await("member recorded-late")

	// Its machine has come a moment ago and may be making its Node anew.
	store.recorded(t, "restarting", hour, time.Second)
	u.deleteNode("restarting")
	again := u.timer(joining)
	u.await("member recorded-late restarting")
	store.recorded(t, "restarting", hour, joining) // time goes on
	again.end <- begun
	u.await("member recorded-late")
	late.end <- begun
	u.stop()
	u.await("member recorded-late")
	if strings.Contains(u.log.String(), "was not removed") {
		t.Errorf("it complains:\n%s", u.log.String())
	}
}

// A machine that comes between the look at its record and the removal keeps it, and
// a Node that only the API server knows of counts.
func TestRaces(t *testing.T) {
	store := newStore()
	store.recorded(t, "comes", time.Hour, time.Hour)
	store.recorded(t, "unseen", time.Hour, time.Hour)
	store.recorded(t, "unknowable", time.Hour, time.Hour)
	store.onGet = func(m *memory, key string) {
		if e := m.keys[key]; strings.HasSuffix(key, "/comes") {
			m.put(key, e.value)
		}
	}
	u := start(t, store)
	u.timer(sweepEvery)
	u.await("comes")

	store.onGet = nil
	store.recorded(t, "unseen", time.Hour, time.Hour)
	store.recorded(t, "unknowable", time.Hour, time.Hour)
	k := &keeper{Component: u.Component, store: store, api: u.client.Resource(corev1.SchemeGroupVersion.WithResource("nodes"))}
	u.client.PrependReactor("get", "nodes", func(a clienttesting.Action) (bool, runtime.Object, error) {
		get, ok := a.(clienttesting.GetAction)
		if ok && get.GetName() == "unseen" {
			return true, node("unseen", 0), nil
		}
		return true, nil, fmt.Errorf("the API server is away")
	})
	if err := k.free(t.Context(), gone{name: "unseen"}, true); err != nil {
		t.Error(err)
	}
	if err := k.free(t.Context(), gone{name: "unknowable"}, true); err == nil || !strings.Contains(err.Error(), "away") {
		t.Errorf("%v", err)
	}
	u.await("comes unknowable unseen")
}

func TestStoreFails(t *testing.T) {
	c := New(Options{Store: func() (Store, error) { return nil, errors.New("no datastore") }})
	if err := c.run(t.Context(), nil, func() { t.Error("ready") }); err == nil || !strings.Contains(err.Error(), "no datastore") {
		t.Errorf("%v", err)
	}
	c.Kubeconfig = "/nonexistent"
	if err := c.Run(t.Context(), func() { t.Error("ready") }); err == nil || !strings.Contains(err.Error(), "/nonexistent") {
		t.Errorf("%v", err)
	}
}
