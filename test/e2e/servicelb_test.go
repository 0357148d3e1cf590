//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/test/e2e/lab"
)

// peers is a Deployment whose pods answer with the address of who asks.
const peers = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: peers}
spec:
  replicas: 1
  selector: {matchLabels: {app: peers}}
  template:
    metadata: {labels: {app: peers}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: cleat.dev/busybox:test
        command:
        - sh
        - -c
        - |
          mkdir -p /www/cgi-bin
          printf '#!/bin/sh\necho; echo $REMOTE_ADDR\n' >/www/cgi-bin/peer
          chmod +x /www/cgi-bin/peer
          exec httpd -f -p 8080 -h /www
        readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
`

// balancer is a Service of type LoadBalancer before the pods of peers; spec holds
// further fields in YAML flow style, each with a comma before it.
func balancer(name, port, spec string) string {
	number, protocol, _ := strings.Cut(port, "/")
	return fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: %s}
spec: {type: LoadBalancer, selector: {app: peers}, ports: [{port: %s, protocol: %s, targetPort: 8080}]%s}
`, name, number, strings.ToUpper(protocol), spec)
}

// fetch prints what a Service answers.
func fetch(url string) []string {
	return []string{"curl", "-sS", "--max-time", "10", url + "/cgi-bin/peer"}
}

// awaitIngress waits until a Service of type LoadBalancer has these addresses.
func (n *node) awaitIngress(t testing.TB, namespace, service, want string) {
	t.Helper()
	lab.Eventually(t, podPatience, "addresses of "+service, func() error {
		out, err := n.Run("kubectl", "get", "service", service, "-n", namespace, "-o", "jsonpath={.status.loadBalancer.ingress[*].ip}")
		if err == nil && out != want {
			err = fmt.Errorf("%q, want %q", out, want)
		}
		return err
	})
}

// awaitEvent waits for an Event about an object.
func (n *node) awaitEvent(t testing.TB, namespace, object, reason, part string) {
	t.Helper()
	eventuallyPrints(t, n.Machine, podPatience, part, "kubectl", "get", "events", "-n", namespace,
		"--field-selector", "involvedObject.name="+object+",reason="+reason, "-o", `jsonpath={range .items[*]}{.message}{"\n"}{end}`)
}

