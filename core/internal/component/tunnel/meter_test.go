package tunnel

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/gorilla/websocket"
	corev1 "k8s.io/api/core/v1"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/kernel/kerneltest"
)

// What waits in streams is counted to the byte: if remotedialer numbered its
// streams or wrote its messages otherwise, this would fail.
func TestUnread(t *testing.T) {
	kerneltest.NoLeaks(t)
	h := newHub(t, config.EgressAgent)
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := netip.MustParseAddrPort(l.Addr().String()).Port()
	h.know([]*corev1.Node{aNode("n1", "127.0.0.2", port)})
	stop := h.join(h.client("n1", port, "127.0.0.2"))
	s := h.session("n1")
	unread := func() int64 {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.unread
	}
	const size = 1_000_003
	send := func() net.Conn {
		c := h.through(l.Addr().String())
		peer, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { peer.Close() })
		for part := range slices.Chunk(make([]byte, size), 7_919) {
			if _, err := peer.Write(part); err != nil {
				t.Fatal(err)
			}
		}
		return c
	}
	first := send()
	eventually(t, "the first stream waits", func() bool { return unread() == size })
	second := send()
	eventually(t, "both wait", func() bool { return unread() == 2*size })
	if _, err := io.ReadFull(first, make([]byte, size)); err != nil || unread() != size {
		t.Errorf("after one was read %d bytes wait (%v)", unread(), err)
	}
	second.Close()
	if n := unread(); n != 0 {
		t.Errorf("after the other was closed %d bytes wait", n)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// A node that does not pause loses its tunnel, not the server its memory.
func TestTooMuchUnread(t *testing.T) {
	h := newHub(t, config.EgressAgent, func(l *limits) { l.unread = 1 << 20 })
	h.know([]*corev1.Node{aNode("n1", "127.0.0.2", 10250)})
	ws := h.websocket("n1")
	c := h.through("127.0.0.2:10250") // stream 1, its halves are 1 and 2
	err := within(t, "sending", func() error {
		for {
			if err := ws.WriteMessage(websocket.BinaryMessage, message(1, 2, messageData, 0, make([]byte, 32<<10))); err != nil {
				return err
			}
		}
	})
	if err == nil {
		t.Error("a node sent without end")
	}
	eventually(t, "the tunnel is gone", func() bool { return h.session("n1") == nil })
	if n, err := io.Copy(io.Discard, c); err == nil || n > 1<<20 {
		t.Errorf("%d bytes were kept, and then %v", n, err)
	}
}

// messageConnect and messageError are kinds of messages that ask for a half, and end one.
const messageConnect, messageError = 2, 3

// message is one of remotedialer's.
func message(id, stream, kind, deadline int64, body []byte) []byte {
	var b []byte
	for _, n := range []int64{id, stream, kind, deadline} {
		b = binary.AppendVarint(b, n)
	}
	return append(b, body...)
}

// frame is a websocket frame as a client sends it.
func frame(first byte, body []byte) []byte {
	f := []byte{first}
	switch n := len(body); {
	case n < 126:
		f = append(f, 0x80|byte(n))
	case n < 1<<16:
		f = binary.BigEndian.AppendUint16(append(f, 0x80|126), uint16(n))
	default:
		f = binary.BigEndian.AppendUint64(append(f, 0x80|127), uint64(n))
	}
	mask := []byte{1, 0xfe, 3, 0x80}
	f = append(f, mask...)
	for i, b := range body {
		f = append(f, b^mask[i%4])
	}
	return f
}

func TestMeter(t *testing.T) {
	const whole, ping = 0x82, 0x89
	large := frame(whole, message(1<<62, 1<<40, messageData, -1, make([]byte, 70_000)))
	for _, c := range []struct {
		what  string
		bytes []byte
		want  []int64 // stream, bytes, stream, …
		err   error
	}{
		{"nothing", nil, nil, nil},
		{"data", frame(whole, message(1, 7, messageData, 0, []byte("hello"))), []int64{7, 5}, nil},
		{"data without data", frame(whole, message(1, 7, messageData, 0, nil)), []int64{7, 0}, nil},
		{"another kind", frame(whole, message(1, 7, messageError, 0, []byte("EOF"))), nil, nil},
		{"large numbers and frames", large, []int64{1 << 40, 70_000}, nil},
		{"a ping between", slices.Concat(frame(ping, nil), large, frame(ping, []byte("x")), frame(whole, message(1, 2, messageData, 0, []byte("y")))), []int64{1 << 40, 70_000, 2, 1}, nil},
		{"a text", frame(0x81, message(1, 7, messageData, 0, []byte("hello"))), nil, nil},
		{"no message", frame(whole, []byte{0xff, 0xff}), nil, nil},
		{"a beginning", frame(0x02, message(1, 7, messageData, 0, nil)), nil, errFragments},
		{"an end", frame(0x80, []byte("x")), nil, errFragments},
		{"too long", []byte{whole, 0xff, 0, 0, 0, 0, 1, 0, 0, 0}, nil, errFrame},
		{"longer than any", []byte{whole, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0}, nil, errFrame},
	} {
		for _, step := range []int{1, 2, 3, 1000, len(c.bytes) + 1} {
			got, err := meterAll(c.bytes, step)
			if !slices.Equal(got, c.want) || !errors.Is(err, c.err) {
				t.Errorf("%s in steps of %d: %v, %v; want %v, %v", c.what, step, got, err, c.want, c.err)
			}
		}
	}
}

func meterAll(p []byte, step int) (got []int64, err error) {
	var m meter
	for part := range slices.Chunk(p, step) {
		err = m.feed(part, func(id, n int64) error { got = append(got, id, n); return nil })
		if err != nil {
			return got, err
		}
	}
	return got, nil
}

// However the bytes come in, they mean the same, and no more than there are.
func FuzzMeter(f *testing.F) {
	f.Add(frame(0x82, message(1, 7, messageData, 0, []byte("hello"))), 3)
	f.Add(slices.Concat(frame(0x89, nil), frame(0x82, message(-1, 1<<40, messageData, 5, make([]byte, 300)))), 1)
	f.Add([]byte{0x82, 0xff, 0, 0, 0, 0, 1, 0, 0, 0}, 4)
	f.Fuzz(func(t *testing.T, p []byte, step int) {
		if step < 1 || step > 1<<20 {
			return
		}
		once, onceErr := meterAll(p, len(p)+1)
		steps, stepsErr := meterAll(p, step)
		if !slices.Equal(once, steps) || !errors.Is(stepsErr, onceErr) {
			t.Fatalf("at once %v, %v; in steps %v, %v", once, onceErr, steps, stepsErr)
		}
		var total int64
		for i := 1; i < len(once); i += 2 {
			if once[i] < 0 {
				t.Fatalf("a stream of %d bytes", once[i])
			}
			total += once[i]
		}
		if total > int64(len(p)) {
			t.Fatalf("%d bytes in %d", total, len(p))
		}
	})
}
