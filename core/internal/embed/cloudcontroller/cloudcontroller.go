// Package cloudcontroller runs the cloud node controller of k8s.io/cloud-provider
// for machines that belong to no cloud: it gives a node that registered with the
// taint node.cloudprovider.kubernetes.io/uninitialized its provider ID and
// addresses and takes the taint away.
//
// The node lifecycle controller is left out: it deletes nodes whose machine the
// cloud says is gone, and there is nobody here to say so. So is leader election:
// what the controller writes follows from the node alone, so that two of them
// write the same.
package cloudcontroller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	cloudproviderapi "k8s.io/cloud-provider/api"
	"k8s.io/cloud-provider/controllers/node"
	controllersmetrics "k8s.io/component-base/metrics/prometheus/controllers"

	"github.com/cleat-dev/cleat/core/internal/nodenotes"
)

const (
	// addressInterval is how often addresses are compared with what the nodes
	// say; nothing is sent when they agree.
	addressInterval = time.Minute
	workers         = 1
)

// Run initializes nodes as the identity in config until ctx is done. nodeName
// and nodeIPs are this machine's, for a kubelet that does not tell its address.
// synced is called once the nodes are known.
func Run(ctx context.Context, config *rest.Config, nodeName string, nodeIPs []string, log *slog.Logger, synced func()) error {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	nodes := factory.Core().V1().Nodes()
	controller, err := node.NewCloudNodeController(nodes, client, provider{nodeName: nodeName, nodeIPs: nodeIPs, log: log},
		addressInterval, workers, workers)
	if err != nil {
		return fmt.Errorf("make the cloud node controller: %w", err)
	}
	changed := make(chan struct{}, 1)
	if _, err := nodes.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{UpdateFunc: func(before, after any) {
		if notesDiffer(before, after) {
			select {
			case changed <- struct{}{}:
			default: // it will look anyway
			}
		}
	}}); err != nil {
		return err
	}
	inner, cancel := context.WithCancel(ctx)
	defer factory.Shutdown()
	defer cancel()
	factory.StartWithContext(inner)

	done := make(chan struct{})
	go func() {
		defer close(done)
		controller.RunWithContext(inner, controllersmetrics.NewControllerManagerMetrics("cleat-cloud-controller"))
	}()
	if cache.WaitForCacheSync(inner.Done(), nodes.Informer().HasSynced) {
		synced()
	}
	for {
		select {
		case <-done:
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return errors.New("the cloud node controller stopped by itself")
		case <-changed:
			// A node says its external addresses once it is registered, which would
			// else be seen only after addressInterval.
			if err := controller.UpdateNodeStatus(inner); err != nil {
				log.Warn("cannot set the addresses of nodes yet", "error", err)
			}
		}
	}
}

// notesDiffer reports whether a node says something else of its addresses, or was
// initialized just now, maybe from a copy that was older than what it says.
func notesDiffer(before, after any) bool {
	old, wasNode := before.(*corev1.Node)
	now, isNode := after.(*corev1.Node)
	if !wasNode || !isNode {
		return false
	}
	if uninitialized(old) && !uninitialized(now) {
		return true
	}
	return slices.ContainsFunc([]string{
		cloudproviderapi.AnnotationAlphaProvidedIPAddr, nodenotes.ExternalIP, nodenotes.InternalDNS, nodenotes.ExternalDNS,
	}, func(key string) bool {
		return old.Annotations[key] != now.Annotations[key]
	})
}

func uninitialized(node *corev1.Node) bool {
	return slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == cloudproviderapi.TaintExternalCloudProvider })
}
