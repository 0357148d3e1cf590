package nodefacts

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/cleat-dev/cleat/core/internal/nodenotes"
)

func TestMatters(t *testing.T) {
	reach := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}
	for _, tc := range []struct {
		protocol corev1.Protocol
		port     uint16
		addr     string
		want     bool
	}{
		{"TCP", 22, "0.0.0.0", true},
		{"TCP", 22, "::", true},
		{"TCP", 22, "192.0.2.1", true},
		{"TCP", 22, "2001:db8::1", true},
		{"TCP", 22, "127.0.0.1", false},
		{"TCP", 22, "10.42.0.1", false},
		{"TCP", 40000, "0.0.0.0", true},
		{"UDP", 8472, "0.0.0.0", true},
		{"UDP", 40000, "0.0.0.0", false}, // a client's
		{"TCP", 0, "0.0.0.0", false},
	} {
		s := socket{port: nodenotes.Port{Number: tc.port, Protocol: tc.protocol}, addr: netip.MustParseAddr(tc.addr)}
		if got := matters(s, reach, 32768, 60999); got != tc.want {
			t.Errorf("%s at %s: %v", s.port, tc.addr, got)
		}
	}
}

// TestSockets opens sockets and looks for them in the kernel's list.
func TestSockets(t *testing.T) {
	reach := []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := nodenotes.Port{Number: netip.MustParseAddrPort(l.Addr().String()).Port(), Protocol: corev1.ProtocolTCP}
	// A connection has the same port and is none that waits.
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()

	all, err := sockets(reach)
	if err != nil {
		t.Fatal(err)
	}
	comm, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	ports := named(all, programs("/proc", all))
	if got, found := ports[port]; !found || got != strings.TrimSpace(string(comm)) {
		t.Errorf("port %s belongs to %q, %v among %v", port, got, found, ports)
	}
	unreached, err := sockets(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, found := named(unreached, nil)[port]; found {
		t.Error("a socket on a loopback address counts although nobody reaches it")
	}
	client := nodenotes.Port{Number: netip.MustParseAddrPort(conn.LocalAddr().String()).Port(), Protocol: corev1.ProtocolTCP}
	if _, found := ports[client]; found {
		t.Error("a client's port counts as one that is listened on")
	}
}

func TestProgramsOfOddProcesses(t *testing.T) {
	proc := t.TempDir()
	for pid, comm := range map[string]string{"1": "init\n", "7": "", "notaprocess": "x"} {
		fd := filepath.Join(proc, pid, "fd")
		if err := os.MkdirAll(fd, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("socket:[4"+pid[:1]+"]", filepath.Join(fd, "3")); err != nil {
			t.Fatal(err)
		}
		if comm != "" {
			if err := os.WriteFile(filepath.Join(proc, pid, "comm"), []byte(comm), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	got := programs(proc, []socket{{inode: 41}, {inode: 47}, {inode: 0}})
	if len(got) != 1 || got[41] != "init" {
		t.Errorf("got %v", got)
	}
}
