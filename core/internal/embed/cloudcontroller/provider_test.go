package cloudcontroller

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cloudproviderapi "k8s.io/cloud-provider/api"

	"github.com/cleat-dev/cleat/core/internal/nodenotes"
)

func TestInstanceMetadata(t *testing.T) {
	p := provider{nodeName: "me", nodeIPs: []string{"192.0.2.9"}, log: slog.New(slog.DiscardHandler)}
	node := func(name, annotation string, addresses ...string) *corev1.Node {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{}}}
		if annotation != "" {
			n.Annotations[cloudproviderapi.AnnotationAlphaProvidedIPAddr] = annotation
		}
		for _, a := range addresses {
			n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a})
		}
		return n
	}
	labelled := node("n", "192.0.2.1")
	labelled.Labels = map[string]string{corev1.LabelHostname: "host"}
	kept := node("n", "192.0.2.1")
	kept.Spec.ProviderID = "other://n"
	noted := node("n", "192.0.2.1")
	for key, value := range map[string]string{
		nodenotes.ExternalIP: "198.51.100.1,127.0.0.1", nodenotes.InternalDNS: "n.internal", nodenotes.ExternalDNS: "n.example.com",
	} {
		noted.Annotations[key] = value
	}
	for name, tc := range map[string]struct {
		node *corev1.Node
		want []string // provider ID and addresses
		err  string
	}{
		"annotation":       {node: node("n", "192.0.2.1", "192.0.2.7"), want: []string{"cleat://n", "192.0.2.1", "n"}},
		"dual stack":       {node: node("n", "192.0.2.1,2001:db8::1"), want: []string{"cleat://n", "192.0.2.1", "2001:db8::1", "n"}},
		"status":           {node: node("n", "", "192.0.2.7"), want: []string{"cleat://n", "192.0.2.7", "n"}},
		"configuration":    {node: node("me", ""), want: []string{"cleat://me", "192.0.2.9", "me"}},
		"hostname label":   {node: labelled, want: []string{"cleat://n", "192.0.2.1", "host"}},
		"notes":            {node: noted, want: []string{"cleat://n", "192.0.2.1", "ExternalIP 198.51.100.1", "n", "InternalDNS n.internal", "ExternalDNS n.example.com"}},
		"kept provider ID": {node: kept, want: []string{"other://n", "192.0.2.1", "n"}},
		"nothing":          {node: node("n", ""), err: "--node-ip"},
		"no address":       {node: node("n", "x"), err: "x"},
		"loopback":         {node: node("n", "127.0.0.1"), err: "cannot be reached"},
		"flood":            {node: node("n", strings.Repeat("192.0.2.1,", 99)), err: "more than"},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := p.InstanceMetadata(t.Context(), tc.node)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("got %v, want an error with %q", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := []string{m.ProviderID}
			for _, a := range m.NodeAddresses {
				if a.Type != corev1.NodeInternalIP && a.Type != corev1.NodeHostName {
					a.Address = string(a.Type) + " " + a.Address
				}
				got = append(got, a.Address)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzParseAddresses(f *testing.F) {
	f.Add("192.0.2.1,::1%eth0")
	f.Fuzz(func(t *testing.T, s string) {
		addresses, err := parseAddresses("x", "n", strings.Split(s, ","))
		if err != nil {
			return
		}
		for _, a := range addresses {
			if !a.IsValid() || a.Zone() != "" || a.IsLoopback() {
				t.Errorf("%q gave %v", s, a)
			}
		}
	})
}
