//go:build e2e

package e2e

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/test/e2e/lab"
)

// cluster is the node that most tests share, a machine beside it on the same
// network, and a workload that all of them may use and none may change.
type cluster struct {
	*node
	client *lab.Machine
	web    web
}

// TestServer boots one cluster with the defaults and asks it for everything a
// user of Kubernetes expects.
func TestServer(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	c := &cluster{node: newNode(t, l, "n1"), client: l.Machine("client")}
	t.Logf("cold start: Ready after %.1f s", c.serve(t))
	c.web = startWeb(t, c.node)

	// Most of these wait most of the time, so they wait together.
	t.Run("works", func(t *testing.T) {
		for _, tc := range []struct {
			name string
			test func(*testing.T, *cluster)
		}{
			{"services", testServices},
			{"DNS", testDNS},
			{"logs", testLogs},
			{"exec", testExec},
			{"cp", testCopy},
			{"port-forward", testPortForward},
			{"job", testJob},
			{"config map volume", testConfigMapVolume},
			{"volumes", testVolumes},
			{"CSI", testCSI},
			{"host port", testHostPort},
			{"deletion", testDeletion},
			{"admission denies", testDenied},
			{"admission mutates", testMutated},
			{"manifests", testManifests},
			{"commands", testCommands},
			{"secrets", testSecrets},
			{"listeners", testListeners},
			{"README", testReadme},
		} {
			t.Run(tc.name, func(t *testing.T) {
				t.Parallel()
				tc.test(t, c)
			})
		}
	})
	t.Run("stop and start", func(t *testing.T) { testStop(t, c) })
	t.Run("kill and start", func(t *testing.T) { testKill(t, c) })
	t.Run("power cut", func(t *testing.T) { testPowerCut(t, c) })
}

// The choices that are not the default, each on a machine of its own.
func TestVariations(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		args []string
		test func(*testing.T, *cluster)
	}{
		{"bridge", []string{"--cni", "cni-bridge", "--cluster-cidr", "10.42.0.0/16,fd42::/56", "--service-cidr", "10.43.0.0/16,fd43::/112"}, func(t *testing.T, c *cluster) {
			if out, err := c.Run("ip", "link", "show", "type", "vxlan"); err != nil || out != "" {
				t.Errorf("the bridge plugin made an overlay: %s%v", out, err)
			}
			testBridgeFamilies(t, c.node, c.client, [2]netip.Addr{c.Addr, c.client.Addr}, [2]netip.Addr{c.Addr6, c.client.Addr6})
		}},
		{"hostgw-iptables", []string{"--flannel-backend", "host-gw", "--kube-proxy-arg", "proxy-mode=iptables"}, func(t *testing.T, c *cluster) {
			if out, err := c.Run("ip", "link", "show", "type", "vxlan"); err != nil || out != "" {
				t.Errorf("host-gw made an overlay: %s%v", out, err)
			}
			if rules := c.Must(t, "iptables-save", "-t", "nat"); !strings.Contains(rules, "KUBE-SERVICES") {
				t.Errorf("no services in iptables:\n%s", rules)
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newLab(t)
			n := newNode(t, l, tc.name, tc.args...)
			t.Logf("Ready after %.1f s", n.serve(t))
			c := &cluster{node: n, client: l.Machine("client"), web: startWeb(t, n)}
			testServices(t, c)
			testDNS(t, c)
			testHostPort(t, c)
			tc.test(t, c)
		})
	}
}
