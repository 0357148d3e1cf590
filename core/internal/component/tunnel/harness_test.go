package tunnel

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/joinapi"
	"github.com/cleat-dev/cleat/core/internal/pki"
	"github.com/cleat-dev/cleat/core/kernel/kerneltest"
)

const patience = 30 * time.Second

// hub is a server with a port, such as the supervisor's.
type hub struct {
	*Server
	t    testing.TB
	id   *pki.Identity
	dir  string
	http *httptest.Server
	stop func() error
}

func newHub(t testing.TB, mode string, change ...func(*limits)) *hub {
	t.Helper()
	id, err := pki.NewIdentity(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	h := &hub{Server: NewServer(mode, "server", slog.New(slog.DiscardHandler)), t: t, id: id, dir: t.TempDir()}
	for _, c := range change {
		c(&h.limits)
	}
	if err := os.WriteFile(h.file("ca.crt"), id.Server.CertPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	h.listen("127.0.0.1:0")
	h.stop = kerneltest.Run(t, h.Server)
	return h
}

func (h *hub) file(name string) string { return filepath.Join(h.dir, name) }

// listen opens the port.
func (h *hub) listen(address string) {
	h.t.Helper()
	l, err := (&net.ListenConfig{}).Listen(h.t.Context(), "tcp", address)
	if err != nil {
		h.t.Fatal(err)
	}
	h.http = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.Serve(w, r, strings.TrimPrefix(r.TLS.PeerCertificates[0].Subject.CommonName, joinapi.UserNodePrefix))
	}))
	h.http.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	h.http.Listener.Close()
	h.http.Listener = l
	h.http.TLS = &tls.Config{
		MinVersion: tls.VersionTLS12, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: h.id.Client.Pool(),
		Certificates: []tls.Certificate{h.pair(h.id.Server, "server", pki.Leaf{Server: true, IPs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}})},
	}
	h.http.StartTLS()
	h.t.Cleanup(h.http.Close)
}

// pair issues a certificate and leaves it in two files.
func (h *hub) pair(by *pki.Authority, name string, leaf pki.Leaf) tls.Certificate {
	h.t.Helper()
	leaf.CommonName = name
	if strings.HasPrefix(name, joinapi.UserNodePrefix) {
		leaf.Organization, leaf.Client = []string{joinapi.GroupNodes}, true
		name = strings.TrimPrefix(name, joinapi.UserNodePrefix)
	}
	if _, err := by.EnsureLeaf(h.file(name+".crt"), h.file(name+".key"), leaf, time.Now()); err != nil {
		h.t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(h.file(name+".crt"), h.file(name+".key"))
	if err != nil {
		h.t.Fatal(err)
	}
	return pair
}

// know makes the server know nodes and pods.
func (h *hub) know(nodes []*corev1.Node, pods ...*corev1.Pod) {
	h.t.Helper()
	f := informers.NewSharedInformerFactory(fake.NewClientset(), 0)
	if err := h.Follow(f); err != nil {
		h.t.Fatal(err)
	}
	for _, n := range nodes {
		if err := f.Core().V1().Nodes().Informer().GetIndexer().Add(n); err != nil {
			h.t.Fatal(err)
		}
	}
	for _, p := range pods {
		if err := f.Core().V1().Pods().Informer().GetIndexer().Add(p); err != nil {
			h.t.Fatal(err)
		}
	}
}

// client is a node's end, not running yet.
func (h *hub) client(name string, kubeletPort uint16, addresses ...string) *Client {
	h.t.Helper()
	h.pair(h.id.Client, joinapi.NodeUser(name), pki.Leaf{})
	url := h.http.URL
	c := NewClient(ClientOptions{
		NodeName: name, Addresses: addresses, KubeletPort: kubeletPort,
		Cluster: func() (joinapi.NodeConfig, error) {
			return joinapi.NodeConfig{ClusterCIDR: []string{"127.42.0.0/16"}, EgressSelectorMode: h.mode}, nil
		},
		Servers:  func() ([]string, <-chan struct{}) { return []string{url}, nil },
		CertFile: h.file(name + ".crt"), KeyFile: h.file(name + ".key"), CAFile: h.file("ca.crt"),
		Log: slog.New(slog.DiscardHandler),
	})
	c.limits = h.limits
	return c
}

// join runs a node's end and returns when the server has its tunnel.
func (h *hub) join(c *Client) (stop func() error) {
	h.t.Helper()
	stop = kerneltest.Run(h.t, c)
	h.awaitSession(c.NodeName)
	return stop
}

// awaitSession waits for a tunnel. A node knows of it a moment before the server does.
func (h *hub) awaitSession(node string) {
	h.t.Helper()
	eventually(h.t, "a tunnel of "+node, func() bool { return h.session(node) != nil })
}

// websocket opens a tunnel as name whose node's end is the test's.
func (h *hub) websocket(name string) *websocket.Conn {
	h.t.Helper()
	c := h.client(name, 1)
	trust, err := c.tls()
	if err != nil {
		h.t.Fatal(err)
	}
	dialer := websocket.Dialer{TLSClientConfig: trust}
	ws, res, err := dialer.DialContext(h.t.Context(), strings.Replace(h.http.URL, "https", "wss", 1)+joinapi.PathConnect, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	res.Body.Close()
	h.t.Cleanup(func() { ws.Close() })
	h.awaitSession(name)
	return ws
}

func (h *hub) session(node string) *session {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sessions[node]
}

// through dials and fails the test unless that goes through a tunnel.
func (h *hub) through(address string) net.Conn {
	h.t.Helper()
	c, err := h.Dial(h.t.Context(), "tcp", address)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { c.Close() })
	if _, ok := c.(*stream); !ok {
		h.t.Fatalf("%s was dialled directly", address)
	}
	return c
}

func aNode(name, ip string, kubeletPort uint16) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Status: corev1.NodeStatus{
			Addresses:       []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: ip}, {Type: corev1.NodeHostName, Address: name}},
			DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: int32(kubeletPort)}},
		},
	}
}

