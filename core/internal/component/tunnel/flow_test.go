package tunnel

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	corev1 "k8s.io/api/core/v1"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/kernel/kerneltest"
)

// muchPatience is for streams of many megabytes on a busy machine.
const muchPatience = 3 * time.Minute

// target is a kubelet whose connections are the test's, and the hub that reaches it.
type target struct {
	*hub
	net.Listener
	client *Client
	stop   func() error
}

func newTarget(t testing.TB, change ...func(*limits)) *target {
	t.Helper()
	h := newHub(t, config.EgressAgent, change...)
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	port := netip.MustParseAddrPort(l.Addr().String()).Port()
	h.know([]*corev1.Node{aNode("n1", "127.0.0.2", port)})
	client := h.client("n1", port, "127.0.0.2")
	return &target{hub: h, Listener: l, client: client, stop: h.join(client)}
}

// open gives both ends of a connection through the tunnel.
func (g *target) open() (c, peer net.Conn) {
	g.t.Helper()
	c = g.through(g.Addr().String())
	peer, err := g.Accept()
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { peer.Close() })
	return c, peer
}

// mirror sends back what it is sent, until there is no more.
func mirror(peer net.Conn) {
	_, _ = io.Copy(peer, peer) // who reads at the other end sees what is missing
	_ = peer.Close()
}

// sums are of what was written to a stream, and of what was read.
type sums struct{ written, read uint32 }

// exchange writes size bytes to c and reads as many. It begins to read when begin
// is closed.
func exchange(c net.Conn, seed byte, size int64, begin <-chan struct{}) (got sums, err error) {
	table := crc32.MakeTable(crc32.Castagnoli)
	written, read := crc32.New(table), crc32.New(table)
	var writing error
	var all sync.WaitGroup
	all.Go(func() {
		source := io.LimitReader(rand.NewChaCha8([32]byte{seed}), size)
		_, writing = io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(c, written)}, source, make([]byte, 128<<10))
	})
	<-begin
	_, err = io.CopyN(read, c, size)
	all.Wait()
	return sums{written.Sum32(), read.Sum32()}, errors.Join(writing, err)
}

func closed() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// Much goes in both directions of several streams at once, and of one nothing is
// read meanwhile.
func TestBothWays(t *testing.T) {
	kerneltest.NoLeaks(t)
	g := newTarget(t)
	const streams, size = 3, 32 << 20
	conns := make([]net.Conn, streams+1)
	for i := range conns {
		c, peer := g.open()
		go mirror(peer)
		conns[i] = c
	}
	late := time.AfterFunc(muchPatience, func() {
		t.Error("no end after " + muchPatience.String())
		g.session("n1").cut()
	})
	defer late.Stop()
	begin := make(chan struct{})
	results := make([]error, streams+1)
	run := func(i int, begin <-chan struct{}) {
		got, err := exchange(conns[i], byte(i), size, begin)
		if err == nil && got.written != got.read {
			err = fmt.Errorf("what came back is not what was sent: %v", got)
		}
		results[i] = err
	}
	var quick, slow sync.WaitGroup
	slow.Go(func() { run(streams, begin) })
	for i := range streams {
		quick.Go(func() { run(i, closed()) })
	}
	quick.Wait()
	close(begin)
	slow.Wait()
	for i, err := range results {
		if err != nil {
			t.Errorf("stream %d: %v", i, err)
		}
	}
	if err := g.stop(); err != nil {
		t.Error(err)
	}
}

// counting counts what it writes.
type counting struct {
	net.Conn
	n atomic.Int64
}

func (c *counting) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.n.Add(int64(n))
	return n, err
}

// fill writes to c until an error, which comes by the channel.
func fill(c net.Conn) (*counting, <-chan error) {
	counter, ended := &counting{Conn: c}, make(chan error, 1)
	go func() {
		for {
			if _, err := counter.Write(make([]byte, 64<<10)); err != nil {
				ended <- err
				return
			}
		}
	}()
	return counter, ended
}

// awaitStall waits until writers have written something, and then nothing more
// for 200 ms.
func awaitStall(t *testing.T, writers ...*counting) {
	t.Helper()
	before, since := make([]int64, len(writers)), time.Now()
	eventually(t, "the writers wait", func() bool {
		for i, w := range writers {
			if n := w.n.Load(); n == 0 || n != before[i] {
				before[i], since = n, time.Now()
			}
		}
		return time.Since(since) > 200*time.Millisecond
	})
}

// A reader that comes when the writers at both ends have stopped wakes them.
func TestLateReader(t *testing.T) {
	kerneltest.NoLeaks(t)
	g := newTarget(t)
	c, peer := g.open()
	go mirror(peer)
	w, writing := fill(c)
	awaitStall(t, w)
	stalled := w.n.Load()
	err := within(t, "reading four times of what fits", func() error {
		_, err := io.CopyN(io.Discard, c, 4*stalled)
		return err
	})
	if err != nil {
		t.Error(err)
	}
	c.Close()
	within(t, "the writer ends", func() error { return <-writing })
	if err := g.stop(); err != nil {
		t.Error(err)
	}
}

