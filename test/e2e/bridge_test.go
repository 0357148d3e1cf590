//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/test/e2e/lab"
)

// The other variations of cni-bridge are in TestVariations and TestDeath.
func TestBridgeIPv6(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	n := newNode(t, l, "n1", "--cni", "cni-bridge", "--cluster-cidr", "fd42::/56", "--service-cidr", "fd43::/112")
	t.Logf("Ready after %.1f s", n.serve(t))
	client := l.Machine("client")
	testBridgeFamilies(t, n, client, [2]netip.Addr{n.Addr6, client.Addr6})
}

// testBridgeFamilies asks a pod for a page in each family, which are given by an address
// of the node and one of the client: from another pod, through a service and a node port,
// by a host port; and then lets a pod ask the client.
func testBridgeFamilies(t *testing.T, n *node, client *lab.Machine, families ...[2]netip.Addr) {
	ns := n.namespace(t, "families")
	n.apply(t, ns, podOf("front", "mkdir /www; echo a page >/www/index.html; exec httpd -f -p 8080 -h /www", "    ports: [{containerPort: 8080, hostPort: 18083}]")+
		"---"+podOf("other", "exec sleep 1000000", "")+`---
apiVersion: v1
kind: Service
metadata: {name: front}
spec:
  type: NodePort
  ipFamilyPolicy: PreferDualStack
  selector: {app: front}
  ports: [{port: 80, targetPort: 8080}]
`)
	n.kubectl(t, "label", "pod", "-n", ns, "front", "app=front")
	n.awaitPod(t, ns, "front")
	n.awaitPod(t, ns, "other")
	list := func(kind, path string) []string {
		t.Helper()
		all := strings.Fields(n.kubectl(t, "get", kind, "-n", ns, "front", "-o", "jsonpath={range "+path+`}{" "}{end}`))
		if len(all) != len(families) {
			t.Fatalf("the %s has the addresses %v, want %d", kind, all, len(families))
		}
		return all
	}
	pods, services := list("pod", ".status.podIPs[*]}{.ip"), list("service", ".spec.clusterIPs[*]}{@")
	nodePort := n.kubectl(t, "get", "service", "-n", ns, "front", "-o", "jsonpath={.spec.ports[0].nodePort}")
	whoAsks := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		fmt.Fprintf(w, "[%s]", host)
	})
	for i, family := range families {
		of, outside := inURL(family[0].String()), inURL(family[1].String())
		fromPod := func(want, url string) {
			t.Helper()
			eventuallyPrints(t, n.Machine, podPatience, want, "kubectl", "exec", "-n", ns, "other", "--", "timeout", "5", "wget", "-q", "-O", "-", url)
		}
		fromPod("a page", "http://"+inURL(pods[i])+":8080")
		fromPod("a page", "http://"+inURL(services[i]))
		for _, from := range []*lab.Machine{n.Machine, client} {
			for _, port := range []string{nodePort, "18083"} {
				eventuallyPrints(t, from, podPatience, "a page", "curl", "-sS", "--max-time", "3", "http://"+of+":"+port)
			}
		}
		listener := client.ListenOn(t, outside+":9000")
		go func() { _ = http.Serve(listener, whoAsks) }() // ends with the listener
		fromPod("["+family[0].String()+"]", "http://"+outside+":9000")
	}
}