func aPod(name, node, ip string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec:       corev1.PodSpec{NodeName: node},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning, PodIPs: []corev1.PodIP{{IP: ip}}},
	}
}

func hostPod(name, node, ip string, port int32) *corev1.Pod {
	p := aPod(name, node, ip)
	p.Spec.HostNetwork = true
	p.Spec.Containers = []corev1.Container{{Ports: []corev1.ContainerPort{{ContainerPort: port}}}}
	return p
}

// echo answers each line with its own address and the line.
type echo struct {
	addr netip.AddrPort
	mu   sync.Mutex
	open map[net.Conn]struct{}
}

func newEcho(t *testing.T, ip string) *echo {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", ip+":0")
	if err != nil {
		t.Fatal(err)
	}
	e := &echo{addr: netip.MustParseAddrPort(l.Addr().String()), open: map[net.Conn]struct{}{}}
	var all sync.WaitGroup
	t.Cleanup(func() { l.Close(); all.Wait() })
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			e.note(c, true)
			all.Go(func() {
				defer e.note(c, false)
				defer c.Close()
				in := bufio.NewReader(c)
				for {
					line, err := in.ReadString('\n')
					if err != nil {
						return
					}
					if _, err := fmt.Fprintf(c, "%s %s", e.addr, line); err != nil {
						return
					}
				}
			})
		}
	})
	return e
}

func (e *echo) note(c net.Conn, open bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if open {
		e.open[c] = struct{}{}
	} else {
		delete(e.open, c)
	}
}

func (e *echo) count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.open)
}

// ask sends a line and wants it back from e.
func (e *echo) ask(c net.Conn, line string) error {
	if _, err := io.WriteString(c, line+"\n"); err != nil {
		return err
	}
	got, err := bufio.NewReader(c).ReadString('\n')
	if want := fmt.Sprintf("%s %s\n", e.addr, line); err == nil && got != want {
		err = fmt.Errorf("answer %q, want %q", got, want)
	}
	return err
}

// eventually waits for what another goroutine does.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			t.Fatal("not within " + patience.String() + ": " + what)
		case <-tick.C:
		}
	}
}

// within fails the test when f does not return.
func within(t testing.TB, what string, f func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	select {
	case err := <-done:
		return err
	case <-timeout.C:
		t.Fatal("no end after " + patience.String() + ": " + what)
		return nil
	}
}

var errNone = errors.New("there is none")

func modes() []string {
	return []string{config.EgressAgent, config.EgressPod, config.EgressCluster}
}
