package apiserver

import (
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
	certutil "k8s.io/client-go/util/cert"
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
	case <-time.After(10 * time.Second):
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
