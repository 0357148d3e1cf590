package lab

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// Listen opens a TCP port on the machine's address and gives it to the test, so
// that a server can run in the test itself and yet be reached from machines only.
// It is closed when the test ends.
func (m *Machine) Listen(t testing.TB, port int) net.Listener {
	t.Helper()
	return m.ListenOn(t, fmt.Sprintf("%s:%d", m.Addr, port))
}

// ListenOn is Listen on another address that the machine has.
func (m *Machine) ListenOn(t testing.TB, address string) net.Listener {
	t.Helper()
	if m.init == nil {
		t.Fatalf("machine %s is off", m.Name)
	}
	type result struct {
		net.Listener
		error
	}
	done := make(chan result)
	go func() {
		// A socket stays in the namespace of the thread that made it. The thread is
		// never unlocked, so it ends with this goroutine and nothing else runs on it.
		runtime.LockOSThread()
		l, err := listenIn(m.init.pid(), address)
		done <- result{l, err}
	}()
	r := <-done
	if r.error != nil {
		t.Fatalf("%s of machine %s: %v", address, m.Name, r.error)
	}
	t.Cleanup(func() { r.Close() }) // an error means that its server closed it
	return r.Listener
}

// listenIn moves the calling thread into the network of a process and listens there.
func listenIn(pid int, address string) (net.Listener, error) {
	if err := enterNetwork(pid); err != nil {
		return nil, err
	}
	return net.Listen("tcp", address)
}

// enterNetwork moves the calling thread into the network of a process.
func enterNetwork(pid int) error {
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return err
	}
	defer ns.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter the network of process %d: %w", pid, err)
	}
	return nil
}
