// Package tunnel carries connections from servers to nodes that accept none. The
// node opens a websocket to each server (Client); the API server dials kubelets
// and pods through it (Server), and the node decides what it dials for them.
package tunnel

import (
	"context"
	"errors"
	"fmt"
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
	// enoughUnsent has those who send data wait. A keystroke waits behind it.
	enoughUnsent = 256 << 10
)

// limits of one tunnel.
type limits struct {
	// silence ends one whose other end says nothing, or takes nothing. Both ends
	// ping every five seconds.
	silence time.Duration
	streams int   // connections through it, at both of its ends
	unread  int64 // bytes that came and that nobody has read
	unsent  int   // bytes that wait for a node to take them
	// alone ends a half of a connection that has no other, linger one whose last
	// bytes nobody takes after it was closed.
	alone, linger time.Duration
}

// A sender is asked to pause when 2 MiB of a stream wait; some more are underway.
// Of what is unsent, each stream may have a message beyond enough.
func standard() limits {
	return limits{silence: 20 * time.Second, streams: 1024, unread: 256 << 20, unsent: 64 << 20, alone: handshake, linger: 10 * time.Second}
}

var (
	errBusy    = errors.New("the tunnel has as many connections as it may")
	errEnded   = errors.New("the tunnel has ended")
	errUnread  = errors.New("the node sends more than it is asked for")
	errUntaken = errors.New("the node asks for more than it takes")
)

// session is one end of a tunnel. Both ends are what remotedialer calls a client:
// such a session pings, and takes no orders about other clients; see RATIONALE.md.
type session struct {
	remote *remotedialer.Session
	ws     *websocket.Conn
	wire   *wire // with an outbox; nil at a node
	limits limits
	meter  meter

	dialling sync.Mutex
	last     int64 // number of a stream, from 1

	mu       sync.Mutex
	streams  map[int64]*stream // those that this end asked for; nil when the session has ended
	unread   int64             // of them together
	watching sync.WaitGroup
}

// newSession makes a session of ws. dial is what the other end may have dialled;
// with nil it may have nothing.
func newSession(ws *websocket.Conn, dial remotedialer.Dialer, l limits) *session {
	ws.SetReadLimit(maxMessage)
	// A dial that is refused here would end the session; the dialer ends one stream.
	allow := func(string, string) bool { return dial != nil }
	return &session{remote: remotedialer.NewClientSessionWithDialer(allow, ws, dial), ws: ws, limits: l, streams: map[int64]*stream{}}
}

// newServerSession makes a server's end of ws, which lies on w: what the node sends
// is metered, and what it is sent has an outbox.
func newServerSession(ws *websocket.Conn, w *wire, l limits) *session {
	s := newSession(ws, nil, l)
	s.wire = w
	w.meter = func(p []byte) error { return s.meter.feed(p, s.received) }
	w.out = newOutbox(l.unsent)
	return s
}

// serve carries messages until the connection ends or ctx is done, and returns
// when nothing of the session is left.
func (s *session) serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, s.cut)
	defer stop()
	if s.wire != nil {
		s.watching.Go(s.wire.send)
	}
	_, err := s.remote.Serve(ctx)
	s.cut() // before Close, which would write to it
	s.remote.Close()
	s.mu.Lock()
	left := s.streams
	s.streams = nil
	s.mu.Unlock()
	for _, c := range left {
		c.end(errEnded) // wakes who waits to write, as remotedialer's Close does not
	}
	s.watching.Wait()
	return err
}

// cut closes the connection; serve does the rest.
func (s *session) cut() {
	_ = s.ws.Close() // it is being thrown away
}

// dial has the other end dial address. The connection is there at once; whether
// the other end could dial shows when it is used.
func (s *session) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.dialling.Lock()
	defer s.dialling.Unlock()
	c := &stream{session: s, number: s.last + 1, address: streamAddr{network, address}}
	if err := s.enter(c); err != nil {
		return nil, err
	}
	defer s.watching.Done()
	s.last = c.number
	if err := c.connect(ctx); err != nil {
		s.leave(c)
		s.cut() // the next halves would not have the numbers that received wants
		return nil, fmt.Errorf("%w: %w", errEnded, err)
	}
	s.mu.Lock()
	ended := s.streams == nil
	s.mu.Unlock()
	if ended {
		c.end(errEnded)
		return nil, errEnded
	}
	s.watching.Go(c.watch)
	return c, nil
}

