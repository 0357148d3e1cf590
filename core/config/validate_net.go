package config

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

func (v *checker) listener() {
	c := v.c
	v.address("bind-address", c.BindAddress, "0.0.0.0")
	if c.AdvertiseAddress != "" {
		if a := v.address("advertise-address", c.AdvertiseAddress, "192.168.1.10"); a.IsValid() && a.IsUnspecified() {
			v.bad("advertise-address", c.AdvertiseAddress, "stands for every address; write the one other machines reach this one by")
		}
	}
	v.port("https-listen-port", c.HTTPSListenPort)
	for _, san := range c.TLSSAN {
		if _, err := netip.ParseAddr(san); err == nil {
			continue
		}
		if len(validation.IsDNS1123Subdomain(san)) > 0 && len(validation.IsWildcardDNS1123Subdomain(san)) > 0 {
			v.bad("tls-san", san, "neither a host name nor an IP address; write it without scheme and port")
		}
	}
}

func (v *checker) networks() {
	c := v.c
	pods := v.cidrs("cluster-cidr", c.ClusterCIDR, "10.42.0.0/16")
	services := v.cidrs("service-cidr", c.ServiceCIDR, "10.43.0.0/16")
	if len(pods) > 0 && len(services) > 0 && !slices.EqualFunc(pods, services, sameFamily) {
		v.bad("service-cidr", strings.Join(c.ServiceCIDR, ","), "not of the same IP families, in the same order, as --cluster-cidr %s",
			strings.Join(c.ClusterCIDR, ","))
	}
	for _, p := range pods {
		for _, s := range services {
			if p.Overlaps(s) {
				v.bad("service-cidr", s.String(), "overlaps --cluster-cidr %s; choose ranges that share no address", p)
			}
		}
	}
	v.nodeMasks(pods)
	for _, s := range services {
		v.serviceSize(s)
	}
	v.clusterDNS(services)
	v.nodePorts()
	if msgs := validation.IsDNS1123Subdomain(c.ClusterDomain); len(msgs) > 0 {
		v.bad("cluster-domain", c.ClusterDomain, "not a DNS domain: %s", reasons(msgs))
	}
}

// cidrs parses one range or two of different families. It returns nil if any
// is wrong, so that nothing is said of ranges that do not parse.
func (v *checker) cidrs(name string, values []string, example string) []netip.Prefix {
	before := len(v.errs)
	if len(values) == 0 {
		v.bad(name, "", "is empty; write a range such as %s", example)
	}
	var out []netip.Prefix
	for _, s := range values {
		p, err := netip.ParsePrefix(s)
		switch {
		case err != nil:
			v.bad(name, s, "not a range of addresses; write one such as %s", example)
		case p.Masked() != p:
			v.bad(name, s, "has bits set beyond its length; write %s", p.Masked())
		case p.Addr().Is4In6():
			v.bad(name, s, "is IPv4 inside IPv6; write it as IPv4")
		}
		out = append(out, p)
	}
	if len(v.errs) == before && (len(out) > 2 || len(out) == 2 && sameFamily(out[0], out[1])) {
		v.bad(name, strings.Join(values, ","), "give one range, or one of IPv4 and one of IPv6")
	}
	if len(v.errs) > before {
		return nil
	}
	return out
}

// serviceSize holds the range to what the API server accepts, and to the
// sixteen addresses below which the DNS service has no place.
func (v *checker) serviceSize(p netip.Prefix) {
	host := p.Addr().BitLen() - p.Bits()
	switch {
	case host < 4:
		v.bad("service-cidr", p.String(), "too small; use a /%d or wider", p.Addr().BitLen()-4)
	case host > 20:
		v.bad("service-cidr", p.String(), "too large for the API server; use a /%d or narrower", p.Addr().BitLen()-20)
	}
}

func (v *checker) clusterDNS(services []netip.Prefix) {
	dns := v.c.ClusterDNS
	if len(services) == 0 {
		return
	}
	var seen []netip.Addr
	for _, s := range dns {
		a, err := netip.ParseAddr(s)
		if err != nil {
			v.bad("cluster-dns", s, "not an IP address; write one inside --service-cidr, such as 10.43.0.10")
			continue
		}
		i := slices.IndexFunc(services, func(p netip.Prefix) bool { return p.Contains(a) })
		switch {
		case i < 0:
			v.bad("cluster-dns", s, "outside --service-cidr %s; write an address inside it", strings.Join(v.c.ServiceCIDR, ","))
		case a == services[i].Addr():
			v.bad("cluster-dns", s, "is the first address of its range, which no service gets; write a later one")
		case a == services[i].Addr().Next():
			v.bad("cluster-dns", s, "belongs to the kubernetes service; write a later address of the range")
		case slices.ContainsFunc(seen, func(b netip.Addr) bool { return a.Is6() == b.Is6() }):
			v.bad("cluster-dns", s, "is a second address of its family; give one for each range")
		}
		seen = append(seen, a)
	}
}

func (v *checker) nodePorts() {
	s := v.c.ServiceNodePortRange
	lowText, highText, ok := strings.Cut(s, "-")
	low, errLow := strconv.Atoi(lowText)
	high, errHigh := strconv.Atoi(highText)
	if !ok || errLow != nil || errHigh != nil || low < 1 || high > 65535 || low > high {
		v.bad("service-node-port-range", s, "not a range of ports; write low-high within 1-65535, such as 30000-32767")
	}
}

// address parses an address; the zero Addr means that it was refused.
func (v *checker) address(name, s, example string) netip.Addr {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		v.bad(name, s, "not an IP address; write one such as %s", example)
		return netip.Addr{}
	}
	return a
}

func (v *checker) port(name string, p int) {
	if p < 1 || p > 65535 {
		v.bad(name, strconv.Itoa(p), "not a port; write a number from 1 to 65535")
	}
}

func sameFamily(a, b netip.Prefix) bool { return a.Addr().Is4() == b.Addr().Is4() }
