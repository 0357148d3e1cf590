package apiserver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/apiserver/pkg/server/egressselector"
	"k8s.io/client-go/informers"
	certutil "k8s.io/client-go/util/cert"
	apiserverapp "k8s.io/kubernetes/cmd/kube-apiserver/app"
	"k8s.io/kubernetes/pkg/controlplane"
	controlplaneapiserver "k8s.io/kubernetes/pkg/controlplane/apiserver"
)

var address = &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 6443}

func TestUnknownFlag(t *testing.T) {
	_, err := New([]string{"--no-such-flag=1"}, address, &plugins{})
	if err == nil || !strings.Contains(err.Error(), "--kube-apiserver-arg") || !strings.Contains(err.Error(), "no-such-flag") {
		t.Errorf("got %v, want an error that names the option and the flag", err)
	}
}

func TestBadValue(t *testing.T) {
	_, err := New([]string{"--profiling=perhaps"}, address, &plugins{})
	if err == nil || !strings.Contains(err.Error(), "--kube-apiserver-arg") || !strings.Contains(err.Error(), "profiling") {
		t.Errorf("got %v, want an error that names the option and the flag", err)
	}
}

func TestPlaceInTheChain(t *testing.T) {
	s, err := New([]string{"--enable-admission-plugins=NodeRestriction"}, address, &plugins{})
	if err != nil {
		t.Fatal(err)
	}
	order := s.options.Admission.GenericAdmission.RecommendedPluginOrder
	ours := slices.Index(order, admissionName)
	if ours < 0 {
		t.Fatalf("%s is not in the chain %v", admissionName, order)
	}
	for _, later := range []string{"LimitRanger", "ServiceAccount", "MutatingAdmissionWebhook", "ValidatingAdmissionWebhook", "ResourceQuota"} {
		if at := slices.Index(order, later); at < ours {
			t.Errorf("%s stands at %d, after %s at %d", admissionName, ours, later, at)
		}
	}
	if !slices.Contains(s.options.Admission.GenericAdmission.Plugins.Registered(), admissionName) {
		t.Errorf("%s is in the order and not registered", admissionName)
	}
	// A second server in one process does not find the first one's plugin.
	if _, err := New(nil, address, &plugins{}); err != nil {
		t.Errorf("a second API server: %v", err)
	}
}

func TestHeldListener(t *testing.T) {
	l := newHeldListener(address)
	if l.Addr().String() != "192.0.2.7:6443" {
		t.Errorf("address %s", l.Addr())
	}
	accepted := make(chan error, 1)
	go func() {
		_, err := l.Accept()
		accepted <- err
	}()
	select {
	case err := <-accepted:
		t.Fatalf("Accept returned %v while the listener is open", err)
	default:
	}
	for range 2 {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	select {
	case err := <-accepted:
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept: got %v, want %v", err, net.ErrClosed)
		}
	case <-time.After(time.Minute):
		t.Fatal("Accept hangs after Close")
	}
}

func TestLoopbackCertificate(t *testing.T) {
	if _, err := loopbackCertificate(&genericapiserver.SecureServingInfo{}); err == nil {
		t.Error("a chain without a loopback certificate passes")
	}
	cert, key, err := certutil.GenerateSelfSignedCertKey(genericapiserver.LoopbackClientServerNameOverride, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	provider, err := dynamiccertificates.NewStaticSNICertKeyContent("self-signed loopback", cert, key, genericapiserver.LoopbackClientServerNameOverride)
	if err != nil {
		t.Fatal(err)
	}
	got, err := loopbackCertificate(&genericapiserver.SecureServingInfo{SNICerts: []dynamiccertificates.SNICertKeyContentProvider{provider}})
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(got.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := leaf.VerifyHostname(genericapiserver.LoopbackClientServerNameOverride); err != nil {
		t.Error(err)
	}
	if want, err := tls.X509KeyPair(cert, key); err != nil || !slices.Equal(want.Certificate[0], got.Certificate[0]) {
		t.Errorf("another certificate than the chain's (%v)", err)
	}
}

// recorded is an egress that remembers what it was asked for.
type recorded struct {
	followed int
	dialled  []string
}

func (r *recorded) Follow(informers.SharedInformerFactory) error { r.followed++; return nil }

func (r *recorded) Dial(_ context.Context, _, address string) (net.Conn, error) {
	r.dialled = append(r.dialled, address)
	return nil, errors.New("this dials nothing")
}

// What upstream reads of the configuration to reach kubelets, pods and services
// dials through the egress; an operator's own egress selector is left alone.
func TestDivert(t *testing.T) {
	configure := func() *apiserverapp.Config {
		c := &apiserverapp.Config{KubeAPIs: &controlplane.Config{}}
		c.KubeAPIs.ControlPlane.Generic = &genericapiserver.Config{}
		c.KubeAPIs.ControlPlane.Extra.ProxyTransport = controlplaneapiserver.CreateProxyTransport()
		return c
	}
	c, egress := configure(), &recorded{}
	if err := divert(c, egress); err != nil {
		t.Fatal(err)
	}
	if _, err := c.KubeAPIs.ControlPlane.Extra.ProxyTransport.DialContext(t.Context(), "tcp", "pod:1"); err == nil {
		t.Error("the proxy transport dials by itself")
	}
	dial, err := c.KubeAPIs.Extra.KubeletClientConfig.Lookup(egressselector.Cluster.AsNetworkContext())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dial(t.Context(), "tcp", "kubelet:2"); err == nil {
		t.Error("the kubelets' client dials by itself")
	}
	if want := []string{"pod:1", "kubelet:2"}; !slices.Equal(egress.dialled, want) || egress.followed != 1 {
		t.Errorf("dialled %q and followed %d times, want %q and once", egress.dialled, egress.followed, want)
	}

	c, egress = configure(), &recorded{}
	c.KubeAPIs.ControlPlane.Generic.EgressSelector = egressselector.NewEgressSelectorWithMap(nil)
	if err := divert(c, egress); err != nil || egress.followed != 0 || c.KubeAPIs.Extra.KubeletClientConfig.Lookup != nil {
		t.Errorf("the operator's selector was replaced (%v)", err)
	}
	c = configure()
	if err := divert(c, nil); err != nil || c.KubeAPIs.Extra.KubeletClientConfig.Lookup != nil {
		t.Errorf("without an egress something was replaced (%v)", err)
	}
}
