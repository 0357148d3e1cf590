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
		Plugin:         "cni-flannel",
		FlannelBackend: "vxlan",
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
		{"vxlan", nil, func(*hostabi.CNIRequest) {}},
		{"without-policy", nil, func(r *hostabi.CNIRequest) { r.NetworkPolicy = false }},
		{"vxlan-iptables", nil, func(r *hostabi.CNIRequest) { r.ProxyMode = "iptables" }},
		{"vxlan-unknown-link", nil, func(r *hostabi.CNIRequest) { r.Node.Interface, r.Node.MTU = "", 0 }},
		{"vxlan-jumbo", nil, func(r *hostabi.CNIRequest) { r.Node.MTU = 9000 }},
		{"dual-stack", nil, dualStack},
		{"dual-stack-host-gw", nil, func(r *hostabi.CNIRequest) { dualStack(r); r.FlannelBackend = "host-gw" }},
		{"ipv6", nil, func(r *hostabi.CNIRequest) {
			r.ClusterCIDRs, r.ServiceCIDRs = []string{"fd42::/56"}, []string{"fd43::/112"}
			r.Node.Addresses, r.Node.PodCIDRs = []string{"fd99::1"}, []string{"fd42::/64"}
		}},
		{"host-gw", nil, func(r *hostabi.CNIRequest) { r.FlannelBackend = "host-gw" }},
		{"configured", map[string]any{"vni": 42, "port": 4789, "mtu": 1400, "masquerade": false}, func(*hostabi.CNIRequest) {}},
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
		{func(r *hostabi.CNIRequest) { r.FlannelBackend = "udp" }, `flannel-backend "udp" is unknown; use vxlan or host-gw`},
		{func(r *hostabi.CNIRequest) { r.FlannelBackend = "none" }, "use --cni cni-none"},
		{func(r *hostabi.CNIRequest) { r.ProxyMode = "ipvs" }, `proxy mode "ipvs" is unknown; use nftables or iptables`},
		{func(r *hostabi.CNIRequest) { r.ClusterCIDRs = nil }, "cluster-cidr is empty"},
		{func(r *hostabi.CNIRequest) { r.ClusterCIDRs = []string{"10.42.0.0/16", "fd00::/48"} }, `pod CIDRs 10.42.0.0/24, of other families`},
		{func(r *hostabi.CNIRequest) { r.ClusterCIDRs = []string{"fd00::/48", "fd01::/48"} }, `are of one family`},
		{func(r *hostabi.CNIRequest) { r.Node.PodCIDRs = []string{"fd42::/64"} }, `pod CIDRs fd42::/64, of other families`},
		{func(r *hostabi.CNIRequest) { dualStack(r); r.Node.MTU = 1300 }, "mtu 1230 is too small for IPv6"},
		{func(r *hostabi.CNIRequest) { r.ClusterCIDRs = []string{"10.42.0.0"} }, `cluster-cidr: "10.42.0.0" is not a CIDR`},
		{func(r *hostabi.CNIRequest) { r.Node.PodCIDRs = nil }, `node "node-1" has no pod CIDR yet`},
		{func(r *hostabi.CNIRequest) { r.Node.MTU = 600 }, "mtu 550 is too small"},
	} {
		_, claimed, err := plugintest.New(t, manifest, nil).CNI(request(tt.change))
		if err == nil || claimed || !strings.Contains(err.Error(), tt.why) {
			t.Errorf("got %v, want %q", err, tt.why)
		}
	}
}

func TestConfigRefuses(t *testing.T) {
	for _, tt := range []struct {
		config map[string]any
		why    string
	}{
		{map[string]any{"vni": 0}, "config vni: 0"},
		{map[string]any{"vni": 1 << 24}, "config vni: 16777216"},
		{map[string]any{"port": 65536}, "config port: 65536"},
		{map[string]any{"mtu": -1}, "config mtu: -1"},
	} {
		if _, err := plugintest.Start(manifest, tt.config); err == nil || !strings.Contains(err.Error(), tt.why) {
			t.Errorf("got %v, want %q", err, tt.why)
		}
	}
	large := map[string]any{"mtu": 1480}
	_, _, err := plugintest.New(t, manifest, large).CNI(request(func(*hostabi.CNIRequest) {}))
	if err == nil || !strings.Contains(err.Error(), "use at most 1450") {
		t.Errorf("got %v", err)
	}
}
