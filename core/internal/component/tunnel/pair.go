package tunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// networkBack is the network of a half that carries bytes from the node. The other
// half, which carries them there, has the network that the node is to dial.
const networkBack = "back"

var (
	errAlone    = errors.New("the other half of the connection did not come")
	errWrongWay = errors.New("bytes in the wrong direction")
)

// thereAddress and backAddress are how a server asks for the halves of its
// connection with a number, from 1.
func thereAddress(number int64, address string) string { return backAddress(number) + "/" + address }
func backAddress(number int64) string                  { return strconv.FormatInt(number, 10) }

// parseHalf reads what a server asks for. target is the address to dial, which is
// not looked at; it is "" for a half that carries bytes back.
func parseHalf(network, address string) (number int64, target string, back bool, err error) {
	text, target, slash := strings.Cut(address, "/")
	back = network == networkBack
	number, err = strconv.ParseInt(text, 10, 64)
	if err != nil || number < 1 || backAddress(number) != text || slash == back {
		return 0, "", false, fmt.Errorf("half %.20q of connection %.30q: want a number from 1, and an address to dial there", network, text)
	}
	return number, target, back, nil
}

// pairs are the connections through one tunnel at the node's end. Each is two of
// remotedialer's, as those wait for ever when both ends of one pause; see
// RATIONALE.md.
type pairs struct {
	session context.Context
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	limits  limits

	mu   sync.Mutex
	open map[int64]*pair
}

// pair is a connection through a tunnel, or the half of one that has come.
type pair struct {
	ctx     context.Context // done when the pair has ended; the cause is io.EOF or what went wrong
	end     context.CancelCauseFunc
	dialled chan struct{} // closed when conn is there
	late    *time.Timer   // ends a half that stays alone

	// Guarded by the lock of the pairs.
	there, back bool // the halves that have come
	conn        net.Conn
}

// connect is remotedialer's dialer: it makes what one half is copied to or from.
func (p *pairs) connect(_ context.Context, network, address string) (net.Conn, error) {
	number, target, back, err := parseHalf(network, address)
	if err != nil {
		return nil, err
	}
	own, err := p.join(number, back)
	if err != nil {
		return nil, err
	}
	if back {
		select {
		case <-own.dialled:
			return newBackHalf(own, p.limits.linger), nil
		case <-own.ctx.Done():
			return nil, context.Cause(own.ctx)
		}
	}
	conn, err := p.dial(own.ctx, network, target)
	if err != nil {
		own.end(err)
		return nil, err
	}
	p.mu.Lock()
	own.conn = conn
	p.mu.Unlock()
	if own.ctx.Err() != nil {
		_ = conn.Close() // nobody has used it
		return nil, context.Cause(own.ctx)
	}
	close(own.dialled)
	return &thereHalf{Conn: conn, pair: own}, nil
}

// join gives the pair that a half belongs to. The first of the two makes it.
func (p *pairs) join(number int64, back bool) (*pair, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	own := p.open[number]
	if own == nil {
		if len(p.open) >= p.limits.streams {
			return nil, errBusy
		}
		own = p.add(number)
	}
	which := &own.there
	if back {
		which = &own.back
	}
	if *which {
		return nil, fmt.Errorf("connection %d: this half is there already", number)
	}
	*which = true
	if own.there && own.back {
		own.late.Stop()
		if own.ctx.Err() != nil { // it waited to tell the other half why
			delete(p.open, number)
		}
	}
	return own, nil
}

// add makes a pair. It is forgotten when it has ended and both halves know.
func (p *pairs) add(number int64) *pair {
	own := &pair{dialled: make(chan struct{})}
	own.ctx, own.end = context.WithCancelCause(p.session)
	forget := func(now bool) (net.Conn, bool) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.open[number] == own && (now || own.there && own.back) {
			delete(p.open, number)
		}
		return own.conn, own.conn != nil
	}
	context.AfterFunc(own.ctx, func() {
		if conn, ok := forget(false); ok {
			_ = conn.Close() // what there was to say was said to the halves
		}
	})
	own.late = time.AfterFunc(p.limits.alone, func() {
		own.end(errAlone)
		forget(true)
	})
	p.open[number] = own
	return own
}

// why is what the other end is told: nothing of a pair that ended well.
func (p *pair) why() error {
	if err := context.Cause(p.ctx); !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// thereHalf takes bytes from the tunnel to what was dialled.
type thereHalf struct {
	net.Conn
	pair *pair
}

func (h *thereHalf) Write(p []byte) (int, error) {
	n, err := h.Conn.Write(p)
	if err != nil {
		h.pair.end(err)
	}
	return n, err
}

// WriteTo is what remotedialer copies with, into the tunnel: nothing.
func (h *thereHalf) WriteTo(io.Writer) (int64, error) {
	<-h.pair.ctx.Done()
	return 0, h.pair.why()
}

// Close is called when all that came was written.
func (h *thereHalf) Close() error {
	h.pair.end(io.EOF)
	return nil
}

// backHalf takes bytes from what was dialled into the tunnel.
type backHalf struct {
	net.Conn
	pair    *pair
	linger  time.Duration
	stopped context.Context // done when the other end wants no more, or the pair has ended
	stop    context.CancelFunc
}

func newBackHalf(p *pair, linger time.Duration) *backHalf {
	h := &backHalf{Conn: p.conn, pair: p, linger: linger}
	h.stopped, h.stop = context.WithCancel(p.ctx)
	return h
}

func (*backHalf) Write([]byte) (int, error) { return 0, errWrongWay }

// WriteTo is what remotedialer copies with, into the tunnel. A write that waits for
// the other end, which had enough for the moment, ends only when it is closed.
func (h *backHalf) WriteTo(w io.Writer) (int64, error) {
	unhook := context.AfterFunc(h.stopped, func() {
		if c, ok := w.(io.Closer); ok {
			_ = c.Close()
		}
	})
	n, err := io.Copy(w, struct{ io.Reader }{h.Conn})
	if unhook() { // it ended by itself
		if err == nil {
			err = io.EOF
		}
		h.pair.end(err)
	}
	return n, h.pair.why()
}

// Close leaves the other half the time to write what it has.
func (h *backHalf) Close() error {
	if h.stopped.Err() == nil {
		late := time.AfterFunc(h.linger, func() { h.pair.end(io.EOF) })
		context.AfterFunc(h.pair.ctx, func() { late.Stop() })
	}
	h.stop()
	return nil
}
