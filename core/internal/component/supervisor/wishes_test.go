package supervisor

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/core/internal/joinapi"
	"github.com/cleat-dev/cleat/core/internal/pki"
)

// signed makes a certificate request of template with a key of its own.
func signed(t testing.TB, template *x509.CertificateRequest) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

// heavy is a request with an RSA key of so many bits, which nobody would have
// the patience to make; its signature is none.
func heavy(t testing.TB, bits uint) []byte {
	t.Helper()
	n := new(big.Int).Lsh(big.NewInt(1), bits-1)
	spki, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: n.SetBit(n, 0, 1), E: 65537})
	if err != nil {
		t.Fatal(err)
	}
	info, err := asn1.Marshal(struct {
		Version    int
		Subject    asn1.RawValue
		Key        asn1.RawValue
		Attributes []asn1.RawValue `asn1:"tag:0"`
	}{Subject: asn1.RawValue{FullBytes: []byte{0x30, 0}}, Key: asn1.RawValue{FullBytes: spki}})
	if err != nil {
		t.Fatal(err)
	}
	der, err := asn1.Marshal(struct {
		Info      asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{
		asn1.RawValue{FullBytes: info},
		pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, Parameters: asn1.NullRawValue},
		asn1.BitString{Bytes: make([]byte, bits/8), BitLength: int(bits)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

// A request that asks for more than its path gives is told so, before anything
// slow is done and before the node's name is taken.
func TestGreedyRequests(t *testing.T) {
	h := start(t)
	var many x509.CertificateRequest
	for i := range 1000 {
		many.IPAddresses = append(many.IPAddresses, net.IPv4(10, 1, byte(i>>8), byte(i)))
	}
	ca, err := asn1.Marshal(struct{ CA bool }{true})
	if err != nil {
		t.Fatal(err)
	}
	extension := func(id asn1.ObjectIdentifier, value []byte) []byte {
		return signed(t, &x509.CertificateRequest{ExtraExtensions: []pkix.Extension{{Id: id, Value: value}}})
	}
	kubelet, serving := joinapi.PathClientKubelet, joinapi.PathServingKubelet
	for name, c := range map[string]struct {
		path   string
		csr    []byte
		status int
		say    string
	}{
		"another user":           {kubelet, csr(t, pki.Leaf{CommonName: "system:admin"}), 403, `user "system:admin"`},
		"another node":           {kubelet, csr(t, pki.Leaf{CommonName: "system:node:n2", Organization: []string{"system:nodes"}}), 403, "system:node:n2"},
		"another group":          {kubelet, csr(t, pki.Leaf{Organization: []string{"system:masters"}}), 403, "system:masters"},
		"one group more":         {kubelet, csr(t, pki.Leaf{Organization: []string{"system:nodes", "system:masters"}}), 403, "for group"},
		"a group for kube-proxy": {joinapi.PathClientKubeProxy, csr(t, pki.Leaf{Organization: []string{"system:nodes"}}), 403, "for group"},
		"an unknown attribute":   {kubelet, signed(t, &x509.CertificateRequest{Subject: pkix.Name{OrganizationalUnit: []string{"x"}}}), 403, "says more"},
		"a host for a client":    {kubelet, csr(t, pki.Leaf{DNSNames: []string{"n1"}}), 403, "client's certificate"},
		"the server's name":      {serving, csr(t, pki.Leaf{DNSNames: []string{"kubernetes"}}), 403, "not for node"},
		"the service address":    {serving, csr(t, pki.Leaf{IPs: []netip.Addr{netip.MustParseAddr("10.43.0.1")}}), 403, "10.43.0.1"},
		"1000 addresses":         {serving, signed(t, &many), 403, "want at most 17"},
		"a URI":                  {kubelet, signed(t, &x509.CertificateRequest{URIs: []*url.URL{{Scheme: "spiffe", Host: "x"}}}), 403, "URIs"},
		"a mail address":         {serving, signed(t, &x509.CertificateRequest{EmailAddresses: []string{"a@b"}}), 403, "mail"},
		"an authority":           {kubelet, extension(asn1.ObjectIdentifier{2, 5, 29, 19}, ca), 403, "2.5.29.19"},
		"another use":            {kubelet, extension(asn1.ObjectIdentifier{2, 5, 29, 37}, []byte{0x30, 0}), 403, "2.5.29.37"},
		"RSA of 16384 bits":      {kubelet, heavy(t, 16384), 400, "16384 bits"},
		"RSA of 8 bits":          {kubelet, heavy(t, 8), 400, "bits"},
		"an unsigned one":        {kubelet, heavy(t, 4096), 400, "not signed with its own key"},
		"two":                    {kubelet, append(csr(t, pki.Leaf{}), csr(t, pki.Leaf{})...), 400, "2 PEM blocks"},
		"a long user":            {kubelet, csr(t, pki.Leaf{CommonName: strings.Repeat("x", 5000)}), 403, "is for user"},
	} {
		begun := time.Now()
		status, body := h.do(request{method: "POST", path: c.path, user: "node", password: clusterPassword,
			node: &joinapi.NodeRequest{Name: "n1", Password: nodePassword, IPs: []netip.Addr{netip.MustParseAddr("10.1.2.3")}}, body: c.csr})
		body = joinapi.ReadStatus([]byte(body))
		if status != c.status || !strings.Contains(body, c.say) {
			t.Errorf("%s: %d %s, want %d %q", name, status, body, c.status, c.say)
		}
		t.Logf("%s: %v", name, time.Since(begun).Round(10*time.Microsecond))
	}
	if n := len(h.store.copy()); n != 0 {
		t.Errorf("%d names were taken", n)
	}
}

// The kernel may hand out a file in any state of being written.
func TestHalfWrittenCertificates(t *testing.T) {
	h := start(t)
	keys, err := newKeyPair(h.CertFile, h.KeyFile, h.Log)
	if err != nil {
		t.Fatal(err)
	}
	old := keys.get()
	h.issueServing("renewed")
	whole := map[string][]byte{h.CertFile: readFile(t, h.CertFile), h.KeyFile: readFile(t, h.KeyFile)}
	for file, text := range whole {
		for i := 0; i < len(text)-1; i += 7 {
			if err := os.WriteFile(file, text[:i], 0o600); err != nil {
				t.Fatal(err)
			}
			if keys.get() != old {
				t.Fatalf("%d bytes of %s took over", i, file)
			}
		}
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		old = keys.get()
	}
	if err := old.Leaf.VerifyHostname("renewed"); err != nil {
		t.Errorf("the whole pair is not served: %v", err)
	}
	if log := h.log.String(); !strings.Contains(log, "keeping the old serving certificate") || strings.Contains(log, "PRIVATE KEY") {
		t.Errorf("the log: %.2000s", log)
	}
}
