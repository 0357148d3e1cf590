package config

import (
	"net/netip"
	"strings"

	"github.com/cleat-dev/cleat/core/internal/paths"
)

// detectResolvConf picks the resolv.conf that pods get: the operator's, else
// the first of the machine's own that a pod can use, else one that the kubelet
// unit has to write. systemd-resolved keeps the real servers in the second.
func (c *Config) detectResolvConf(m machine) {
	if c.ResolvConf != "" {
		return
	}
	c.found("resolv-conf")
	for _, path := range []string{"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"} {
		if data, err := m.read(path); err == nil && usableResolvConf(data) {
			c.ResolvConf = path
			return
		}
	}
	c.ResolvConf = paths.Data(c.DataDir).Agent("etc", "resolv.conf")
	c.Host.ResolvConfUnusable = true
}

// usableResolvConf reports whether a pod can use a resolv.conf: it names a
// server, and none that only the node itself can reach. One such server among
// good ones is enough to refuse: CoreDNS would forward to itself by it.
func usableResolvConf(data string) bool {
	servers := 0
	for line := range strings.Lines(data) {
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != "nameserver" {
			continue
		}
		addr, err := netip.ParseAddr(words[1])
		if err != nil || !addr.Unmap().IsGlobalUnicast() {
			return false
		}
		servers++
	}
	return servers > 0
}
