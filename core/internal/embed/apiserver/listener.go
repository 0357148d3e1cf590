package apiserver

import (
	"net"
	"sync"
)

// heldListener claims an address and never yields a connection. The API server
// takes the address of its listener for two things, the endpoint of the
// kubernetes service and where its loopback clients dial; both are the
// supervisor's port, which is open already.
type heldListener struct {
	address *net.TCPAddr
	closed  chan struct{}
	close   sync.Once
}

func newHeldListener(address *net.TCPAddr) *heldListener {
	return &heldListener{address: address, closed: make(chan struct{})}
}

func (l *heldListener) Accept() (net.Conn, error) {
	<-l.closed
	return nil, net.ErrClosed
}

func (l *heldListener) Close() error {
	l.close.Do(func() { close(l.closed) })
	return nil
}

func (l *heldListener) Addr() net.Addr { return l.address }
