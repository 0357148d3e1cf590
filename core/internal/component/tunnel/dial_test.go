package tunnel

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/kernel/kerneltest"
)

func TestDial(t *testing.T) {
	kerneltest.NoLeaks(t)
	h := newHub(t, config.EgressAgent)
	kubelet, other := newEcho(t, "127.0.0.2"), newEcho(t, "127.0.0.2")
	h.know([]*corev1.Node{aNode("n1", "127.0.0.2", kubelet.addr.Port())})
	direct := func(address string) net.Conn {
		t.Helper()
		c, err := h.Dial(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if _, ok := c.(*stream); ok {
			t.Fatalf("%s was dialled through a tunnel", address)
		}
		return c
	}
	if err := kubelet.ask(direct(kubelet.addr.String()), "no tunnel yet"); err != nil {
		t.Error(err)
	}
	stop := h.join(h.client("n1", kubelet.addr.Port(), "127.0.0.2"))
	c := h.through(kubelet.addr.String())
	if err := kubelet.ask(c, "hello"); err != nil {
		t.Error(err)
	}
	if err := other.ask(direct(other.addr.String()), "no kubelet's port"); err != nil {
		t.Error(err)
	}
	// A large write arrives whole and in order, and so does what comes back.
	long := strings.Repeat("0123456789abcdef", 1<<18)
	if err := within(t, "four megabytes", func() error { return kubelet.ask(c, long) }); err != nil {
		t.Errorf("a long line: %.100v", err)
	}
	c.Close()
	if _, err := c.Write([]byte("x")); err == nil {
		t.Error("a closed stream takes data")
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	eventually(t, "the tunnel is forgotten", func() bool { return h.session("n1") == nil })
	if err := kubelet.ask(direct(kubelet.addr.String()), "no tunnel any more"); err != nil {
		t.Error(err)
	}
}

// The server's own node is dialled directly, and its tunnel is not taken: it would be
// one to itself.
func TestOwnNodeIsDirect(t *testing.T) {
	kerneltest.NoLeaks(t)
	h := newHub(t, config.EgressAgent)
	kubelet := newEcho(t, "127.0.0.2")
	h.know([]*corev1.Node{aNode("server", "127.0.0.2", kubelet.addr.Port())})
	client := h.client("server", kubelet.addr.Port(), "127.0.0.2")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- client.Run(ctx, func() { t.Error("it has a tunnel") }) }()
	eventually(t, "the node is told", func() bool {
		err := client.Check(t.Context())
		return err != nil && strings.Contains(err.Error(), "own server")
	})
	c, err := h.Dial(t.Context(), "tcp", kubelet.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := c.(*stream); ok || h.session("server") != nil {
		t.Error("it was dialled through a tunnel")
	}
	c.Close()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// What the node refuses ends that stream, and no other.
func TestRefusedDial(t *testing.T) {
	h := newHub(t, config.EgressAgent)
	kubelet, secret := newEcho(t, "127.0.0.2"), newEcho(t, "127.0.0.1")
	h.know([]*corev1.Node{aNode("n1", "127.0.0.2", kubelet.addr.Port())})
	h.join(h.client("n1", kubelet.addr.Port(), "127.0.0.2"))
	good := h.through(kubelet.addr.String())
	if err := kubelet.ask(good, "before"); err != nil {
		t.Fatal(err)
	}
	for network, address := range map[string]string{
		"tcp": secret.addr.String(), "udp": kubelet.addr.String(), "unix": "/run/secret.sock", "tcp4": "localhost:80",
	} {
		c, err := h.session("n1").dial(t.Context(), network, address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, err = c.Read(make([]byte, 1))
		if err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%s %s: %v, want why it was refused", network, address, err)
		}
	}
	if n := secret.count(); n != 0 {
		t.Errorf("%d connections to what servers may not have", n)
	}
	if err := kubelet.ask(good, "after"); err != nil {
		t.Errorf("another stream: %v", err)
	}
}

// A node may not have the server dial anything.
func TestNodeMayNotDial(t *testing.T) {
	h := newHub(t, config.EgressCluster)
	secret := newEcho(t, "127.0.0.1")
	ws := h.websocket("n1")
	own := newSession(ws, nil, standard())
	ended := make(chan error, 1)
	go func() { ended <- own.serve(t.Context()) }()
	c, err := own.dial(t.Context(), "tcp", secret.addr.String())
	if err == nil {
		_, err = c.Read(make([]byte, 1))
	}
	if err == nil {
		t.Error("the server dialled for a node")
	}
	<-ended
	if n := secret.count(); n != 0 {
		t.Errorf("%d connections were made", n)
	}
	eventually(t, "the tunnel was ended", func() bool { return h.session("n1") == nil })
}

// While a node has no tunnel it is dialled directly, and when the tunnel comes first
// that is given up.
func TestTunnelComesWhileDialling(t *testing.T) {
	kerneltest.NoLeaks(t)
	h := newHub(t, config.EgressAgent)
	kubelet := newEcho(t, "127.0.0.2")
	h.know([]*corev1.Node{aNode("n1", "127.0.0.2", kubelet.addr.Port())})
	dialling := make(chan struct{}, 2)
	h.direct = func(ctx context.Context, _, _ string) (net.Conn, error) { // a closed door
		dialling <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}
	type answer struct {
		conn net.Conn
		err  error
	}
	answers := make(chan answer, 1)
	go func() {
		c, err := h.Dial(t.Context(), "tcp", kubelet.addr.String())
		answers <- answer{c, err}
	}()
	<-dialling
	h.websocket("other") // that of another node does not help
	eventually(t, "it is there", func() bool { return h.session("other") != nil })
	stop := h.join(h.client("n1", kubelet.addr.Port(), "127.0.0.2"))
	a := <-answers
	if a.err != nil {
		t.Fatal(a.err)
	}
	if err := kubelet.ask(a.conn, "hello"); err != nil {
		t.Error(err)
	}
	a.conn.Close()
	if err := stop(); err != nil {
		t.Error(err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	eventually(t, "the tunnel is forgotten", func() bool { return h.session("n1") == nil })
	go func() {
		<-dialling
		cancel()
	}()
	if _, err := h.Dial(ctx, "tcp", kubelet.addr.String()); !errors.Is(err, context.Canceled) {
		t.Errorf("the caller gave up: %v", err)
	}
}
