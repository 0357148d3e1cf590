package config

import (
	"net/netip"
	"strconv"

	"github.com/cleat-dev/cleat/core/internal/componentargs"
)

// What the controller manager gives each node of the pods' range unless told
// otherwise, and the bounds on that: its own for IPv6, and that of CNI's host-local, which
// needs three addresses that are no pod's.
const (
	nodeMaskArg   = "node-cidr-mask-size"
	nodeMaskV4    = 24
	nodeMaskV6    = 64
	maxCountBits  = 16 // by which a share of IPv6 may be longer than the range
	leastHostBits = 2  // which a share must leave for its addresses
)

// nodeMasks checks that the controller manager can cut a node's share out of each
// of the pods' ranges: over most of what is refused here it ends the server, and of
// the rest come shares that no pod fits in.
func (v *checker) nodeMasks(pods []netip.Prefix) {
	args := v.c.KubeControllerManagerArg
	value := func(key string) string { return componentargs.Value(key, nil, args) }
	if shares, err := strconv.ParseBool(value("allocate-node-cidrs")); err == nil && !shares || value("cluster-cidr") != "" {
		return // somebody else gives them, or from other ranges
	}
	given := map[string]int{}
	for _, key := range []string{nodeMaskArg, nodeMaskArg + "-ipv4", nodeMaskArg + "-ipv6"} {
		text := value(key)
		if text == "" {
			continue
		}
		bits, err := strconv.Atoi(text)
		if err != nil || bits < 0 {
			v.badShare(key, text, "not a number of bits; write one such as %s=%d", key, nodeMaskV4+2)
			return
		}
		if bits > 0 { // 0 is the flag's own default
			given[key] = bits
		}
	}
	if bits, ok := given[nodeMaskArg]; ok && (len(pods) > 1 || len(given) > 1) {
		v.badShare(nodeMaskArg, strconv.Itoa(bits), "is not for two families, nor beside a flag for one; "+
			"give %[1]s-ipv4=N and %[1]s-ipv6=N, for each family of --cluster-cidr", nodeMaskArg)
		return
	}
	for _, p := range pods {
		family, other, share := "-ipv4", "-ipv6", nodeMaskV4
		if p.Addr().Is6() {
			family, other, share = other, family, nodeMaskV6
		}
		if bits, ok := given[nodeMaskArg+other]; ok && len(pods) == 1 {
			v.badShare(nodeMaskArg+other, strconv.Itoa(bits), "--cluster-cidr %s has no such family; give %s%s=N", p, nodeMaskArg, family)
			continue
		}
		key := nodeMaskArg
		if len(pods) > 1 || given[nodeMaskArg+family] > 0 {
			key += family
		}
		if bits := given[key]; bits > 0 {
			share = bits
		}
		v.nodeMask(p, share, key)
	}
}

// nodeMask checks one range of which each node gets a share of so many bits; key is the
// controller manager's flag for it.
func (v *checker) nodeMask(p netip.Prefix, share int, key string) {
	narrowest := p.Addr().BitLen() - leastHostBits
	switch {
	case share > narrowest:
		v.badShare(key, strconv.Itoa(share), "leaves a node no address for a pod; write at most %d", narrowest)
	case p.Bits() > narrowest:
		v.bad("cluster-cidr", p.String(), "too small for one node; use a /%d or wider", share)
	case p.Bits() > share:
		v.bad("cluster-cidr", p.String(), "too small for one node: each node takes a /%d of it; use a /%d or wider, "+
			"or smaller shares by --kube-controller-manager-arg %s=N, N from %d to %d", share, share, key, p.Bits(), narrowest)
	case p.Addr().Is6() && share-p.Bits() > maxCountBits:
		v.bad("cluster-cidr", p.String(), "too wide for shares of a /%d, of which the controller manager can count 65536; use a /%d, "+
			"or larger shares by --kube-controller-manager-arg %s=N, N from %d to %d", share, share-maxCountBits, key, p.Bits(), p.Bits()+maxCountBits)
	}
}

func (v *checker) badShare(key, value, format string, args ...any) {
	v.bad("kube-controller-manager-arg", key+"="+value, format, args...)
}
