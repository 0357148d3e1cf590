package servicelb

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cleat-dev/cleat/core/internal/nodenotes"
)

// node makes a ready node; edit changes it.
func node(name string, ips string, edit ...func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}, Annotations: map[string]string{}}}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	for ip := range strings.SplitSeq(ips, " ") {
		kind := corev1.NodeInternalIP
		if ext, ok := strings.CutPrefix(ip, "ext:"); ok {
			kind, ip = corev1.NodeExternalIP, ext
		}
		n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: kind, Address: ip})
	}
	n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeHostName, Address: name})
	for _, e := range edit {
		e(n)
	}
	return n
}

func labelled(kv ...string) func(*corev1.Node) {
	return func(n *corev1.Node) {
		for _, pair := range kv {
			k, v, _ := strings.Cut(pair, "=")
			n.Labels[k] = v
		}
	}
}

func annotated(k, v string) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Annotations[k] = v }
}

func notReady(n *corev1.Node) { n.Status.Conditions[0].Status = corev1.ConditionUnknown }

// service makes one of port 80, as old as age says: the larger, the older.
func service(name string, age int, edit ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{},
		CreationTimestamp: metav1.NewTime(time.Unix(int64(1_000_000-age), 0))}}
	s.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
		Ports: []corev1.ServicePort{{Port: 80}}}
	for _, e := range edit {
		e(s)
	}
	return s
}

func ports(list ...string) func(*corev1.Service) {
	return func(s *corev1.Service) {
		s.Spec.Ports = nil
		for _, p := range list {
			var number int32
			var protocol string
			if _, err := fmt.Sscanf(strings.Replace(p, "/", " ", 1), "%d %s", &number, &protocol); err != nil {
				panic(err)
			}
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Port: number, Protocol: corev1.Protocol(strings.ToUpper(protocol))})
		}
	}
}

// has is what the Service's status lists already, with the ports it has now.
func has(ips ...string) func(*corev1.Service) {
	return func(s *corev1.Service) {
		for _, ip := range ips {
			in := corev1.LoadBalancerIngress{IP: ip}
			for _, p := range s.Spec.Ports {
				in.Ports = append(in.Ports, corev1.PortStatus{Port: p.Port, Protocol: p.Protocol})
			}
			s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, in)
		}
	}
}

func families(f ...corev1.IPFamily) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.IPFamilies = f }
}

func inPool(key, name string) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Labels[key] = name }
}

func local(s *corev1.Service) {
	s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
}

func class(name string) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.LoadBalancerClass = &name }
}

const v4, v6 = corev1.IPv4Protocol, corev1.IPv6Protocol

func clusterNetworks() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("10.42.0.0/16"), netip.MustParsePrefix("10.43.0.0/16")}
}

