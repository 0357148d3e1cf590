package pki

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// LeafLife is how long an issued certificate is valid when nobody chose, and
// its authority does not end earlier.
const LeafLife = 365 * 24 * time.Hour

// Leaf is what a certificate says about its holder. The zero Server and
// Client are a certificate good for nothing, so one of them is set.
type Leaf struct {
	CommonName   string   // the Kubernetes user of a client certificate
	Organization []string // its groups
	Server       bool     // may serve TLS as DNSNames and IPs
	Client       bool     // may authenticate as CommonName
	DNSNames     []string
	IPs          []netip.Addr
	Life         time.Duration // how long it is to be valid; 0 is LeafLife
}

func (l Leaf) usages() []x509.ExtKeyUsage {
	var u []x509.ExtKeyUsage
	if l.Server {
		u = append(u, x509.ExtKeyUsageServerAuth)
	}
	if l.Client {
		u = append(u, x509.ExtKeyUsageClientAuth)
	}
	return u
}

func (l Leaf) template(now, authorityEnd time.Time) (*x509.Certificate, error) {
	if l.CommonName == "" {
		return nil, fmt.Errorf("a certificate needs a common name")
	}
	if !l.Server && !l.Client {
		return nil, fmt.Errorf("a certificate must be a server's or a client's")
	}
	if l.Server && len(l.DNSNames)+len(l.IPs) == 0 {
		return nil, fmt.Errorf("a server certificate needs a DNS name or an IP address")
	}
	life := l.Life
	if life == 0 {
		life = LeafLife
	}
	end := now.Add(life)
	if end.After(authorityEnd) {
		end = authorityEnd
	}
	return &x509.Certificate{
		Subject:               pkix.Name{CommonName: l.CommonName, Organization: l.Organization},
		NotBefore:             now.Add(-min(backdate, life/10)),
		NotAfter:              end,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage:           l.usages(),
		DNSNames:              names(l.DNSNames),
		IPAddresses:           ips(l.IPs),
	}, nil
}

// Stale says in a few words why a certificate has to be issued anew, "" if it
// is good: it does not fit, or it is past RenewAt.
func Stale(cert *x509.Certificate, pub crypto.PublicKey, leaf Leaf, signers []*x509.Certificate, now time.Time) string {
	why := Misfit(cert, pub, leaf, signers)
	switch {
	case why != "":
		return why
	case now.Before(cert.NotBefore):
		return "it is not valid yet"
	case now.After(cert.NotAfter):
		return "it expired at " + stamp(cert.NotAfter)
	case now.After(RenewAt(cert)):
		return "it ends at " + stamp(cert.NotAfter)
	}
	return ""
}

// Misfit says in a few words why a certificate is not the one wanted, "" if it
// is: it belongs to another key, was signed by none of signers or says
// something else than leaf.
func Misfit(cert *x509.Certificate, pub crypto.PublicKey, leaf Leaf, signers []*x509.Certificate) string {
	switch {
	case !samePublicKey(cert.PublicKey, pub):
		return "it belongs to another key"
	case !slices.ContainsFunc(signers, func(a *x509.Certificate) bool { return cert.CheckSignatureFrom(a) == nil }):
		return "it was signed by another authority"
	case cert.Subject.CommonName != leaf.CommonName || !sameSet(cert.Subject.Organization, leaf.Organization):
		return "it names somebody else"
	case !slices.Equal(cert.ExtKeyUsage, leaf.usages()):
		return "its use changed"
	case !sameSet(cert.DNSNames, leaf.DNSNames) || !sameSet(texts(cert.IPAddresses), texts(ips(leaf.IPs))):
		return "its names or addresses changed"
	}
	return ""
}

// NewRequest makes the PEM certificate request for keyPEM's public half that
// asks for what leaf says.
func NewRequest(keyPEM []byte, leaf Leaf) ([]byte, error) {
	key, err := ParseKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("request a certificate for %s: key: %w", leaf.CommonName, err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject:     pkix.Name{CommonName: leaf.CommonName, Organization: leaf.Organization},
		DNSNames:    names(leaf.DNSNames),
		IPAddresses: ips(leaf.IPs),
	}, key)
	if err != nil {
		return nil, fmt.Errorf("request a certificate for %s: %w", leaf.CommonName, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: blockRequest, Bytes: der}), nil
}

// ParseRequest reads one PEM certificate request and checks that its sender
// holds the key it is for. What it asks for is the sender's wish, no more.
func ParseRequest(text []byte) (*x509.CertificateRequest, error) {
	blocks, err := decode(text)
	if err != nil {
		return nil, err
	}
	if len(blocks) != 1 || blocks[0].Type != blockRequest {
		return nil, fmt.Errorf("%d PEM blocks, the first a %q, want one %q", len(blocks), clip(blocks[0].Type), blockRequest)
	}
	req, err := x509.ParseCertificateRequest(blocks[0].Bytes)
	if err != nil {
		return nil, err
	}
	// The key is checked first: verifying with an absurdly large one is work.
	if err := checkPublicKey(req.PublicKey); err != nil {
		return nil, err
	}
	if err := req.CheckSignature(); err != nil {
		return nil, fmt.Errorf("the request is not signed with its own key: %w", err)
	}
	return req, nil
}

func names(in []string) []string {
	out := slices.Clone(in)
	slices.Sort(out)
	return slices.Compact(out)
}

func ips(in []netip.Addr) []net.IP {
	addrs := make([]netip.Addr, 0, len(in))
	for _, a := range in {
		addrs = append(addrs, a.Unmap().WithZone(""))
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	var out []net.IP
	for _, a := range slices.Compact(addrs) {
		out = append(out, a.AsSlice())
	}
	return out
}

func texts(in []net.IP) []string {
	out := make([]string, 0, len(in))
	for _, ip := range in {
		out = append(out, ip.String())
	}
	return out
}

func sameSet(a, b []string) bool {
	return slices.EqualFunc(names(a), names(b), strings.EqualFold)
}
