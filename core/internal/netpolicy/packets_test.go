package netpolicy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/knftables"
	"sigs.k8s.io/yaml"

	"github.com/cleat-dev/cleat/core/internal/nettest"
)

func TestMain(m *testing.M) { os.Exit(nettest.Main(m)) }

const (
	arrives = 10 * time.Second       // what is allowed, on a busy machine
	missing = 400 * time.Millisecond // what is not
)

// site is a node, the network the test runs in, with pods on a bridge, and a machine far
// away that has the pods of another node.
type site struct {
	t     *testing.T
	hosts map[string]*nettest.Host // by pod; "far" for all that are not local
	d     *driver
	now   objects
}

type podSpec struct {
	name, namespace, app, node string
	host                       int // last part of the addresses
}

func podSpecs() []podSpec {
	return []podSpec{
		{"web", "blue", "web", thisNode, 2}, {"client", "blue", "client", thisNode, 3}, {"other", "green", "client", thisNode, 4},
		{"farweb", "blue", "web", "there", 2}, {"farclient", "green", "client", "there", 3},
	}
}

func (p podSpec) addresses() []netip.Addr {
	subnet := 0
	if p.node != thisNode {
		subnet = 1
	}
	return []netip.Addr{netip.MustParseAddr(fmt.Sprintf("10.42.%d.%d", subnet, p.host)), netip.MustParseAddr(fmt.Sprintf("fd42:0:0:%d::%d", subnet, p.host))}
}

func (p podSpec) pod() *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: p.namespace, Name: p.name, UID: types.UID(p.name), Labels: map[string]string{"app": p.app}}}
	pod.Spec.NodeName = p.node
	for _, a := range p.addresses() {
		pod.Status.PodIPs = append(pod.Status.PodIPs, corev1.PodIP{IP: a.String()})
	}
	pod.Spec.Containers = []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 80, Protocol: corev1.ProtocolTCP}}}}
	return pod
}

func newSite(t *testing.T) *site {
	s := &site{t: t, hosts: map[string]*nettest.Host{"far": nettest.NewHost(t)}}
	s.now.namespaces = []*corev1.Namespace{namespace("blue", "colour", "blue"), namespace("green", "colour", "green")}
	for _, name := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables"} {
		s.must(os.WriteFile("/proc/sys/"+name, []byte("1"), 0o644))
	}
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "cni0"}}
	s.must(netlink.LinkAdd(bridge))
	t.Cleanup(func() { s.must(errors.Join(netlink.LinkDel(bridge), Clean(context.Background()))) })
	s.address(bridge, "10.42.0.1/24", "fd42::1/64")
	far := s.plug(s.hosts["far"], "up0")
	s.address(far, "10.99.0.1/24", "fd99::1/64")
	s.route("10.42.1.0/24", "10.99.0.2")
	s.route("192.0.2.0/24", "10.99.0.2")
	s.route("fd42:0:0:1::/64", "fd99::2")
	s.inside(s.hosts["far"], []string{"10.99.0.2/24", "10.42.1.2/32", "10.42.1.3/32", "192.0.2.9/32", "fd99::2/64", "fd42:0:0:1::2/128", "fd42:0:0:1::3/128"}, "10.99.0.1", "fd99::1")
	// An answer must come from the address that was asked.
	var udp []string
	for _, e := range ends() {
		if e.host == "far" {
			udp = append(udp, net.JoinHostPort(e.addr.String(), "53"))
		}
	}
	s.hosts["far"].Serve(t, []string{":80", ":81"}, udp)
	for _, p := range podSpecs() {
		s.now.pods = append(s.now.pods, p.pod())
		if p.node != thisNode {
			continue
		}
		h := nettest.NewHost(t)
		s.hosts[p.name] = h
		port := s.plug(h, "veth-"+p.name)
		s.must(netlink.LinkSetMaster(port, bridge))
		s.must(netlink.LinkSetHairpin(port, true))
		var addresses []string
		for i, a := range p.addresses() {
			addresses = append(addresses, fmt.Sprintf("%s/%d", a, []int{24, 64}[i]))
		}
		s.inside(h, addresses, "10.42.0.1", "fd42::1")
		h.Serve(t, []string{":80", ":81"}, []string{":53"})
	}
	nft, err := open()
	s.must(err)
	s.d = &driver{nft: nft, base: dualBase(), node: thisNode, log: slog.New(slog.DiscardHandler), cluster: func() (*cluster, error) { return s.now.cluster(t, thisNode), nil }}
	return s
}

