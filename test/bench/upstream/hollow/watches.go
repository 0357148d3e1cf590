package main

import (
	"context"
	"fmt"
	"os"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/events"
	"k8s.io/kubernetes/pkg/proxy/kubemark"
)

// startProxy watches what a kube-proxy watches: services, their endpoints and ranges,
// and its own Node. It writes no rules.
func startProxy(ctx context.Context, config *rest.Config, name string) error {
	config = rest.CopyConfig(config)
	config.UserAgent = "kube-proxy/hollow"
	config.ContentType = "application/vnd.kubernetes.protobuf"
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	proxy := kubemark.NewHollowProxy(name, client, client.CoreV1(), nil, &events.FakeRecorder{})
	go func() {
		if err := proxy.ProxyServer.Run(ctx); err != nil && ctx.Err() == nil {
			fmt.Fprintf(os.Stderr, "hollow: kube-proxy of %s: %v\n", name, err)
		}
	}()
	watchNodes(ctx, client, fields.OneTermEqualSelector("metadata.name", name))
	return nil
}

// startNetwork watches what the network of an agent does: its own Node, and for flannel
// every other.
func startNetwork(ctx context.Context, config *rest.Config, name string) error {
	config = rest.CopyConfig(config)
	config.UserAgent = "network/hollow"
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	watchNodes(ctx, client, fields.OneTermEqualSelector("metadata.name", name))
	watchNodes(ctx, client, fields.Everything())
	return nil
}

// watchNodes lists and watches Nodes and keeps none: what is measured is the server,
// and this process would have the square of their number.
func watchNodes(ctx context.Context, client kubernetes.Interface, which fields.Selector) {
	nodes := cache.NewListWatchFromClient(client.CoreV1().RESTClient(), "nodes", "", which)
	reflector := cache.NewReflectorWithOptions(nodes, &corev1.Node{}, &cache.FakeCustomStore{}, cache.ReflectorOptions{})
	go reflector.RunWithContext(ctx)
}