func TestDecide(t *testing.T) {
	three := []*corev1.Node{node("n1", "10.0.0.1"), node("n2", "10.0.0.2"), node("n3", "10.0.0.3")}
	dual := []*corev1.Node{node("n1", "10.0.0.1 fd00::1"), node("n2", "10.0.0.2 fd00::2")}
	type services = []*corev1.Service
	for name, tc := range map[string]struct {
		nodes    []*corev1.Node
		services services
		local    string   // nodes with ready endpoints
		want     []string // "name: addresses", oldest first
		refused  []string // "name: reason: part of the message"
	}{
		"every node serves": {nodes: three, services: services{service("a", 1)}, want: []string{"a: 10.0.0.1 10.0.0.2 10.0.0.3"}},
		"sorted by name": {nodes: []*corev1.Node{three[2], three[0]}, services: services{service("a", 1)},
			want: []string{"a: 10.0.0.1 10.0.0.3"}},
		"our class": {nodes: three[:1], services: services{service("a", 1, class(Class))}, want: []string{"a: 10.0.0.1"}},
		"another class, other types": {nodes: three, services: services{
			service("a", 1, class("metallb.io/x")),
			service("b", 1, func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeNodePort })}},
		"not ready, excluded, leaving": {
			nodes: []*corev1.Node{
				node("n1", "10.0.0.1", notReady),
				node("n2", "10.0.0.2", labelled(corev1.LabelNodeExcludeBalancers+"=")),
				node("n3", "10.0.0.3", func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: taintAutoscaler}} }),
				node("n4", "10.0.0.4", func(n *corev1.Node) { n.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)} }),
				node("n5", "10.0.0.5", func(n *corev1.Node) { n.Spec.Unschedulable = true })},
			services: services{service("a", 1)}, want: []string{"a: 10.0.0.5"}},
		"all excluded": {nodes: []*corev1.Node{node("n1", "10.0.0.1", labelled(corev1.LabelNodeExcludeBalancers+"=true"))},
			services: services{service("a", 1)}, want: []string{"a: "}, refused: []string{"a: NoNodes: exclude-from-external"}},

		"an external address wins": {nodes: []*corev1.Node{node("n1", "10.0.0.1 ext:198.51.100.1"), node("n2", "10.0.0.2")},
			services: services{service("a", 1)}, want: []string{"a: 198.51.100.1 10.0.0.2"}},
		"a translated one brings the internal": {
			nodes:    []*corev1.Node{node("n1", "10.0.0.1 ext:198.51.100.1", annotated(nodenotes.Translated, "true"))},
			services: services{service("a", 1)}, want: []string{"a: 198.51.100.1 10.0.0.1"}},
		"one router before two nodes": {
			nodes:    []*corev1.Node{node("n1", "10.0.0.1 ext:198.51.100.1"), node("n2", "10.0.0.2 ext:198.51.100.1")},
			services: services{service("a", 1)}, want: []string{"a: 198.51.100.1"}},
		"families in their order": {nodes: dual, services: services{service("a", 2, families(v6, v4)), service("b", 1, families(v4, v6), ports("81/tcp"))},
			want: []string{"a: fd00::1 fd00::2 10.0.0.1 10.0.0.2", "b: 10.0.0.1 10.0.0.2 fd00::1 fd00::2"}},
		"a family the node lacks": {nodes: three[:1], services: services{service("a", 1, families(v6))}, want: []string{"a: "}},

		"labelled nodes alone": {nodes: []*corev1.Node{three[0], node("n2", "10.0.0.2", labelled(LabelEnable+"=true")), node("n3", "10.0.0.3", labelled(LabelEnable+"=false"))},
			services: services{service("a", 1)}, want: []string{"a: 10.0.0.2"}},
		"labelled as for k3s": {nodes: []*corev1.Node{three[0], node("n2", "10.0.0.2", labelled(labelK3sEnable+"=true"))},
			services: services{service("a", 1)}, want: []string{"a: 10.0.0.2"}},
		"ours before k3s's": {nodes: []*corev1.Node{three[0], node("n2", "10.0.0.2", labelled(labelK3sEnable+"=true", LabelEnable+"=false"))},
			services: services{service("a", 1)}, want: []string{"a: 10.0.0.1 10.0.0.2"}},
		"labelled but not ready": {nodes: []*corev1.Node{three[0], node("n2", "10.0.0.2", labelled(LabelEnable+"=true"), notReady)},
			services: services{service("a", 1)}, want: []string{"a: "}},
		"pools": {
			nodes: []*corev1.Node{node("n1", "10.0.0.1", labelled(LabelPool+"=edge")), node("n2", "10.0.0.2", labelled(labelK3sPool+"=core")), three[2]},
			services: services{service("a", 4, inPool(LabelPool, "edge")), service("b", 3, inPool(labelK3sPool, "core")),
				service("c", 2, ports("81/tcp")), service("d", 1, inPool(LabelPool, "none"))},
			want:    []string{"a: 10.0.0.1", "b: 10.0.0.2", "c: 10.0.0.1 10.0.0.2 10.0.0.3", "d: "},
			refused: []string{"d: NoNodes: " + LabelPool + "=none"}},

		"local endpoints":    {nodes: three, services: services{service("a", 1, local)}, local: "n2 gone", want: []string{"a: 10.0.0.2"}},
		"no local endpoints": {nodes: three, services: services{service("a", 1, local)}, want: []string{"a: "}},

		"the older has the port": {nodes: three[:2], services: services{service("young", 1), service("old", 2)},
			want: []string{"old: 10.0.0.1 10.0.0.2", "young: "}, refused: []string{"young: PortTaken: not served by n1, n2: port 80/tcp belongs to Service default/old"}},
		"of one age the first by name": {nodes: three[:1], services: services{service("b", 1), service("a", 1)},
			want: []string{"a: 10.0.0.1", "b: "}, refused: []string{"b: PortTaken: default/a"}},
		"who has it keeps it": {nodes: three[:1], services: services{service("young", 1, has("10.0.0.1")), service("old", 2)},
			want: []string{"old: ", "young: 10.0.0.1"}, refused: []string{"old: PortTaken: default/young"}},
		"a new port is no old claim": {nodes: three[:1],
			services: services{service("old", 2, has("10.0.0.1"), ports("443/tcp")), service("young", 1, ports("443/tcp"), has("10.0.0.1"))},
			want:     []string{"old: ", "young: 10.0.0.1"}, refused: []string{"old: PortTaken: 443/tcp belongs to Service default/young"}},
		"a port no longer asked for is free": {nodes: three[:1],
			services: services{service("old", 2, has("10.0.0.1"), ports("443/tcp")), service("young", 1)}, want: []string{"old: 10.0.0.1", "young: 10.0.0.1"}},
		"a claim outlives readiness": {nodes: []*corev1.Node{node("n1", "10.0.0.1", notReady), three[1]},
			services: services{service("old", 2), service("young", 1)}, want: []string{"old: 10.0.0.2", "young: "}, refused: []string{"young: PortTaken: n1, n2"}},
		"protocols are apart": {nodes: three[:1], services: services{service("a", 2, ports("53/tcp")), service("b", 1, ports("53/udp"))},
			want: []string{"a: 10.0.0.1", "b: 10.0.0.1"}},
		"all ports or none": {nodes: three[:1], services: services{service("a", 2), service("b", 1, ports("81/tcp", "80/tcp")), service("c", 0, ports("81/tcp"))},
			want: []string{"a: 10.0.0.1", "b: ", "c: 10.0.0.1"}, refused: []string{"b: PortTaken: 80/tcp"}},
		"what others leave": {
			nodes:    []*corev1.Node{node("n1", "10.0.0.1", labelled(LabelPool+"=edge")), three[1]},
			services: services{service("a", 2, inPool(LabelPool, "edge")), service("b", 1)},
			want:     []string{"a: 10.0.0.1", "b: 10.0.0.2"}, refused: []string{"b: PortTaken: not served by n1:"}},

		"the machine's own port": {
			nodes:    []*corev1.Node{node("n1", "10.0.0.1", annotated(nodenotes.Listens, "22/tcp=sshd,8472/udp")), three[1]},
			services: services{service("a", 3, ports("22/tcp")), service("b", 2, ports("8472/udp")), service("c", 1, ports("22/udp"))},
			want:     []string{"a: 10.0.0.2", "b: 10.0.0.2", "c: 10.0.0.1 10.0.0.2"},
			refused:  []string{"a: PortInUse: not served by n1: sshd of the machine itself listens on port 22/tcp", "b: PortInUse: a program of the machine itself listens on port 8472/udp"}},
		"the machine's own, even if it was had": {
			nodes:    []*corev1.Node{node("n1", "10.0.0.1", annotated(nodenotes.Listens, "80/tcp"))},
			services: services{service("a", 1, has("10.0.0.1"))}, want: []string{"a: "}, refused: []string{"a: PortInUse"}},
		"a kubelet without notes": {
			nodes:    []*corev1.Node{node("n1", "10.0.0.1", func(n *corev1.Node) { n.Status.DaemonEndpoints.KubeletEndpoint.Port = 10250 })},
			services: services{service("a", 1, ports("10250/tcp"))}, want: []string{"a: "}, refused: []string{"a: PortInUse: kubelet"}},
		"addresses of the cluster": {nodes: []*corev1.Node{node("n1", "10.0.0.1 ext:10.43.0.1"), node("n2", "10.42.0.1")},
			services: services{service("a", 1)}, want: []string{"a: 10.0.0.1"}},
		"no good addresses": {nodes: []*corev1.Node{node("n1", "127.0.0.1 ext:0.0.0.0"), node("n2", "10.0.0.2 ext:nonsense")},
			services: services{service("a", 1)}, want: []string{"a: 10.0.0.2"}},
	} {
		t.Run(name, func(t *testing.T) {
			hasEndpoint := make(map[string]bool)
			for n := range strings.FieldsSeq(tc.local) {
				hasEndpoint[n] = true
			}
			decisions := decide(tc.services, serving(tc.nodes, clusterNetworks()), func(*corev1.Service) map[string]bool { return hasEndpoint })
			var got []string
			for _, d := range decisions {
				var ips []string
				for _, in := range d.ingress {
					ips = append(ips, in.IP)
					if *in.IPMode != corev1.LoadBalancerIPModeVIP || len(in.Ports) != len(d.service.Spec.Ports) {
						t.Errorf("entry %+v", in)
					}
				}
				got = append(got, d.service.Name+": "+strings.Join(ips, " "))
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			checkRefusals(t, tc.refused, decisions)
		})
	}
}

