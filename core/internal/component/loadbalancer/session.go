package loadbalancer

import (
	"io"
	"net"
	"sync"
)

// session is a client's connection and the one that carries it to a server.
type session struct {
	client, backend *net.TCPConn
	once            sync.Once
}

// remote is the address that the server was reached at.
func (s *session) remote() string { return s.backend.RemoteAddr().String() }

// close ends both connections at once.
func (s *session) close() {
	s.once.Do(func() {
		s.client.Close()
		s.backend.Close()
	})
}

// carry moves bytes both ways until both ends are done, or one breaks. An end
// that only stops sending may go on reading.
func (s *session) carry() {
	defer s.close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.half(s.client, s.backend)
	}()
	s.half(s.backend, s.client)
	<-done
}

func (s *session) half(to, from *net.TCPConn) {
	_, err := io.Copy(to, from)
	if err == nil {
		err = to.CloseWrite()
	}
	if err != nil {
		s.close()
	}
}
