package lookup

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	dynamicfake "k8s.io/client-go/dynamic/fake"

	"github.com/cleat-dev/cleat/core/extension"
	"github.com/cleat-dev/cleat/hostabi"
)

// mapper serves the kinds it was given; Reset makes the later ones known.
type mapper struct {
	*meta.DefaultRESTMapper
	resets atomic.Int32
}

func (m *mapper) Reset() { m.resets.Add(1) }

func object(kind, namespace, name string, labels map[string]any) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{"metadata": map[string]any{
		"labels": labels, "managedFields": []any{map[string]any{"manager": "x"}}}}}
	u.SetAPIVersion("v1")
	u.SetKind(kind)
	u.SetNamespace(namespace)
	u.SetName(name)
	return u
}

func kindOf(t *testing.T, text string) hostabi.Kind {
	t.Helper()
	kind, err := hostabi.ParseKind(text)
	if err != nil {
		t.Fatal(err)
	}
	return kind
}

func TestLookup(t *testing.T) {
	configMap, absent := kindOf(t, "v1/ConfigMap"), kindOf(t, "example.com/v1/Absent")
	secret := kindOf(t, "v1/Secret")
	gvr := schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	client := dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(),
		map[schema.GroupVersionResource]string{gvr: "ConfigMapList"},
		object("ConfigMap", "b", "one", map[string]any{"team": "red"}),
		object("ConfigMap", "a", "two", map[string]any{"team": "red"}),
		object("ConfigMap", "a", "one", nil))
	m := &mapper{DefaultRESTMapper: meta.NewDefaultRESTMapper(nil)}
	m.Add(schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}, meta.RESTScopeNamespace)
	var granted atomic.Pointer[[]hostabi.Kind]
	granted.Store(&[]hostabi.Kind{configMap, absent})
	c := New("", func() []hostabi.Kind { return *granted.Load() }, nil, slog.New(slog.DiscardHandler))
	if _, err := c.Lookup(configMap, "a", "one"); !errors.Is(err, extension.ErrNotReady) {
		t.Errorf("before the start: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- c.run(ctx, client, m, func() { close(ready) }) }()
	<-ready

	found, err := c.Lookup(configMap, "a", "one")
	if err != nil || found["metadata"].(map[string]any)["name"] != "one" {
		t.Errorf("got %v, %v", found, err)
	}
	if _, fields := found["metadata"].(map[string]any)["managedFields"]; fields {
		t.Error("managedFields are kept")
	}
	if _, err := c.Lookup(configMap, "", "none"); !errors.Is(err, extension.ErrNotFound) {
		t.Errorf("an absent object: %v", err)
	}
	for _, kind := range []hostabi.Kind{absent, secret} {
		if _, err := c.Lookup(kind, "", "x"); !errors.Is(err, extension.ErrNotReady) {
			t.Errorf("%s: %v", kind, err)
		}
	}
	for query, want := range map[string]string{"|": "a/one a/two b/one", "a|": "a/one a/two", "|team=red": "a/two b/one", "|team in (blue)": ""} {
		namespace, selector, _ := strings.Cut(query, "|")
		objects, err := c.LookupList(configMap, namespace, selector)
		var names []string
		for _, o := range objects {
			u := unstructured.Unstructured{Object: o}
			names = append(names, u.GetNamespace()+"/"+u.GetName())
		}
		if got := strings.Join(names, " "); err != nil || got != want {
			t.Errorf("%s: got %s, %v, want %s", query, got, err, want)
		}
	}
	if _, err := c.LookupList(configMap, "", "team in"); !errors.Is(err, extension.ErrBadQuery) {
		t.Errorf("a malformed selector: %v", err)
	}

	granted.Store(&[]hostabi.Kind{})
	deadline := time.After(time.Minute)
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		if _, err := c.Lookup(configMap, "a", "one"); errors.Is(err, extension.ErrNotReady) {
			break
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("a kind that is not granted any more stays in the cache")
		}
	}
	if m.resets.Load() == 0 {
		t.Error("an unserved kind is never looked for again")
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// memoryStore is a datastore; conflicts makes that many writes lose to another
// server's.
type memoryStore struct {
	value     []byte
	rev       int64
	conflicts int
}

func (s *memoryStore) Get(context.Context, string) ([]byte, int64, error) { return s.value, s.rev, nil }

func (s *memoryStore) Create(ctx context.Context, key string, value []byte) (bool, error) {
	return s.Update(ctx, key, value, 0)
}

func (s *memoryStore) Update(_ context.Context, _ string, value []byte, rev int64) (bool, error) {
	if s.conflicts > 0 {
		s.conflicts--
		s.value, s.rev = []byte(`{"theirs":"MQ=="}`), s.rev+1
		return false, nil
	}
	if rev != s.rev {
		return false, nil
	}
	s.value, s.rev = value, s.rev+1
	return true, nil
}

func (s *memoryStore) Close() error { return nil }

func TestState(t *testing.T) {
	store := &memoryStore{conflicts: 3}
	c := New("", nil, func() (Store, error) { return store, nil }, slog.New(slog.DiscardHandler))
	ctx := t.Context()
	if v, err := c.State(ctx, "p", "k"); v != nil || err != nil {
		t.Errorf("at first: %q, %v", v, err)
	}
	if err := c.SetState(ctx, "p", map[string][]byte{"k": []byte("1"), "gone": nil}); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"k": "1", "theirs": "1", "gone": ""} {
		if v, err := c.State(ctx, "p", key); string(v) != want || err != nil {
			t.Errorf("%s: %q, %v", key, v, err)
		}
	}
	if err := c.SetState(ctx, "p", map[string][]byte{"k": nil}); err != nil {
		t.Fatal(err)
	}
	if v, err := c.State(ctx, "p", "k"); v != nil || err != nil {
		t.Errorf("after removal: %q, %v", v, err)
	}
	for _, tooMuch := range []map[string][]byte{
		{"big": make([]byte, hostabi.MaxStateBytes)},
		func() map[string][]byte {
			many := map[string][]byte{}
			for i := range hostabi.MaxStateKeys + 1 {
				many[strings.Repeat("k", i%200+1)+string(rune('a'+i%26))+strings.Repeat("x", i/200)] = []byte("1")
			}
			return many
		}(),
	} {
		if len(tooMuch) > 1 && len(tooMuch) <= hostabi.MaxStateKeys {
			t.Fatalf("the test makes only %d keys", len(tooMuch))
		}
		if err := c.SetState(ctx, "p", tooMuch); !errors.Is(err, extension.ErrFull) {
			t.Errorf("%d keys: %v", len(tooMuch), err)
		}
	}
	store.conflicts = 1000
	if err := c.SetState(ctx, "p", map[string][]byte{"k": []byte("2")}); err == nil {
		t.Error("endless conflicts are no error")
	}
	store.value = []byte("{")
	if _, err := c.State(ctx, "p", "k"); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("damaged: %v", err)
	}
}