func (s *site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// plug makes a link to the host's eth0.
func (s *site) plug(h *nettest.Host, name string) netlink.Link {
	s.t.Helper()
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "eth0", PeerNamespace: netlink.NsFd(h.Fd())}
	s.must(netlink.LinkAdd(veth))
	s.must(netlink.LinkSetUp(veth))
	return veth
}

func (s *site) address(l netlink.Link, addresses ...string) {
	s.t.Helper()
	s.must(addAddresses(l, addresses))
}

func addAddresses(l netlink.Link, addresses []string) error {
	for _, text := range addresses {
		a, err := netlink.ParseAddr(text)
		if err != nil {
			return err
		}
		if a.IP.To4() == nil {
			a.Flags = 0x02 // IFA_F_NODAD: it may be used at once
		}
		if err := netlink.AddrAdd(l, a); err != nil {
			return fmt.Errorf("%s: %w", text, err)
		}
	}
	return netlink.LinkSetUp(l)
}

func (s *site) route(to, via string) {
	s.t.Helper()
	s.must(addRoute(to, via))
}

func addRoute(to, via string) error {
	_, dst, err := net.ParseCIDR(to)
	if err != nil {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{Dst: dst, Gw: net.ParseIP(via)})
}

// inside sets a host up.
func (s *site) inside(h *nettest.Host, addresses []string, gateway4, gateway6 string) {
	s.t.Helper()
	s.must(h.Do(func() error {
		for _, name := range []string{"lo", "eth0"} {
			l, err := netlink.LinkByName(name)
			if err != nil {
				return err
			}
			if name == "eth0" {
				err = addAddresses(l, addresses)
			} else {
				err = netlink.LinkSetUp(l)
			}
			if err != nil {
				return err
			}
		}
		return errors.Join(addRoute("0.0.0.0/0", gateway4), addRoute("::/0", gateway6))
	}))
}

// sync brings the policies, in YAML, into force.
func (s *site) sync(policies ...string) {
	s.t.Helper()
	s.now.policies = nil
	for i, text := range policies {
		s.now.policies = append(s.now.policies, policyOf(s.t, fmt.Sprint("p", i), text))
	}
	s.must(s.d.sync(s.t.Context()))
}

// policyOf is a policy of the namespace blue whose specification is in YAML.
func policyOf(t testing.TB, name, spec string) *networkingv1.NetworkPolicy {
	t.Helper()
	np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "blue", Name: name}}
	if err := yaml.UnmarshalStrict([]byte(strings.ReplaceAll(spec, "\t", " ")), &np.Spec); err != nil {
		t.Fatal(err)
	}
	if len(np.Spec.PolicyTypes) == 0 {
		t.Fatal("the reference wants policyTypes, as the API server fills them in")
	}
	return np
}

// end is one end of a connection.
type end struct {
	host string
	addr netip.Addr
}

func ends() []end {
	all := []end{{"far", netip.MustParseAddr("192.0.2.9")}}
	for _, p := range podSpecs() {
		for _, a := range p.addresses() {
			host := p.name
			if p.node != thisNode {
				host = "far"
			}
			all = append(all, end{host, a})
		}
	}
	return all
}

// compare sends packets between all ends and holds what arrives to the plain reading of the API.
func (s *site) compare() (arrived, lost int) {
	s.t.Helper()
	var wg sync.WaitGroup
	var mu sync.Mutex
	probe := func(from, to end, protocol corev1.Protocol, port int32) {
		want := s.now.allowed(s.d.base, thisNode, packet{from.addr, to.addr, protocol, port})
		wg.Go(func() {
			got := s.reach(from, to.addr, protocol, port, want)
			mu.Lock()
			defer mu.Unlock()
			if (got == nil) != want {
				s.t.Errorf("%v to %v %s %d: %v, want it to pass: %t", from, to, protocol, port, got, want)
			}
			if got == nil {
				arrived++
			} else {
				lost++
			}
		})
	}
	for _, from := range ends() {
		for _, to := range ends() {
			if from.addr.Is4() != to.addr.Is4() || from.host == to.host {
				continue
			}
			probe(from, to, corev1.ProtocolTCP, 80)
			probe(from, to, corev1.ProtocolTCP, 81)
			probe(from, to, corev1.ProtocolUDP, 53)
		}
	}
	wg.Wait()
	return arrived, lost
}

