//go:build e2e

package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/test/e2e/lab"
)

// A cluster of IPv6 alone, and one of both families, each of a server and an agent.
func TestFamilies(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name           string
		pods, services string
		addresses      func(m *lab.Machine) []string // of a node, in URLs
		families       int
	}{
		{"ipv6", "fd42::/56", "fd43::/112", func(m *lab.Machine) []string { return []string{"[" + m.Addr6.String() + "]"} }, 1},
		{"dual-stack", "10.42.0.0/16,fd42::/56", "10.43.0.0/16,fd43::/112", func(m *lab.Machine) []string {
			return []string{m.Addr.String(), "[" + m.Addr6.String() + "]"}
		}, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t)
			n := newNode(t, l, "n1", "--cluster-cidr", tt.pods, "--service-cidr", tt.services)
			a := newAgent(t, l, n, "n2")
			client := l.Machine("client")
			n.serve(t)
			a.startAt(t, fmt.Sprintf("https://%s:6443", tt.addresses(n.Machine)[0]))
			a.awaitReady(t)

			ns := n.namespace(t, "families")
			n.apply(t, ns, strings.ReplaceAll(webOn("n1", "n2"), "type: NodePort", "type: NodePort\n  ipFamilyPolicy: PreferDualStack"))
			for _, name := range []string{"n1", "n2"} {
				n.awaitPod(t, ns, "web-"+name)
			}
			ips := func(of string) []string {
				return strings.Fields(n.kubectl(t, "get", "pod", "-n", ns, of, "-o", `jsonpath={range .status.podIPs[*]}{.ip}{" "}{end}`))
			}
			for _, from := range []string{"n1", "n2"} {
				for _, to := range []string{"n1", "n2"} {
					addresses := ips("web-" + to)
					if len(addresses) != tt.families {
						t.Fatalf("web-%s has the addresses %v", to, addresses)
					}
					for _, ip := range addresses {
						eventuallyPrints(t, n.Machine, podPatience, "web-"+to, "kubectl", "exec", "-n", ns, "web-"+from, "--",
							"wget", "-q", "-O", "-", "http://"+inURL(ip)+":8080")
					}
				}
			}
			services := strings.Fields(n.kubectl(t, "get", "service", "-n", ns, "web", "-o", `jsonpath={range .spec.clusterIPs[*]}{@}{" "}{end}`))
			if len(services) != tt.families {
				t.Fatalf("the service has the addresses %v", services)
			}
			for _, from := range []string{"n1", "n2"} {
				for _, ip := range services {
					eventuallyPrints(t, n.Machine, podPatience, "web-n", "kubectl", "exec", "-n", ns, "web-"+from, "--",
						"wget", "-q", "-O", "-", "http://"+inURL(ip))
				}
				eventuallyPrints(t, n.Machine, podPatience, services[len(services)-1], "kubectl", "exec", "-n", ns, "web-"+from, "--",
					"nslookup", "web."+ns+".svc.cluster.local")
			}
			port := n.kubectl(t, "get", "service", "-n", ns, "web", "-o", "jsonpath={.spec.ports[0].nodePort}")
			for _, m := range []*lab.Machine{n.Machine, a.Machine} {
				for _, address := range tt.addresses(m) {
					eventuallyPrints(t, client, podPatience, "web-n", "curl", "-sS", "--max-time", "3", fmt.Sprintf("http://%s:%s", address, port))
				}
			}
			c := &policed{node: n, agent: a}
			n.apply(t, ns, policyYAML("but-n2", fmt.Sprintf("{podSelector: {}, policyTypes: [Ingress], ingress: [{from: [%s]}]}", allBut(tt.pods, ips("web-n2")))))
			var requests []request
			for i := range tt.families {
				requests = append(requests,
					request{ns, "web-n1", "http://" + inURL(ips("web-n2")[i]) + ":8080", true},
					request{ns, "web-n2", "http://" + inURL(ips("web-n1")[i]) + ":8080", false})
			}
			c.expect(t, requests...)
			if got := n.kubectl(t, "logs", "-n", ns, "web-n2"); strings.TrimSpace(got) != "hello from web-n2" {
				t.Errorf("the web server says %q", got)
			}
		})
	}
}

// allBut are peers of a policy: each of the ranges without the address of its family.
func allBut(ranges string, addresses []string) string {
	var peers []string
	for i, cidr := range strings.Split(ranges, ",") {
		bits := netip.MustParseAddr(addresses[i]).BitLen()
		peers = append(peers, fmt.Sprintf(`{ipBlock: {cidr: "%s", except: ["%s/%d"]}}`, cidr, addresses[i], bits))
	}
	return strings.Join(peers, ", ")
}

// inURL is an address as it is written in a URL.
func inURL(ip string) string {
	if strings.Contains(ip, ":") {
		return "[" + ip + "]"
	}
	return ip
}
