package netpolicy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	k8sruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"
	"sigs.k8s.io/knftables"
)

// eventually waits until f is content.
func eventually(t *testing.T, f func() error) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		runtime.Gosched()
	}
}

// attach records the network of a pod as the CNI library does.
func attach(t *testing.T, dir, uid, address string) string {
	t.Helper()
	path := filepath.Join(dir, "cbr0-"+uid+"-eth0")
	text := fmt.Sprintf(`{"kind":"cniCacheV1","containerId":"c","cniArgs":[["IgnoreUnknown","1"],["K8S_POD_UID",%q]],"result":{"ips":[{"address":"%s/24"}]}}`, uid, address)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestRun follows a pod's life with the real packet filter: attached before the API server
// knows its address, isolated, its address used again.
func TestRun(t *testing.T) {
	client := fake.NewClientset(namespace("blue"))
	refusals := 2
	client.PrependReactor("list", "networkpolicies", func(k8stesting.Action) (bool, k8sruntime.Object, error) {
		if refusals--; refusals >= 0 {
			return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: "networkpolicies"}, "", errors.New("no role yet"))
		}
		return false, nil, nil
	})
	dir := filepath.Join(t.TempDir(), "results")
	base := dualBase()
	ctx, cancel := context.WithCancel(t.Context())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- Run(ctx, Options{Client: client, Node: thisNode, Local: base.local, Bridge: base.bridge, Attachments: dir, Log: slog.New(slog.DiscardHandler)},
			func() { close(ready) })
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		if err := Clean(context.Background()); err != nil {
			t.Error(err)
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		t.Fatal(err)
	}
	nft, err := open()
	if err != nil {
		t.Fatal(err)
	}
	// leads waits until the verdict about what goes to an address has a prefix, "" = there is none.
	leads := func(address, prefix string) {
		t.Helper()
		eventually(t, func() error {
			elements, err := nft.ListElements(t.Context(), "map", verdicts(in, 4))
			if err != nil {
				return err
			}
			for _, e := range elements {
				if e.Key[0] == address {
					if prefix == "" || !strings.HasPrefix(e.Value[0], prefix) {
						return fmt.Errorf("%s leads to %q, want %q", address, e.Value[0], prefix)
					}
					return nil
				}
			}
			if prefix != "" {
				return fmt.Errorf("%s leads nowhere, want %q", address, prefix)
			}
			return nil
		})
	}
	policies, pods := client.NetworkingV1().NetworkPolicies("blue"), client.CoreV1().Pods("blue")
	np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "blue", Name: "deny"}}
	np.Spec.PodSelector.MatchLabels = map[string]string{"app": "web"}
	if _, err := policies.Create(ctx, np, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "blue", Name: "web", UID: "u1", Labels: map[string]string{"app": "web"}}}
	pod.Spec.NodeName = thisNode
	if _, err := pods.Create(ctx, pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	file := attach(t, dir, "u1", "10.42.0.7")
	leads("10.42.0.7", "goto group-in-")

	pod.Labels["app"] = "other"
	if _, err := pods.Update(ctx, pod, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	leads("10.42.0.7", "accept")

	// Its end, and the same address for another pod, of which only the CNI knows.
	pod.Status.PodIPs = []corev1.PodIP{{IP: "10.42.0.7"}}
	if _, err := pods.Update(ctx, pod, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	next := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "blue", Name: "next", UID: "u2", Labels: map[string]string{"app": "web"}}}
	next.Spec.NodeName = thisNode
	if _, err := pods.Create(ctx, next, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	attach(t, dir, "u2", "10.42.0.7")
	leads("10.42.0.7", "goto group-in-")
	if err := pods.Delete(ctx, "next", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	leads("10.42.0.7", "accept") // the first one's status still says so
	if err := pods.Delete(ctx, "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	leads("10.42.0.7", "")
}

func TestOwnAddresses(t *testing.T) {
	at := func(name string, created int64, phase corev1.PodPhase) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "blue", Name: name, UID: types.UID(name), CreationTimestamp: metav1.NewTime(time.Unix(created, 0))}}
		p.Spec.NodeName, p.Status.Phase = thisNode, phase
		p.Status.PodIPs = []corev1.PodIP{{IP: "10.42.0.5"}}
		return p
	}
	host := at("host", 9, corev1.PodRunning)
	host.Spec.HostNetwork = true
	for _, tc := range []struct {
		name     string
		pods     []*corev1.Pod
		attached string // pod that the CNI gave the address
		want     string
	}{
		{"the younger", []*corev1.Pod{at("young", 2, corev1.PodRunning), at("old", 1, corev1.PodRunning)}, "", "young"},
		{"the one that runs", []*corev1.Pod{at("young", 2, corev1.PodFailed), at("old", 1, corev1.PodRunning)}, "", "old"},
		{"the attached", []*corev1.Pod{at("young", 2, corev1.PodRunning), at("old", 1, corev1.PodRunning)}, "old", "old"},
		{"not one of the host", []*corev1.Pod{host, at("old", 1, corev1.PodRunning)}, "", "old"},
		{"nobody", []*corev1.Pod{at("done", 1, corev1.PodSucceeded)}, "", ""},
	} {
		c := newCluster(thisNode, tc.pods, nil, func(uid string) []netip.Addr {
			if uid == tc.attached {
				return []netip.Addr{netip.MustParseAddr("10.42.0.5")}
			}
			return nil
		})
		got := ""
		for _, p := range c.all() {
			got += p.name
		}
		if got != tc.want {
			t.Errorf("%s: %q has the address, want %q", tc.name, got, tc.want)
		}
	}
}