// reach tells why an answer does not come.
func (s *site) reach(from end, to netip.Addr, protocol corev1.Protocol, port int32, want bool) error {
	patience := missing
	if want {
		patience = arrives
	}
	c, err := s.hosts[from.host].Dial(strings.ToLower(string(protocol)), from.addr.String(), fmt.Sprintf("[%s]:%d", to, port), patience)
	if err != nil {
		return err
	}
	defer c.Close()
	return nettest.Ask(c, patience)
}

func TestPackets(t *testing.T) {
	s := newSite(t)
	for _, tc := range []struct {
		name     string
		policies []string
	}{
		{"none", nil},
		{"default deny of ingress", []string{`{podSelector: {}, policyTypes: [Ingress]}`}},
		{"default deny of egress", []string{`{podSelector: {}, policyTypes: [Egress]}`}},
		{"all from a namespace", []string{`{podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress], ingress: [{from: [{namespaceSelector: {matchLabels: {colour: green}}}]}]}`}},
		{"pods of the namespace", []string{`{podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {matchLabels: {app: client}}}]}]}`}},
		{"pods of a namespace", []string{`{podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {matchLabels: {app: client}}, namespaceSelector: {matchLabels: {colour: green}}}]}]}`}},
		{"ports of both protocols", []string{`{podSelector: {}, policyTypes: [Ingress], ingress: [{ports: [{port: 81, protocol: TCP}, {port: 53, protocol: UDP}]}]}`}},
		{"a range of ports", []string{`{podSelector: {}, policyTypes: [Ingress, Egress], egress: [{}], ingress: [{ports: [{port: 81, endPort: 90, protocol: TCP}]}]}`}},
		{"a named port, both ways", []string{`{podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{ports: [{port: http}]}], egress: [{to: [{podSelector: {}}], ports: [{port: http}]}]}`}},
		{"a block with an exception", []string{`{podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{ipBlock: {cidr: 10.42.0.0/16, except: [10.42.1.3/32, 10.42.0.4/32]}}, {ipBlock: {cidr: "fd42:0:0:1::/64"}}]}]}`}},
		{"an IPv6 block with an exception, and nothing of IPv4", []string{`{podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{from: [{ipBlock: {cidr: "fd42::/16", except: ["fd42::4/128", "fd42:0:0:1::2/127"]}}]}], egress: [{to: [{ipBlock: {cidr: "fd42::/32", except: ["fd42:0:0:1::/64"]}}]}]}`}},
		{"a block of each family, an exception of each", []string{`{podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress], ingress: [{from: [{ipBlock: {cidr: 10.42.0.0/16, except: [10.42.0.3/32]}}, {ipBlock: {cidr: "fd42::/16", except: ["fd42::4/128"]}}], ports: [{port: 80}]}]}`}},
		{"everything as a block", []string{`{podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0}}, {ipBlock: {cidr: "::/0"}}]}]}`}},
		{"egress to the outside", []string{`{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 192.0.2.0/24}}]}, {ports: [{port: 53, protocol: UDP}]}]}`}},
		{"a union", []string{
			`{podSelector: {}, policyTypes: [Ingress, Egress]}`,
			`{podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {matchLabels: {app: client}}}], ports: [{port: 80}]}]}`,
			`{podSelector: {matchLabels: {app: client}}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {app: web}}}]}]}`,
		}},
		{"none again", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s.t = t
			s.sync(tc.policies...)
			arrived, lost := s.compare()
			t.Logf("%d arrived, %d did not", arrived, lost)
			if ok, err := intact(t.Context(), s.d.nft, s.d.written); !ok || err != nil {
				t.Errorf("the table is not as written: %v", err)
			}
		})
	}
	s.t = t
	for _, more := range []struct {
		name string
		test func(*testing.T, *site)
	}{
		{"node", testNode}, {"established", testEstablished}, {"service", testService},
		{"link-local", testLinkLocal}, {"unknown", testUnknown}, {"one family", testOneFamily}, {"foreign", testForeign},
	} {
		t.Run(more.name, func(t *testing.T) {
			s.t = t
			more.test(t, s)
		})
	}
	s.t = t
}

