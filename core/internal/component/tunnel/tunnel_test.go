package tunnel

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/joinapi"
	"github.com/cleat-dev/cleat/core/kernel/kerneltest"
)

func TestComesBack(t *testing.T) {
	kerneltest.NoLeaks(t)
	h := newHub(t, config.EgressAgent)
	kubelet := newEcho(t, "127.0.0.2")
	h.know([]*corev1.Node{aNode("n1", "127.0.0.2", kubelet.addr.Port())})
	client := h.client("n1", kubelet.addr.Port(), "127.0.0.2")
	stop := h.join(client)
	old := h.through(kubelet.addr.String())
	first := h.session("n1")
	address := h.http.Listener.Addr().String()
	h.http.Listener.Close() // nobody gets in
	first.cut()
	if _, err := old.Read(make([]byte, 1)); err == nil {
		t.Error("a stream of a dead tunnel gives data")
	}
	eventually(t, "the node says that it has no tunnel", func() bool {
		err := client.Check(t.Context())
		return err != nil && strings.Contains(err.Error(), address)
	})
	h.http.Close()
	h.listen(address)
	eventually(t, "there is a new tunnel", func() bool { s := h.session("n1"); return s != nil && s != first })
	if err := kubelet.ask(h.through(kubelet.addr.String()), "again"); err != nil {
		t.Error(err)
	}
	if err := client.Check(t.Context()); err != nil {
		t.Error(err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// The last tunnel of a node counts, and what went through the one before it ends.
func TestNewerTunnelReplaces(t *testing.T) {
	h := newHub(t, config.EgressAgent)
	h.know([]*corev1.Node{aNode("n1", "127.0.0.2", 10250)})
	h.websocket("n1")
	first := h.session("n1")
	c := h.through("127.0.0.2:10250")
	h.websocket("n1")
	eventually(t, "the second is there", func() bool { s := h.session("n1"); return s != nil && s != first })
	err := within(t, "the old stream ends", func() error { _, err := c.Read(make([]byte, 1)); return err })
	if err == nil {
		t.Error("the stream of the old tunnel gives data")
	}
	if h.session("n1") == nil {
		t.Error("the end of the old tunnel removed the new one")
	}
}

// A peer that neither answers nor closes is dead after the silence.
func TestHungPeer(t *testing.T) {
	kerneltest.NoLeaks(t)
	h := newHub(t, config.EgressAgent, func(l *limits) { l.silence = 3 * time.Second })
	h.know([]*corev1.Node{aNode("n1", "127.0.0.2", 10250)})
	h.websocket("n1") // and nobody reads it
	c := h.through("127.0.0.2:10250")
	err := within(t, "reading", func() error { _, err := c.Read(make([]byte, 1)); return err })
	if err == nil {
		t.Error("data from a peer that hangs")
	}
	// Nor does a writer wait for it: the kernel's buffers fill, then the tunnel goes.
	err = within(t, "writing", func() error {
		for {
			if _, err := c.Write(make([]byte, 1<<20)); err != nil {
				return err
			}
		}
	})
	if err == nil {
		t.Error("a peer that hangs takes data without end")
	}
	eventually(t, "the tunnel is gone", func() bool { return h.session("n1") == nil })
}

// Writers at both ends that wait for a reader who has had enough end with the tunnel.
func TestPausedStreamsEnd(t *testing.T) {
	kerneltest.NoLeaks(t)
	g := newTarget(t)
	c, peer := g.open()
	there, thereEnds := fill(c)
	back, backEnds := fill(peer)
	awaitStall(t, there, back)
	for _, w := range []*counting{there, back} {
		if n := w.n.Load(); n > 64<<20 {
			t.Errorf("a writer got rid of %d bytes that nobody read", n)
		}
	}
	g.session("n1").cut()
	within(t, "the writers end", func() error { return errors.Join(<-thereEnds, <-backEnds) })
	if err := g.stop(); err != nil {
		t.Error(err)
	}
}

func TestStreamsAreBounded(t *testing.T) {
	const most = 5
	h := newHub(t, config.EgressAgent, func(l *limits) { l.streams = most })
	kubelet := newEcho(t, "127.0.0.2")
	h.know([]*corev1.Node{aNode("n1", "127.0.0.2", kubelet.addr.Port())})
	h.join(h.client("n1", kubelet.addr.Port(), "127.0.0.2"))
	var open []net.Conn
	for range most {
		c := h.through(kubelet.addr.String())
		if err := kubelet.ask(c, "one of few"); err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	if _, err := h.Dial(t.Context(), "tcp", kubelet.addr.String()); !errors.Is(err, errBusy) || !strings.Contains(err.Error(), "n1") {
		t.Errorf("one too many: %v", err)
	}
	open[0].Close()
	eventually(t, "the node has closed it", func() bool { return kubelet.count() == most-1 })
	if err := kubelet.ask(h.through(kubelet.addr.String()), "in its place"); err != nil {
		t.Error(err)
	}
	// The node counts for itself.
	h.session("n1").limits.streams = 3 * most
	var refused int
	for range most {
		c := h.through(kubelet.addr.String())
		if err := kubelet.ask(c, "x"); err != nil {
			refused++
		}
		c.Close()
	}
	if refused != most {
		t.Errorf("the node refused %d of %d beyond its bound", refused, most)
	}
	for _, c := range open {
		c.Close()
	}
	eventually(t, "closed streams are closed at the node", func() bool { return kubelet.count() == 1 })
}

// A dial that fails takes no place.
func TestFailedDialsLeaveNothing(t *testing.T) {
	h := newHub(t, config.EgressAgent)
	h.know([]*corev1.Node{aNode("n1", "127.0.0.2", 10250)})
	h.websocket("n1")
	s := h.session("n1")
	s.cut()
	eventually(t, "it has ended", func() bool { return h.session("n1") == nil })
	if _, err := s.dial(t.Context(), "tcp", "127.0.0.2:10250"); !errors.Is(err, errEnded) {
		t.Errorf("an ended session dials: %v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.streams) != 0 {
		t.Errorf("%d streams are left", len(s.streams))
	}
}

func TestPods(t *testing.T) {
	for _, mode := range modes() {
		t.Run(mode, func(t *testing.T) {
			kerneltest.NoLeaks(t)
			h := newHub(t, mode)
			kubelet, host, hidden := newEcho(t, "127.0.0.2"), newEcho(t, "127.0.0.2"), newEcho(t, "127.0.0.2")
			pod, foreign := newEcho(t, "127.42.0.5"), newEcho(t, "127.42.0.6")
			pods := []*corev1.Pod{
				aPod("own", "n1", "127.42.0.5"), hostPod("host", "n1", "127.0.0.2", int32(host.addr.Port())), aPod("other", "n2", "127.42.0.6"),
			}
			h.know([]*corev1.Node{aNode("n1", "127.0.0.2", kubelet.addr.Port()), aNode("n2", "127.0.0.3", 10250)}, pods...)
			client := h.client("n1", kubelet.addr.Port(), "127.0.0.2")
			client.Kubernetes = func() (kubernetes.Interface, error) {
				if mode != config.EgressPod {
					t.Error("pods are watched for nothing")
				}
				return fake.NewClientset(pods[0], pods[1]), nil // the authorizer shows a node no others
			}
			stop := h.join(client)
			beyond := mode != config.EgressAgent
			for _, c := range []struct {
				what   string
				at     *echo
				tunnel bool
			}{
				{"kubelet", kubelet, true},
				{"a pod of the node", pod, beyond},
				{"a pod in the node's network", host, beyond},
				{"another port of the node", hidden, mode == config.EgressCluster},
				{"a pod of a node without a tunnel", foreign, false},
			} {
				conn, err := h.Dial(t.Context(), "tcp", c.at.addr.String())
				if err != nil {
					t.Fatal(err)
				}
				if _, ok := conn.(*stream); ok != c.tunnel {
					t.Errorf("%s: through a tunnel %t, want %t", c.what, ok, c.tunnel)
				}
				conn.Close()
				eventually(t, c.what+" answers", func() bool {
					conn, err := h.Dial(t.Context(), "tcp", c.at.addr.String())
					if err != nil {
						t.Fatal(err)
					}
					defer conn.Close()
					return c.at.ask(conn, "hello") == nil // once the node has seen its pods
				})
			}
			if err := stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestServersChange(t *testing.T) {
	kerneltest.NoLeaks(t)
	h := newHub(t, config.EgressAgent)
	second := newHub(t, config.EgressAgent)
	second.id = h.id
	second.http.Close()
	second.listen("127.0.0.1:0")
	client := h.client("n1", 10250, "127.0.0.2")
	var mu sync.Mutex
	urls, changed := []string{h.http.URL}, make(chan struct{})
	client.Servers = func() ([]string, <-chan struct{}) {
		mu.Lock()
		defer mu.Unlock()
		return urls, changed
	}
	become := func(to ...string) {
		mu.Lock()
		defer mu.Unlock()
		close(changed)
		urls, changed = to, make(chan struct{})
	}
	stop := h.join(client)
	become(h.http.URL, second.http.URL)
	eventually(t, "a tunnel to the second", func() bool { return second.session("n1") != nil })
	become(second.http.URL)
	eventually(t, "none to the first", func() bool { return h.session("n1") == nil })
	become(second.http.URL, "http://not.a.server")
	eventually(t, "a bad one is named", func() bool {
		err := client.Check(t.Context())
		return err != nil && strings.Contains(err.Error(), "not.a.server") && !strings.Contains(err.Error(), second.http.URL)
	})
	become(second.http.URL)
	eventually(t, "and forgotten", func() bool { return client.Check(t.Context()) == nil })
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// A server that takes no tunnels, or does not know of them, is not asked.
func TestNoTunnels(t *testing.T) {
	h := newHub(t, config.EgressAgent)
	for _, mode := range []string{"", config.EgressDisabled} {
		client := h.client("n1", 10250, "127.0.0.2")
		client.Cluster = func() (joinapi.NodeConfig, error) { return joinapi.NodeConfig{EgressSelectorMode: mode}, nil }
		client.Servers = func() ([]string, <-chan struct{}) { t.Error("it was asked"); return nil, nil }
		if err := kerneltest.Run(t, client)(); err != nil {
			t.Error(err)
		}
	}
	client := h.client("n1", 10250, "127.0.0.2")
	client.Cluster = func() (joinapi.NodeConfig, error) { return joinapi.NodeConfig{}, errNone }
	if err := client.Run(t.Context(), func() { t.Error("ready") }); !errors.Is(err, errNone) {
		t.Errorf("got %v", err)
	}
}

func TestWhoIsTurnedAway(t *testing.T) {
	h := newHub(t, config.EgressAgent)
	trust, err := h.client("n1", 1).tls()
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{TLSClientConfig: trust, DisableKeepAlives: true}, Timeout: patience}
	ask := func(header http.Header) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, h.http.URL+joinapi.PathConnect, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header = header
		res, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		if err = errors.Join(err, res.Body.Close()); err != nil || joinapi.ReadStatus(body) == "" {
			t.Errorf("%d says nothing: %q, %v", res.StatusCode, body, err)
		}
		return res.StatusCode
	}
	upgrade := func(more ...string) http.Header {
		h := http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"AAAAAAAAAAAAAAAAAAAAAA=="}}
		for i := 0; i < len(more); i += 2 {
			h.Set(more[i], more[i+1])
		}
		return h
	}
	for _, c := range []struct {
		what   string
		header http.Header
		status int
	}{
		{"no websocket", http.Header{}, http.StatusUpgradeRequired},
		{"a page of another site", upgrade("Origin", "https://elsewhere.example"), http.StatusForbidden},
		{"an old websocket", upgrade("Sec-Websocket-Version", "8"), http.StatusBadRequest},
		{"no key", upgrade("Sec-Websocket-Key", "x"), http.StatusBadRequest},
	} {
		if got := ask(c.header); got != c.status {
			t.Errorf("%s: %d, want %d", c.what, got, c.status)
		}
	}
	if err := h.stop(); err != nil {
		t.Error(err)
	}
	if got := ask(upgrade()); got != http.StatusServiceUnavailable {
		t.Errorf("a server that has stopped: %d", got)
	}
	if len(h.sessions) != 0 {
		t.Errorf("%d tunnels", len(h.sessions))
	}
}
