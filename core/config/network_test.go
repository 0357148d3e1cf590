package config

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
)

// childEnv tells the test binary that it runs as the child of TestNetns in a
// network namespace of its own, and which case to set up.
const childEnv = "CONFIG_TEST_NETNS"

func TestMain(m *testing.M) {
	if name := os.Getenv(childEnv); name != "" {
		if err := netnsChild(name); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestNetns reads real network namespaces that hold nothing but a veth pair.
func TestNetns(t *testing.T) {
	for name, want := range map[string]string{
		"route":   "eth0 [192.0.2.10 198.51.100.7]",
		"noroute": " [198.51.100.7 192.0.2.10]",
		"empty":   " []",
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command("/proc/self/exe")
			cmd.Env = append(os.Environ(), childEnv+"="+name)
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
			if os.Geteuid() != 0 {
				cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
				cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
				cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
			}
			out, err := cmd.CombinedOutput()
			if got := strings.TrimRight(string(out), "\n"); err != nil || got != want {
				t.Errorf("%v: %q, want %q", err, got, want)
			}
		})
	}
}

func netnsChild(name string) error {
	if name != "empty" {
		if err := setUpVeth(name == "route"); err != nil {
			return err
		}
	}
	n, err := netlinkNetwork()
	if err != nil {
		return err
	}
	fmt.Println(n.defaultInterface, n.addresses)
	return nil
}

// setUpVeth makes eth0 (192.0.2.10) and its peer (198.51.100.7), which the
// kernel makes first and so numbers lower, both up.
func setUpVeth(route bool) error {
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "peer"}); err != nil {
		return fmt.Errorf("add veth: %w", err)
	}
	var eth0 netlink.Link
	for _, l := range []struct{ name, addr string }{{"peer", "198.51.100.7/24"}, {"eth0", "192.0.2.10/24"}} {
		link, err := netlink.LinkByName(l.name)
		if err != nil {
			return err
		}
		addr, err := netlink.ParseAddr(l.addr)
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(link, addr); err != nil {
			return fmt.Errorf("address of %s: %w", l.name, err)
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return err
		}
		eth0 = link
	}
	if !route {
		return nil
	}
	return netlink.RouteAdd(&netlink.Route{LinkIndex: eth0.Attrs().Index, Gw: net.IPv4(192, 0, 2, 1)})
}
