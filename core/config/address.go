package config

import (
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// LoopbackAddress is where a client on this machine dials the server: a
// loopback address when the server listens on all, else --bind-address.
func (o *Options) LoopbackAddress() string {
	bind, err := netip.ParseAddr(o.BindAddress)
	switch {
	case err != nil || !bind.IsUnspecified():
		return o.BindAddress
	case bind.Is6() && len(o.NodeIP) > 0 && !isIPv4(o.NodeIP[0]):
		return "::1"
	default:
		return "127.0.0.1"
	}
}

// ServerURL is the same as a URL, https://host:port.
func (o *Options) ServerURL() string {
	return "https://" + net.JoinHostPort(o.LoopbackAddress(), strconv.Itoa(o.HTTPSListenPort))
}

// NoProxy extends the values of NO_PROXY variables with what the cluster sends
// to itself: this machine, its nodes' and services' names and addresses. The
// result has the variable's form, commas between.
func (c *Config) NoProxy(given ...string) string {
	list := split(given, ",")
	own := []string{"localhost", "127.0.0.0/8", "::1", ".svc"}
	if c.ClusterDomain != "" {
		own = append(own, "."+c.ClusterDomain)
	}
	own = slices.Concat(own, c.ClusterCIDR, c.ServiceCIDR, c.NodeIP, []string{c.NodeName, c.AdvertiseAddress})
	if server, err := url.Parse(c.Server); err == nil {
		own = append(own, server.Hostname())
	}
	for _, name := range own {
		if name != "" && !slices.Contains(list, name) {
			list = append(list, name)
		}
	}
	return strings.Join(list, ",")
}

func isIPv4(s string) bool {
	a, err := netip.ParseAddr(s)
	return err == nil && a.Is4()
}