// enter counts a stream, and has serve wait until the dialler is done with it.
func (s *session) enter(c *stream) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.streams == nil {
		return errEnded
	}
	if len(s.streams) >= s.limits.streams {
		return errBusy
	}
	s.streams[c.number] = c
	s.watching.Add(1)
	return nil
}

func (s *session) leave(c *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unread -= c.unread
	c.unread = 0
	delete(s.streams, c.number)
}

// received sees how many bytes came for which of remotedialer's connections,
// before it does. They count from 1, so that a stream's halves have the numbers
// 2n-1 (there) and 2n (back).
func (s *session) received(id, n int64) error {
	if id&1 == 1 {
		return errWrongWay
	}
	return s.waits(id/2, n)
}

// waits counts n bytes more, or less, that wait in a stream.
func (s *session) waits(number, n int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.streams[number]
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

// stream is one connection through a tunnel, at the end that asked for it: two of
// remotedialer's, each for one direction.
type stream struct {
	session *session
	number  int64
	address streamAddr

	// Guarded by the session's lock.
	there, back net.Conn // nil while they are made
	unread      int64
	why         error // it ended
}

// connect asks for both halves at once.
func (c *stream) connect(ctx context.Context) error {
	// The caller's deadline is not for what is written here, which does not wait.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), handshake)
	defer cancel()
	there, err := c.session.remote.Dial(ctx, c.address.network, thereAddress(c.number, c.address.text))
	if err != nil {
		return err
	}
	back, err := c.session.remote.Dial(ctx, networkBack, backAddress(c.number))
	if err != nil {
		return errors.Join(err, there.Close())
	}
	c.session.mu.Lock()
	defer c.session.mu.Unlock()
	c.there, c.back = there, back
	return nil
}

// watch ends the stream when the node has ended the half that it sends nothing by.
// It sends the rest of the other before.
func (c *stream) watch() {
	_, err := c.there.Read(make([]byte, 1))
	if err == nil {
		err = errWrongWay
	}
	c.end(err)
}

func (c *stream) Read(p []byte) (int, error) {
	n, err := c.back.Read(p)
	_ = c.session.waits(c.number, -int64(n)) // less is never too much
	if errors.Is(err, io.EOF) {
		c.session.mu.Lock()
		defer c.session.mu.Unlock()
		if c.why != nil {
			err = c.why
		}
	}
	return n, err
}

func (c *stream) Write(p []byte) (n int, err error) {
	for len(p) > 0 && err == nil {
		if c.session.wire != nil {
			c.session.wire.out.room()
		}
		var m int
		m, err = c.there.Write(p[:min(len(p), maxWrite)])
		n += m
		p = p[m:]
	}
	return n, err
}

// Close has the node write what it was sent, and then close the connection.
func (c *stream) Close() error {
	c.session.leave(c)
	c.end(io.EOF)
	return nil
}

// end closes both halves, for a reason of which the first counts. It wakes all who wait.
func (c *stream) end(why error) {
	c.session.mu.Lock()
	if c.why == nil {
		c.why = why
	}
	there, back := c.there, c.back
	c.session.mu.Unlock()
	if there == nil {
		return // connect or dial sees to it
	}
	_ = there.Close() // remotedialer's never fails
	_ = back.Close()
}

func (c *stream) LocalAddr() net.Addr  { return c.address }
func (c *stream) RemoteAddr() net.Addr { return c.address }

func (c *stream) SetReadDeadline(t time.Time) error  { return c.back.SetReadDeadline(t) }
func (c *stream) SetWriteDeadline(t time.Time) error { return c.there.SetWriteDeadline(t) }

func (c *stream) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// streamAddr is what a stream was dialled by.
type streamAddr struct{ network, text string }

func (a streamAddr) Network() string { return a.network }
func (a streamAddr) String() string  { return a.text }
