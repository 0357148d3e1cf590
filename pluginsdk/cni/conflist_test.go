//go:build !wasip1

package cni_test

import (
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/pluginsdk/cni"
	"github.com/cleat-dev/cleat/pluginsdk/plugintest"
)

func TestConflist(t *testing.T) {
	conflist, err := cni.BridgeNetwork{
		Name: "net", Bridge: "br0", MTU: 1400, PodCIDRs: []string{"10.1.0.0/24", "fd00::/64"},
		Routes: []string{"10.1.0.0/16", "fd00::/48"}, ProxyMode: hostabi.ProxyModeIPTables,
	}.Conflist()
	if err != nil {
		t.Fatal(err)
	}
	plugintest.Golden(t, "conflist", conflist)
}

func TestMTU(t *testing.T) {
	v4, both := cni.Networks{V4: "10.42.0.0/16"}, cni.Networks{V4: "10.42.0.0/16", V6: "fd42::/56"}
	for _, tt := range []struct {
		wanted, link, overhead, mtu int
		networks                    cni.Networks
		why                         string
	}{
		{0, 1500, 50, 1450, v4, ""},
		{0, 0, 50, 1450, v4, ""},
		{1400, 1500, 50, 1400, v4, ""},
		{1450, 1500, 50, 1450, v4, ""},
		{1451, 1500, 50, 0, v4, "use at most 1450"},
		{100, 1500, 0, 0, v4, "too small"},
		{0, 500, 0, 0, v4, "too small for IPv4"},
		{1280, 1500, 70, 1280, both, ""},
		{0, 1300, 70, 0, both, "mtu 1230 is too small for IPv6; use 1280 or more"},
	} {
		got, err := cni.MTU(tt.wanted, hostabi.CNINode{Interface: "eth0", MTU: tt.link}, tt.overhead, tt.networks)
		if got != tt.mtu || (err == nil) != (tt.why == "") || err != nil && !strings.Contains(err.Error(), tt.why) {
			t.Errorf("%+v: got %d, %v", tt, got, err)
		}
	}
}