// TestStrip: what rules depend on stays, the rest is not kept in memory and wakes nobody.
func TestStrip(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	named := func(name string) []corev1.ContainerPort {
		return []corev1.ContainerPort{{Name: name, ContainerPort: 80, Protocol: corev1.ProtocolTCP}, {ContainerPort: 81}}
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", ResourceVersion: "1", Labels: map[string]string{"a": "b"}, Annotations: map[string]string{"large": "x"}}}
	pod.Spec.Containers = []corev1.Container{{Name: "main", Env: []corev1.EnvVar{{Name: "SECRET", Value: "x"}}, Ports: named("web")}}
	pod.Spec.InitContainers = []corev1.Container{{Ports: named("gone")}, {Ports: named("sidecar"), RestartPolicy: &always}}
	stripped := func() *corev1.Pod {
		t.Helper()
		out, err := strip(pod)
		if err != nil {
			t.Fatal(err)
		}
		return out.(*corev1.Pod)
	}
	before := stripped()
	if text := fmt.Sprint(before); strings.Contains(text, "SECRET") || strings.Contains(text, "large") {
		t.Errorf("kept: %s", text)
	}
	before.Status.PodIPs = []corev1.PodIP{{IP: "10.42.0.2"}}
	var names []string
	for _, p := range newPod(before, nil).ports {
		names = append(names, fmt.Sprint(p.protocol, " ", p.name, " ", p.number))
	}
	if got := strings.Join(names, ","); got != "tcp sidecar 80,tcp web 80" {
		t.Errorf("named ports %q", got)
	}
	before.Status.PodIPs = nil
	pod.ResourceVersion, pod.Annotations = "2", nil
	if fmt.Sprint(unversioned(before)) != fmt.Sprint(unversioned(stripped())) {
		t.Error("a change of nothing that matters counts")
	}
}

func TestAttachments(t *testing.T) {
	dir := t.TempDir()
	older := attach(t, dir, "u1", "10.42.0.7")
	if err := os.Chtimes(older, time.Time{}, time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	a, err := watchAttachments(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	if got := a.addresses()("u1"); fmt.Sprint(got) != "[10.42.0.7]" {
		t.Errorf("found at the start: %v", got)
	}
	newer := attach(t, dir, "u2", "10.42.0.7")
	if !a.read(newer) || a.read(newer) {
		t.Error("read twice, it counts twice or not at all")
	}
	if of := a.addresses(); len(of("u1")) != 0 || len(of("u2")) != 1 {
		t.Errorf("the older file has the address: %v, %v", of("u1"), of("u2"))
	}
	for _, broken := range []string{"", "{", `{"cniArgs":[],"result":{"ips":[{"address":"10.42.0.9/24"}]}}`, `{"cniArgs":[["K8S_POD_UID","u2"]],"result":{"ips":[{"address":"x"}]}}`} {
		if err := os.WriteFile(newer, []byte(broken), 0o600); err != nil {
			t.Fatal(err)
		}
		if a.read(newer) {
			t.Errorf("%q counts", broken)
		}
	}
	if err := os.Remove(newer); err != nil {
		t.Fatal(err)
	}
	if !a.read(newer) || len(a.addresses()("u1")) != 1 {
		t.Error("what is gone still counts")
	}
}

func FuzzAttachment(f *testing.F) {
	f.Add([]byte(`{"cniArgs":[["K8S_POD_UID","u"]],"result":{"ips":[{"address":"10.42.0.7/24"},{"address":"fd42::7/64"}]}}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		a, err := parseAttachment(content)
		if err == nil && (a.uid == "" || len(a.addresses) == 0) {
			t.Errorf("%q: %+v", content, a)
		}
	})
}

// TestRules is the text of the rules for one of everything.
func TestRules(t *testing.T) {
	s := objects{namespaces: []*corev1.Namespace{namespace("blue", "colour", "blue"), namespace("green", "colour", "green")}}
	for _, p := range podSpecs() {
		s.pods = append(s.pods, p.pod())
	}
	for i, text := range []string{
		`{podSelector: {}, policyTypes: [Ingress, Egress]}`,
		`{podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress], ingress: [
			{from: [{podSelector: {matchLabels: {app: client}}}, {namespaceSelector: {matchLabels: {colour: green}}}, {ipBlock: {cidr: 192.0.2.0/24, except: [192.0.2.128/25]}}],
			 ports: [{port: 80}, {port: 8000, endPort: 8080}, {port: 53, protocol: UDP}, {protocol: SCTP}, {port: http}]}]}`,
		`{podSelector: {matchLabels: {app: client}}, policyTypes: [Egress], egress: [
			{to: [{podSelector: {}, namespaceSelector: {matchExpressions: [{key: colour, operator: Exists}]}}], ports: [{port: http}]}, {ports: [{port: 53, protocol: UDP}, {port: 53}]}]}`,
	} {
		s.policies = append(s.policies, policyOf(t, fmt.Sprint("p", i), text))
	}
	nft := knftables.NewFake(knftables.InetFamily, Table)
	base := baseFacts{local: dualBase().local[:1], bridge: "cni0"}
	mustRun(t, nft, func(tx *knftables.Transaction) { replace(tx, compile(base, thisNode, s.cluster(t, thisNode))) })
	golden(t, "rules.nft", dump(nft))
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; UPDATE_GOLDEN=1 writes it anew\ngot:\n%s\nwant:\n%s", path, got, want)
	}
}

// TestUnreadable: what cannot be read allows nothing, and the rest of the policy stays.
func TestUnreadable(t *testing.T) {
	np := policyOf(t, "p", `{podSelector: {}, policyTypes: [Ingress], ingress: [
		{from: [{ipBlock: {cidr: 10.0.0.0/33}}]}, {from: [{ipBlock: {cidr: 10.0.0.0/8, except: [x]}}]}, {from: [{}]}, {ports: [{protocol: ICMP}]}, {ports: [{port: 80, endPort: 70}]},
		{from: [{podSelector: {matchExpressions: [{key: a, operator: Maybe}]}}]}, {from: [{podSelector: {matchLabels: {app: client}}}]}]}`)
	p, err := newPolicy(np)
	for _, want := range []string{`ingress[0]: peer 0: ipBlock: "10.0.0.0/33"`, `ingress[1]: peer 0: ipBlock.except[0]: "x"`, "ingress[2]: peer 0: names neither",
		`ingress[3]: ports[0]: protocol "ICMP"`, "ingress[4]: ports[0]: port 80 to 70", "ingress[5]: peer 0: podSelector"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	b := &builder{ruleset: newRuleset(dualBase()), cluster: objects{}.cluster(t, thisNode), members: map[string][]*pod{}}
	chain := b.chains[b.policyChain(in, p)]
	if len(chain) != len(dualBase().local) {
		t.Errorf("%d rules, want those of the one that can be read: %+v", len(chain), chain)
	}
}

func TestBlockRanges(t *testing.T) {
	for _, tc := range []struct {
		cidr   string
		except []string
		want   string
	}{
		{"10.0.0.0/8", nil, "[10.0.0.0-10.255.255.255]"},
		{"10.0.0.7/8", []string{"10.0.0.0/9"}, "[10.128.0.0-10.255.255.255]"},
		{"10.0.0.0/30", []string{"10.0.0.1/32", "10.0.0.2/32"}, "[10.0.0.0 10.0.0.3]"},
		{"10.0.0.0/30", []string{"10.0.0.0/29"}, "[]"},
		{"0.0.0.0/0", []string{"255.255.255.255/32", "0.0.0.0/32"}, "[0.0.0.1-255.255.255.254]"},
		{"010.0.0.0/30", nil, "[10.0.0.0-10.0.0.3]"},
		{"::/0", nil, "[::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]"},
		{"fd00::/64", []string{"10.0.0.0/8"}, "[fd00::-fd00::ffff:ffff:ffff:ffff]"},
		{"::ffff:10.0.0.0/126", nil, "[10.0.0.0-10.0.0.3]"},
	} {
		got, err := blockRanges(networkingv1.IPBlock{CIDR: tc.cidr, Except: tc.except})
		if err != nil || fmt.Sprint(got) != tc.want {
			t.Errorf("%s without %v: %v, %v, want %s", tc.cidr, tc.except, got, err, tc.want)
		}
	}
	merged := mergeRanges([]addrRange{prefixRange(netip.MustParsePrefix("10.0.1.0/24")), prefixRange(netip.MustParsePrefix("10.0.0.0/24")),
		prefixRange(netip.MustParsePrefix("10.0.3.0/24")), prefixRange(netip.MustParsePrefix("10.0.3.128/25")), prefixRange(netip.MustParsePrefix("fd00::/64"))})
	if got := fmt.Sprint(merged); got != "[10.0.0.0-10.0.1.255 10.0.3.0-10.0.3.255 fd00::-fd00::ffff:ffff:ffff:ffff]" {
		t.Errorf("merged %s", got)
	}
}

// BenchmarkSync is a node with 100 of 1,000 pods, and 100 policies in 10 namespaces.
func BenchmarkSync(b *testing.B) {
	var o objects
	for i := range 10 {
		o.namespaces = append(o.namespaces, namespace(fmt.Sprint("ns", i), "team", fmt.Sprint(i)))
	}
	for i := range 1000 {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: fmt.Sprint("ns", i%10), Name: fmt.Sprint("p", i), UID: types.UID(fmt.Sprint(i)),
			Labels: map[string]string{"app": fmt.Sprint(i / 10 % 10), "tier": fmt.Sprint(i % 3)}}}
		p.Spec.NodeName = fmt.Sprint("node", i/100)
		p.Status.PodIPs = []corev1.PodIP{{IP: fmt.Sprintf("10.42.%d.%d", i/100, 2+i%100)}}
		o.pods = append(o.pods, p)
	}
	for i := range 100 {
		np := policyOf(b, fmt.Sprintf("np%02d", i), fmt.Sprintf(`{podSelector: {matchLabels: {app: "%d"}}, policyTypes: [Ingress, Egress],
			ingress: [{from: [{podSelector: {matchLabels: {app: "%d"}}}, {namespaceSelector: {matchLabels: {team: "%d"}}}], ports: [{port: 80}, {port: 443}]}],
			egress: [{to: [{namespaceSelector: {}, podSelector: {matchLabels: {tier: "1"}}}]}, {ports: [{port: 53, protocol: UDP}]}]}`, i/10, (i+1)%10, i%7))
		np.Namespace = fmt.Sprint("ns", i%10)
		o.policies = append(o.policies, np)
	}
	nft, err := open()
	if err != nil {
		b.Fatal(err)
	}
	base := baseFacts{local: []netip.Prefix{netip.MustParsePrefix("10.42.0.0/24")}, bridge: "cni0"}
	d := &driver{nft: nft, base: base, node: "node0", log: slog.New(slog.DiscardHandler), cluster: func() (*cluster, error) { return o.cluster(b, "node0"), nil }}
	sync := func(b *testing.B) {
		b.Helper()
		if err := d.sync(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("everything", func(b *testing.B) {
		for b.Loop() {
			d.written = nil
			sync(b)
		}
		b.ReportMetric(float64(len(d.written.chains)), "chains")
		b.ReportMetric(float64(len(d.written.sets)), "sets")
	})
	b.Run("one pod", func(b *testing.B) {
		last := o.pods[len(o.pods)-1]
		for i := 0; b.Loop(); i++ {
			o.pods[len(o.pods)-1] = last.DeepCopy()
			o.pods[len(o.pods)-1].Status.PodIPs[0].IP = fmt.Sprintf("10.42.9.%d", 101+i%2)
			sync(b)
		}
	})
	b.Run("one policy", func(b *testing.B) {
		all := o.policies
		for i := 0; b.Loop(); i++ {
			o.policies = all[i%2:]
			sync(b)
		}
		o.policies = all
	})
	b.Run("compile alone", func(b *testing.B) {
		for b.Loop() {
			compile(base, "node0", o.cluster(b, "node0"))
		}
	})
	if err := Clean(context.Background()); err != nil {
		b.Error(err)
	}
}

// TestDirections is what a policy isolates that an old API server stored without policyTypes.
func TestDirections(t *testing.T) {
	rule := []networkingv1.NetworkPolicyEgressRule{{}}
	for _, tc := range []struct {
		types               []networkingv1.PolicyType
		egress              []networkingv1.NetworkPolicyEgressRule
		isIngress, isEgress bool
	}{
		{nil, nil, true, false},
		{nil, rule, true, true},
		{[]networkingv1.PolicyType{networkingv1.PolicyTypeIngress}, rule, true, false},
		{[]networkingv1.PolicyType{networkingv1.PolicyTypeEgress}, nil, false, true},
	} {
		spec := networkingv1.NetworkPolicySpec{PolicyTypes: tc.types, Egress: tc.egress}
		if in, out := directions(spec); in != tc.isIngress || out != tc.isEgress {
			t.Errorf("%+v: ingress %t, egress %t", spec, in, out)
		}
	}
}
