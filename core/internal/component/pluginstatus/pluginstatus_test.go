package pluginstatus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields/managedfieldstest"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"sigs.k8s.io/structured-merge-diff/v6/typed"

	"github.com/cleat-dev/cleat/core/internal/crd"
)

// pluginTypes is what server-side apply must know of the definition: the servers
// are a map by name.
const pluginTypes = `types:
- name: plugin
  map:
    fields:
    - {name: apiVersion, type: {scalar: string}}
    - {name: kind, type: {scalar: string}}
    - name: metadata
      type: {map: {elementType: {namedType: __untyped}}}
    - name: status
      type:
        map:
          fields:
          - name: servers
            type:
              list:
                elementType: {map: {elementType: {namedType: __untyped}}}
                elementRelationship: associative
                keys: [server]
- name: __untyped
  scalar: untyped
  list: {elementType: {namedType: __untyped}, elementRelationship: atomic}
  map: {elementType: {namedType: __untyped}, elementRelationship: separable}
`

type converter struct{ typed.ParseableType }

func (c converter) ObjectToTyped(o runtime.Object, options ...typed.ValidationOptions) (*typed.TypedValue, error) {
	return c.FromUnstructured(o.(*unstructured.Unstructured).Object, options...)
}

func (c converter) TypedToObject(v *typed.TypedValue) (runtime.Object, error) {
	return &unstructured.Unstructured{Object: v.AsValue().Unstructured().(map[string]any)}, nil
}

// api keeps PluginStatus objects with the API server's own field manager.
type api struct {
	dynamic.NamespaceableResourceInterface
	t         *testing.T
	converter converter
	objects   map[string]managedfieldstest.TestFieldManager
	writes    int
	refuse    string // a field manager that may not write
}

func newAPI(t *testing.T) *api {
	t.Helper()
	parser, err := typed.NewParser(pluginTypes)
	if err != nil {
		t.Fatal(err)
	}
	return &api{t: t, converter: converter{parser.Type("plugin")}, objects: map[string]managedfieldstest.TestFieldManager{}}
}

func (a *api) object(name string) *unstructured.Unstructured {
	return a.objects[name].Live().(*unstructured.Unstructured)
}

func (a *api) List(context.Context, metav1.ListOptions) (*unstructured.UnstructuredList, error) {
	list := &unstructured.UnstructuredList{}
	for _, name := range slices.Sorted(maps.Keys(a.objects)) {
		list.Items = append(list.Items, *a.object(name))
	}
	return list, nil
}

func (a *api) Apply(_ context.Context, name string, _ *unstructured.Unstructured, _ metav1.ApplyOptions, _ ...string) (*unstructured.Unstructured, error) {
	if a.objects[name] != nil {
		a.t.Errorf("%s is made twice", name)
	}
	a.objects[name] = managedfieldstest.NewTestFieldManager(a.converter, schema.GroupVersionKind{Group: crd.Group, Version: crd.Version, Kind: crd.PluginKind})
	return a.object(name), nil
}

func (a *api) ApplyStatus(_ context.Context, name string, o *unstructured.Unstructured, options metav1.ApplyOptions) (*unstructured.Unstructured, error) {
	if a.objects[name] == nil {
		return nil, apierrors.NewNotFound(crd.PluginGVR().GroupResource(), name)
	}
	if options.FieldManager == a.refuse {
		return nil, errors.New("refused")
	}
	a.writes++
	if err := a.objects[name].Apply(o, options.FieldManager, options.Force); err != nil {
		return nil, err
	}
	live := a.object(name)
	live.SetName(name)
	return live, nil
}

func (a *api) Delete(_ context.Context, name string, _ metav1.DeleteOptions, _ ...string) error {
	delete(a.objects, name)
	return nil
}

// servers tells who has an entry in an object, and who owns fields of it.
func (a *api) servers(name string) (servers, owners string) {
	var all, managers []string
	for _, e := range entries(a.object(name)) {
		all = append(all, fmt.Sprint(e["server"]))
	}
	for _, m := range a.objects[name].ManagedFields() {
		managers = append(managers, strings.TrimPrefix(m.Manager, manager+"-"))
	}
	slices.Sort(all)
	slices.Sort(managers)
	return strings.Join(all, " "), strings.Join(managers, " ")
}

func (a *api) want(name, servers string) {
	a.t.Helper()
	if got, owners := a.servers(name); got != servers || owners != servers {
		a.t.Errorf("%s has entries of %q, owned by %q; want %q", name, got, owners, servers)
	}
}

// clock is the time that the writers of a test see.
type clock struct{ at time.Time }

func newClock() *clock { return &clock{time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)} }

func (c *clock) now() time.Time          { return c.at }
func (c *clock) advance(d time.Duration) { c.at = c.at.Add(d) }

func (a *api) server(name string, c *clock, nodes ...string) *writer {
	return &writer{
		plugins: a, manager: manager + "-" + name, server: name, now: c.now,
		hasNode: func(_ context.Context, n string) (bool, error) { return slices.Contains(nodes, n), nil },
		written: map[string]written{}, uids: map[string]*unstructured.Unstructured{},
	}
}

func (w *writer) mustSync(t *testing.T, plugins ...string) {
	t.Helper()
	now := map[string]crd.PluginServer{}
	for _, p := range plugins {
		now[p] = crd.PluginServer{Version: "1.0.0"}
	}
	if err := w.sync(t.Context(), now); err != nil {
		t.Fatal(err)
	}
}

