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
	for _, tt := range []struct {
		wanted, link, overhead, mtu int
		why                         string
	}{
		{0, 1500, 50, 1450, ""},
		{0, 0, 50, 1450, ""},
		{1400, 1500, 50, 1400, ""},
		{1450, 1500, 50, 1450, ""},
		{1451, 1500, 50, 0, "use at most 1450"},
		{100, 1500, 0, 0, "too small"},
		{0, 500, 0, 0, "too small"},
	} {
		got, err := cni.MTU(tt.wanted, hostabi.CNINode{Interface: "eth0", MTU: tt.link}, tt.overhead)
		if got != tt.mtu || (err == nil) != (tt.why == "") || err != nil && !strings.Contains(err.Error(), tt.why) {
			t.Errorf("%+v: got %d, %v", tt, got, err)
		}
	}
}
