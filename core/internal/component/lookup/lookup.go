// Package lookup is the unit through which plugins see the cluster: a cache of
// the kinds the lock grants them, and the small state they keep in the
// datastore. It implements extension.Cluster.
package lookup

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/cleat-dev/cleat/core/extension"
	"github.com/cleat-dev/cleat/hostabi"
)

// refresh is how often the granted kinds are compared with those in the cache,
// and how long a kind that the cluster does not serve waits to be tried again.
const refresh = 2 * time.Second

// preparing is how long Prepare waits at most, and how often it looks.
const (
	preparing = 5 * time.Second
	looking   = 10 * time.Millisecond
)

// Component is the unit. Make it with New.
type Component struct {
	kubeconfig string
	kinds      func() []hostabi.Kind
	log        *slog.Logger
	state      *state

	changed chan struct{} // what is wanted changed

	mu       sync.RWMutex
	caches   map[hostabi.Kind]*kindCache
	soon     []hostabi.Kind        // granted before long
	unserved map[hostabi.Kind]bool // looked for, and not served by the cluster
}

var _ extension.Cluster = (*Component)(nil)

// kindCache holds all objects of a kind.
type kindCache struct {
	informer cache.SharedIndexInformer
	stop     context.CancelFunc
}

// New returns the unit. kubeconfig is that of an identity that may read every
// kind, kinds returns what plugins are granted now, and open opens the datastore.
func New(kubeconfig string, kinds func() []hostabi.Kind, open func() (Store, error), log *slog.Logger) *Component {
	return &Component{kubeconfig: kubeconfig, kinds: kinds, log: log, state: &state{open: open}, changed: make(chan struct{}, 1),
		caches: map[hostabi.Kind]*kindCache{}, unserved: map[hostabi.Kind]bool{}}
}

// Run fills the cache and keeps it until ctx is done. It calls ready when every
// granted kind that the cluster serves is in it.
func (c *Component) Run(ctx context.Context, ready func()) error {
	config, err := clientcmd.BuildConfigFromFlags("", c.kubeconfig)
	if err != nil {
		return fmt.Errorf("read kubeconfig %s: %w", c.kubeconfig, err)
	}
	config.UserAgent = "cleat-lookup"
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	discoveryClient, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return err
	}
	return c.run(ctx, client, restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(discoveryClient)), ready)
}

func (c *Component) run(ctx context.Context, client dynamic.Interface, mapper meta.ResettableRESTMapper, ready func()) error {
	defer c.close()
	isReady := false
	tick := time.NewTicker(refresh)
	defer tick.Stop()
	for {
		unserved := c.follow(ctx, client, mapper)
		if !isReady && c.synced(ctx) {
			isReady = true
			ready()
		}
		if unserved {
			mapper.Reset()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		case <-c.changed:
		}
	}
}

// Prepare fills the cache with kinds that are granted before long, and returns
// when it holds those that the cluster serves, or a few seconds later. They stay
// until release is called, and from then on as long as they are granted. One
// caller at a time.
func (c *Component) Prepare(ctx context.Context, kinds []hostabi.Kind) (release func()) {
	c.expect(kinds)
	ctx, cancel := context.WithTimeout(ctx, preparing)
	defer cancel()
	tick := time.NewTicker(looking)
	defer tick.Stop()
	for {
		missing := c.missing(kinds)
		if len(missing) == 0 {
			break
		}
		select {
		case <-tick.C:
			continue
		case <-ctx.Done():
			c.log.Warn("kinds that plugins may look up are not in the cache yet; lookups of them fail until they are", "kinds", missing)
		}
		break
	}
	return func() { c.expect(nil) }
}

func (c *Component) expect(kinds []hostabi.Kind) {
	c.mu.Lock()
	c.soon = kinds
	c.mu.Unlock()
	select {
	case c.changed <- struct{}{}:
	default: // it is to look already
	}
}

// missing are the kinds that the cluster may serve and the cache does not hold.
func (c *Component) missing(kinds []hostabi.Kind) []string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var missing []string
	for _, kind := range kinds {
		if k := c.caches[kind]; !c.unserved[kind] && (k == nil || !k.informer.HasSynced()) {
			missing = append(missing, kind.String())
		}
	}
	return missing
}

