package netpolicy

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// cluster is what the rules are made of.
type cluster struct {
	namespaces namespaceLabels
	policies   map[string][]*policy // by namespace, each list in order of name
	pods       map[string][]*pod    // by namespace: those with an address of their own
}

// pod is a pod that has addresses which no other pod has.
type pod struct {
	namespace, name, node string
	labels                labels.Set
	created               time.Time
	addresses             []netip.Addr
	ports                 []podPort
}

type podPort struct {
	namedPort
	number int32
}

// newPod returns nil for a pod that has no network of its own, none yet or none any more.
// attached are its addresses as this node's CNI knows them; it knows them
// before the API server does.
func newPod(p *corev1.Pod, attached []netip.Addr) *pod {
	if p.Spec.HostNetwork || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		return nil
	}
	out := &pod{
		namespace: p.Namespace, name: p.Name, node: p.Spec.NodeName,
		labels: p.Labels, created: p.CreationTimestamp.Time, addresses: attached,
	}
	if len(attached) == 0 {
		for _, ip := range p.Status.PodIPs {
			if a, err := netip.ParseAddr(ip.IP); err == nil {
				out.addresses = append(out.addresses, a.Unmap())
			}
		}
	}
	for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
		for _, port := range c.Ports {
			out.ports = append(out.ports, podPort{namedPort{strings.ToLower(string(port.Protocol)), port.Name}, port.ContainerPort})
		}
	}
	if len(out.addresses) == 0 {
		return nil
	}
	return out
}

// ownAddresses leaves each address to one pod. An address that is used again may
// show at two for a moment: it is the one's that the CNI named, else the younger's.
func ownAddresses(pods []*pod, attached func(*pod) bool) []*pod {
	owner := make(map[netip.Addr]*pod, len(pods))
	for _, p := range pods {
		for _, a := range p.addresses {
			if o := owner[a]; o == nil || comesAfter(p, o, attached) {
				owner[a] = p
			}
		}
	}
	return slices.DeleteFunc(pods, func(p *pod) bool {
		p.addresses = slices.DeleteFunc(slices.Clone(p.addresses), func(a netip.Addr) bool { return owner[a] != p })
		return len(p.addresses) == 0
	})
}

func comesAfter(p, o *pod, attached func(*pod) bool) bool {
	if a, b := attached(p), attached(o); a != b {
		return a
	}
	return cmp.Or(p.created.Compare(o.created), strings.Compare(p.namespace+"/"+p.name, o.namespace+"/"+o.name)) > 0
}

// local are the pods of a node.
func (c *cluster) local(node string) []*pod {
	return slices.DeleteFunc(c.all(), func(p *pod) bool { return p.node != node })
}

func (c *cluster) all() []*pod {
	var all []*pod
	for _, pods := range c.pods {
		all = append(all, pods...)
	}
	return all
}
