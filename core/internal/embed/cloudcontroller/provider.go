package cloudcontroller

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	cloudprovider "k8s.io/cloud-provider"
	cloudproviderapi "k8s.io/cloud-provider/api"

	"github.com/cleat-dev/cleat/core/internal/nodenotes"
)

// providerName is the scheme of the nodes' provider IDs.
const providerName = "cleat"

// maxAddresses bounds what a kubelet may claim: dual stack is two.
const maxAddresses = 8

// provider answers for machines whose only authority is their own node object.
// It does instances; the rest of the interface says that it is not there.
type provider struct {
	nodeName string
	nodeIPs  []string
	log      *slog.Logger
}

func (provider) Initialize(cloudprovider.ControllerClientBuilder, <-chan struct{}) {}
func (provider) LoadBalancer() (cloudprovider.LoadBalancer, bool)                  { return nil, false }
func (provider) Instances() (cloudprovider.Instances, bool)                        { return nil, false }
func (p provider) InstancesV2() (cloudprovider.InstancesV2, bool)                  { return p, true }
func (provider) Zones() (cloudprovider.Zones, bool)                                { return nil, false }
func (provider) Clusters() (cloudprovider.Clusters, bool)                          { return nil, false }
func (provider) Routes() (cloudprovider.Routes, bool)                              { return nil, false }
func (provider) ProviderName() string                                              { return providerName }
func (provider) HasClusterID() bool                                                { return true }

// InstanceExists is always true: a node is deleted by an administrator.
func (provider) InstanceExists(context.Context, *corev1.Node) (bool, error) { return true, nil }

// InstanceShutdown is always false: nobody could tell.
func (provider) InstanceShutdown(context.Context, *corev1.Node) (bool, error) { return false, nil }

// InstanceMetadata returns the node's provider ID and addresses. It fails, and
// so leaves the node tainted, if there is no address to give.
func (p provider) InstanceMetadata(_ context.Context, node *corev1.Node) (*cloudprovider.InstanceMetadata, error) {
	ips, err := p.internalIPs(node)
	if err != nil {
		return nil, err
	}
	hostname := node.Labels[corev1.LabelHostname]
	if hostname == "" {
		hostname = node.Name
	}
	notes, err := nodenotes.Read(node.Annotations)
	if err != nil {
		p.log.Warn("a node tells of itself what cannot be", "node", node.Name, "error", err)
	}
	var addresses []corev1.NodeAddress
	add := func(kind corev1.NodeAddressType, address string) {
		addresses = append(addresses, corev1.NodeAddress{Type: kind, Address: address})
	}
	for _, ip := range ips {
		add(corev1.NodeInternalIP, ip.String())
	}
	for _, ip := range notes.ExternalIPs {
		add(corev1.NodeExternalIP, ip.String())
	}
	add(corev1.NodeHostName, hostname)
	for _, name := range notes.InternalDNS {
		add(corev1.NodeInternalDNS, name)
	}
	for _, name := range notes.ExternalDNS {
		add(corev1.NodeExternalDNS, name)
	}
	// A provider ID cannot be changed: a node that came with another keeps it.
	id := node.Spec.ProviderID
	if id == "" {
		id = providerName + "://" + node.Name
	}
	return &cloudprovider.InstanceMetadata{ProviderID: id, NodeAddresses: addresses}, nil
}

// internalIPs returns the node's addresses, the primary one first: what its
// kubelet was told (--node-ip), else what the node has already, else, for this
// machine's own node, what the configuration says.
func (p provider) internalIPs(node *corev1.Node) ([]netip.Addr, error) {
	if provided := node.Annotations[cloudproviderapi.AnnotationAlphaProvidedIPAddr]; provided != "" {
		return parseAddresses("annotation "+cloudproviderapi.AnnotationAlphaProvidedIPAddr, node.Name, strings.Split(provided, ","))
	}
	var present []string
	for _, a := range node.Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			present = append(present, a.Address)
		}
	}
	if len(present) > 0 {
		return parseAddresses("status.addresses", node.Name, present)
	}
	if node.Name == p.nodeName && len(p.nodeIPs) > 0 {
		return parseAddresses("--node-ip", node.Name, p.nodeIPs)
	}
	return nil, fmt.Errorf("node %s tells no address: start its kubelet with --node-ip", node.Name)
}

func parseAddresses(from, node string, list []string) ([]netip.Addr, error) {
	if len(list) > maxAddresses {
		return nil, fmt.Errorf("%s of node %s lists %d addresses, more than %d", from, node, len(list), maxAddresses)
	}
	out := make([]netip.Addr, 0, len(list))
	for _, s := range list {
		a, err := nodenotes.ParseAddress(strings.TrimSpace(s))
		if err != nil {
			return nil, fmt.Errorf("%s of node %s: %w", from, node, err)
		}
		out = append(out, a)
	}
	return out, nil
}
