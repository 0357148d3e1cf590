package loadbalancer

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/kernel/kerneltest"
)

// https is a client of the API as the node's programs are: it keeps connections
// and trusts the cluster alone.
func (c *cluster) https(b *Component) func(t testing.TB) (string, error) {
	c.t.Helper()
	client := &http.Client{
		Timeout:   patience,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: c.id.Server.Pool()}, ForceAttemptHTTP2: true},
	}
	c.t.Cleanup(client.CloseIdleConnections)
	return func(t testing.TB) (string, error) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.URL(), nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.Do(req)
		if err != nil {
			return "", err
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		return string(text), err
	}
}

// A server that dies takes its connections with it, and the next request is
// answered by another; when it is back, nobody moves.
func TestMovesFromADeadServer(t *testing.T) {
	kerneltest.NoLeaks(t)
	c := newCluster(t)
	one, two := c.server("one"), c.server("two")
	b := c.balancer(one.address)
	c.trust(b)
	kerneltest.Run(t, b)
	b.take([]string{one.address, two.address})
	eventually(t, b, "both are healthy", func() bool { return len(states(b, Healthy)) == 2 })
	if got := current(b); got != one.address {
		t.Fatalf("in use is %s, want the server that was named", got)
	}
	ask := c.https(b)
	if who, err := ask(t); who != "one" || err != nil {
		t.Fatalf("answered by %q, %v", who, err)
	}
	conn := dial(t, b)

	one.kill()
	if err := closed(conn); err != nil {
		t.Errorf("a connection to the dead server: %v", err)
	}
	dial(t, b) // through the same port, with no wait
	eventually(t, b, "requests are answered by the other", func() bool {
		who, err := ask(t)
		return who == "two" && err == nil
	})
	eventually(t, b, "it is seen as failed", func() bool { return slices.Equal(states(b, Failed), []string{one.address}) })
	if err := b.Check(t.Context()); err != nil {
		t.Errorf("with one of two servers: %v", err)
	}

	one.start()
	eventually(t, b, "it is healthy again", func() bool { return len(states(b, Healthy)) == 2 })
	if who, err := ask(t); who != "two" || err != nil {
		t.Errorf("answered by %q, %v; want the one that was in use", who, err)
	}
}

// A server that accepts and says nothing, or says that it is not ready, loses its
// connections to one that answers.
func TestMovesFromASickServer(t *testing.T) {
	for name, sicken := range map[string]func(*fakeServer){
		"hangs":     func(s *fakeServer) { s.hangs.Store(true) },
		"not ready": func(s *fakeServer) { s.notReady.Store(true) },
	} {
		t.Run(name, func(t *testing.T) {
			kerneltest.NoLeaks(t)
			c := newCluster(t)
			one, two := c.server("one"), c.server("two")
			b := c.balancer(one.address)
			kerneltest.Run(t, b)
			b.take([]string{one.address, two.address})
			eventually(t, b, "both are healthy", func() bool { return len(states(b, Healthy)) == 2 })
			conn := dial(t, b)
			sicken(one)
			if err := closed(conn); err != nil {
				t.Errorf("a connection to the sick server: %v", err)
			}
			if got := current(b); got != two.address {
				t.Errorf("in use is %s", got)
			}
		})
	}
}

// A check keeps its connection, and one that the server has closed meanwhile says
// nothing about the server.
func TestCheckKeepsItsConnection(t *testing.T) {
	kerneltest.NoLeaks(t)
	c := newCluster(t)
	one := c.server("one")
	check, err := newChecker(one.address, "127.0.0.1", filepath.Join(t.TempDir(), "none"))
	if err != nil {
		t.Fatal(err)
	}
	defer check.close()
	ask := func() {
		t.Helper()
		if err := check.check(t.Context()); err != nil {
			t.Error(err)
		}
	}
	ask()
	first := check.conn
	ask()
	if check.conn != first {
		t.Error("the second check made another connection")
	}
	one.drop()
	ask()
	one.notReady.Store(true)
	if err := check.check(t.Context()); err == nil || !strings.Contains(err.Error(), "503") || !strings.Contains(err.Error(), "starting") {
		t.Errorf("a server that is not ready: %v", err)
	}
	one.kill()
	if err := check.check(t.Context()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a dead server: %v", err)
	}
}