const denyAll = `{podSelector: {}, policyTypes: [Ingress, Egress]}`

// testNode: what the node and its pods say to each other always passes.
func testNode(t *testing.T, s *site) {
	s.sync(denyAll)
	for _, to := range []string{"10.42.0.2:80", "[fd42::2]:80"} {
		c, err := net.DialTimeout("tcp", to, arrives)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	l, err := net.Listen("tcp", ":8000")
	s.must(err)
	defer l.Close()
	for _, to := range []string{"10.42.0.1:8000", "10.99.0.1:8000", "[fd42::1]:8000"} {
		c, err := s.hosts["web"].Dial("tcp", "", to, arrives)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
}

// testEstablished: a connection ends when it is allowed no longer, and goes on when it is again.
func testEstablished(t *testing.T, s *site) {
	s.sync()
	c, err := s.hosts["client"].Dial("tcp", "", "10.42.0.2:80", arrives)
	s.must(err)
	defer c.Close()
	s.must(nettest.Ask(c, arrives))
	s.sync(`{podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress]}`)
	if err := nettest.Ask(c, missing); err == nil {
		t.Error("a connection goes on that is allowed no longer")
	}
	s.sync(`{podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {}}]}]}`)
	s.must(nettest.Ask(c, arrives))
}

// testService: rules see the endpoint behind a service's address, and the source before it is hidden;
// a pod reaches itself through a service.
func testService(t *testing.T, s *site) {
	const nft = `table ip test-nat {
	chain pre { type nat hook prerouting priority dstnat; ip daddr 10.43.0.1 tcp dport 8080 dnat to 10.42.0.2:80; }
	chain post { type nat hook postrouting priority srcnat; ip saddr 10.42.0.2 ip daddr 10.42.0.2 masquerade; ip saddr 10.42.0.4 masquerade; }
}`
	const iptables = `*nat
-A PREROUTING -d 10.43.0.1 -p tcp --dport 8080 -j DNAT --to-destination 10.42.0.2:80
-A POSTROUTING -s 10.42.0.2 -d 10.42.0.2 -j MASQUERADE
-A POSTROUTING -s 10.42.0.4 -j MASQUERADE
COMMIT
`
	for _, mode := range []struct {
		name, rules string
		set, undo   []string
	}{
		{name: "nftables", rules: nft, set: []string{"nft", "-f", "-"}, undo: []string{"nft", "delete table ip test-nat"}},
		{name: "iptables", rules: iptables, set: []string{"iptables-restore"}, undo: []string{"iptables", "-t", "nat", "-F"}},
	} {
		t.Run(mode.name, func(t *testing.T) {
			s.t = t
			defer func() { s.command("", mode.undo...) }()
			s.command(mode.rules, mode.set...)
			dial := func(from string, want bool) {
				t.Helper()
				patience := missing
				if want {
					patience = arrives
				}
				c, err := s.hosts[from].Dial("tcp", "", "10.43.0.1:8080", patience)
				if err == nil {
					c.Close()
				}
				if (err == nil) != want {
					t.Errorf("%s through the service: %v, want it to pass: %t", from, err, want)
				}
			}
			s.sync(denyAll)
			dial("web", true)
			dial("client", false)
			dial("other", false)
			s.sync(`{podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress], ingress: [{from: [{namespaceSelector: {matchLabels: {colour: green}}}], ports: [{port: 80}]}]}`)
			dial("web", true)
			dial("client", false)
			dial("other", true)
			s.sync(`{podSelector: {matchLabels: {app: client}}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 80}]}]}`)
			dial("client", true)
			s.sync(`{podSelector: {matchLabels: {app: client}}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.43.0.0/16}}]}]}`)
			dial("client", false)
		})
	}
}

func (s *site) command(input string, args ...string) {
	s.t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Errorf("%q: %v: %s", args, err, out)
	}
}

// testLinkLocal: link-local addresses are no way around the rules.
func testLinkLocal(t *testing.T, s *site) {
	var local string
	s.must(s.hosts["web"].Do(func() error {
		l, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		all, err := netlink.AddrList(l, netlink.FAMILY_V6)
		for _, a := range all {
			if a.IP.IsLinkLocalUnicast() {
				local = "[" + a.IP.String() + "%eth0]:80"
			}
		}
		return err
	}))
	if local == "" {
		t.Fatal("the pod has no link-local address")
	}
	s.must(Clean(t.Context()))
	s.d.written = nil
	deadline := time.Now().Add(arrives) // the address is tried out first
	for {
		c, err := s.hosts["client"].Dial("tcp", "", local, arrives)
		if err == nil {
			c.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no rules, and still: %v", err)
		}
	}
	s.sync()
	for _, from := range []string{"", "fd42::3"} {
		if c, err := s.hosts["client"].Dial("tcp", from, local, missing); err == nil {
			c.Close()
			t.Errorf("from %q it is reached", from)
		}
	}
}

// testUnknown: nothing passes from or to a pod of this node that is not known, not before Run either.
func testUnknown(t *testing.T, s *site) {
	s.must(Clean(t.Context()))
	s.must(Guard(t.Context(), dualBase().local, "cni0"))
	s.d.written = nil
	pods := s.now.pods
	s.now.pods = nil
	s.compare()
	s.now.pods = pods
	s.sync(denyAll)
	s.must(Guard(t.Context(), dualBase().local, "cni0"))
	if ok, err := intact(t.Context(), s.d.nft, s.d.written); !ok || err != nil {
		t.Errorf("the guard is not content with what is in force: %v", err)
	}
	s.now.pods = pods[1:]
	s.sync(denyAll)
	s.compare()
	s.now.pods = pods
}

// testOneFamily: a cluster of IPv4 alone, or of IPv6, has rules for its own family and
// none that touch the other.
func testOneFamily(t *testing.T, s *site) {
	base, pods := s.d.base, s.now.pods
	defer func() { s.d.base, s.now.pods, s.d.written = base, pods, nil }()
	for i, family := range []string{"IPv4", "IPv6"} {
		t.Run(family, func(t *testing.T) {
			s.t = t
			s.d.base, s.d.written, s.now.pods = baseFacts{local: base.local[i : i+1], bridge: base.bridge}, nil, nil
			for _, p := range pods {
				p = p.DeepCopy()
				p.Status.PodIPs = p.Status.PodIPs[i : i+1]
				s.now.pods = append(s.now.pods, p)
			}
			for _, policy := range []string{
				denyAll,
				`{podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{ipBlock: {cidr: 10.42.0.0/16, except: [10.42.0.4/32]}}, {ipBlock: {cidr: "fd42::/16", except: ["fd42::4/128"]}}]}]}`,
				`{podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {matchLabels: {app: client}}}], ports: [{port: http}]}]}`,
			} {
				s.sync(policy)
				s.compare()
			}
		})
	}
	s.t = t
}

// testForeign: what somebody flushed is noticed and written again, and nothing stays in the end.
func testForeign(t *testing.T, s *site) {
	s.sync(denyAll)
	s.command("", "nft", "delete table inet "+Table)
	if ok, err := intact(t.Context(), s.d.nft, s.d.written); ok || err != nil {
		t.Errorf("a table that is gone is intact: %t, %v", ok, err)
	}
	// Changes do not fit what is not there; all is written anew.
	s.sync(denyAll, `{podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress], ingress: [{}]}`)
	if ok, err := intact(t.Context(), s.d.nft, s.d.written); !ok || err != nil {
		t.Errorf("the table is not there again: %v", err)
	}
	s.must(Clean(t.Context()))
	s.must(Clean(t.Context()))
	if _, err := s.d.nft.ListAll(t.Context()); !knftables.IsNotFound(err) {
		t.Errorf("after Clean: %v", err)
	}
	s.d.written = nil
}
