package config

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/cleat-dev/cleat/core/internal/joinapi"
)

// InCluster returns the configuration of a node whose cluster is known: for an
// agent a copy with the cluster's choices, and of the node's addresses those that
// the cluster's families ask for; for a server itself, whose choices they are.
func (c *Config) InCluster(cluster joinapi.NodeConfig) (*Config, error) {
	if !c.IsAgent() {
		return c, nil
	}
	in := *c
	in.ClusterCIDR, in.ServiceCIDR = cluster.ClusterCIDR, cluster.ServiceCIDR
	in.ClusterDNS, in.ClusterDomain = cluster.ClusterDNS, cluster.ClusterDomain
	in.ServiceNodePortRange = cluster.ServiceNodePortRange
	in.CNI, in.FlannelBackend = cluster.CNI, cluster.FlannelBackend
	in.DisableNetworkPolicy = cluster.DisableNetworkPolicy
	in.DisableKubeProxy, in.DisableCloudController = cluster.DisableKubeProxy, cluster.DisableCloudController

	// On a restart the machine's links still carry addresses of the cluster itself.
	own, taken := in.splitClusterAddresses(c.Host.Addresses)
	in.Host.Addresses = own
	candidates := own
	if c.Origin("node-ip") != originDetected {
		candidates = nil
		for _, s := range c.NodeIP {
			a, err := netip.ParseAddr(s)
			if err != nil {
				return nil, fmt.Errorf("--node-ip %q: %w", s, err)
			}
			if in.insideCluster(a) {
				return nil, fmt.Errorf("--node-ip %s (%s) lies in the cluster's own %s or %s; give the address at which other machines reach this one",
					s, c.Origin("node-ip"), strings.Join(in.ClusterCIDR, ","), strings.Join(in.ServiceCIDR, ","))
			}
			candidates = append(candidates, a)
		}
	}
	in.NodeIP = nil
	for _, six := range in.families() {
		a, ok := firstOf(candidates, six)
		switch {
		case ok:
			in.NodeIP = append(in.NodeIP, a.String())
		case c.Origin("node-ip") != originDetected:
			return nil, fmt.Errorf("--node-ip %s (%s) has no address of a family that the cluster's pods have, %s; give one for each",
				strings.Join(c.NodeIP, ","), c.Origin("node-ip"), strings.Join(in.ClusterCIDR, ","))
		default:
			return nil, fmt.Errorf("no address for this node: %s; configure an address, or give one with --node-ip", in.whyNoAddress(six, taken))
		}
	}
	return &in, nil
}
