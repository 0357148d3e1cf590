package config

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cleat-dev/cleat/core/internal/netlist"
)

// network is what Detect wants to know of the machine's interfaces.
type network struct {
	defaultInterface string       // of the default route, "" if there is none
	addresses        []netip.Addr // see Host.Addresses
}

// netlinkNetwork reads the network of the calling thread's network namespace.
func netlinkNetwork() (network, error) {
	return netlist.Whole(dumpNetwork)
}

func dumpNetwork() (network, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return network{}, fmt.Errorf("list links: %w", err)
	}
	var found []link
	for _, l := range links {
		attrs := l.Attrs()
		if attrs.Flags&net.FlagUp == 0 || attrs.Flags&net.FlagLoopback != 0 {
			continue
		}
		addrs, err := netlink.AddrList(l, netlink.FAMILY_ALL)
		if err != nil {
			return network{}, fmt.Errorf("addresses of %s: %w", attrs.Name, err)
		}
		found = append(found, link{index: attrs.Index, name: attrs.Name, addresses: usable(addrs)})
	}
	var defaults []route
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := netlink.RouteList(nil, family)
		if err != nil {
			return network{}, fmt.Errorf("list routes: %w", err)
		}
		for _, r := range routes {
			if isDefault(r) {
				defaults = append(defaults, routesOf(r, family == netlink.FAMILY_V6)...)
			}
		}
	}
	return summarize(found, defaults), nil
}

type link struct {
	index     int
	name      string
	addresses []netip.Addr
}

// route is a default route.
type route struct {
	link   int // index
	metric int
	six    bool
	source netip.Addr // preferred source address, may be invalid
}

// summarize puts the addresses of the default route's interface first, and of
// them the route's source address, then those of the other links by index.
// IPv4 decides the interface if both families have a default route.
func summarize(links []link, defaults []route) network {
	slices.SortStableFunc(defaults, func(a, b route) int {
		return cmp.Or(btoi(a.six)-btoi(b.six), cmp.Compare(a.metric, b.metric))
	})
	slices.SortStableFunc(links, func(a, b link) int { return cmp.Compare(a.index, b.index) })
	var n network
	add := func(a netip.Addr) {
		if !slices.Contains(n.addresses, a) {
			n.addresses = append(n.addresses, a)
		}
	}
	for _, r := range defaults {
		i := slices.IndexFunc(links, func(l link) bool { return l.index == r.link })
		if i < 0 {
			continue
		}
		if n.defaultInterface == "" {
			n.defaultInterface = links[i].name
		}
		if slices.Contains(links[i].addresses, r.source) {
			add(r.source)
		}
		for _, a := range links[i].addresses {
			add(a)
		}
	}
	for _, l := range links {
		for _, a := range l.addresses {
			add(a)
		}
	}
	return n
}

func isDefault(r netlink.Route) bool {
	if r.Type != 0 && r.Type != unix.RTN_UNICAST {
		return false
	}
	if r.Dst == nil {
		return true
	}
	ones, _ := r.Dst.Mask.Size()
	return ones == 0 && r.Dst.IP.IsUnspecified()
}

// routesOf is one route for each link a default route may leave by.
func routesOf(r netlink.Route, six bool) []route {
	src, _ := netip.AddrFromSlice(r.Src)
	one := route{link: r.LinkIndex, metric: r.Priority, six: six, source: src.Unmap()}
	if len(r.MultiPath) == 0 {
		return []route{one}
	}
	var all []route
	for _, hop := range r.MultiPath {
		one.link = hop.LinkIndex
		all = append(all, one)
	}
	return all
}

// usable keeps the addresses by which others can reach this machine for long:
// not link-local ones, and no IPv6 address that is temporary, on its way out
// or a duplicate of another machine's.
func usable(addrs []netlink.Addr) []netip.Addr {
	var out []netip.Addr
	for _, a := range addrs {
		if a.IPNet == nil || a.Flags&(unix.IFA_F_DEPRECATED|unix.IFA_F_DADFAILED) != 0 {
			continue
		}
		addr, ok := netip.AddrFromSlice(a.IP)
		addr = addr.Unmap()
		// The same bit is "secondary" for IPv4, which is fine, and
		// "temporary" for IPv6.
		if !ok || !addr.IsGlobalUnicast() || addr.Is6() && a.Flags&unix.IFA_F_TEMPORARY != 0 {
			continue
		}
		out = append(out, addr)
	}
	return out
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
