// Package nodepasswords is the unit that frees the names of nodes that are gone: it
// removes the record of a node's password when the Node is deleted, so that another
// machine may come under that name.
//
// A record without a Node is also that of a machine which is just joining. It stays
// for a while after its machine was last seen, see joining and leftover. What changes
// while it is looked at stays too, since it is removed by its revision.
package nodepasswords

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/cleat-dev/cleat/core/internal/joinapi"
	"github.com/cleat-dev/cleat/core/internal/nodepassword"
)

const (
	// joining is how long a machine may take from showing its password to having a
	// Node, if a Node of this name was just deleted.
	joining = 15 * time.Second
	// leftover is how long a record without a Node stays if nobody knows of a Node:
	// it was deleted while no server ran, or never made.
	leftover = 5 * time.Minute
	// sweepEvery is how often leftovers are looked for.
	sweepEvery = 5 * time.Minute
	// maxRecords bounds a sweep. Those beyond it have their turn when others are gone.
	maxRecords = 16384
	// storeTimeout bounds what is asked about one record.
	storeTimeout = 10 * time.Second
)

// Store is the little of a datastore that the unit needs. Revisions are the
// datastore's; 0 means that the key does not exist.
type Store interface {
	Get(ctx context.Context, key string) (value []byte, rev int64, err error)
	// List gives up to limit keys that begin with prefix.
	List(ctx context.Context, prefix string, limit int) (keys []string, err error)
	// Delete removes a key whose revision still is rev.
	Delete(ctx context.Context, key string, rev int64) (deleted bool, err error)
}

// Options are what the unit needs from its surroundings.
type Options struct {
	Kubeconfig string // of somebody who may see Nodes
	// Store gives the datastore; an io.Closer is closed when the unit ends.
	Store func() (Store, error)
	Log   *slog.Logger
}

// Component is the unit. Make it with New.
type Component struct {
	Options
	after func(time.Duration) <-chan time.Time
	now   func() time.Time
}

// New makes the unit.
func New(o Options) *Component { return &Component{Options: o, after: time.After, now: time.Now} }

// Run removes records until ctx ends. It calls ready when it knows the Nodes.
func (c *Component) Run(ctx context.Context, ready func()) error {
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig)
	if err != nil {
		return fmt.Errorf("read kubeconfig %s: %w", c.Kubeconfig, err)
	}
	client, err := metadata.NewForConfig(config)
	if err != nil {
		return err
	}
	return c.run(ctx, client, ready)
}

func (c *Component) run(ctx context.Context, client metadata.Interface, ready func()) (err error) {
	store, err := c.Store()
	if err != nil {
		return err
	}
	if closer, ok := store.(io.Closer); ok {
		defer func() { err = errors.Join(err, closer.Close()) }()
	}
	nodes := corev1.SchemeGroupVersion.WithResource("nodes")
	informer := metadatainformer.NewFilteredMetadataInformer(client, nodes, "", 0, cache.Indexers{}, nil).Informer()
	k := &keeper{Component: c, store: store, api: client.Resource(nodes), known: informer.GetStore(), deleted: make(chan gone)}
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		DeleteFunc: func(obj any) {
			if unknown, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = unknown.Obj
			}
			node, err := meta.Accessor(obj)
			if err != nil {
				return // a sweep finds it
			}
			select {
			case k.deleted <- gone{node.GetName(), node.GetCreationTimestamp().Time}:
			case <-ctx.Done():
			}
		},
	}); err != nil {
		return err
	}
	var all sync.WaitGroup
	defer all.Wait()
	all.Go(func() { informer.RunWithContext(ctx) })
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		return nil
	}
	ready()
	k.keep(ctx)
	return nil
}

// gone is a Node that was deleted.
type gone struct {
	name    string
	created time.Time
}

// keeper is one run of the unit.
type keeper struct {
	*Component
	store   Store
	api     metadata.Getter
	known   cache.Store
	deleted chan gone
}

// keep looks at every Node that is deleted, once more after a while if its machine
// had just come, and at everything from time to time.
func (k *keeper) keep(ctx context.Context) {
	k.sweep(ctx)
	again, sweep := make(chan gone), k.after(sweepEvery)
	var waiting sync.WaitGroup
	defer waiting.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-sweep:
			k.sweep(ctx)
			sweep = k.after(sweepEvery)
		case g := <-again:
			k.report(g.name, k.free(ctx, g, false))
		case g := <-k.deleted:
			err := k.free(ctx, g, false)
			if !errors.Is(err, errJoining) {
				k.report(g.name, err)
				continue
			}
			waiting.Go(func() {
				select {
				case <-k.after(joining):
				case <-ctx.Done():
					return
				}
				select {
				case again <- g:
				case <-ctx.Done():
				}
			})
		}
	}
}

// sweep removes the records that nothing else is going to remove.
func (k *keeper) sweep(ctx context.Context) {
	keys, err := k.store.List(ctx, nodepassword.Prefix, maxRecords)
	if err != nil {
		k.report("", err)
		return
	}
	for _, key := range keys {
		name := strings.TrimPrefix(key, nodepassword.Prefix)
		if _, exists, err := k.known.GetByKey(name); exists && err == nil {
			continue
		}
		if ctx.Err() != nil {
			return
		}
		k.report(name, k.free(ctx, gone{name: name}, true))
	}
}

func (k *keeper) report(name string, err error) {
	if err != nil && !errors.Is(err, errJoining) && !errors.Is(err, context.Canceled) {
		k.Log.Warn("the password of a node that is gone was not removed, next try in "+sweepEvery.String(), "node", name, "error", err)
	}
}

// errJoining says that a record may be that of a machine which is just joining.
var errJoining = errors.New("its machine may be just joining")

// free removes the record of a node, unless there is a Node of that name or may be one
// soon. Of a Node whose deletion was seen only the record goes that was there before
// the Node was: the next machine may have come already.
func (k *keeper) free(ctx context.Context, g gone, swept bool) error {
	if joinapi.CheckNodeName(g.name) != nil {
		return nil // nobody's record; no Node can have this name
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	key := nodepassword.Prefix + g.name
	text, rev, err := k.store.Get(ctx, key)
	if err != nil || rev == 0 {
		return err
	}
	// One that cannot be read lets nobody in; it is as old as can be.
	record, err := nodepassword.Parse(text)
	if err != nil {
		record = nodepassword.Record{}
	}
	patience := joining
	if swept || record.Created.After(g.created) {
		patience = leftover
	}
	// A record from the future is that of a clock which was set; it does not stay longer.
	if age := k.now().Sub(record.Seen); age.Abs() < patience {
		return errJoining
	}
	switch _, err := k.api.Get(ctx, g.name, metav1.GetOptions{}); {
	case err == nil:
		return nil
	case !apierrors.IsNotFound(err):
		return err
	}
	removed, err := k.store.Delete(ctx, key, rev)
	if removed && err == nil {
		k.Log.Info("the name of a node that is gone is free", "node", g.name)
	}
	return err
}
