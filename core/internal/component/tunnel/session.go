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
	streams int   // connections through it, at both of its ends
	unread  int64 // bytes that came and that nobody has read
}

// A sender is asked to pause when 2 MiB of a stream wait; some more are underway.
func standard() limits { return limits{silence: 20 * time.Second, streams: 1024, unread: 256 << 20} }

var (
	errBusy   = errors.New("the tunnel has as many connections as it may")
	errEnded  = errors.New("the tunnel has ended")
	errUnread = errors.New("the node sends more than it is asked for")
)

// wire is the connection below a websocket. It has the deadlines of the tunnel;
// those that the layers above set are longer, and are ignored.
type wire struct {
	net.Conn
	silence time.Duration
	meter   func(p []byte) error // sees what is read; nil for none
}

func (w *wire) Read(p []byte) (int, error) {
	if err := w.Conn.SetReadDeadline(time.Now().Add(w.silence)); err != nil {
		return 0, err
	}
	n, err := w.Conn.Read(p)
	if w.meter != nil {
		if refused := w.meter(p[:n]); refused != nil {
			return 0, refused
		}
	}
	return n, err
}

func (w *wire) Write(p []byte) (int, error) {
	if err := w.Conn.SetWriteDeadline(time.Now().Add(w.silence)); err != nil {
		return 0, err
	}
	return w.Conn.Write(p)
}

func (*wire) SetDeadline(time.Time) error      { return nil }
func (*wire) SetReadDeadline(time.Time) error  { return nil }
func (*wire) SetWriteDeadline(time.Time) error { return nil }

// session is one end of a tunnel. Both ends are what remotedialer calls a client:
// such a session pings, and takes no orders about other clients; see RATIONALE.md.
type session struct {
	remote *remotedialer.Session
	ws     *websocket.Conn
	limits limits
	meter  meter

	dialling sync.Mutex
	last     int64 // the number that remotedialer gave to a stream; it counts from 1

	mu      sync.Mutex
	streams map[int64]*stream // those that this end asked for; nil when the session has ended
	unread  int64             // of them together
}

// newSession makes a session of ws. dial is what the other end may have dialled;
// with nil it may have nothing.
func newSession(ws *websocket.Conn, dial remotedialer.Dialer, l limits) *session {
	ws.SetReadLimit(maxMessage)
	// A dial that is refused here would end the session; the dialer ends one stream.
	allow := func(string, string) bool { return dial != nil }
	return &session{remote: remotedialer.NewClientSessionWithDialer(allow, ws, dial), ws: ws, limits: l, streams: map[int64]*stream{}}
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
	for _, c := range left {
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
	ctx, cancel := context.WithTimeout(ctx, handshake)
	defer cancel()
	s.dialling.Lock()
	defer s.dialling.Unlock()
	c := &stream{session: s, id: s.last + 1}
	if err := s.enter(c); err != nil {
		return nil, err
	}
	s.last = c.id
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
	s.streams[c.id] = c
	return nil
}

func (s *session) leave(c *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unread -= c.unread
	c.unread = 0
	delete(s.streams, c.id)
}

// metered sees what comes from the other end, before remotedialer does.
func (s *session) metered(p []byte) error { return s.meter.feed(p, s.received) }

// received counts n bytes more, or less, that wait in a stream.
func (s *session) received(id, n int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.streams[id]
	if c == nil {
		return nil // remotedialer does not keep it
	}
	c.unread += n
	s.unread += n
	if s.unread > s.limits.unread {
		return errUnread
	}
	return nil
}

// stream is one connection through a tunnel, at the end that asked for it.
type stream struct {
	net.Conn // remotedialer's; nil while it is dialled
	session  *session
	id       int64
	unread   int64 // guarded by the session's lock
}

func (c *stream) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	_ = c.session.received(c.id, -int64(n)) // less is never too much
	return n, err
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
