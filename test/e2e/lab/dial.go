package lab

import (
	"context"
	"fmt"
	"net"
	"runtime"
)

// Dial connects to an address as a program on the machine would, so that a
// client can run in the test itself. The address holds no name to look up.
func (m *Machine) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if m.init == nil {
		return nil, fmt.Errorf("machine %s is off", m.Name)
	}
	type result struct {
		net.Conn
		error
	}
	done := make(chan result, 1)
	go func() {
		// As for Listen: the thread ends with this goroutine.
		runtime.LockOSThread()
		if err := enterNetwork(m.init.pid()); err != nil {
			done <- result{nil, err}
			return
		}
		c, err := (&net.Dialer{}).DialContext(ctx, network, address)
		done <- result{c, err}
	}()
	r := <-done
	return r.Conn, r.error
}
