package main

import (
	"context"
	"fmt"
	"os"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
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
	config.ContentType = runtime.ContentTypeProtobuf
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
	watch(ctx, client.CoreV1().RESTClient(), "nodes", &corev1.Node{}, fields.OneTermEqualSelector("metadata.name", name))
	return nil
}

// startNetwork watches what the network of an agent does: flannel its own Node and every
// other, and the driver of NetworkPolicies these, pods and namespaces.
func startNetwork(ctx context.Context, config *rest.Config, name string) error {
	config = rest.CopyConfig(config)
	config.UserAgent = "network/hollow"
	flannel, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	nodes := flannel.CoreV1().RESTClient()
	watch(ctx, nodes, "nodes", &corev1.Node{}, fields.OneTermEqualSelector("metadata.name", name))
	watch(ctx, nodes, "nodes", &corev1.Node{}, fields.Everything())

	config.ContentType = runtime.ContentTypeProtobuf
	policies, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	core, networking := policies.CoreV1().RESTClient(), policies.NetworkingV1().RESTClient()
	watch(ctx, core, "pods", &corev1.Pod{}, fields.Everything())
	watch(ctx, core, "namespaces", &corev1.Namespace{}, fields.Everything())
	watch(ctx, networking, "networkpolicies", &networkingv1.NetworkPolicy{}, fields.Everything())
	return nil
}

// watch lists and watches a resource of all namespaces and keeps nothing: what is measured
// is the server, and this process would have the square of the number of nodes.
func watch(ctx context.Context, client rest.Interface, resource string, object runtime.Object, which fields.Selector) {
	all := cache.NewListWatchFromClient(client, resource, "", which)
	reflector := cache.NewReflectorWithOptions(all, object, &cache.FakeCustomStore{}, cache.ReflectorOptions{})
	go reflector.RunWithContext(ctx)
}
