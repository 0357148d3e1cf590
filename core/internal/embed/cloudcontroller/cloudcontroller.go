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
	"time"

	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/cloud-provider/controllers/node"
	controllersmetrics "k8s.io/component-base/metrics/prometheus/controllers"
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
func Run(ctx context.Context, config *rest.Config, nodeName string, nodeIPs []string, synced func()) error {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	nodes := factory.Core().V1().Nodes()
	controller, err := node.NewCloudNodeController(nodes, client, provider{nodeName: nodeName, nodeIPs: nodeIPs},
		addressInterval, workers, workers)
	if err != nil {
		return fmt.Errorf("make the cloud node controller: %w", err)
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
	<-done
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return errors.New("the cloud node controller stopped by itself")
}
