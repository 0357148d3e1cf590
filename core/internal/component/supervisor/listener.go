package supervisor

import (
	"container/list"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// repeatWarning is how often a full port is worth a line in the log.
const repeatWarning = time.Minute

// phase is how far a connection is.
type phase int

const (
	fresh phase = iota // no request yet: in the handshake, or in the first header
	idle               // between requests
	busy               // with a request, or taken over by a handler
	phases
)

// listener knows its open connections, because http.Server forgets those that
// a handler has taken over. It bounds those from other machines: a newcomer
// beyond a bound costs the source that has most of them its least useful one.
// Connections from this machine are neither counted nor closed.
type listener struct {
	net.Listener
	limits  limits
	isLocal func(remote, asked netip.Addr) bool
	log     *slog.Logger

	mu      sync.Mutex
	closed  bool
	local   map[*conn]struct{}
	sources map[netip.Addr]*source
	total   int
	fresh   int
	warned  time.Time
}

// source is an address that has connections, each phase in order of arrival.
type source struct {
	conns [phases]list.List // of *conn
}

func (s *source) count() (n int) {
	for i := range s.conns {
		n += s.conns[i].Len()
	}
	return n
}

func newListener(inner net.Listener, l limits, isLocal func(remote, asked netip.Addr) bool, log *slog.Logger) *listener {
	return &listener{Listener: inner, limits: l, isLocal: isLocal, log: log, local: map[*conn]struct{}{}, sources: map[netip.Addr]*source{}}
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		inner, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &conn{Conn: inner, list: l}
		remote := addrOf(inner.RemoteAddr())
		c.source = sourceOf(remote)
		c.isLocal = l.isLocal(remote, addrOf(inner.LocalAddr()))
		victim, err := l.add(c)
		if victim != nil {
			_ = victim.Close() // it is being thrown away
		}
		if err != nil {
			return nil, err
		}
		if victim != c {
			return c, nil
		}
	}
}

// add enters c and returns the connection that has to go for it, c itself if
// there is none worth less.
func (l *listener) add(c *conn) (victim *conn, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return c, net.ErrClosed // nobody waits for an answer on it yet
	}
	if c.isLocal {
		l.local[c] = struct{}{}
		return nil, nil
	}
	from := l.sources[c.source]
	if from == nil {
		from = &source{}
		l.sources[c.source] = from
	}
	c.at = from.conns[fresh].PushBack(c)
	l.total++
	l.fresh++
	switch {
	case from.count() > l.limits.connsPerSource:
		victim = l.least(from)
	case l.total > l.limits.conns:
		victim = l.least(l.most(func(s *source) int { return s.count() }))
	case l.fresh > l.limits.fresh:
		victim, _ = l.most(func(s *source) int { return s.conns[fresh].Len() }).conns[fresh].Front().Value.(*conn)
	default:
		return nil, nil
	}
	if victim == nil {
		victim = c
	}
	if now := time.Now(); now.Sub(l.warned) >= repeatWarning {
		l.warned = now
		l.log.Warn("too many connections: closing the least useful ones", "open", l.total, "without a request", l.fresh, "from", victim.source)
	}
	l.remove(victim)
	return victim, nil
}

func (l *listener) most(count func(*source) int) (heaviest *source) {
	top := -1
	for _, s := range l.sources {
		if n := count(s); n > top {
			heaviest, top = s, n
		}
	}
	return heaviest
}

// least is the connection of s that is missed least, nil if all are at work.
// An honest client is fresh for milliseconds, so the oldest fresh one is no
// honest client's.
func (l *listener) least(s *source) *conn {
	for _, p := range []phase{fresh, idle} {
		// The newcomer is the last of the fresh ones and goes only when all others work.
		if s.conns[p].Len() > 1 || p == idle && s.conns[p].Len() > 0 {
			c, _ := s.conns[p].Front().Value.(*conn)
			return c
		}
	}
	for e := s.conns[busy].Front(); e != nil; e = e.Next() {
		if c, _ := e.Value.(*conn); c.stuck(l.limits.stuckAfter) {
			return c
		}
	}
	return nil
}

// remove forgets c; the lock is held.
func (l *listener) remove(c *conn) {
	if c.isLocal {
		delete(l.local, c)
		return
	}
	if c.at == nil {
		return // it is forgotten already
	}
	s := l.sources[c.source]
	s.conns[c.phase].Remove(c.at)
	c.at = nil
	l.total--
	if c.phase == fresh {
		l.fresh--
	}
	if s.count() == 0 {
		delete(l.sources, c.source)
	}
}

// state is the server's ConnState.
func (l *listener) state(outer net.Conn, state http.ConnState) {
	c := connOf(outer)
	if c == nil {
		return
	}
	next := busy
	switch state {
	case http.StateIdle:
		next = idle
	case http.StateActive:
	case http.StateHijacked:
		c.takenOver.Store(true)
	default:
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.at == nil || c.phase == next {
		return
	}
	s := l.sources[c.source]
	s.conns[c.phase].Remove(c.at)
	if c.phase == fresh {
		l.fresh--
	}
	c.phase = next
	c.at = s.conns[next].PushBack(c)
}

func (l *listener) closeConns() {
	l.mu.Lock()
	l.closed = true
	var open []*conn
	for c := range l.local {
		open = append(open, c)
	}
	for _, s := range l.sources {
		for i := range s.conns {
			for e := s.conns[i].Front(); e != nil; e = e.Next() {
				if c, ok := e.Value.(*conn); ok {
					open = append(open, c)
				}
			}
		}
	}
	l.mu.Unlock()
	for _, c := range open {
		_ = c.Close() // it is being thrown away
	}
}

// conn is a connection that its listener knows.
type conn struct {
	net.Conn
	list    *listener
	source  netip.Addr
	isLocal bool

	takenOver atomic.Bool
	writing   atomic.Int64 // when the write began that has not ended, Unix nanoseconds, else 0

	// Guarded by the listener's lock.
	phase phase
	at    *list.Element
}

// connOf finds the connection below TLS.
func connOf(outer net.Conn) *conn {
	if t, ok := outer.(*tls.Conn); ok {
		outer = t.NetConn()
	}
	c, _ := outer.(*conn)
	return c
}

func (c *conn) Write(p []byte) (int, error) {
	c.writing.Store(time.Now().UnixNano())
	defer c.writing.Store(0)
	return c.Conn.Write(p)
}

func (c *conn) stuck(after time.Duration) bool {
	since := c.writing.Load()
	return since != 0 && time.Since(time.Unix(0, since)) > after
}

func (c *conn) Close() error {
	c.list.mu.Lock()
	c.list.remove(c)
	c.list.mu.Unlock()
	return c.Conn.Close()
}

func addrOf(a net.Addr) netip.Addr {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}
