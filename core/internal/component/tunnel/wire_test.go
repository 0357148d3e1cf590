package tunnel

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/core/kernel/kerneltest"
)

// overPipe is a wire with an outbox, and the other end of it.
func overPipe(t *testing.T, most int, silence time.Duration) (w *wire, far net.Conn, sending <-chan error) {
	t.Helper()
	near, far := net.Pipe()
	t.Cleanup(func() { near.Close(); far.Close() })
	w = &wire{Conn: near, silence: silence, out: newOutbox(most)}
	done := make(chan error, 1)
	go func() { w.send(); done <- nil }()
	return w, far, done
}

func TestOutbox(t *testing.T) {
	kerneltest.NoLeaks(t)
	w, far, sending := overPipe(t, 8*enoughUnsent, patience)
	var want []byte
	for i := range 3 * enoughUnsent / 1000 { // nobody reads, and no write waits
		p := bytes.Repeat([]byte{byte(i)}, 1000)
		if n, err := w.Write(p); n != len(p) || err != nil {
			t.Fatal(n, err)
		}
		want = append(want, p...)
	}
	room := make(chan error, 1)
	go func() { w.out.room(); room <- nil }()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(far, got[:enoughUnsent]); err != nil {
		t.Fatal(err)
	}
	select {
	case <-room:
		t.Error("there is room before the outbox is nearly empty")
	default:
	}
	if _, err := io.ReadFull(far, got[enoughUnsent:]); err != nil || !bytes.Equal(got, want) {
		t.Errorf("what came is not what was sent: %v", err)
	}
	within(t, "there is room", func() error { return <-room })
	if _, err := w.Write([]byte("more")); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadFull(far, got[:4]); err != nil || string(got[:4]) != "more" {
		t.Errorf("%q, %v", got[:4], err)
	}
	w.Close()
	within(t, "the sender ends", func() error { return <-sending })
	if _, err := w.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed wire: %v", err)
	}
}

// A node that takes nothing costs no more than the bound.
func TestOutboxIsBounded(t *testing.T) {
	kerneltest.NoLeaks(t)
	w, far, sending := overPipe(t, 10_000, patience)
	var kept int
	var err error
	for err == nil {
		var n int
		n, err = w.Write(make([]byte, 1000))
		kept += n
	}
	if !errors.Is(err, errUntaken) || kept != 10_000 {
		t.Errorf("%d bytes were kept, and then %v", kept, err)
	}
	if _, err := far.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the wire is open: %v", err)
	}
	within(t, "the sender ends", func() error { return <-sending })
	w.out.room() // does not wait
}

// Who waits for room does not when the other end is dead.
func TestOutboxOfADeadPeer(t *testing.T) {
	kerneltest.NoLeaks(t)
	w, _, sending := overPipe(t, 8*enoughUnsent, 50*time.Millisecond)
	if _, err := w.Write(make([]byte, 2*enoughUnsent)); err != nil {
		t.Fatal(err)
	}
	within(t, "waiting for room", func() error { w.out.room(); return nil })
	within(t, "the sender ends", func() error { return <-sending })
	if _, err := w.Write([]byte("x")); err == nil {
		t.Error("a dead wire takes bytes")
	}
}
