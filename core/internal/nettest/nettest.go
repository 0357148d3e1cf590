// Package nettest gives tests networks of their own. Where the tests do not run
// as root, they do so in a user namespace.
package nettest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// inNamespace is set in the process that runs inside its own network.
const inNamespace = "CLEAT_TEST_IN_NAMESPACE"

// Main runs a package's tests in a network namespace of their own and returns the
// status to exit with. TestMain calls it. prepare runs in the namespace before them.
func Main(m *testing.M, prepare ...func() error) int {
	if os.Getenv(inNamespace) != "" {
		for _, p := range prepare {
			if err := p(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
		}
		return m.Run()
	}
	runtime.LockOSThread() // the child dies with this thread
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if uid := os.Geteuid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "in a network namespace:", err)
		return 1
	}
	return 0
}

// Loopback prepares a network that has only the loopback link: for tests that choose a
// port and use it later, which other tests on the machine would take meanwhile.
func Loopback() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	return netlink.LinkSetUp(lo)
}

// Host is a network namespace beside the one the tests run in.
type Host struct {
	ns *os.File
}

// NewHost makes a host that lives as long as the test. It has a loopback link that is down.
func NewHost(t testing.TB) *Host {
	t.Helper()
	h := &Host{}
	err := apart(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("new network: %w", err)
		}
		var err error
		h.ns, err = os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.ns.Close() })
	return h
}

// Fd is the namespace, to move links into.
func (h *Host) Fd() int { return int(h.ns.Fd()) }

// Do runs f on the host, on a thread of its own: what f opens stays there.
func (h *Host) Do(f func() error) error {
	return apart(func() error {
		if err := unix.Setns(h.Fd(), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter the network: %w", err)
		}
		return f()
	})
}

// apart runs f on a thread that ends with it.
func apart(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked
		done <- f()
	}()
	return <-done
}

// Serve sends back what comes to any of the addresses, host and port, over TCP or
// UDP, as long as the test lives.
func (h *Host) Serve(t testing.TB, tcp, udp []string) {
	t.Helper()
	err := h.Do(func() error {
		for _, address := range tcp {
			l, err := net.Listen("tcp", address)
			if err != nil {
				return err
			}
			t.Cleanup(func() { _ = l.Close() })
			go serveTCP(l)
		}
		for _, address := range udp {
			c, err := net.ListenPacket("udp", address)
			if err != nil {
				return err
			}
			t.Cleanup(func() { _ = c.Close() })
			go serveUDP(c)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func serveTCP(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			echo(c)
		}()
	}
}

func echo(c net.Conn) {
	buf := make([]byte, 64)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		if _, err := c.Write(buf[:n]); err != nil {
			return
		}
	}
}

func serveUDP(c net.PacketConn) {
	buf := make([]byte, 64)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		_, _ = c.WriteTo(buf[:n], from) // whoever misses it says so
	}
}

// Dial connects from an address of the host, "" = any.
func (h *Host) Dial(network, from, to string, timeout time.Duration) (net.Conn, error) {
	d := net.Dialer{Timeout: timeout}
	if from != "" {
		ip := net.ParseIP(from)
		if network == "udp" {
			d.LocalAddr = &net.UDPAddr{IP: ip}
		} else {
			d.LocalAddr = &net.TCPAddr{IP: ip}
		}
	}
	var c net.Conn
	err := h.Do(func() error {
		var err error
		c, err = d.Dial(network, to)
		return err
	})
	return c, err
}

// Ask sends a word over a connection and waits until it comes back.
func Ask(c net.Conn, timeout time.Duration) error {
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	if _, err := c.Write([]byte("word")); err != nil {
		return err
	}
	_, err := c.Read(make([]byte, 4))
	return err
}
