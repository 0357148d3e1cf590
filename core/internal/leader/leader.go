// Package leader lets one of several servers on the same datastore run what
// must run once: the scheduler and the controllers. Upstream's own leader
// election ends the process when it is told to stop, which would cut the stop
// of everything else short.
package leader

import (
	"context"
	"errors"
	"fmt"
	"sync"
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

// Gate holds one lease in kube-system. The zero Gate is open: it runs at once.
type Gate struct {
	kubeconfig, name, identity string
	standby                    atomic.Bool
}

// NewGate returns a gate for the lease name, held as identity (the node name),
// with the identity of kubeconfig, which must be allowed to write the lease.
func NewGate(kubeconfig, name, identity string) *Gate {
	return &Gate{kubeconfig: kubeconfig, name: name, identity: identity}
}

// Standby reports whether the gate waits while another server leads.
func (g *Gate) Standby() bool { return g.standby.Load() }

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
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("%s: %w", g.kubeconfig, err)
	}
	// The lease is given up only after run has returned, so it outlives ctx.
	g.standby.Store(true)
	holding, release := context.WithCancel(context.WithoutCancel(ctx))
	defer release()
	waiting := context.AfterFunc(ctx, func() {
		if g.standby.Load() {
			release()
		}
	})
	defer waiting()

	// Either the elector hands over or it has ended for good: whoever comes
	// first to handover decides.
	var handover sync.Once
	var result error
	finished := make(chan struct{})
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: g.name},
			Client:     client.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: g.identity},
		},
		Name:            g.name,
		LeaseDuration:   15 * time.Second,
		RenewDeadline:   10 * time.Second,
		RetryPeriod:     2 * time.Second,
		ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(leading context.Context) {
				taken := false
				handover.Do(func() { taken = true })
				if !taken {
					return
				}
				g.standby.Store(false)
				defer close(finished)
				defer release()
				running, stop := context.WithCancel(ctx)
				defer stop()
				lost := context.AfterFunc(leading, stop)
				defer lost()
				result = run(running)
				if result == nil && ctx.Err() == nil {
					result = ErrLost
				}
			},
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return fmt.Errorf("lease %s: %w", g.name, err)
	}
	elector.Run(holding)
	ended := false
	handover.Do(func() { ended = true })
	if ended {
		return nil
	}
	<-finished
	return result
}
