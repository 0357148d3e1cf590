// Package tunnel carries connections from servers to nodes that accept none. The
// node opens a websocket to each server (Client); the API server dials kubelets
// and pods through it (Server), and the node decides what it dials for them.
package tunnel

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"github.com/rancher/remotedialer"
)

const (
	handshake = 10 * time.Second
	// maxWrite is the longest message, so that streams take turns; maxMessage what
	// the other end takes.
	maxWrite   = 32 << 10
	maxMessage = 256 << 10
)

// limits of one tunnel.
type limits struct {
	// silence ends one whose other end says nothing, or takes nothing. Both ends
	// ping every five seconds.
	silence time.Duration
	streams int // connections through it, at both of its ends
}

func standard() limits { return limits{silence: 20 * time.Second, streams: 1024} }

var (
	errBusy  = errors.New("the tunnel has as many connections as it may")
	errEnded = errors.New("the tunnel has ended")
)

// wire is the connection below a websocket. It has the deadlines of the tunnel;
// those that the layers above set are longer, and are ignored.
type wire struct {
	net.Conn
	silence time.Duration
}

func (w wire) Read(p []byte) (int, error) {
	if err := w.Conn.SetReadDeadline(time.Now().Add(w.silence)); err != nil {
		return 0, err
	}
	return w.Conn.Read(p)
}

func (w wire) Write(p []byte) (int, error) {
	if err := w.Conn.SetWriteDeadline(time.Now().Add(w.silence)); err != nil {
		return 0, err
	}
	return w.Conn.Write(p)
}

func (wire) SetDeadline(time.Time) error      { return nil }
func (wire) SetReadDeadline(time.Time) error  { return nil }
func (wire) SetWriteDeadline(time.Time) error { return nil }

// session is one end of a tunnel. Both ends are what remotedialer calls a client:
// such a session pings, and takes no orders about other clients; see RATIONALE.md.
type session struct {
	remote *remotedialer.Session
	ws     *websocket.Conn
	limits limits

	mu      sync.Mutex
	streams map[*stream]struct{} // nil when the session has ended
}

// newSession makes a session of ws. dial is what the other end may have dialled;
// with nil it may have nothing.
func newSession(ws *websocket.Conn, dial remotedialer.Dialer, l limits) *session {
	ws.SetReadLimit(maxMessage)
	// A dial that is refused here would end the session; the dialer ends one stream.
	allow := func(string, string) bool { return dial != nil }
	return &session{remote: remotedialer.NewClientSessionWithDialer(allow, ws, dial), ws: ws, limits: l, streams: map[*stream]struct{}{}}
}

// serve carries messages until the connection ends or ctx is done, and returns
// when nothing of the session is left.
func (s *session) serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, s.cut)
	defer stop()
	_, err := s.remote.Serve(ctx)
	s.cut() // before Close, which would write to it
	s.remote.Close()
	s.mu.Lock()
	left := s.streams
	s.streams = nil
	s.mu.Unlock()
	for c := range left {
		c.end() // wakes who waits to write, as remotedialer's Close does not
	}
	return err
}

// cut closes the connection; serve does the rest.
func (s *session) cut() {
	_ = s.ws.Close() // it is being thrown away
}

// dial has the other end dial address. The connection is there at once; whether
// the other end could dial shows when it is used.
func (s *session) dial(ctx context.Context, network, address string) (net.Conn, error) {
	c := &stream{session: s}
	if err := s.enter(c); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, handshake)
	defer cancel()
	inner, err := s.remote.Dial(ctx, network, address)
	if err != nil {
		s.leave(c)
		return nil, err
	}
	s.mu.Lock()
	c.Conn = inner
	ended := s.streams == nil
	s.mu.Unlock()
	if ended {
		_ = inner.Close()
		return nil, errEnded
	}
	return c, nil
}

func (s *session) enter(c *stream) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.streams == nil {
		return errEnded
	}
	if len(s.streams) >= s.limits.streams {
		return errBusy
	}
	s.streams[c] = struct{}{}
	return nil
}

func (s *session) leave(c *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, c)
}

// stream is one connection through a tunnel, at the end that asked for it.
type stream struct {
	net.Conn // remotedialer's; nil while it is dialled
	session  *session
}

func (c *stream) Write(p []byte) (n int, err error) {
	for len(p) > 0 && err == nil {
		var m int
		m, err = c.Conn.Write(p[:min(len(p), maxWrite)])
		n += m
		p = p[m:]
	}
	return n, err
}

func (c *stream) Close() error {
	c.session.leave(c)
	return c.Conn.Close()
}

// end closes the stream with its session.
func (c *stream) end() {
	c.session.mu.Lock()
	inner := c.Conn
	c.session.mu.Unlock()
	if inner != nil {
		_ = inner.Close() // there is nobody to tell
	}
}

// dialled is a connection that was dialled for the other end.
type dialled struct {
	net.Conn
	ctx  context.Context // of the session
	done func()          // called once
	once sync.Once
}

// WriteTo is what remotedialer copies with, from the connection into the tunnel.
// A write that waits for the other end, which had enough for the moment, does not
// end with the session; it does when it is closed.
func (d *dialled) WriteTo(w io.Writer) (int64, error) {
	if c, ok := w.(io.Closer); ok {
		stop := context.AfterFunc(d.ctx, func() { _ = c.Close() })
		defer stop()
	}
	return io.Copy(w, struct{ io.Reader }{d.Conn})
}

func (d *dialled) Close() error {
	d.once.Do(d.done)
	return d.Conn.Close()
}
