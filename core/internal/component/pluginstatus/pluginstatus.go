// Package pluginstatus is the unit that shows the plugins in the API: a
// PluginStatus for each (`kubectl get plugins`), and Events for what an
// operator should know of them.
package pluginstatus

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/record"

	"github.com/cleat-dev/cleat/core/internal/crd"
)

// manager begins the name the unit's server-side applies go by; the server's
// name follows, so that each server owns its own entry.
const manager = "cleat-plugins"

const (
	interval   = 10 * time.Second // between writes while something changes
	promptness = time.Second      // after a notice
	maxWaiting = 256              // notices
	maxMessage = 1024             // bytes of an event, as the API server takes it
)

// Notice is what an operator should know about a plugin.
type Notice struct {
	Plugin  string // "" when it is about all
	Reason  string // in CamelCase, as events have it
	Warning bool
	Message string
}

// Component is the unit. Make it with New.
type Component struct {
	kubeconfig, server string
	read               func() map[string]crd.PluginServer
	log                *slog.Logger
	notices            chan Notice
	dropped            atomic.Uint64
}

// New returns the unit. kubeconfig is an administrator's, server is the node
// name, and read returns the plugins by name as they are now, without Server
// and Observed.
func New(kubeconfig, server string, read func() map[string]crd.PluginServer, log *slog.Logger) *Component {
	return &Component{kubeconfig: kubeconfig, server: server, read: read, log: log, notices: make(chan Notice, maxWaiting)}
}

// Notify records a notice and returns at once. What comes faster than the API
// server takes it is dropped and counted.
func (c *Component) Notify(n Notice) {
	select {
	case c.notices <- n:
	default:
		c.dropped.Add(1)
	}
}

// Run keeps the objects as the plugins are until ctx is done. It calls ready
// when every plugin has one.
func (c *Component) Run(ctx context.Context, ready func()) error {
	config, err := clientcmd.BuildConfigFromFlags("", c.kubeconfig)
	if err != nil {
		return fmt.Errorf("read kubeconfig %s: %w", c.kubeconfig, err)
	}
	config.UserAgent = manager
	config.QPS, config.Burst = 50, 100 // upstream's 5 a second spreads a start's nine objects over two
	return c.run(ctx, config, ready)
}

func (c *Component) run(ctx context.Context, config *rest.Config, ready func()) error {
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	clientset, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	broadcaster := record.NewBroadcaster(record.WithContext(ctx))
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: clientset.CoreV1().Events("")})
	defer broadcaster.Shutdown()
	w := &writer{
		plugins: client.Resource(crd.PluginGVR()), manager: manager + "-" + c.server, server: c.server,
		now: time.Now, hasNode: nodeLookup(clientset),
		written: map[string]written{}, uids: map[string]*unstructured.Unstructured{},
		events: broadcaster.NewRecorder(runtime.NewScheme(), corev1.EventSource{Component: manager, Host: c.server}),
	}
	defined, isReady, last := false, false, ""
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case n := <-c.notices:
			w.event(n)
			timer.Reset(promptness)
			continue
		case <-timer.C:
		}
		err := error(nil)
		if !defined {
			if err = crd.Ensure(ctx, client, manager, crd.PluginResource); err == nil {
				defined = true
			}
		}
		if err == nil {
			err = w.sync(ctx, c.read())
		}
		if err == nil && !isReady {
			isReady = true
			ready()
		}
		if err == nil {
			err = c.prune(ctx, w)
		}
		pause := interval
		switch {
		case err != nil && ctx.Err() == nil:
			pause = promptness
			if err.Error() != last {
				c.log.Warn("plugin status is not up to date", "error", err)
			}
		}
		last = ""
		if err != nil {
			last = err.Error()
		}
		if n := c.dropped.Swap(0); n > 0 {
			c.log.Warn("plugin events were dropped because there were too many", "dropped", n)
		}
		timer.Reset(pause)
	}
}

// prune takes out what servers left behind that are gone.
func (c *Component) prune(ctx context.Context, w *writer) error {
	pruned, err := w.prune(ctx)
	for server, n := range pruned {
		c.log.Info("plugin status of a server that is gone was removed", "server", server, "plugins", n)
	}
	return err
}

