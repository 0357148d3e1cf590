package supervisor

import (
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"

	"github.com/cleat-dev/cleat/core/internal/joinapi"
	"github.com/cleat-dev/cleat/core/internal/pki"
)

// leafFor decides what the certificate says and who signs it. Users and groups
// come from the path and the node's name, never from the request's own text.
func (a *api) leafFor(r *http.Request, req joinapi.NodeRequest, csr *x509.CertificateRequest) (*pki.Authority, pki.Leaf, error) {
	switch r.URL.Path {
	case joinapi.PathClientKubelet:
		return a.id.Client, pki.Leaf{CommonName: joinapi.NodeUser(req.Name), Organization: []string{joinapi.GroupNodes}, Client: true}, nil
	case joinapi.PathClientKubeProxy:
		return a.id.Client, pki.Leaf{CommonName: joinapi.UserKubeProxy, Client: true}, nil
	case joinapi.PathClientNetwork:
		return a.id.Client, pki.Leaf{CommonName: joinapi.UserNetwork, Client: true}, nil
	}
	leaf := pki.Leaf{
		CommonName: joinapi.NodeUser(req.Name), Organization: []string{joinapi.GroupNodes},
		Server: true, DNSNames: []string{req.Name}, IPs: req.IPs,
	}
	return a.id.Server, leaf, a.checkServing(r, req, csr)
}

// checkServing holds a serving certificate to the node's own name and declared
// addresses. The server CA also signs the API server, so what an API server is
// called by must not end up in the hands of a node.
func (a *api) checkServing(r *http.Request, req joinapi.NodeRequest, csr *x509.CertificateRequest) error {
	for _, name := range csr.DNSNames {
		if name != req.Name {
			return fmt.Errorf("a serving certificate for %q is not for node %q to have", name, req.Name)
		}
	}
	for _, raw := range csr.IPAddresses {
		ip, _ := netip.AddrFromSlice(raw)
		if !slices.Contains(req.IPs, ip.Unmap()) {
			return fmt.Errorf("address %s is in the certificate request but not in header %s", ip, joinapi.HeaderNodeIP)
		}
	}
	local := isLocal(r)
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
	if !local && a.reserved.VerifyHostname(req.Name) == nil {
		return fmt.Errorf("%q is the name of a server: choose another --node-name", req.Name)
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

// isLocal reports whether r comes from this very machine: from a loopback
// address, or from the address it was sent to.
func isLocal(r *http.Request) bool {
	remote, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return false
	}
	if remote.Addr().Unmap().IsLoopback() {
		return true
	}
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return ok && local.AddrPort().Addr().Unmap() == remote.Addr().Unmap()
}
