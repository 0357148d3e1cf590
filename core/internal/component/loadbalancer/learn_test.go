package loadbalancer

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/cleat-dev/cleat/core/internal/joinapi"
	"github.com/cleat-dev/cleat/core/internal/pki"
	"github.com/cleat-dev/cleat/core/kernel/kerneltest"
)

// Once the node has joined, the balancer asks a server for the others, as the
// kubelet, and keeps what it learned for the next start.
func TestLearns(t *testing.T) {
	kerneltest.NoLeaks(t)
	c := newCluster(t)
	one := c.server("one")
	text, err := json.Marshal(joinapi.Servers{Servers: []string{"10.0.0.2:6443", "10.0.0.1:6443"}})
	if err != nil {
		t.Fatal(err)
	}
	one.listed.Store(&text)
	b := c.balancer(one.address)
	stop := kerneltest.Run(t, b)
	select {
	case who := <-one.askers:
		t.Fatalf("%q asked before the node has joined", who)
	default:
	}
	_, changed := b.Servers()
	if _, err := c.id.Client.EnsureLeaf(b.Cert, b.Key, pki.Leaf{CommonName: "system:node:n1", Client: true}, time.Now()); err != nil {
		t.Fatal(err)
	}
	c.trust(b)
	select {
	case <-changed:
	case <-time.After(patience):
		t.Fatal("nothing was learned")
	}
	if who := <-one.askers; who != "system:node:n1" {
		t.Errorf("asked as %q", who)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	want := []string{"10.0.0.1:6443", "10.0.0.2:6443"}
	if info, err := os.Stat(b.file); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if got, err := b.remember(); !slices.Equal(got, want) || err != nil {
		t.Errorf("remembered are %v, %v", got, err)
	}
	b.Server = "https://another.example:6443"
	if got, err := b.remember(); len(got) > 0 || err != nil {
		t.Errorf("for another cluster: %v, %v", got, err)
	}
}

// After a refusal the next request comes with the certificate as it is then.
func TestLearnsWithTheCertificateOfNow(t *testing.T) {
	kerneltest.NoLeaks(t)
	c := newCluster(t)
	one := c.server("one")
	b := c.balancer(one.address)
	c.trust(b)
	l := &learner{url: "https://" + one.address + joinapi.PathServers, caFile: b.caFile, certFile: b.Cert, keyFile: b.Key}
	defer l.close()
	for _, user := range []string{"system:node:n1", "system:node:renewed"} {
		if _, err := c.id.Client.EnsureLeaf(b.Cert, b.Key, pki.Leaf{CommonName: user, Client: true}, time.Now()); err != nil {
			t.Fatal(err)
		}
		if servers, err := l.learn(t.Context()); err == nil {
			t.Errorf("a refusal gave %v", servers)
		}
		if who := <-one.askers; who != user {
			t.Errorf("asked as %q, want %q", who, user)
		}
	}
}

// A file that cannot be read is a line in the log, no more.
func TestBrokenFile(t *testing.T) {
	c := newCluster(t)
	one := c.server("one")
	b := c.balancer(one.address)
	if err := b.keep([]string{"10.0.0.1:6443"}); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(b.file)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		"", "{", `{"server":7}`, strings.Replace(string(good), "10.0.0.1:6443", "127.0.0.1:6443", 1),
		strings.Replace(string(good), "10.0.0.1:6443", "10.0.0.1", 1), strings.Repeat(" ", joinapi.MaxAnswerBody+1),
	} {
		if err := os.WriteFile(b.file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := b.remember(); err == nil || !strings.Contains(err.Error(), b.file) {
			t.Errorf("%.40q: %v, %v; want an error that names the file", text, got, err)
		}
	}
	kerneltest.Run(t, b)
	dial(t, b)
}

// A stranger at a server's address is no server, once the authority is known.
func TestChecksTheCertificate(t *testing.T) {
	c, foreign := newCluster(t), newCluster(t)
	stranger, one := foreign.server("stranger"), c.server("one")
	b := c.balancer(one.address)
	c.trust(b)
	kerneltest.Run(t, b)
	b.take([]string{one.address, stranger.address})
	eventually(t, b, "the stranger is refused", func() bool { return slices.Equal(states(b, Failed), []string{stranger.address}) })
	if got := current(b); got != one.address {
		t.Errorf("in use is %s", got)
	}
}

func TestMetrics(t *testing.T) {
	c := newCluster(t)
	b := c.balancer("10.0.0.1:6443")
	b.take([]string{"10.0.0.2:6443"})
	b.pool.set(b.pool.servers["10.0.0.2:6443"], nil)
	b.metrics.dialed(nil, time.Millisecond)
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(b.Metrics()); err != nil {
		t.Fatal(err)
	}
	const want = `
# HELP cleat_loadbalancer_server_health 1 for the state the server is in.
# TYPE cleat_loadbalancer_server_health gauge
cleat_loadbalancer_server_health{server="10.0.0.1:6443",state="failed"} 0
cleat_loadbalancer_server_health{server="10.0.0.1:6443",state="healthy"} 0
cleat_loadbalancer_server_health{server="10.0.0.1:6443",state="unchecked"} 1
cleat_loadbalancer_server_health{server="10.0.0.2:6443",state="failed"} 0
cleat_loadbalancer_server_health{server="10.0.0.2:6443",state="healthy"} 1
cleat_loadbalancer_server_health{server="10.0.0.2:6443",state="unchecked"} 0
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "cleat_loadbalancer_server_health"); err != nil {
		t.Error(err)
	}
	if n, err := testutil.GatherAndCount(registry, "cleat_loadbalancer_server_connections", "cleat_loadbalancer_dial_duration_seconds"); n != 3 || err != nil {
		t.Errorf("%d series, %v", n, err)
	}
}
