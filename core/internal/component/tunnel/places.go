package tunnel

import (
	"fmt"
	"net/netip"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	"github.com/cleat-dev/cleat/core/config"
)

// Names of the indexes, ours alone in informers that others use too.
const (
	byAddress  = "cleat.tunnel.address"  // nodes and pods by "192.0.2.1"
	byHostPort = "cleat.tunnel.hostport" // pods in the host's network by "node/8443"
)

// places knows which node has an address. Nodes and pods come from the API
// server's own informers, which hold them anyway for its authorizer.
type places struct {
	nodes, pods cache.Indexer // pods is nil where only kubelets are dialled
	all         bool          // every port of a node, not those that its pods name
}

func newPlaces(mode string, f informers.SharedInformerFactory) (*places, error) {
	nodes := f.Core().V1().Nodes().Informer()
	if err := nodes.AddIndexers(cache.Indexers{byAddress: nodeIndex}); err != nil {
		return nil, fmt.Errorf("index of nodes: %w", err)
	}
	p := &places{nodes: nodes.GetIndexer(), all: mode == config.EgressCluster}
	if mode == config.EgressPod || mode == config.EgressCluster {
		pods := f.Core().V1().Pods().Informer()
		if err := pods.AddIndexers(podIndexers()); err != nil {
			return nil, fmt.Errorf("index of pods: %w", err)
		}
		p.pods = pods.GetIndexer()
	}
	return p, nil
}

// node is the node through whose tunnel address is reached, "" if through none.
// A kubelet writes the addresses of its own Node and pods, so what two nodes claim
// is nobody's: the network decides, as it would without tunnels.
func (p *places) node(address string) string {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return ""
	}
	ip, port := to.Addr().Unmap().String(), to.Port()
	found, err := p.nodes.ByIndex(byAddress, ip)
	if err != nil || len(found) > 1 {
		return ""
	}
	if len(found) == 1 {
		n, ok := found[0].(*corev1.Node)
		if ok && (p.all || port == kubeletPort(n) || p.hostPort(n.Name, port)) {
			return n.Name
		}
		return ""
	}
	if p.pods == nil {
		return ""
	}
	found, err = p.pods.ByIndex(byAddress, ip)
	if err != nil {
		return ""
	}
	var name string
	for _, f := range found {
		pod, ok := f.(*corev1.Pod)
		if !ok || name != "" && pod.Spec.NodeName != name {
			return ""
		}
		name = pod.Spec.NodeName
	}
	return name
}

func (p *places) hostPort(node string, port uint16) bool {
	if p.pods == nil {
		return false
	}
	return has(p.pods, byHostPort, hostPortKey(node, port))
}

// has reports whether an index has anything by key.
func has(i cache.Indexer, index, key string) bool {
	keys, err := i.IndexKeys(index, key)
	return err == nil && len(keys) > 0
}

func hostPortKey(node string, port uint16) string {
	return node + "/" + strconv.Itoa(int(port))
}

func kubeletPort(n *corev1.Node) uint16 {
	return portOf(n.Status.DaemonEndpoints.KubeletEndpoint.Port)
}

// portOf is 0 for what is no port.
func portOf(n int32) uint16 {
	if n < 1 || n > 65535 {
		return 0
	}
	return uint16(n)
}

// nodeIndex gives the addresses that kubelets are dialled at.
func nodeIndex(o any) ([]string, error) {
	n, ok := o.(*corev1.Node)
	if !ok {
		return nil, fmt.Errorf("%T is no Node", o)
	}
	var keys []string
	for _, a := range n.Status.Addresses {
		if a.Type != corev1.NodeInternalIP {
			continue
		}
		if ip, err := netip.ParseAddr(a.Address); err == nil {
			keys = append(keys, ip.Unmap().String())
		}
	}
	return keys, nil
}

func podIndexers() cache.Indexers {
	return cache.Indexers{byAddress: podIndex, byHostPort: hostPortIndex}
}

// podIndex gives the addresses that are a pod's own.
func podIndex(o any) ([]string, error) {
	pod, ok := o.(*corev1.Pod)
	if !ok {
		return nil, fmt.Errorf("%T is no Pod", o)
	}
	if pod.Spec.HostNetwork || !runs(pod) {
		return nil, nil
	}
	var keys []string
	for _, a := range pod.Status.PodIPs {
		if ip, err := netip.ParseAddr(a.IP); err == nil {
			keys = append(keys, ip.Unmap().String())
		}
	}
	return keys, nil
}

// hostPortIndex gives the ports that a pod says it has on its node.
func hostPortIndex(o any) ([]string, error) {
	pod, ok := o.(*corev1.Pod)
	if !ok {
		return nil, fmt.Errorf("%T is no Pod", o)
	}
	if !pod.Spec.HostNetwork || !runs(pod) {
		return nil, nil
	}
	var keys []string
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for _, c := range containers {
			for _, p := range c.Ports {
				if n := portOf(p.ContainerPort); n != 0 && (p.Protocol == "" || p.Protocol == corev1.ProtocolTCP) {
					keys = append(keys, hostPortKey(pod.Spec.NodeName, n))
				}
			}
		}
	}
	return keys, nil
}

// runs tells a pod on a node whose address nobody else can have yet.
func runs(pod *corev1.Pod) bool {
	return pod.Spec.NodeName != "" && pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed
}