// A server whose queue nobody empties looks open from outside.
func TestBlackHole(t *testing.T) {
	kerneltest.NoLeaks(t)
	c := newCluster(t)
	hole, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { hole.Close() })
	good := c.server("good")
	b := c.balancer(hole.Addr().String())
	b.take([]string{hole.Addr().String(), good.address})
	kerneltest.Run(t, b)
	dial(t, b)
	eventually(t, b, "the hole is seen", func() bool { return slices.Equal(states(b, Failed), []string{hole.Addr().String()}) })
	dial(t, b)
}

// The connection that finds the first server dead is carried by the second,
// whatever the checks know.
func TestDialFailsOver(t *testing.T) {
	c := newCluster(t)
	dead, good := c.server("dead"), c.server("good")
	dead.kill()
	b := c.balancer(dead.address)
	b.take([]string{good.address}) // --server ranks behind it
	b.take([]string{dead.address, good.address})
	b.pool.set(b.pool.servers[dead.address], nil) // as it was found a moment ago
	one, two := tcpPipe(t)
	s, err := b.connect(t.Context(), one)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	defer two.Close()
	if s.remote() != good.address {
		t.Errorf("connected to %s, want %s", s.remote(), good.address)
	}
	if got := states(b, Failed); !slices.Equal(got, []string{dead.address}) {
		t.Errorf("failed are %v", got)
	}
}

// tcpPipe is the two ends of a connection.
func tcpPipe(t testing.TB) (*net.TCPConn, *net.TCPConn) {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	address, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		t.Fatalf("%T", l.Addr())
	}
	one, err := net.DialTCP("tcp", nil, address)
	if err != nil {
		t.Fatal(err)
	}
	two, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	return one, two
}

// With no server left a client is told at once, and the unit says which and why;
// the first server that is back is used.
func TestAllDownAndBack(t *testing.T) {
	kerneltest.NoLeaks(t)
	c := newCluster(t)
	one, two := c.server("one"), c.server("two")
	b := c.balancer(one.address)
	kerneltest.Run(t, b)
	b.take([]string{one.address, two.address})
	eventually(t, b, "both are healthy", func() bool { return len(states(b, Healthy)) == 2 })
	one.kill()
	two.kill()
	eventually(t, b, "both are seen", func() bool { return len(states(b, Failed)) == 2 })
	err := b.Check(t.Context())
	if err == nil || !strings.Contains(err.Error(), one.address) || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("with no server: %v", err)
	}
	conn, err := net.DialTimeout("tcp", b.address(), patience)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(conn.SetDeadline(time.Now().Add(patience)), closed(conn), conn.Close()); err != nil {
		t.Errorf("a connection to nowhere: %v", err)
	}
	two.start()
	eventually(t, b, "the one that is back is in use", func() bool { return current(b) == two.address })
	if err := b.Check(t.Context()); err != nil {
		t.Error(err)
	}
	dial(t, b)
}

// A balancer that starts before any server is ready all the same, for whoever
// joins says better what is wrong.
func TestStartsWithoutServers(t *testing.T) {
	c := newCluster(t)
	one := c.server("one")
	one.kill()
	b := c.balancer(one.address)
	kerneltest.Run(t, b)
	if b.Check(t.Context()) == nil {
		t.Error("it is well without a server")
	}
	if got, want := b.Best(), "https://"+one.address; got != want {
		t.Errorf("best is %s, want %s", got, want)
	}
	one.start()
	eventually(t, b, "the server is in use", func() bool { return current(b) == one.address })
}

// Clients leave a server that has left the cluster, but not for nothing.
func TestListShrinks(t *testing.T) {
	kerneltest.NoLeaks(t)
	c := newCluster(t)
	named, one, two := c.server("named"), c.server("one"), c.server("two")
	b := c.balancer(named.address)
	kerneltest.Run(t, b)
	b.take([]string{one.address})
	eventually(t, b, "the listed one is in use", func() bool { return current(b) == one.address })
	conn := dial(t, b)
	named.kill()
	two.kill()
	eventually(t, b, "the named one is gone", func() bool { return slices.Equal(states(b, Failed), []string{named.address}) })

	b.take([]string{two.address}) // which is dead, as is the named one
	eventually(t, b, "the new one was checked", func() bool { return slices.Contains(states(b, Failed), two.address) })
	if err := echo(conn, "still here"); err != nil {
		t.Errorf("a connection was ended with nowhere to go: %v", err)
	}
	two.start()
	if err := closed(conn); err != nil {
		t.Errorf("a connection to a server that left: %v", err)
	}
	eventually(t, b, "it is forgotten", func() bool { return len(b.pool.look()) == 2 })
	dial(t, b)
}

