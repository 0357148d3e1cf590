// Package leader lets one of several servers on the same datastore run what
// must run once: the scheduler and the controllers. Upstream's own leader
// election ends the process when it is told to stop, which would cut the stop
// of everything else short.
package leader

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// ErrLost is returned when another server took the lease, which means that
// this one could not renew it for a whole lease time.
var ErrLost = errors.New("lost the lease to another server: the datastore or the API server was too slow to renew it")

// timing is how long a lease lasts unrenewed, for how long its holder tries to
// renew it, and the pause between tries.
type timing struct{ lease, renew, retry time.Duration }

// Gate holds one lease in kube-system. The zero Gate is open: it runs at once.
type Gate struct {
	kubeconfig, name, identity string
	timing                     timing
	elector                    atomic.Pointer[leaderelection.LeaderElector] // of the Run under way
}

// NewGate returns a gate for the lease name, held as identity (the node name),
// with the identity of kubeconfig, which must be allowed to write the lease.
func NewGate(kubeconfig, name, identity string) *Gate {
	return &Gate{
		kubeconfig: kubeconfig, name: name, identity: identity,
		timing: timing{lease: 15 * time.Second, renew: 10 * time.Second, retry: 2 * time.Second},
	}
}

// Standby reports whether the gate waits while another server leads. It does
// not while the gate has yet to ask who does.
func (g *Gate) Standby() bool {
	elector := g.elector.Load()
	if elector == nil {
		return false
	}
	leader := elector.GetLeader()
	return leader != "" && leader != g.identity
}

// Run waits for the lease, then calls run, whose context also ends when the
// lease is lost; it returns after run has.
func (g *Gate) Run(ctx context.Context, run func(ctx context.Context) error) error {
	if g.name == "" {
		return run(ctx)
	}
	config, err := clientcmd.BuildConfigFromFlags("", g.kubeconfig)
	if err != nil {
		return fmt.Errorf("%s: %w", g.kubeconfig, err)
	}
	config.Timeout = g.timing.renew / 2 // so that a request that hangs leaves time for another
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("%s: %w", g.kubeconfig, err)
	}

	leads := make(chan context.Context, 1)
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: g.name},
			Client:     client.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: g.identity},
		},
		Name:            g.name,
		LeaseDuration:   g.timing.lease,
		RenewDeadline:   g.timing.renew,
		RetryPeriod:     g.timing.retry,
		ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(leading context.Context) { leads <- leading },
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return fmt.Errorf("lease %s: %w", g.name, err)
	}
	g.elector.Store(elector)
	defer g.elector.Store(nil)

	// The lease is given up only after run has returned, so it outlives ctx.
	holding, release := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		elector.Run(holding)
	}()
	defer func() {
		release()
		<-ended
	}()
	select {
	case <-ctx.Done():
		return nil
	case <-ended:
		return ErrLost
	case leading := <-leads:
		return runWhile(ctx, leading, run)
	}
}

// runWhile calls run with a context that ends with ctx or leading.
func runWhile(ctx, leading context.Context, run func(ctx context.Context) error) error {
	running, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(leading, stop)()
	err := run(running)
	if leading.Err() == nil || ctx.Err() != nil {
		return err
	}
	if err == nil || errors.Is(err, context.Canceled) {
		return ErrLost
	}
	return fmt.Errorf("%w; and then: %w", ErrLost, err)
}
