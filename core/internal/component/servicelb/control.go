package servicelb

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"github.com/cleat-dev/cleat/core/internal/crd"
)

const (
	// gather is how long changes are collected: a node that leaves changes slices
	// of many Services, each in an update of its own.
	gather = 50 * time.Millisecond
	again  = 2 * time.Second // after a failed write

	maxMessage = 1024 // bytes the API server takes for an event's message
)

// turn is the work of one turn.
type turn struct {
	*Component
	client   kubernetes.Interface
	services corelisters.ServiceLister
	nodes    corelisters.NodeLister
	slices   discoverylisters.EndpointSliceLister
	recorder record.EventRecorder
	changed  chan struct{}           // holds one
	told     map[types.UID][]refusal // of Services, so that each is told once
}

// control keeps the addresses of all Services right until ctx is done.
func (c *Component) control(ctx context.Context, client kubernetes.Interface) error {
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(slim))
	core, discovery := factory.Core().V1(), factory.Discovery().V1()
	t := &turn{
		Component: c, client: client,
		services: core.Services().Lister(), nodes: core.Nodes().Lister(), slices: discovery.EndpointSlices().Lister(),
		changed: make(chan struct{}, 1), told: make(map[types.UID][]refusal),
	}
	broadcaster := record.NewBroadcaster(record.WithContext(ctx))
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: client.CoreV1().Events("")})
	defer broadcaster.Shutdown()
	t.recorder = broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: name})

	var synced []cache.InformerSynced
	for _, i := range []struct {
		informer cache.SharedIndexInformer
		matters  func(before, after any) bool
	}{
		{core.Services().Informer(), serviceMatters},
		{core.Nodes().Informer(), nodeMatters},
		{discovery.EndpointSlices().Informer(), t.sliceMatters},
	} {
		registration, err := i.informer.AddEventHandler(t.handler(i.matters))
		if err != nil {
			return err
		}
		synced = append(synced, registration.HasSynced)
	}
	inner, cancel := context.WithCancel(ctx)
	defer factory.Shutdown()
	defer cancel()
	factory.StartWithContext(inner)
	if !cache.WaitForCacheSync(inner.Done(), synced...) {
		return nil
	}
	return t.follow(ctx)
}

// follow looks at everything once and then after each change.
func (t *turn) follow(ctx context.Context) error {
	for {
		var retry <-chan time.Time
		if err := t.pass(ctx); err != nil && ctx.Err() == nil {
			t.Log.Warn("cannot give Services their nodes, trying again", "error", err)
			retry = time.After(again)
		} else {
			t.synced.Store(true)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-retry:
		case <-t.changed:
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(gather):
			}
		}
	}
}

// pass makes every Service what it should be.
func (t *turn) pass(ctx context.Context) error {
	services, err := t.services.List(labels.Everything())
	if err != nil {
		return err
	}
	nodes, err := t.nodes.List(labels.Everything())
	if err != nil {
		return err
	}
	var errs []error
	seen := make(map[types.UID]bool, len(services))
	for _, d := range decide(services, serving(nodes, t.Networks), t.endpointNodes) {
		seen[d.service.UID] = true
		foreign, err := t.write(ctx, d.service, d.ingress)
		errs = append(errs, err)
		t.tell(d.service, append(d.refusals, foreign...))
	}
	for uid := range t.told {
		if !seen[uid] {
			delete(t.told, uid)
		}
	}
	return errors.Join(errs...)
}

// tell sends an Event for each refusal that is new.
func (t *turn) tell(s *corev1.Service, refusals []refusal) {
	before := t.told[s.UID]
	for _, r := range refusals {
		if !slices.Contains(before, r) {
			t.recorder.Event(s, corev1.EventTypeWarning, r.reason, crd.Clip(r.message, maxMessage))
		}
	}
	t.told[s.UID] = refusals
}

// write sets a Service's addresses unless they are right, or somebody else's, which
// is a refusal.
func (t *turn) write(ctx context.Context, s *corev1.Service, want []corev1.LoadBalancerIngress) ([]refusal, error) {
	have := s.Status.LoadBalancer.Ingress
	if len(have) == 0 && len(want) == 0 || reflect.DeepEqual(have, want) || len(want) == 0 && !isOurs(s) {
		return nil, nil
	}
	err := apply(ctx, t.client, s, want)
	switch {
	case apierrors.IsConflict(err):
		return []refusal{{reasonForeign, fmt.Sprintf("somebody else has written addresses (%v); "+
			"give the Service another loadBalancerClass, or clear its status.loadBalancer", err)}}, nil
	case apierrors.IsNotFound(err): // its deletion is on the way here
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("service %s/%s: %w", s.Namespace, s.Name, err)
	}
	t.recorder.Eventf(s, corev1.EventTypeNormal, reasonChanged, "addresses: %s, before: %s", list(want), list(have))
	return nil, nil
}

// list names addresses in a message.
func list(ingress []corev1.LoadBalancerIngress) string {
	if len(ingress) == 0 {
		return "none"
	}
	var out []string
	for _, in := range ingress[:min(len(ingress), 2*maxNamed)] {
		out = append(out, in.IP)
	}
	if more := len(ingress) - len(out); more > 0 {
		out = append(out, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(out, ", ")
}

// apply writes a Service's addresses. It is not forced: what somebody else has
// written stays, and is a conflict.
func apply(ctx context.Context, client kubernetes.Interface, s *corev1.Service, want []corev1.LoadBalancerIngress) error {
	status := corev1ac.ServiceStatus()
	if len(want) > 0 {
		balancer := corev1ac.LoadBalancerStatus()
		for _, in := range want {
			entry := corev1ac.LoadBalancerIngress().WithIP(in.IP).WithIPMode(*in.IPMode)
			for _, p := range in.Ports {
				entry.WithPorts(corev1ac.PortStatus().WithPort(p.Port).WithProtocol(p.Protocol))
			}
			balancer.WithIngress(entry)
		}
		status.WithLoadBalancer(balancer)
	}
	_, err := client.CoreV1().Services(s.Namespace).ApplyStatus(ctx,
		corev1ac.Service(s.Name, s.Namespace).WithStatus(status), metav1.ApplyOptions{FieldManager: name})
	return err
}

// isOurs reports whether this unit wrote the Service's addresses.
func isOurs(s *corev1.Service) bool {
	return slices.ContainsFunc(s.ManagedFields, func(m metav1.ManagedFieldsEntry) bool { return m.Manager == name })
}

// clearAll takes the addresses away that this unit wrote.
func clearAll(ctx context.Context, client kubernetes.Interface) error {
	services, err := client.CoreV1().Services("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	var errs []error
	for i := range services.Items {
		if s := &services.Items[i]; isOurs(s) {
			if err := apply(ctx, client, s, nil); err != nil && !apierrors.IsNotFound(err) {
				errs = append(errs, fmt.Errorf("service %s/%s: %w", s.Namespace, s.Name, err))
			}
		}
	}
	return errors.Join(errs...)
}

// endpointNodes are the nodes that have ready endpoints of a Service.
func (t *turn) endpointNodes(s *corev1.Service) map[string]bool {
	found := make(map[string]bool)
	all, err := t.slices.EndpointSlices(s.Namespace).List(labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: s.Name}))
	if err != nil { // a cache's lister has none
		return found
	}
	for _, slice := range all {
		for _, e := range slice.Endpoints {
			if e.NodeName != nil && (e.Conditions.Ready == nil || *e.Conditions.Ready) {
				found[*e.NodeName] = true
			}
		}
	}
	return found
}
