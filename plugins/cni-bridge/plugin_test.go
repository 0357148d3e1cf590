package main

import (
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/pluginsdk/plugintest"
)

const manifest = "manifest.json"

func request(change func(*hostabi.CNIRequest)) hostabi.CNIRequest {
	req := hostabi.CNIRequest{
		Plugin:         "cni-bridge",
		FlannelBackend: "vxlan", // the flag's default; it is not for this plugin
		ClusterCIDRs:   []string{"10.42.0.0/16"},
		ServiceCIDRs:   []string{"10.43.0.0/16"},
		ClusterDomain:  "cluster.local",
		ProxyMode:      "nftables",
		Node: hostabi.CNINode{
			Name: "node-1", Addresses: []string{"192.0.2.10"}, Interface: "eth0", MTU: 1500, PodCIDRs: []string{"10.42.0.0/24"},
		},
		NetworkPolicy: true,
	}
	change(&req)
	return req
}

func dualStack(r *hostabi.CNIRequest) {
	r.ClusterCIDRs, r.ServiceCIDRs = []string{"10.42.0.0/16", "fd42::/56"}, []string{"10.43.0.0/16", "fd43::/112"}
	r.Node.Addresses, r.Node.PodCIDRs = []string{"192.0.2.10", "fd99::1"}, []string{"10.42.0.0/24", "fd42::/64"}
}

func TestPlans(t *testing.T) {
	for _, tt := range []struct {
		name   string
		config map[string]any
		change func(*hostabi.CNIRequest)
	}{
		{"default", nil, func(*hostabi.CNIRequest) {}},
		{"without-policy", nil, func(r *hostabi.CNIRequest) { r.NetworkPolicy = false }},
		{"iptables", nil, func(r *hostabi.CNIRequest) { r.ProxyMode = "iptables" }},
		{"dual-stack", nil, dualStack},
		{"ipv6", nil, func(r *hostabi.CNIRequest) {
			r.ClusterCIDRs, r.ServiceCIDRs = []string{"fd42::/56"}, []string{"fd43::/112"}
			r.Node.Addresses, r.Node.PodCIDRs = []string{"fd99::1"}, []string{"fd42::/64"}
		}},
		{"configured", map[string]any{"mtu": 1400, "masquerade": false}, func(*hostabi.CNIRequest) {}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			plan, claimed, err := plugintest.New(t, manifest, tt.config).CNI(request(tt.change))
			if err != nil || !claimed {
				t.Fatalf("claimed %v, %v", claimed, err)
			}
			plugintest.Golden(t, tt.name, plan)
		})
	}
}

func TestRefuses(t *testing.T) {
	for _, tt := range []struct {
		change func(*hostabi.CNIRequest)
		why    string
	}{
		{func(r *hostabi.CNIRequest) { r.ProxyMode = "" }, `proxy mode "" is unknown; use nftables or iptables`},
		{func(r *hostabi.CNIRequest) { r.ClusterCIDRs = nil }, "cluster-cidr is empty"},
		{func(r *hostabi.CNIRequest) { r.Node.PodCIDRs = nil }, `node "node-1" has no pod CIDR yet`},
		{func(r *hostabi.CNIRequest) { r.Node.PodCIDRs = []string{"fd42::/64"} }, "pod CIDRs fd42::/64, of other families"},
		{func(r *hostabi.CNIRequest) { dualStack(r); r.Node.MTU = 1200 }, "mtu 1200 is too small for IPv6"},
	} {
		_, claimed, err := plugintest.New(t, manifest, nil).CNI(request(tt.change))
		if err == nil || claimed || !strings.Contains(err.Error(), tt.why) {
			t.Errorf("got %v, want %q", err, tt.why)
		}
	}
	if _, err := plugintest.Start(manifest, map[string]any{"mtu": -1}); err == nil || !strings.Contains(err.Error(), "config mtu: -1") {
		t.Errorf("got %v", err)
	}
}