func TestServersTellsOfChanges(t *testing.T) {
	c := newCluster(t)
	b := c.balancer("server.example:6443")
	servers, changed := b.Servers()
	if !slices.Equal(servers, []string{"server.example:6443"}) {
		t.Errorf("before the first list: %v", servers)
	}
	b.take([]string{"10.0.0.2:6443", "10.0.0.1:6443"})
	select {
	case <-changed:
	default:
		t.Error("nobody was told")
	}
	servers, changed = b.Servers()
	if !slices.Equal(servers, []string{"10.0.0.1:6443", "10.0.0.2:6443"}) {
		t.Errorf("the list is %v", servers)
	}
	b.take([]string{"10.0.0.1:6443", "10.0.0.2:6443"})
	select {
	case <-changed:
		t.Error("told of the same list again")
	default:
	}
}

// Connections by way of a name are those of the server it stands for.
func TestAdoptsConnections(t *testing.T) {
	kerneltest.NoLeaks(t)
	c := newCluster(t)
	one, two := c.server("one"), c.server("two")
	_, port, err := net.SplitHostPort(one.address)
	if err != nil {
		t.Fatal(err)
	}
	b := c.balancer("localhost:" + port)
	kerneltest.Run(t, b)
	before := dial(t, b)
	b.take([]string{one.address, two.address})
	eventually(t, b, "the listed ones are healthy", func() bool { return len(states(b, Healthy)) == 3 })
	if err := echo(before, "kept"); err != nil {
		t.Errorf("the connection did not outlive the list: %v", err)
	}
	counted := 0
	for _, s := range b.pool.look() {
		if s.address == one.address {
			counted = s.conns
		}
	}
	if counted == 0 {
		t.Errorf("nobody counts the connection: %+v", b.pool.look())
	}
}

// A stop ends what is connected.
func TestStops(t *testing.T) {
	kerneltest.NoLeaks(t)
	c := newCluster(t)
	one := c.server("one")
	b := c.balancer(one.address)
	stop := kerneltest.Run(t, b)
	conn := dial(t, b)
	if err := stop(); err != nil {
		t.Error(err)
	}
	if err := closed(conn); err != nil {
		t.Error(err)
	}
	if c, err := net.DialTimeout("tcp", b.address(), patience); err == nil {
		c.Close()
		t.Error("the port is still open")
	}
}

func TestPortIsTaken(t *testing.T) {
	c := newCluster(t)
	b := c.balancer("10.0.0.1:6443")
	other, err := net.Listen("tcp", b.address())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := b.Run(context.Background(), func() { t.Error("ready") }); err == nil || !strings.Contains(err.Error(), "--lb-server-port") {
		t.Errorf("got %v, want the name of the option", err)
	}
}

func TestNew(t *testing.T) {
	for _, tc := range []struct {
		server  string
		nodeIPs []string
		url     string
		wrong   string
	}{
		{server: "https://server.example:6443", url: "https://127.0.0.1:6444"},
		{server: "https://server.example", nodeIPs: []string{"10.0.0.1", "fd00::1"}, url: "https://127.0.0.1:6444"},
		{server: "https://[fd00::1]:6443/", nodeIPs: []string{"fd00::2"}, url: "https://[::1]:6444"},
		{server: "http://server.example:6443", wrong: "https://"},
		{server: "server.example:6443", wrong: "--server"},
		{server: "https://127.0.0.1:6444", wrong: "--lb-server-port"},
		{server: "https://[::1]:6444", nodeIPs: []string{"fd00::2"}, wrong: "--lb-server-port"},
	} {
		cfg := &config.Config{}
		cfg.LBServerPort, cfg.NodeIP = 6444, tc.nodeIPs
		b := New(Options{Config: cfg, Server: tc.server})
		err := b.Prepare(t.Context())
		switch {
		case tc.wrong != "":
			if err == nil || !strings.Contains(err.Error(), tc.wrong) {
				t.Errorf("%s: %v, want an error with %q", tc.server, err, tc.wrong)
			}
		case err != nil:
			t.Errorf("%s: %v", tc.server, err)
		case b.URL() != tc.url:
			t.Errorf("%s, node %v: %s, want %s", tc.server, tc.nodeIPs, b.URL(), tc.url)
		}
	}
}
