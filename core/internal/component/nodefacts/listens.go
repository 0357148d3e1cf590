package nodefacts

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/cleat-dev/cleat/core/internal/nodenotes"
)

// The kernel's states of sockets, from include/net/tcp_states.h. A UDP socket that
// is bound but not connected is in the latter.
const (
	stateListen = 10
	stateClose  = 7
)

// socket is one that waits for strangers.
type socket struct {
	port  nodenotes.Port
	addr  netip.Addr
	inode uint32
}

// sockets returns those that programs in this network namespace listen on at an
// address that others reach. The kernel's own, as of VXLAN, are among them.
func sockets(reach []netip.Addr) ([]socket, error) {
	low, high, err := clientPorts()
	if err != nil {
		return nil, err
	}
	var all []socket
	for _, q := range []struct {
		protocol corev1.Protocol
		state    uint8
		ask      func(family uint8) ([]*netlink.Socket, error)
	}{
		{corev1.ProtocolTCP, stateListen, netlink.SocketDiagTCP},
		{corev1.ProtocolUDP, stateClose, netlink.SocketDiagUDP},
	} {
		for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
			found, err := q.ask(family)
			// The list changed while it was read: what is missing is there next time.
			if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
				return nil, fmt.Errorf("list the sockets of this machine: %w", err)
			}
			for _, s := range found {
				one := socket{nodenotes.Port{Number: s.ID.SourcePort, Protocol: q.protocol}, addrOf(s.ID.Source), s.INode}
				if s.State == q.state && matters(one, reach, low, high) {
					all = append(all, one)
				}
			}
		}
	}
	return all, nil
}

// named says which program has which port, "" if that is not known.
func named(all []socket, names map[uint32]string) map[nodenotes.Port]string {
	out := make(map[nodenotes.Port]string, len(all))
	for _, s := range all {
		if out[s.port] == "" {
			out[s.port] = names[s.inode]
		}
	}
	return out
}

// matters reports whether a socket would lose what is meant for it if a Service had
// its port. A UDP socket in the range that the kernel gives to clients is most
// likely one of a client.
func matters(s socket, reach []netip.Addr, low, high uint16) bool {
	if s.port.Number == 0 || s.port.Protocol == corev1.ProtocolUDP && low <= s.port.Number && s.port.Number <= high {
		return false
	}
	return s.addr.IsUnspecified() || slices.Contains(reach, s.addr)
}

func addrOf(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

// clientPorts is the range of ports the kernel gives to clients.
func clientPorts() (low, high uint16, err error) {
	const path = "/proc/sys/net/ipv4/ip_local_port_range"
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, 0, err
	}
	if _, err := fmt.Sscan(string(text), &low, &high); err != nil {
		return 0, 0, fmt.Errorf("%s: %w", path, err)
	}
	return low, high, nil
}

// programs finds the names of the programs that have the sockets, by inode. It is
// an aid for people: what cannot be read is left out.
func programs(proc string, sockets []socket) map[uint32]string {
	wanted := make(map[string]uint32, len(sockets))
	for _, s := range sockets {
		if s.inode != 0 {
			wanted["socket:["+strconv.FormatUint(uint64(s.inode), 10)+"]"] = s.inode
		}
	}
	names := make(map[uint32]string, len(wanted))
	processes, err := os.ReadDir(proc)
	if err != nil {
		return names
	}
	for _, p := range processes {
		if len(names) == len(wanted) {
			break
		}
		if _, err := strconv.Atoi(p.Name()); err != nil {
			continue
		}
		dir := filepath.Join(proc, p.Name())
		fds, err := os.ReadDir(filepath.Join(dir, "fd"))
		if err != nil {
			continue // it ended
		}
		name := ""
		for _, fd := range fds {
			target, err := os.Readlink(filepath.Join(dir, "fd", fd.Name()))
			if err != nil {
				continue
			}
			inode, found := wanted[target]
			if !found || names[inode] != "" {
				continue
			}
			if name == "" {
				comm, err := os.ReadFile(filepath.Join(dir, "comm"))
				if err != nil {
					break
				}
				name = strings.TrimSpace(string(comm))
			}
			names[inode] = name
		}
	}
	return names
}
