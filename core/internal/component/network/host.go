package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/cleat-dev/cleat/core/internal/netlist"
)

// host is everything the executor does to the machine, files aside.
type host interface {
	Links() ([]link, error)
	// SetSysctl returns an error that is os.ErrNotExist if there is no such
	// setting.
	SetSysctl(ctx context.Context, name, value string) error
	// RemoveLink removes a vxlan or bridge link and reports whether there was
	// one. errLinkInUse: something is attached to it. Other kinds are refused.
	RemoveLink(name string) (removed bool, err error)
	// Masquerade sets these rules and no others of ours of their family.
	Masquerade(ctx context.Context, m masquerade) error
	// Unmasquerade removes our rules of a kind.
	Unmasquerade(ctx context.Context, kind string) error
}

// masquerade hides traffic that leaves Network from any of Pods behind the
// node.
type masquerade struct {
	Kind    string // hostabi.ProxyModeNFTables or ProxyModeIPTables
	Network netip.Prefix
	Pods    []netip.Prefix // of the family of Network, at least one
}

var errLinkInUse = errors.New("link in use")

// machine is this machine, or the network namespace the process runs in.
type machine struct{}

func (machine) Links() ([]link, error) { return netlist.Whole(readLinks) }

func readLinks() ([]link, error) {
	found, err := netlink.LinkList()
	if err != nil {
		return nil, err
	}
	var out []link
	for _, l := range found {
		addrs, err := netlink.AddrList(l, netlink.FAMILY_ALL)
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			continue // went away meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("addresses of %s: %w", l.Attrs().Name, err)
		}
		one := link{Name: l.Attrs().Name, MTU: l.Attrs().MTU}
		for _, a := range addrs {
			if addr, ok := netip.AddrFromSlice(a.IP); ok {
				one.Addresses = append(one.Addresses, addr.Unmap())
			}
		}
		out = append(out, one)
	}
	return out, nil
}

func (m machine) SetSysctl(ctx context.Context, name, value string) error {
	path := filepath.Join("/proc/sys", strings.ReplaceAll(name, ".", "/"))
	have, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) && strings.HasPrefix(name, "net.bridge.") {
		loadBridgeFilter(ctx)
		have, err = os.ReadFile(path)
	}
	if err != nil {
		return err
	}
	// The kernel separates several numbers by tabs.
	if slices.Equal(strings.Fields(string(have)), strings.Fields(value)) {
		return nil
	}
	return os.WriteFile(path, []byte(value), 0o644)
}

// loadBridgeFilter loads the kernel module that has the settings below
// net.bridge. Whether that worked shows in /proc/sys: the module may be built
// in, missing, or another's business inside a container.
func loadBridgeFilter(ctx context.Context) {
	modprobe, err := exec.LookPath("modprobe")
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	_ = exec.CommandContext(ctx, modprobe, "--quiet", "br_netfilter").Run()
}

func (machine) RemoveLink(name string) (bool, error) {
	l, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	switch l.Type() {
	case "vxlan":
	case "bridge":
		all, err := netlist.Whole(netlink.LinkList)
		if err != nil {
			return false, err
		}
		if slices.ContainsFunc(all, func(o netlink.Link) bool { return o.Attrs().MasterIndex == l.Attrs().Index }) {
			return false, errLinkInUse
		}
	default:
		return false, fmt.Errorf("is a link of kind %s; only vxlan and bridge links are removed", l.Type())
	}
	return true, netlink.LinkDel(l)
}
