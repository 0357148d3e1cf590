// Package nodeevents is the unit that tells, as Events on the server's Node, what
// an operator should know of a server: that it started, how it ended the time
// before, which unit is not well, which certificate ends, and that the clock was
// set. Plugins and addons have events of their own.
package nodeevents

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/record"

	"github.com/cleat-dev/cleat/core/internal/atomicfile"
	"github.com/cleat-dev/cleat/core/internal/crd"
	"github.com/cleat-dev/cleat/core/internal/serverstatus"
	"github.com/cleat-dev/cleat/core/kernel"
)

const (
	source = "cleat"
	// interval is how often the unit looks. Shorter, it would cost something on
	// an idle machine.
	interval = 5 * time.Second
	// maxMessage is what the API server takes for an event's message, in bytes.
	maxMessage = 1024
	maxMarker  = 512 // bytes
)

// Options are what the unit needs from its surroundings.
type Options struct {
	Kubeconfig string // an administrator's
	Node       string
	// Marker is a file that is there while the server runs.
	Marker string
	Status func() serverstatus.Status
	Log    *slog.Logger
}

// Component is the unit. Make it with New.
type Component struct {
	Options
	client atomic.Pointer[kubernetes.Clientset]
}

// New makes the unit.
func New(o Options) *Component { return &Component{Options: o} }

// Run watches the server until ctx is done. It calls ready when the API server
// has answered about events.
func (c *Component) Run(ctx context.Context, ready func()) error {
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig)
	if err != nil {
		return fmt.Errorf("read kubeconfig %s: %w", c.Kubeconfig, err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	err = kernel.Poll(ctx, 100*time.Millisecond, func(ctx context.Context) error {
		_, err := client.CoreV1().Events(metav1.NamespaceDefault).List(ctx, metav1.ListOptions{Limit: 1})
		return err
	})
	if err != nil {
		return err
	}
	c.client.Store(client)
	broadcaster := record.NewBroadcaster(record.WithContext(ctx))
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: client.CoreV1().Events("")})
	defer broadcaster.Shutdown()
	recorder := broadcaster.NewRecorder(runtime.NewScheme(), corev1.EventSource{Component: source, Host: c.Node})
	return c.watch(ctx, recorder, ready)
}

func (c *Component) watch(ctx context.Context, recorder record.EventRecorder, ready func()) error {
	lastRun, err := readMarker(c.Marker)
	if err != nil {
		return err
	}
	if err := writeMarker(c.Marker); err != nil {
		return err
	}
	// The kubelet's events on a Node have its name for a UID too, which is how
	// `kubectl describe node` finds them.
	ref := &corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: c.Node, UID: types.UID(c.Node)}
	w := newWatcher(lastRun, time.Now())
	ready()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		for _, n := range w.look(c.Status(), time.Now()) {
			kind := corev1.EventTypeNormal
			if n.warning {
				kind = corev1.EventTypeWarning
				c.Log.Warn(n.message, "reason", n.reason)
			}
			recorder.Event(ref, kind, n.reason, crd.Clip(n.message, maxMessage))
		}
		select {
		case <-ctx.Done():
			if err := c.leaveMarker(context.Cause(ctx)); err != nil {
				c.Log.Warn("the next start will take this stop for a crash", "error", err)
			}
			return nil
		case <-tick.C:
		}
	}
}

// leaveMarker removes the marker if the server was told to stop, and else says in
// it why it ended.
func (c *Component) leaveMarker(cause error) error {
	if !errors.Is(cause, context.Canceled) {
		return os.WriteFile(c.Marker, []byte(crd.Clip(cause.Error(), maxMarker)), 0o600)
	}
	if err := os.Remove(c.Marker); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// run is one that did not end in order; the zero run ended as it should, or
// there was none.
type run struct {
	ended string // the time it ended, or began if it could not say why
	why   string // "" if it was cut short
}

func readMarker(file string) (run, error) {
	info, err := os.Stat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return run{}, nil
	}
	if err != nil {
		return run{}, err
	}
	why := make([]byte, min(info.Size(), maxMarker))
	f, err := os.Open(file)
	if err != nil {
		return run{}, err
	}
	defer f.Close()
	if _, err := io.ReadFull(f, why); err != nil {
		return run{}, fmt.Errorf("%s: %w", file, err)
	}
	return run{info.ModTime().UTC().Format(time.RFC3339), string(why)}, nil
}

func writeMarker(file string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	return atomicfile.WriteFile(file, nil, 0o600)
}