// TestServiceLB is about Services of type LoadBalancer on one node, whose external
// address is a router's: the client's route is that router.
func TestServiceLB(t *testing.T) {
	t.Parallel()
	const external = "198.51.100.1"
	l := newLab(t)
	n := newNode(t, l, "n1", "--node-external-ip", external, "--node-external-dns", "n1.example.com", "--with-node-id")
	client := l.Machine("client")
	client.Must(t, "ip", "route", "add", external, "via", n.Addr.String())
	n.WriteFile(t, "/etc/cleat/node/id", "0a1b2c3d\n")
	name := n.Name + "-0a1b2c3d"
	n.start(t)
	lab.Eventually(t, bootPatience, "the node is Ready", func() error {
		out, err := n.Run("kubectl", "get", "node", name, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`)
		if err == nil && out != "True" {
			err = errors.New(out)
		}
		return err
	})
	ns := n.namespace(t, "lb")
	n.apply(t, ns, peers+"---"+balancer("web", "80/tcp", "")+"---"+balancer("keep", "81/tcp", ", externalTrafficPolicy: Local"))
	n.kubectl(t, "wait", "-n", ns, "deployment/peers", "--for=condition=Available", "--timeout=80s")
	both := external + " " + n.Addr.String()

	t.Run("node", func(t *testing.T) {
		eventuallyPrints(t, n.Machine, podPatience, "control-plane", "kubectl", "get", "node", name)
		eventuallyPrints(t, n.Machine, podPatience, external+" n1.example.com", "kubectl", "get", "node", name, "-o",
			`jsonpath={.status.addresses[?(@.type=="ExternalIP")].address} {.status.addresses[?(@.type=="ExternalDNS")].address}`)
		eventuallyPrints(t, n.Machine, podPatience, "6443/tcp=cleat", "kubectl", "get", "node", name, "-o",
			`jsonpath={.metadata.annotations.cleat\.dev/listens}`)
	})
	t.Run("reached from everywhere", func(t *testing.T) {
		n.awaitIngress(t, ns, "web", both)
		pod := strings.TrimSpace(n.kubectl(t, "get", "pod", "-n", ns, "-l", "app=peers", "-o", "name"))
		for _, address := range strings.Fields(both) {
			url := "http://" + address
			eventuallyPrints(t, client, podPatience, ".", fetch(url)...)
			eventuallyPrints(t, n.Machine, podPatience, ".", fetch(url)...)
			// The pod is its own endpoint: the way there leads back.
			eventuallyPrints(t, n.Machine, podPatience, ".", "kubectl", "exec", "-n", ns, pod, "--", "wget", "-q", "-O", "-", url+"/cgi-bin/peer")
		}
	})
	t.Run("source address", func(t *testing.T) {
		n.awaitIngress(t, ns, "keep", both)
		eventuallyPrints(t, client, podPatience, client.Addr.String(), fetch(fmt.Sprintf("http://%s:81", n.Addr))...)
		if peer := client.Must(t, fetch(fmt.Sprintf("http://%s", n.Addr))...); strings.TrimSpace(peer) == client.Addr.String() {
			t.Errorf("the Service without externalTrafficPolicy: Local shows %s too, so the test proves nothing", peer)
		}
		n.kubectl(t, "scale", "-n", ns, "deployment/peers", "--replicas=0")
		n.awaitIngress(t, ns, "keep", "")
		n.kubectl(t, "scale", "-n", ns, "deployment/peers", "--replicas=1")
		n.awaitIngress(t, ns, "keep", both)
	})
	t.Run("taken", func(t *testing.T) {
		n.apply(t, ns, balancer("rival", "80/tcp", ""))
		n.awaitEvent(t, ns, "rival", "PortTaken", "not served by "+name+": port 80/tcp belongs to Service "+ns+"/web")
		n.awaitIngress(t, ns, "rival", "")
		n.kubectl(t, "delete", "service", "web", "-n", ns)
		n.awaitIngress(t, ns, "rival", both)
	})
	t.Run("in use", func(t *testing.T) {
		for _, port := range []string{"6443/tcp", "10250/tcp", "8472/udp"} {
			service := "p" + strings.Replace(port, "/", "-", 1)
			n.apply(t, ns, balancer(service, port, ""))
			n.awaitEvent(t, ns, service, "PortInUse", "listens on port "+port)
			n.awaitIngress(t, ns, service, "")
		}
		if out := client.Must(t, "curl", "-ksS", "--max-time", "60", fmt.Sprintf("https://%s:6443/ping", n.Addr)); !strings.Contains(out, "pong") {
			t.Errorf("the server answers %q", out)
		}
	})
	t.Run("excluded", func(t *testing.T) {
		const label = "node.kubernetes.io/exclude-from-external-load-balancers"
		n.kubectl(t, "label", "node", name, label+"=")
		n.awaitIngress(t, ns, "rival", "")
		n.awaitEvent(t, ns, "rival", "NoNodes", label)
		n.kubectl(t, "label", "node", name, label+"-")
		n.awaitIngress(t, ns, "rival", both)
	})
	t.Run("disabled", func(t *testing.T) {
		n.apply(t, ns, balancer("foreign", "99/tcp", ", loadBalancerClass: example.com/other"))
		n.kubectl(t, "patch", "service", "foreign", "-n", ns, "--subresource=status", "--type=merge",
			"-p", `{"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.9"}]}}}`)
		n.stop(t)
		n.args = append(n.args, "--disable", "servicelb")
		n.start(t)
		n.awaitIngress(t, ns, "rival", "")
		n.awaitIngress(t, ns, "foreign", "203.0.113.9")
	})
}
