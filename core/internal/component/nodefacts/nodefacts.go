// Package nodefacts is the unit by which a machine says of itself, on its Node, what
// nobody else can know: the addresses and names that it is reached by from outside,
// the ports that its own programs listen on, and that its clock is wrong.
package nodefacts

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/record"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/nodenotes"
)

const (
	source = "cleat"
	// lookEvery is how often the machine's sockets are looked at. Only a change is
	// written.
	lookEvery = 10 * time.Second
	// firstPause is how soon a first write that failed is tried again.
	firstPause = 500 * time.Millisecond
	// writeEvery is how often everything is written although nothing changed, which
	// also compares the clocks and finds a Node that was made anew.
	writeEvery = 5 * time.Minute
)

// Component is the unit. Make it with New.
type Component struct {
	cfg        *config.Config
	kubeconfig string
	log        *slog.Logger
	sockets    func(reach []netip.Addr) ([]socket, error)
	lookEvery  time.Duration
	clock      *clock

	saidSockets, saidWrite string // the last errors logged
}

// New makes the unit. kubeconfig is the node's own.
func New(cfg *config.Config, kubeconfig string, log *slog.Logger) *Component {
	return &Component{cfg: cfg, kubeconfig: kubeconfig, log: log, sockets: sockets, lookEvery: lookEvery, clock: &clock{now: time.Now}}
}

// Run tells what changes until ctx is done. It is ready when the Node says all.
func (c *Component) Run(ctx context.Context, ready func()) error {
	rest, err := clientcmd.BuildConfigFromFlags("", c.kubeconfig)
	if err != nil {
		return fmt.Errorf("%s: %w", c.kubeconfig, err)
	}
	rest.Wrap(func(next http.RoundTripper) http.RoundTripper { return &dated{next: next, clock: c.clock} })
	client, err := kubernetes.NewForConfig(rest)
	if err != nil {
		return fmt.Errorf("%s: %w", c.kubeconfig, err)
	}
	broadcaster := record.NewBroadcaster(record.WithContext(ctx))
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: client.CoreV1().Events("")})
	defer broadcaster.Shutdown()
	recorder := broadcaster.NewRecorder(runtime.NewScheme(), corev1.EventSource{Component: source, Host: c.cfg.NodeName})
	return c.follow(ctx, client, recorder, ready)
}

func (c *Component) follow(ctx context.Context, client kubernetes.Interface, recorder record.EventRecorder, ready func()) error {
	// `kubectl describe node` finds Events whose UID is the Node's name, as the
	// kubelet writes them.
	ref := &corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: c.cfg.NodeName, UID: types.UID(c.cfg.NodeName)}
	notes, reach, err := c.fixed()
	if err != nil {
		return err
	}
	var ports map[nodenotes.Port]bool // as written
	var written time.Time
	timer := time.NewTimer(c.lookEvery)
	defer timer.Stop()
	for {
		all, err := c.sockets(reach)
		c.complain(&c.saidSockets, "cannot tell which ports this machine needs itself", err)
		now := make(map[nodenotes.Port]bool, len(all))
		for _, s := range all {
			now[s.port] = true
		}
		if err != nil {
			now = ports
		}
		if written.IsZero() || time.Since(written) > writeEvery || !maps.Equal(ports, now) {
			if err == nil {
				notes.Listens = named(all, programs("/proc", all))
			}
			err = c.write(ctx, client, notes)
			if ctx.Err() != nil {
				return nil
			}
			c.complain(&c.saidWrite, "cannot say on the Node what this machine is", err)
			if err == nil {
				if written.IsZero() {
					ready()
				}
				ports, written = now, time.Now()
			}
			if n, ok := c.clock.notice(); ok {
				recorder.Event(ref, n.kind, n.reason, n.message)
				c.log.Warn(n.message, "reason", n.reason)
			}
		}
		pause := c.lookEvery
		if written.IsZero() { // others wait for this unit
			pause = min(pause, firstPause)
		}
		timer.Reset(pause)
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
	}
}

// complain logs an error, but not the same one again and again.
func (c *Component) complain(said *string, what string, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != "" && text != *said {
		c.log.Warn(what, "error", err)
	}
	*said = text
}

// fixed is what stays as long as the process lives, and the addresses at which
// others reach this machine.
func (c *Component) fixed() (n nodenotes.Notes, reach []netip.Addr, err error) {
	n = nodenotes.Notes{InternalDNS: c.cfg.NodeInternalDNS, ExternalDNS: c.cfg.NodeExternalDNS}
	for _, list := range [][]string{c.cfg.NodeIP, c.cfg.NodeExternalIP} {
		for _, text := range list {
			addr, err := netip.ParseAddr(text)
			if err != nil {
				return n, nil, err
			}
			reach = append(reach, addr)
		}
	}
	n.ExternalIPs = reach[len(c.cfg.NodeIP):]
	n.Translated = slices.ContainsFunc(n.ExternalIPs, func(a netip.Addr) bool { return !slices.Contains(c.cfg.Host.Addresses, a) })
	return n, reach, nil
}

func (c *Component) write(ctx context.Context, client kubernetes.Interface, notes nodenotes.Notes) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": notes.Annotations()}})
	if err != nil {
		return err
	}
	_, err = client.CoreV1().Nodes().Patch(ctx, c.cfg.NodeName, types.MergePatchType, patch, metav1.PatchOptions{})
	return err
}