// writer keeps one server's entries.
type writer struct {
	plugins         dynamic.NamespaceableResourceInterface
	manager, server string
	now             func() time.Time
	hasNode         func(ctx context.Context, name string) (bool, error)
	nextPrune       time.Time
	written         map[string]written
	uids            map[string]*unstructured.Unstructured
	events          record.EventRecorder
}

// written is an entry as it was last written, without Observed.
type written struct {
	status crd.PluginServer
	at     time.Time
}

// sync writes what changed and removes this server's part of what is gone.
func (w *writer) sync(ctx context.Context, now map[string]crd.PluginServer) error {
	list, err := w.plugins.List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list plugins: %w", err)
	}
	there := map[string]*unstructured.Unstructured{}
	for i := range list.Items {
		there[list.Items[i].GetName()] = &list.Items[i]
	}
	for name, status := range now {
		status.Server = w.server
		at := w.now()
		if have, ok := w.written[name]; ok && there[name] != nil && hasEntry(there[name], w.server) &&
			at.Sub(have.at) < refresh && reflect.DeepEqual(have.status, status) {
			continue
		}
		w.written[name] = written{status, at}
		status.Observed = metav1.NewTime(at)
		object, err := w.apply(ctx, name, there[name], &status)
		if err != nil {
			delete(w.written, name)
			return err
		}
		w.uids[name] = object
	}
	for name, object := range there {
		if _, ok := now[name]; !ok {
			if err := w.remove(ctx, name, object); err != nil {
				return err
			}
		}
	}
	return nil
}

// apply writes this server's entry of a plugin, nil for none.
func (w *writer) apply(ctx context.Context, name string, there *unstructured.Unstructured, status *crd.PluginServer) (*unstructured.Unstructured, error) {
	return w.applyAs(ctx, w.manager, name, there, status)
}

// applyAs writes the entry that belongs to a field manager, each server having
// its own.
func (w *writer) applyAs(ctx context.Context, owner, name string, there *unstructured.Unstructured, status *crd.PluginServer) (*unstructured.Unstructured, error) {
	object := &unstructured.Unstructured{Object: map[string]any{}}
	object.SetAPIVersion(crd.Group + "/" + crd.Version)
	object.SetKind(crd.PluginKind)
	object.SetName(name)
	if there == nil {
		if _, err := w.plugins.Apply(ctx, name, object, metav1.ApplyOptions{FieldManager: owner, Force: true}); err != nil {
			return nil, fmt.Errorf("write plugin status %s: %w", name, err)
		}
	}
	servers := []any{}
	if status != nil {
		entry, err := runtime.DefaultUnstructuredConverter.ToUnstructured(status)
		if err != nil {
			return nil, fmt.Errorf("encode the status of plugin %s: %w", name, err)
		}
		servers = append(servers, entry)
	}
	object.Object["status"] = map[string]any{"servers": servers}
	result, err := w.plugins.ApplyStatus(ctx, name, object, metav1.ApplyOptions{FieldManager: owner, Force: true})
	if err != nil {
		return nil, fmt.Errorf("write plugin status %s: %w", name, err)
	}
	return result, nil
}

// remove takes this server's entry out, and the object with the last one.
func (w *writer) remove(ctx context.Context, name string, object *unstructured.Unstructured) error {
	delete(w.written, name)
	others := 0
	for _, e := range entries(object) {
		if e["server"] != w.server {
			others++
		}
	}
	if others > 0 {
		if !hasEntry(object, w.server) {
			return nil
		}
		_, err := w.apply(ctx, name, object, nil)
		return err
	}
	uid, version := object.GetUID(), object.GetResourceVersion()
	err := w.plugins.Delete(ctx, name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &version}})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("delete plugin status %s: %w", name, err)
	}
	return nil
}

// event records a notice on the plugin's object, or on the server's Node when
// it is about all plugins.
func (w *writer) event(n Notice) {
	kind := corev1.EventTypeNormal
	if n.Warning {
		kind = corev1.EventTypeWarning
	}
	ref := &corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: w.server}
	if n.Plugin != "" {
		ref = &corev1.ObjectReference{APIVersion: crd.Group + "/" + crd.Version, Kind: crd.PluginKind, Name: n.Plugin}
		if object := w.uids[n.Plugin]; object != nil {
			ref.UID = object.GetUID()
		}
	}
	w.events.Event(ref, kind, n.Reason, crd.Clip(n.Message, maxMessage))
}
