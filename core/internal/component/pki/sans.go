package pki

import (
	"fmt"
	"net/netip"

	"github.com/cleat-dev/cleat/core/config"
	certs "github.com/cleat-dev/cleat/core/internal/pki"
)

// ServingNames are the DNS names and addresses by which clients know this
// server; nobody else may have a certificate for them.
func ServingNames(c *config.Config) (dns []string, ips []netip.Addr, err error) {
	dns = []string{
		"kubernetes", "kubernetes.default", "kubernetes.default.svc",
		"kubernetes.default.svc." + c.ClusterDomain, "localhost",
	}
	ips = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	for _, cidr := range c.ServiceCIDR {
		prefix, err := netip.ParsePrefix(cidr)
		if err != nil {
			return nil, nil, fmt.Errorf("--service-cidr %q: %w", cidr, err)
		}
		// The service "kubernetes" has the first address after the network's.
		ips = append(ips, prefix.Masked().Addr().Next())
	}
	for _, f := range []struct {
		flag   string
		values []string
		dns    bool
	}{
		{"--node-ip", c.NodeIP, false},
		{"--node-external-ip", c.NodeExternalIP, false},
		{"--node-external-dns", c.NodeExternalDNS, true},
		{"--advertise-address", []string{c.AdvertiseAddress}, false},
		{"--bind-address", []string{c.BindAddress}, false},
		{"--node-name", []string{c.NodeName}, true},
		{"the host name", []string{c.Host.Hostname}, true},
		{"--tls-san", c.TLSSAN, true},
	} {
		for _, v := range f.values {
			ip, err := netip.ParseAddr(v)
			switch {
			case v == "" || err == nil && ip.IsUnspecified():
			case err == nil:
				ips = append(ips, ip.WithZone("").Unmap())
			case f.dns && validDNS(v):
				dns = append(dns, v)
			default:
				return nil, nil, fmt.Errorf("%s %q: want an IP address or a DNS name", f.flag, v)
			}
		}
	}
	return dns, ips, nil
}

func (p *PKI) sans() (certs.Leaf, error) {
	dns, ips, err := ServingNames(p.Config)
	if err != nil {
		return certs.Leaf{}, err
	}
	return certs.Leaf{CommonName: UserAPIServer, Server: true, DNSNames: dns, IPs: ips}, nil
}

// validDNS keeps what crypto/x509 could not encode, or a client not match,
// out of the certificate. Underscores and upper case exist in host names.
func validDNS(name string) bool {
	if len(name) > 253 {
		return false
	}
	for i, c := range []byte(name) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		case c == '*' && i == 0 && len(name) > 2 && name[1] == '.':
		default:
			return false
		}
	}
	return name[0] != '.'
}
