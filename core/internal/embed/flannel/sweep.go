package flannel

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/cleat-dev/cleat/core/internal/netlist"
	"github.com/cleat-dev/cleat/hostabi"
)

// sweep removes what leads to nodes that left while nothing ran here: from the vxlan
// links, or of the routes through the external one. They outlive the process, and the
// library takes away only what it sees go.
func (m *nodes) sweep(plan hostabi.FlannelPlan, external int) error {
	all, err := m.lister.List(labels.Everything())
	if err != nil {
		return err
	}
	subnets, gateways, macs := map[string]bool{}, map[string]bool{}, map[string]bool{}
	machines := map[string]string{} // subnet -> address of its node
	for _, node := range all {
		l, err := m.nodeLease(node)
		if err != nil {
			continue // the library is not told of it either
		}
		keep := func(subnet *net.IPNet, machine net.IP, data json.RawMessage) {
			mac, _ := net.ParseMAC(storedMAC(string(data))) // the library takes no entry without one
			subnets[subnet.String()], gateways[subnet.IP.String()], macs[mac.String()] = true, true, true
			machines[subnet.String()] = machine.String()
		}
		if l.EnableIPv4 {
			keep(l.Subnet.ToIPNet(), l.Attrs.PublicIP.ToIP(), l.Attrs.BackendData)
		}
		if l.EnableIPv6 {
			keep(l.IPv6Subnet.ToIPNet(), l.Attrs.PublicIPv6.ToIP(), l.Attrs.BackendV6Data)
		}
	}
	if plan.Backend == hostabi.FlannelHostGW {
		return sweepGateways(external, m.cfg, func(r netlink.Route) bool { return machines[r.Dst.String()] == r.Gw.String() })
	}
	var errs []error
	for _, name := range linkNames(plan) {
		link, err := netlink.LinkByName(name)
		if err != nil {
			errs = append(errs, fmt.Errorf("link %s: %w", name, err))
			continue
		}
		errs = append(errs, sweepRoutes(link, subnets),
			sweepNeighbours(link, unix.AF_UNSPEC, func(n netlink.Neigh) bool { return gateways[n.IP.String()] }),
			sweepNeighbours(link, unix.AF_BRIDGE, func(n netlink.Neigh) bool { return n.IP == nil || macs[n.HardwareAddr.String()] }))
	}
	return errors.Join(errs...)
}

func sweepRoutes(link netlink.Link, keep map[string]bool) error {
	routes, err := netlist.Whole(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{LinkIndex: link.Attrs().Index}, netlink.RT_FILTER_OIF)
	})
	if err != nil {
		return fmt.Errorf("routes of %s: %w", link.Attrs().Name, err)
	}
	var errs []error
	for _, r := range routes {
		if r.Gw == nil || r.Dst == nil || keep[r.Dst.String()] {
			continue
		}
		if err := netlink.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("route to %s: %w", r.Dst, err))
		}
	}
	return errors.Join(errs...)
}

// sweepNeighbours removes permanent entries, which are those that the library makes.
func sweepNeighbours(link netlink.Link, family int, keep func(netlink.Neigh) bool) error {
	found, err := netlist.Whole(func() ([]netlink.Neigh, error) { return netlink.NeighList(link.Attrs().Index, family) })
	if err != nil {
		return fmt.Errorf("neighbours of %s: %w", link.Attrs().Name, err)
	}
	var errs []error
	for _, n := range found {
		if n.State&netlink.NUD_PERMANENT == 0 || keep(n) {
			continue
		}
		if err := netlink.NeighDel(&n); err != nil && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("neighbour %s: %w", n.IP, err))
		}
	}
	return errors.Join(errs...)
}
