package supervisor

import (
	"crypto/x509"
	"fmt"
	"net/http"
	"net/netip"
	"slices"

	"github.com/cleat-dev/cleat/core/internal/joinapi"
	"github.com/cleat-dev/cleat/core/internal/pki"
)

// Object identifiers, as text.
const (
	oidCommonName   = "2.5.4.3"
	oidOrganization = "2.5.4.10"
	oidAltNames     = "2.5.29.17"
)

// leafFor decides what the certificate says and who signs it. Users and groups
// come from the path and the node's name, never from the request's own text; a
// request that wishes for anything else is refused, not quietly cut down.
func (a *api) leafFor(r *http.Request, req joinapi.NodeRequest, csr *x509.CertificateRequest) (*pki.Authority, pki.Leaf, error) {
	authority, leaf := a.fixedLeaf(r.URL.Path, req)
	if err := checkWishes(csr, leaf); err != nil {
		return nil, pki.Leaf{}, err
	}
	if leaf.Server {
		return authority, leaf, a.checkServing(r, req, csr)
	}
	return authority, leaf, nil
}

func (a *api) fixedLeaf(path string, req joinapi.NodeRequest) (*pki.Authority, pki.Leaf) {
	switch path {
	case joinapi.PathClientKubelet:
		return a.id.Client, pki.Leaf{CommonName: joinapi.NodeUser(req.Name), Organization: []string{joinapi.GroupNodes}, Client: true}
	case joinapi.PathClientKubeProxy:
		return a.id.Client, pki.Leaf{CommonName: joinapi.UserKubeProxy, Client: true}
	case joinapi.PathClientNetwork:
		return a.id.Client, pki.Leaf{CommonName: joinapi.UserNetwork, Client: true}
	}
	return a.id.Server, pki.Leaf{
		CommonName: joinapi.NodeUser(req.Name), Organization: []string{joinapi.GroupNodes},
		Server: true, DNSNames: []string{req.Name}, IPs: req.IPs,
	}
}

// checkWishes compares what the request says of its subject with what it gets.
func checkWishes(csr *x509.CertificateRequest, leaf pki.Leaf) error {
	if cn := csr.Subject.CommonName; cn != "" && cn != leaf.CommonName {
		return fmt.Errorf("the certificate request is for user %.100q, this path gives %q", cn, leaf.CommonName)
	}
	known := 0
	for _, n := range csr.Subject.Names {
		if t := n.Type.String(); t == oidCommonName || t == oidOrganization {
			known++
		}
	}
	if len(csr.Subject.Names) > known || known > 1+len(leaf.Organization) {
		return fmt.Errorf("the subject of the certificate request says more than the user %q and its groups %q", leaf.CommonName, leaf.Organization)
	}
	for _, o := range csr.Subject.Organization {
		if !slices.Contains(leaf.Organization, o) {
			return fmt.Errorf("the certificate request is for group %.100q, this path gives %q", o, leaf.Organization)
		}
	}
	for _, e := range csr.Extensions {
		if e.Id.String() != oidAltNames {
			return fmt.Errorf("the certificate request has extension %s: what a certificate may be used for is not its to say", e.Id)
		}
	}
	if len(csr.EmailAddresses)+len(csr.URIs) > 0 {
		return fmt.Errorf("the certificate request has mail addresses or URIs, which no node's certificate has")
	}
	if n := len(csr.DNSNames) + len(csr.IPAddresses); !leaf.Server && n > 0 {
		return fmt.Errorf("the certificate request has %d host names and addresses, which a client's certificate has not", n)
	}
	if n := len(csr.DNSNames) + len(csr.IPAddresses); n > 1+joinapi.MaxNodeIPs {
		return fmt.Errorf("the certificate request has %d host names and addresses, want at most %d", n, 1+joinapi.MaxNodeIPs)
	}
	return nil
}

// checkServing holds a serving certificate to the node's own name and declared
// addresses. The server CA also signs the API server, so what an API server is
// called by must not end up in the hands of a node.
func (a *api) checkServing(r *http.Request, req joinapi.NodeRequest, csr *x509.CertificateRequest) error {
	for _, name := range csr.DNSNames {
		if name != req.Name {
			return fmt.Errorf("a serving certificate for %.100q is not for node %q to have", name, req.Name)
		}
	}
	for _, raw := range csr.IPAddresses {
		ip, _ := netip.AddrFromSlice(raw)
		if !slices.Contains(req.IPs, ip.Unmap()) {
			return fmt.Errorf("address %s is in the certificate request but not in header %s", ip, joinapi.HeaderNodeIP)
		}
	}
	local := a.isLocal(r)
	for _, ip := range req.IPs {
		for _, cidr := range a.Config.ServiceCIDR {
			if p, err := netip.ParsePrefix(cidr); err == nil && p.Contains(ip) {
				return fmt.Errorf("address %s lies in the service network %s and cannot be a node's", ip, p)
			}
		}
		if !local && a.reserved.VerifyHostname(ip.String()) == nil {
			return fmt.Errorf("address %s is a server's and cannot be that of node %q", ip, req.Name)
		}
	}
	return a.checkName(r, req.Name)
}

// checkName keeps the names of servers for themselves.
func (a *api) checkName(r *http.Request, name string) error {
	if !a.isLocal(r) && a.reserved.VerifyHostname(name) == nil {
		return fmt.Errorf("%q is the name of a server: choose another --node-name", name)
	}
	return nil
}

// reserved holds the servers' names in a certificate that is never signed, to
// have them matched as TLS clients match them, wildcards included.
func (s *Supervisor) reserved() (*x509.Certificate, error) {
	dns, ips, err := s.ServingNames(s.Config)
	if err != nil {
		return nil, err
	}
	c := &x509.Certificate{DNSNames: dns}
	for _, ip := range ips {
		c.IPAddresses = append(c.IPAddresses, ip.AsSlice())
	}
	return c, nil
}
