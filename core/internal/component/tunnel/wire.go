package tunnel

import (
	"net"
	"slices"
	"sync"
	"time"
)

// wire is the connection below a websocket. It has the deadlines of the tunnel;
// those that the layers above set are longer, and are ignored.
type wire struct {
	net.Conn
	silence time.Duration
	meter   func(p []byte) error // sees what is read; nil for none
	out     *outbox              // keeps what is written; nil for none
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
	if w.out == nil {
		return w.write(p)
	}
	n, err := w.out.put(p)
	if err != nil {
		_ = w.Close() // a writer that waits ends now, not after the silence
	}
	return n, err
}

func (w *wire) write(p []byte) (int, error) {
	if err := w.Conn.SetWriteDeadline(time.Now().Add(w.silence)); err != nil {
		return 0, err
	}
	return w.Conn.Write(p)
}

func (w *wire) Close() error {
	if w.out != nil {
		w.out.end(net.ErrClosed)
	}
	return w.Conn.Close()
}

func (*wire) SetDeadline(time.Time) error      { return nil }
func (*wire) SetReadDeadline(time.Time) error  { return nil }
func (*wire) SetWriteDeadline(time.Time) error { return nil }

// send writes what is in the outbox until the wire is closed, or a write fails,
// which closes it.
func (w *wire) send() {
	var done []byte
	for {
		bytes, ok := w.out.take(done)
		if !ok {
			return
		}
		for part := range slices.Chunk(bytes, maxWrite) {
			if _, err := w.write(part); err != nil {
				w.out.end(err)
				_ = w.Close() // the write says why
				return
			}
			w.out.sent(len(part))
		}
		done = bytes
	}
}

// outbox is what a server has to send by one tunnel. remotedialer answers pings,
// pauses and ends of streams between two reads; if such a write could wait at both
// ends, each would wait for the other to read. At this end none waits: who sends
// data waits for room before, and the rest is little.
type outbox struct {
	most int // bytes; more ends the tunnel

	mu      sync.Mutex
	changed sync.Cond
	bytes   []byte
	unsent  int // with what is just being written
	err     error
}

func newOutbox(most int) *outbox {
	o := &outbox{most: most}
	o.changed.L = &o.mu
	return o
}

// put takes p, at once.
func (o *outbox) put(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil && o.unsent+len(p) > o.most {
		o.err = errUntaken
	}
	o.changed.Broadcast()
	if o.err != nil {
		return 0, o.err
	}
	o.bytes = append(o.bytes, p...)
	o.unsent += len(p)
	return len(p), nil
}

// room waits until little is waiting, or the outbox has ended.
func (o *outbox) room() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.err == nil && o.unsent >= enoughUnsent {
		o.changed.Wait()
	}
}

// take waits for bytes, and gives them all; empty is where the next ones may be kept.
// It gives none when the outbox has ended.
func (o *outbox) take(empty []byte) ([]byte, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.err == nil && len(o.bytes) == 0 {
		o.changed.Wait()
	}
	if o.err != nil {
		return nil, false
	}
	bytes := o.bytes
	o.bytes = nil
	if cap(empty) <= 2*enoughUnsent {
		o.bytes = empty[:0]
	}
	return bytes, true
}

func (o *outbox) sent(n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.unsent -= n
	o.changed.Broadcast()
}

// end wakes all who wait; the first reason counts.
func (o *outbox) end(why error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil {
		o.err = why
	}
	o.changed.Broadcast()
}