// A writer that waits for a reader who has had enough ends when that one goes.
func TestPausedWriterSeesTheEnd(t *testing.T) {
	kerneltest.NoLeaks(t)
	g := newTarget(t)
	c, peer := g.open()
	w, writing := fill(c)
	awaitStall(t, w)
	peer.Close()
	if err := within(t, "the server's writer ends", func() error { return <-writing }); err == nil {
		t.Error("it wrote to nobody")
	}
	c, peer = g.open()
	w, writing = fill(peer)
	awaitStall(t, w)
	c.Close()
	if err := within(t, "the node's writer ends", func() error { return <-writing }); err == nil {
		t.Error("it wrote to nobody")
	}
	eventually(t, "nothing of either is left at the node", func() bool {
		var b bytes.Buffer
		if err := pprof.Lookup("goroutine").WriteTo(&b, 2); err != nil {
			t.Fatal(err)
		}
		return !strings.Contains(b.String(), "remotedialer.clientDial")
	})
	if err := g.stop(); err != nil {
		t.Error(err)
	}
}

// What was written before a stream was closed arrives.
func TestCloseAfterWrite(t *testing.T) {
	kerneltest.NoLeaks(t)
	g := newTarget(t)
	const size = 8 << 20
	c, peer := g.open()
	reading := make(chan error, 1)
	go func() {
		n, err := io.Copy(io.Discard, peer)
		if n != size {
			err = fmt.Errorf("%d bytes arrived, want %d: %w", n, size, errors.Join(errNone, err))
		}
		reading <- err
	}()
	if _, err := c.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if err := within(t, "reading", func() error { return <-reading }); err != nil {
		t.Error(err)
	}
	// The other way: a peer that closes.
	c, peer = g.open()
	go func() {
		_, _ = peer.Write(make([]byte, size)) // the reader sees what is missing
		_ = peer.Close()
	}()
	var n int64
	err := within(t, "reading back", func() (err error) { n, err = io.Copy(io.Discard, c); return err })
	if err != nil || n != size {
		t.Errorf("%d bytes came back, want %d: %v", n, size, err)
	}
	if err := g.stop(); err != nil {
		t.Error(err)
	}
}

// A connection that was closed while its last bytes find no reader is not kept.
func TestCloseDoesNotLinger(t *testing.T) {
	kerneltest.NoLeaks(t)
	g := newTarget(t, func(l *limits) { l.linger = 100 * time.Millisecond })
	c, peer := g.open()
	w, writing := fill(c)
	awaitStall(t, w)
	c.Close()
	within(t, "the writer ends", func() error { return <-writing })
	err := within(t, "the connection ends", func() error {
		for { // what the kernel has; a reader that comes after the linger gets no more
			if _, err := peer.Write([]byte("x")); err != nil {
				return err
			}
			<-time.After(5 * time.Millisecond)
		}
	})
	if err == nil {
		t.Error("the connection is kept")
	}
	if err := g.stop(); err != nil {
		t.Error(err)
	}
}

// A node that takes nothing is still read: if a server answered its pings before it
// read on, the two could wait for each other.
func TestReadsWhileNothingIsTaken(t *testing.T) {
	kerneltest.NoLeaks(t)
	h := newHub(t, config.EgressAgent)
	h.know([]*corev1.Node{aNode("n1", "127.0.0.2", 10250)})
	ws := h.websocket("n1") // and nobody reads it
	c := h.through("127.0.0.2:10250")
	w, writing := fill(c)
	awaitStall(t, w)
	if err := ws.WriteControl(websocket.PingMessage, nil, time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if err := ws.WriteMessage(websocket.BinaryMessage, message(1, 2, messageData, 0, []byte("hello"))); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	began := time.Now()
	if err := within(t, "reading", func() error { _, err := io.ReadFull(c, got); return err }); err != nil || string(got) != "hello" {
		t.Errorf("%q, %v after %s", got, err, time.Since(began))
	}
	h.session("n1").cut()
	within(t, "the writer ends", func() error { return <-writing })
}

// Bytes in the direction that a half does not have end the tunnel of a node, and a
// connection at a node.
func TestWrongWay(t *testing.T) {
	h := newHub(t, config.EgressAgent, func(l *limits) { l.silence = 2 * patience })
	h.know([]*corev1.Node{aNode("n1", "127.0.0.2", 10250)})
	ws := h.websocket("n1")
	c := h.through("127.0.0.2:10250")
	if err := ws.WriteMessage(websocket.BinaryMessage, message(1, 1, messageData, 0, []byte("hello"))); err != nil {
		t.Fatal(err)
	}
	if err := within(t, "reading", func() error { _, err := c.Read(make([]byte, 1)); return err }); err == nil {
		t.Error("the stream goes on")
	}
	eventually(t, "the tunnel is gone", func() bool { return h.session("n1") == nil })

	g := newTarget(t)
	d, peer := g.open()
	if _, err := d.(*stream).back.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := within(t, "the node ends it", func() error { _, err := d.Read(make([]byte, 1)); return err }); err == nil {
		t.Error("the node takes bytes by the half that carries them back")
	}
	d.Close()
	if n, err := io.Copy(io.Discard, peer); err != nil || n != 0 {
		t.Errorf("%d bytes reached the target, %v", n, err)
	}
}

// Whichever half a node ends, the stream ends for the reason that it gave.
func TestReasonOfEitherHalf(t *testing.T) {
	kerneltest.NoLeaks(t)
	h := newHub(t, config.EgressAgent)
	h.know([]*corev1.Node{aNode("n1", "127.0.0.2", 10250)})
	ws := h.websocket("n1")
	for i := range int64(2) {
		c := h.through("127.0.0.2:10250")
		if err := ws.WriteMessage(websocket.BinaryMessage, message(1, 3*i+1, messageError, 0, []byte("for a reason"))); err != nil {
			t.Fatal(err)
		}
		err := within(t, "reading", func() error { _, err := c.Read(make([]byte, 1)); return err })
		if err == nil || !strings.Contains(err.Error(), "for a reason") {
			t.Errorf("half %d: %v", i, err)
		}
	}
	h.session("n1").cut()
}
