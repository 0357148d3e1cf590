package cleanup

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"github.com/opencontainers/cgroups"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/cleat-dev/cleat/core/internal/netlist"
)

// settle is how long the kernel may take to let go of what the dead used.
const settle = 5 * time.Second

func (machine) Mounts() ([]string, error) {
	all, err := mountinfo.GetMounts(nil)
	var points []string
	for _, m := range all {
		points = append(points, m.Mountpoint)
	}
	return points, err
}

func (machine) Unmount(ctx context.Context, path string) error {
	err := wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, settle, true, func(context.Context) (bool, error) {
		err := unix.Unmount(path, unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EBUSY) {
			return false, nil
		}
		return true, err
	})
	if wait.Interrupted(err) {
		// Out of sight now, gone when its last user is.
		err = unix.Unmount(path, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
	}
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return nil // gone with another one
	}
	return err
}

func (machine) Links() ([]link, error) {
	found, err := netlist.Whole(netlink.LinkList)
	if err != nil {
		return nil, err
	}
	names := make(map[int]string)
	for _, l := range found {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	var out []link
	for _, l := range found {
		one := link{Name: l.Attrs().Name, Kind: l.Type()}
		if l.Attrs().MasterIndex != 0 {
			one.Master = names[l.Attrs().MasterIndex]
		}
		out = append(out, one)
	}
	return out, nil
}

func (machine) RemoveLink(name string) error {
	l, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(l)
	}
	if errors.Is(err, unix.ENODEV) {
		return nil // went with its network namespace meanwhile
	}
	return err
}

func (machine) Routes() ([]route, error) {
	found, err := netlist.Whole(func() ([]netlink.Route, error) { return netlink.RouteList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, err
	}
	var out []route
	for _, r := range found {
		if r.Dst == nil || r.Gw == nil {
			continue
		}
		dst, err := netip.ParsePrefix(r.Dst.String())
		gateway, ok := netip.AddrFromSlice(r.Gw)
		if err == nil && ok {
			out = append(out, route{dst, gateway.Unmap()})
		}
	}
	return out, nil
}

func (machine) RemoveRoute(r route) error {
	dst, err := netlink.ParseIPNet(r.Destination.String())
	if err != nil {
		return err
	}
	err = netlink.RouteDel(&netlink.Route{Dst: dst, Gw: r.Gateway.AsSlice()})
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

func (machine) CgroupMounts() ([]string, error) {
	all, err := mountinfo.GetMounts(mountinfo.PrefixFilter("/sys/fs/cgroup"))
	var out []string
	for _, m := range all {
		if strings.HasPrefix(m.FSType, "cgroup") && !slices.Contains(out, m.Mountpoint) {
			out = append(out, m.Mountpoint)
		}
	}
	return out, err
}

func (machine) Members(cgroup string) ([]int, error) {
	pids, err := cgroups.GetAllPids(cgroup)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return pids, err
}

func (machine) RemoveCgroup(cgroup string) error { return cgroups.RemovePath(cgroup) }