func (w *writer) mustPrune(t *testing.T, want map[string]int) {
	t.Helper()
	got, err := w.prune(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(got, want) {
		t.Errorf("pruned %v, want %v", got, want)
	}
}

// A live server says so although nothing changes, and never later than after
// twenty minutes.
func TestLiveServerRefreshes(t *testing.T) {
	a, c := newAPI(t), newClock()
	w := a.server("one", c)
	w.mustSync(t, "policy")
	first, writes := a.object("policy"), a.writes
	for range 89 { // 14 minutes 50 seconds
		c.advance(interval)
		w.mustSync(t, "policy")
	}
	if a.writes != writes {
		t.Errorf("%d writes although nothing changed", a.writes-writes)
	}
	for range 30 {
		c.advance(interval)
		w.mustSync(t, "policy")
		if w.silent(entries(a.object("policy"))[0]) {
			t.Fatal("counts as gone")
		}
	}
	if a.writes != writes+1 {
		t.Errorf("%d writes in twenty minutes, want one", a.writes-writes)
	}
	was, is := entries(first)[0]["observed"], entries(a.object("policy"))[0]["observed"]
	if was != "2026-01-02T03:04:05Z" || is != "2026-01-02T03:19:05Z" {
		t.Errorf("observed was %v and is %v", was, is)
	}
}

func TestPruneServersThatAreGone(t *testing.T) {
	a, c := newAPI(t), newClock()
	for _, s := range []string{"gone", "stopped"} { // the second keeps its Node
		a.server(s, c).mustSync(t, "policy", "labels")
	}
	c.advance(maxSilence / 2)
	agentless := a.server("agentless", c)
	agentless.mustSync(t, "policy")
	w := a.server("one", c, "one", "stopped")
	w.mustSync(t, "policy", "store")
	a.want("policy", "agentless gone one stopped")

	c.advance(maxSilence/2 - time.Second)
	w.mustPrune(t, nil)
	c.advance(pruneEvery - time.Second)
	w.mustPrune(t, nil) // not so soon again
	c.advance(2 * time.Second)
	w.mustPrune(t, map[string]int{"gone": 2})
	a.want("policy", "agentless one stopped")
	a.want("labels", "stopped")
	a.want("store", "one")

	// Another server's pass finds nothing more to do.
	agentless.hasNode = w.hasNode
	agentless.mustSync(t, "policy")
	agentless.mustPrune(t, map[string]int{})

	// The object goes with the last entry.
	w.hasNode = func(context.Context, string) (bool, error) { return false, nil }
	c.advance(pruneEvery)
	w.mustSync(t, "policy", "store")
	w.mustPrune(t, map[string]int{"stopped": 2})
	w.mustSync(t, "policy", "store")
	if a.objects["labels"] != nil {
		t.Errorf("labels is still there: %v", a.object("labels").Object)
	}
	a.want("policy", "agentless one")
}

// A server that was taken for gone is back with its next pass.
func TestPrunedServerComesBack(t *testing.T) {
	a, c := newAPI(t), newClock()
	slow, w := a.server("slow", c), a.server("one", c)
	slow.mustSync(t, "policy")
	w.mustSync(t, "policy")
	slow.now = func() time.Time { return c.now().Add(-2 * maxSilence) } // its clock is wrong
	c.advance(2 * maxSilence)
	w.mustSync(t, "policy")
	w.mustPrune(t, map[string]int{"slow": 1})
	a.want("policy", "one")
	slow.mustSync(t, "policy")
	a.want("policy", "one slow")
}

// What one entry or one Node is wrong with does not keep the others.
func TestPruneGoesOn(t *testing.T) {
	a, c := newAPI(t), newClock()
	for _, s := range []string{"broken", "gone", "unknown"} {
		a.server(s, c).mustSync(t, "policy")
	}
	w := a.server("one", c)
	w.hasNode = func(_ context.Context, n string) (bool, error) {
		if n == "unknown" {
			return false, errors.New("the API server is busy")
		}
		return false, nil
	}
	a.refuse = manager + "-broken"
	c.advance(2 * maxSilence)
	pruned, err := w.prune(t.Context())
	if err == nil || !strings.Contains(err.Error(), "look for node unknown: the API server is busy") || !strings.Contains(err.Error(), "refused") {
		t.Errorf("error %v", err)
	}
	if !maps.Equal(pruned, map[string]int{"gone": 1}) {
		t.Errorf("pruned %v", pruned)
	}
	a.want("policy", "broken unknown")
}

func TestSilent(t *testing.T) {
	c := newClock()
	w := &writer{now: c.now}
	for text, want := range map[string]bool{
		"2026-01-02T03:04:05Z": false, "2026-01-02T02:04:05Z": false, "2026-01-02T02:04:04Z": true, "2027-01-01T00:00:00Z": false, "": true, "yesterday": true,
	} {
		if got := w.silent(map[string]any{"observed": text}); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
	if !w.silent(map[string]any{}) {
		t.Error("without a time")
	}
}

func TestNodeLookup(t *testing.T) {
	client := fake.NewClientset(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "one"}})
	has := nodeLookup(client)
	for name, want := range map[string]bool{"one": true, "two": false, "": false, "../pods": false} {
		if got, err := has(t.Context(), name); got != want || err != nil {
			t.Errorf("%q: %v, %v", name, got, err)
		}
	}
	client.PrependReactor("get", "nodes", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, errors.New("busy")
	})
	if got, err := has(t.Context(), "one"); got || err == nil {
		t.Errorf("%v, %v", got, err)
	}
}