// follow starts a cache for each kind that is granted and stops those of kinds
// that are not any more. It reports whether the cluster lacks any.
func (c *Component) follow(ctx context.Context, client dynamic.Interface, mapper meta.RESTMapper) (unserved bool) {
	granted := c.kinds()
	c.mu.Lock()
	defer c.mu.Unlock()
	granted = append(granted, c.soon...)
	for kind, have := range c.caches {
		if !slices.Contains(granted, kind) {
			have.stop()
			delete(c.caches, kind)
		}
	}
	maps.DeleteFunc(c.unserved, func(kind hostabi.Kind, _ bool) bool { return !slices.Contains(granted, kind) })
	for _, kind := range granted {
		if c.caches[kind] != nil {
			continue
		}
		mapping, err := mapper.RESTMapping(schema.GroupKind{Group: kind.Group, Kind: kind.Kind}, kind.Version)
		if err != nil {
			unserved = true
			if !c.unserved[kind] {
				c.log.Warn("plugins may look up a kind that the cluster does not serve (yet)", "kind", kind.String(), "error", err)
				c.unserved[kind] = true
			}
			continue
		}
		delete(c.unserved, kind)
		c.caches[kind] = c.start(ctx, client, mapping.Resource)
	}
	return unserved
}

func (c *Component) start(ctx context.Context, client dynamic.Interface, resource schema.GroupVersionResource) *kindCache {
	ctx, stop := context.WithCancel(ctx)
	informer := dynamicinformer.NewFilteredDynamicInformer(client, resource, "", 0, cache.Indexers{}, nil).Informer()
	// Errors of both come only after the start, which is below.
	_ = informer.SetTransform(withoutManagedFields)
	_ = informer.SetWatchErrorHandler(func(_ *cache.Reflector, err error) {
		if ctx.Err() == nil {
			c.log.Warn("a lookup cache lost its watch and comes back", "resource", resource.Resource, "error", err)
		}
	})
	go informer.Run(ctx.Done())
	return &kindCache{informer: informer, stop: stop}
}

// withoutManagedFields drops what is half of a small object and no plugin reads.
func withoutManagedFields(object any) (any, error) {
	if u, ok := object.(*unstructured.Unstructured); ok {
		u.SetManagedFields(nil)
	}
	return object, nil
}

// synced waits a moment for the caches to be filled.
func (c *Component) synced(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, refresh)
	defer cancel()
	c.mu.RLock()
	var waits []cache.InformerSynced
	for _, k := range c.caches {
		waits = append(waits, k.informer.HasSynced)
	}
	c.mu.RUnlock()
	return cache.WaitForCacheSync(ctx.Done(), waits...)
}

func (c *Component) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for kind, k := range c.caches {
		k.stop()
		delete(c.caches, kind)
	}
	c.state.close()
}

func (c *Component) store(kind hostabi.Kind) (cache.Store, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	k := c.caches[kind]
	if k == nil || !k.informer.HasSynced() {
		return nil, fmt.Errorf("%s: %w", kind, extension.ErrNotReady)
	}
	return k.informer.GetStore(), nil
}

// Lookup implements extension.Cluster.
func (c *Component) Lookup(kind hostabi.Kind, namespace, name string) (map[string]any, error) {
	store, err := c.store(kind)
	if err != nil {
		return nil, err
	}
	key := name
	if namespace != "" {
		key = namespace + "/" + name
	}
	found, ok, err := store.GetByKey(key)
	if err != nil || !ok {
		return nil, extension.ErrNotFound
	}
	return found.(*unstructured.Unstructured).Object, nil
}

// LookupList implements extension.Cluster.
func (c *Component) LookupList(kind hostabi.Kind, namespace, selector string) ([]map[string]any, error) {
	store, err := c.store(kind)
	if err != nil {
		return nil, err
	}
	selects, err := labels.Parse(selector)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", extension.ErrBadQuery, err)
	}
	var found []*unstructured.Unstructured
	for _, object := range store.List() {
		u := object.(*unstructured.Unstructured)
		if (namespace == "" || u.GetNamespace() == namespace) && selects.Matches(labels.Set(u.GetLabels())) {
			found = append(found, u)
		}
	}
	slices.SortFunc(found, func(a, b *unstructured.Unstructured) int {
		if order := strings.Compare(a.GetNamespace(), b.GetNamespace()); order != 0 {
			return order
		}
		return strings.Compare(a.GetName(), b.GetName())
	})
	objects := make([]map[string]any, len(found))
	for i, u := range found {
		objects[i] = u.Object
	}
	return objects, nil
}

// State implements extension.Cluster.
func (c *Component) State(ctx context.Context, plugin, key string) ([]byte, error) {
	return c.state.get(ctx, plugin, key)
}

// SetState implements extension.Cluster.
func (c *Component) SetState(ctx context.Context, plugin string, values map[string][]byte) error {
	return c.state.set(ctx, plugin, values)
}
