package network

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/hostabi"
)

func TestCheckPlanRefuses(t *testing.T) {
	none := hostabi.CNIPlan{Driver: hostabi.CNIDriverNone}
	with := func(change func(*hostabi.CNIPlan)) hostabi.CNIPlan {
		p := none
		change(&p)
		return p
	}
	flannel := func(f hostabi.FlannelPlan) hostabi.CNIPlan {
		return hostabi.CNIPlan{Driver: hostabi.CNIDriverFlannel, Flannel: &f}
	}
	for _, tc := range []struct {
		want string
		plan hostabi.CNIPlan
	}{
		{"flannel: missing", hostabi.CNIPlan{Driver: hostabi.CNIDriverFlannel}},
		{"flannel.backend", flannel(hostabi.FlannelPlan{Backend: "udp", Network: "10.0.0.0/8"})},
		{"flannel.network", flannel(hostabi.FlannelPlan{Backend: "vxlan", Network: "fd00::/8"})},
		{"flannel.interface", flannel(hostabi.FlannelPlan{Backend: "vxlan", Network: "10.0.0.0/8", Interface: "a b"})},
		{"flannel.vni", flannel(hostabi.FlannelPlan{Backend: "vxlan", Network: "10.0.0.0/8", VNI: 1 << 24})},
		{"flannel.port", flannel(hostabi.FlannelPlan{Backend: "vxlan", Network: "10.0.0.0/8", Port: 70000})},
		{"bridge: missing", hostabi.CNIPlan{Driver: hostabi.CNIDriverBridge}},
		{"bridge.name", hostabi.CNIPlan{Driver: hostabi.CNIDriverBridge, Bridge: &hostabi.BridgePlan{Name: "../x", Network: "10.0.0.0/8"}}},
		{"bridge.network", hostabi.CNIPlan{Driver: hostabi.CNIDriverBridge, Bridge: &hostabi.BridgePlan{Name: "x"}}},
		{`bridge.network: "fd00::/8"`, hostabi.CNIPlan{Driver: hostabi.CNIDriverBridge, Bridge: &hostabi.BridgePlan{Name: "x", Network: "fd00::/8", NetworkV6: "fd42::/56"}}},
		{`bridge.network_v6: "10.0.0.0/8"`, hostabi.CNIPlan{Driver: hostabi.CNIDriverBridge, Bridge: &hostabi.BridgePlan{Name: "x", NetworkV6: "10.0.0.0/8"}}},
		{`flannel.network_v6: "10.0.0.0/8"`, flannel(hostabi.FlannelPlan{Backend: "vxlan", NetworkV6: "10.0.0.0/8"})},
		{"network_policy.driver", with(func(p *hostabi.CNIPlan) { p.NetworkPolicy = &hostabi.NetworkPolicyPlan{Driver: "iptables"} })},
		{"network_policy.bridge", with(func(p *hostabi.CNIPlan) {
			p.NetworkPolicy = &hostabi.NetworkPolicyPlan{Driver: "nftables", Bridge: `cni0" accept`}
		})},
		{"conflist_name", with(func(p *hostabi.CNIPlan) { p.ConflistName, p.Conflist = "../../x.conflist", conflist("a") })},
		{"conflist_name", with(func(p *hostabi.CNIPlan) { p.ConflistName, p.Conflist = "x.conf", conflist("a") })},
		{"without conflist", with(func(p *hostabi.CNIPlan) { p.ConflistName = "x.conflist" })},
		{"conflist: ", with(func(p *hostabi.CNIPlan) { p.ConflistName, p.Conflist = "x.conflist", json.RawMessage("{") })},
		{"must be set", with(func(p *hostabi.CNIPlan) { p.ConflistName, p.Conflist = "x.conflist", json.RawMessage("{}") })},
		{"plugins[0].type", with(func(p *hostabi.CNIPlan) {
			p.ConflistName, p.Conflist = "x.conflist", json.RawMessage(`{"name":"a","cniVersion":"1.0.0","plugins":[{"type":"../sh"}]}`)
		})},
		{"below net", with(func(p *hostabi.CNIPlan) { p.Sysctls = map[string]string{"kernel.core_pattern": "|/x"} })},
		{"below net", with(func(p *hostabi.CNIPlan) { p.Sysctls = map[string]string{"net.ipv4...kernel": "1"} })},
		{"value", with(func(p *hostabi.CNIPlan) { p.Sysctls = map[string]string{"net.ipv4.ip_forward": "1\n2"} })},
		{"no link name", with(func(p *hostabi.CNIPlan) { p.RemoveLinks = []string{".."} })},
		{"default route", with(func(p *hostabi.CNIPlan) { p.RemoveLinks = []string{"up0"} })},
	} {
		if err := checkPlan(tc.plan, "up0"); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("error %v, want %q", err, tc.want)
		}
	}
}

func FuzzCheckPlan(f *testing.F) {
	for _, plan := range []cniFunc{flannelPlan, bridgePlan, nonePlan} {
		p, err := plan(hostabi.CNIRequest{Node: hostabi.CNINode{PodCIDRs: []string{"10.42.0.0/24"}}})
		if err != nil {
			f.Fatal(err)
		}
		seed, err := json.Marshal(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var p hostabi.CNIPlan
		if json.Unmarshal(in, &p) != nil || checkPlan(p, "up0") != nil {
			return
		}
		if strings.ContainsAny(p.ConflistName, "/\x00") || strings.HasPrefix(p.ConflistName, ".") {
			t.Errorf("conflist_name %q", p.ConflistName)
		}
		for name := range p.Sysctls {
			if !strings.HasPrefix(name, "net.") || strings.Contains(name, "..") || strings.Contains(name, "/") {
				t.Errorf("sysctl %q", name)
			}
		}
	})
}
