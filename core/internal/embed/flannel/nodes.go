package flannel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/flannel-io/flannel/pkg/ip"
	"github.com/flannel-io/flannel/pkg/lease"
	"github.com/flannel-io/flannel/pkg/subnet"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
)

// The annotations by which flannel's nodes find each other, as flanneld
// writes and reads them.
const (
	prefix                = "flannel.alpha.coreos.com/"
	annotationManaged     = prefix + "kube-subnet-manager"
	annotationBackendType = prefix + "backend-type"
	annotationBackendData = prefix + "backend-data"
	annotationPublicIP    = prefix + "public-ip"

	annotationBackendV6Data = prefix + "backend-v6-data"
	annotationPublicIPv6    = prefix + "public-ipv6"
)

// leaseDuration is only informative: a lease lives as long as its Node.
const leaseDuration = 24 * time.Hour

// nodes is flannel's subnet manager over Node objects. It stands in for the
// library's own, which takes the node's name from the environment, its
// configuration from a file, and leaves goroutines behind.
type nodes struct {
	client   kubernetes.Interface
	nodeName string
	cfg      *subnet.Config
	lister   listers.NodeLister
	changed  chan struct{} // holds a token when a node changed
	done     chan struct{}
	stop     func()
}

var _ subnet.Manager = (*nodes)(nil)

// watchNodes returns when the nodes are known. close ends the watch.
func watchNodes(ctx context.Context, client kubernetes.Interface, nodeName string, cfg *subnet.Config) (*nodes, error) {
	ctx, cancel := context.WithCancel(ctx)
	factory := informers.NewSharedInformerFactory(client, 0)
	informer := factory.Core().V1().Nodes()
	m := &nodes{
		client: client, nodeName: nodeName, cfg: cfg, lister: informer.Lister(),
		changed: make(chan struct{}, 1), done: make(chan struct{}),
	}
	m.stop = sync.OnceFunc(func() {
		close(m.done)
		cancel()
		factory.Shutdown()
	})
	notice := func(any) {
		select {
		case m.changed <- struct{}{}:
		default:
		}
	}
	// Cannot fail before the informer is started.
	_, _ = informer.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    notice,
		UpdateFunc: func(_, obj any) { notice(obj) },
		DeleteFunc: notice,
	})
	factory.StartWithContext(ctx)
	if !cache.WaitForCacheSync(ctx.Done(), informer.Informer().HasSynced) {
		m.stop()
		return nil, fmt.Errorf("nodes not listed: %w", context.Cause(ctx))
	}
	return m, nil
}

func (m *nodes) close() { m.stop() }

// waitForPodCIDR returns the internal addresses of this node once it is
// registered and has a pod CIDR.
func (m *nodes) waitForPodCIDR(ctx context.Context) ([]net.IP, error) {
	var ips []net.IP
	var last error
	err := wait.PollUntilContextCancel(ctx, 200*time.Millisecond, true, func(context.Context) (bool, error) {
		var node *corev1.Node
		if node, last = m.lister.Get(m.nodeName); last != nil {
			return false, nil
		}
		if _, _, last = m.podSubnets(node); last != nil {
			return false, nil
		}
		for _, a := range node.Status.Addresses {
			if parsed := net.ParseIP(a.Address); a.Type == corev1.NodeInternalIP && parsed != nil {
				ips = append(ips, parsed)
			}
		}
		return true, nil
	})
	if err != nil {
		return nil, errors.Join(err, last)
	}
	return ips, nil
}