// checkRefusals wants each of "name: reason: part of the message", and no more.
func checkRefusals(t *testing.T, want []string, decisions []decision) {
	t.Helper()
	var got []string
	for _, d := range decisions {
		for _, r := range d.refusals {
			got = append(got, d.service.Name+": "+r.reason+": "+r.message)
		}
	}
	for _, w := range want {
		parts := strings.SplitN(w, ": ", 3)
		i := slices.IndexFunc(got, func(g string) bool {
			return strings.HasPrefix(g, parts[0]+": "+parts[1]+": ") && (len(parts) < 3 || strings.Contains(g, parts[2]))
		})
		if i < 0 {
			t.Errorf("no refusal %q among %q", w, got)
			continue
		}
		got = slices.Delete(got, i, i+1)
	}
	if len(got) > 0 {
		t.Errorf("unexpected refusals %q", got)
	}
}

// TestDecideSettles: what was decided stays as it is when it is the status, however
// the Services came to it.
func TestDecideSettles(t *testing.T) {
	nodes := []*corev1.Node{node("n1", "10.0.0.1", labelled(LabelPool+"=edge")), node("n2", "10.0.0.2"), node("n3", "10.0.0.3", notReady)}
	services := []*corev1.Service{
		service("a", 1, has("10.0.0.1")), service("b", 2, ports("80/tcp", "81/tcp")), service("c", 3, inPool(LabelPool, "edge")),
		service("d", 4, ports("81/tcp"), has("10.0.0.2")), service("e", 5, local),
	}
	none := func(*corev1.Service) map[string]bool { return nil }
	var before [][]corev1.LoadBalancerIngress
	for round := range 5 {
		var now [][]corev1.LoadBalancerIngress
		for _, d := range decide(services, serving(nodes, nil), none) {
			d.service.Status.LoadBalancer.Ingress = d.ingress
			now = append(now, d.ingress)
		}
		if round > 1 && !cmp.Equal(before, now) {
			t.Fatalf("round %d differs:\n%s", round, cmp.Diff(before, now))
		}
		before = now
	}
}

func TestManyNodesInAMessage(t *testing.T) {
	var nodes []*corev1.Node
	for i := range 20 {
		nodes = append(nodes, node(fmt.Sprintf("n%02d", i), fmt.Sprintf("10.0.0.%d", i+1), annotated(nodenotes.Listens, "80/tcp")))
	}
	d := decide([]*corev1.Service{service("a", 1)}, serving(nodes, nil), nil)
	if len(d) != 1 || len(d[0].refusals) != 1 || !strings.Contains(d[0].refusals[0].message, "n00, n01, n02, n03, n04 and 15 more") {
		t.Errorf("got %+v", d)
	}
}
