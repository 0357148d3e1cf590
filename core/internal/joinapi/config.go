package joinapi

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
)

const (
	maxFamilies = 2 // IPv4 and IPv6
	maxWord     = 128

	wordCharacters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.+-_"
)

// NodeConfig is what a node has to know of its cluster. Fields are only ever
// added; a node ignores those it does not know.
type NodeConfig struct {
	Version              string   `json:"version"`     // of the server, v1.36.3+cleat…
	ClusterCIDR          []string `json:"clusterCIDR"` // pods
	ServiceCIDR          []string `json:"serviceCIDR"`
	ClusterDNS           []string `json:"clusterDNS"`
	ClusterDomain        string   `json:"clusterDomain"`
	ServiceNodePortRange string   `json:"serviceNodePortRange"` // "30000-32767"
	CNI                  string   `json:"cni"`                  // the plugin that decides the network
	FlannelBackend       string   `json:"flannelBackend"`
	DisableKubeProxy     bool     `json:"disableKubeProxy,omitempty"`
	DisableNetworkPolicy bool     `json:"disableNetworkPolicy,omitempty"`

	DisableCloudController bool `json:"disableCloudController,omitempty"` // nodes register without its taint
}

// ParseNodeConfig reads and checks an answer to PathConfig.
func ParseNodeConfig(text []byte) (NodeConfig, error) {
	var c NodeConfig
	if len(text) > MaxAnswerBody {
		return NodeConfig{}, fmt.Errorf("node config: %d bytes, want at most %d", len(text), MaxAnswerBody)
	}
	if err := json.Unmarshal(text, &c); err != nil {
		return NodeConfig{}, fmt.Errorf("node config: %w", err)
	}
	if err := c.check(); err != nil {
		return NodeConfig{}, fmt.Errorf("node config: %w", err)
	}
	return c, nil
}

func (c NodeConfig) check() error {
	for _, f := range []struct {
		name   string
		values []string
	}{{"clusterCIDR", c.ClusterCIDR}, {"serviceCIDR", c.ServiceCIDR}} {
		if n := len(f.values); n == 0 || n > maxFamilies {
			return fmt.Errorf("%s has %d networks, want 1 to %d", f.name, n, maxFamilies)
		}
		for _, v := range f.values {
			if _, err := netip.ParsePrefix(v); err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
		}
	}
	if n := len(c.ClusterDNS); n > maxFamilies {
		return fmt.Errorf("clusterDNS has %d addresses, want at most %d", n, maxFamilies)
	}
	for _, v := range c.ClusterDNS {
		if _, err := netip.ParseAddr(v); err != nil {
			return fmt.Errorf("clusterDNS: %w", err)
		}
	}
	if err := CheckNodeName(c.ClusterDomain); err != nil {
		return fmt.Errorf("clusterDomain %q is no domain name", c.ClusterDomain)
	}
	if c.CNI == "" {
		return fmt.Errorf("cni is empty")
	}
	// These become names of plugins and arguments of programs.
	for _, f := range []struct{ name, value string }{
		{"version", c.Version}, {"cni", c.CNI}, {"flannelBackend", c.FlannelBackend}, {"serviceNodePortRange", c.ServiceNodePortRange},
	} {
		if len(f.value) > maxWord || strings.Trim(f.value, wordCharacters) != "" || strings.HasPrefix(f.value, "-") {
			return fmt.Errorf("%s %.100q: want at most %d letters, digits and . + - _, not beginning with -", f.name, f.value, maxWord)
		}
	}
	return nil
}