// AcquireLease publishes how other nodes reach this one and returns its pod
// subnet.
func (m *nodes) AcquireLease(ctx context.Context, attrs *lease.LeaseAttrs) (*lease.Lease, error) {
	node, err := m.lister.Get(m.nodeName)
	if err != nil {
		return nil, err
	}
	v4, v6, err := m.podSubnets(node)
	if err != nil {
		return nil, err
	}
	want := map[string]string{annotationManaged: "true", annotationBackendType: attrs.BackendType}
	if m.cfg.EnableIPv4 {
		data, err := json.Marshal(attrs.BackendData)
		if err != nil {
			return nil, err
		}
		want[annotationBackendData], want[annotationPublicIP] = string(data), attrs.PublicIP.String()
	}
	if m.cfg.EnableIPv6 {
		data, err := json.Marshal(attrs.BackendV6Data)
		if err != nil {
			return nil, err
		}
		want[annotationBackendV6Data], want[annotationPublicIPv6] = string(data), attrs.PublicIPv6.String()
	}
	if err := m.annotate(ctx, node, want); err != nil {
		return nil, fmt.Errorf("annotate node %q: %w", m.nodeName, err)
	}
	return &lease.Lease{
		EnableIPv4: m.cfg.EnableIPv4, EnableIPv6: m.cfg.EnableIPv6, Subnet: v4, IPv6Subnet: v6,
		Attrs: *attrs, Expiration: time.Now().Add(leaseDuration),
	}, nil
}

// annotate writes what differs, through the status of the node as flannel
// does: the identity needs no right to change nodes as such.
func (m *nodes) annotate(ctx context.Context, node *corev1.Node, want map[string]string) error {
	same := true
	for key, value := range want {
		same = same && node.Annotations[key] == value
	}
	if same {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": want}})
	if err != nil {
		return err
	}
	_, err = m.client.CoreV1().Nodes().Patch(ctx, m.nodeName, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	return err
}

// WatchLeases sends what changes about the leases of all nodes, beginning
// with all of them, and closes receiver when it ends.
func (m *nodes) WatchLeases(ctx context.Context, receiver chan []lease.LeaseWatchResult) error {
	defer close(receiver)
	sent := map[string]lease.Lease{}
	for {
		if events := m.difference(sent); len(events) > 0 {
			select {
			case receiver <- []lease.LeaseWatchResult{{Events: events}}:
			case <-m.done:
				return nil
			case <-ctx.Done():
				return nil
			}
		}
		select {
		case <-m.changed:
		case <-m.done:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// GetNetworkConfig implements subnet.Manager.
func (m *nodes) GetNetworkConfig(context.Context) (*subnet.Config, error) { return m.cfg, nil }

// GetStoredMacAddresses returns the addresses that this node's links had before,
// so that the other nodes need not learn others.
func (m *nodes) GetStoredMacAddresses(context.Context) (v4, v6 string) {
	node, err := m.lister.Get(m.nodeName)
	if err != nil {
		return "", ""
	}
	return storedMAC(node.Annotations[annotationBackendData]), storedMAC(node.Annotations[annotationBackendV6Data])
}

func storedMAC(text string) string {
	var data struct{ VtepMAC string }
	if json.Unmarshal([]byte(text), &data) != nil {
		return ""
	}
	return data.VtepMAC
}

// Name implements subnet.Manager.
func (m *nodes) Name() string { return "nodes seen by " + m.nodeName }

// The rest of subnet.Manager serves flannel's other stores and its daemon.

// GetStoredPublicIP implements subnet.Manager.
func (*nodes) GetStoredPublicIP(context.Context) (v4, v6 string) { return "", "" }

// CompleteLease implements subnet.Manager.
func (*nodes) CompleteLease(context.Context, *lease.Lease, *sync.WaitGroup) error { return nil }

// RenewLease implements subnet.Manager.
func (*nodes) RenewLease(context.Context, *lease.Lease) error { return errors.ErrUnsupported }

// WatchLease implements subnet.Manager.
func (*nodes) WatchLease(context.Context, ip.IP4Net, ip.IP6Net, chan []lease.LeaseWatchResult) error {
	return errors.ErrUnsupported
}

// HandleSubnetFile implements subnet.Manager.
func (*nodes) HandleSubnetFile(string, *subnet.Config, bool, ip.IP4Net, ip.IP6Net, int) error {
	return errors.ErrUnsupported
}
