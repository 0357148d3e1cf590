package flannel

import (
	"errors"
	"fmt"
	"net"

	"github.com/flannel-io/flannel/pkg/ip"
	"github.com/flannel-io/flannel/pkg/subnet"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cleat-dev/cleat/core/internal/netlist"
	"github.com/cleat-dev/cleat/hostabi"
)

// metricV6 is what the kernel gives an IPv6 route that was made without one.
const metricV6 = 1024

// sweepGateways removes the routes of a link that the host-gw backend made, in this run
// or an earlier one, but for those that keep wants.
func sweepGateways(link int, cfg *subnet.Config, keep func(netlink.Route) bool) error {
	all, err := netlist.Whole(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{LinkIndex: link}, netlink.RT_FILTER_OIF)
	})
	if err != nil {
		return fmt.Errorf("routes between nodes: %w", err)
	}
	var ours []netlink.Route
	routers := map[string]bool{} // lead elsewhere too, so they are no nodes
	for _, r := range all {
		switch {
		case r.Gw == nil:
		case !insideNetwork(r.Dst, cfg):
			routers[r.Gw.String()] = true
		case likeHostGW(r):
			ours = append(ours, r)
		}
	}
	var errs []error
	for _, r := range ours {
		if routers[r.Gw.String()] || keep(r) {
			continue
		}
		if err := netlink.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("route to %s via %s: %w", r.Dst, r.Gw, err))
		}
	}
	return errors.Join(errs...)
}

// insideNetwork reports whether a destination is a part of the cluster's pod network.
func insideNetwork(dst *net.IPNet, cfg *subnet.Config) bool {
	if dst == nil {
		return false
	}
	bits, size := dst.Mask.Size()
	if size == 8*net.IPv4len {
		return cfg.EnableIPv4 && bits > int(cfg.Network.PrefixLen) && cfg.Network.Contains(ip.FromIP(dst.IP))
	}
	return cfg.EnableIPv6 && bits > int(cfg.IPv6Network.PrefixLen) && cfg.IPv6Network.Contains(ip.FromIP6(dst.IP))
}

// likeHostGW reports whether a route is what the kernel makes of the library's request
// for it, which names a destination, a gateway and a link and nothing else. Routing
// daemons, DHCP clients and network managers put their own number as the protocol.
func likeHostGW(r netlink.Route) bool {
	made := netlink.Route{
		LinkIndex: r.LinkIndex, Dst: r.Dst, Gw: r.Gw,
		Protocol: unix.RTPROT_BOOT, Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST,
	}
	if r.Gw.To4() == nil {
		made.Priority = metricV6
	}
	// These tell of the link; asking for a route does not set them.
	r.Flags &^= unix.RTNH_F_DEAD | unix.RTNH_F_LINKDOWN
	return r.Equal(made)
}

// cleanGateways removes the routes to other nodes that the host-gw backend made.
func cleanGateways(plan hostabi.FlannelPlan) error {
	cfg, err := subnetConfig(plan)
	if err != nil {
		return fmt.Errorf("flannel: %w", err)
	}
	link, err := externalLink(plan.Interface, cfg)
	if err != nil {
		return nil // it is gone, and its routes with it
	}
	if err := sweepGateways(link.Index, cfg, func(netlink.Route) bool { return false }); err != nil {
		return fmt.Errorf("flannel: %w", err)
	}
	return nil
}
