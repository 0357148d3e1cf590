//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/cleat-dev/cleat/test/e2e/lab"
)

const (
	writers    = 4
	writeEvery = 200 * time.Millisecond // of each writer
	// longestGap is three times what is promised for a dead server, which the log
	// shows; a machine that does other work too adds what a request takes without a
	// fault. A client without the balancer gives a dead server half a minute.
	longestGap = 6 * time.Second
)

// Two servers on one PostgreSQL: an agent and who writes through its balancer
// survive the loss of either, and nothing that was acknowledged is lost.
func TestTwoServers(t *testing.T) {
	l := newLab(t)
	db := startPostgres(t, l)
	if _, err := db.query("postgres", "create database cleat"); err != nil {
		t.Fatal(err)
	}
	one, two := newControlPlane(t, l, db, "one"), newControlPlane(t, l, db, "two")
	a := newAgent(t, l, one, "agent")
	one.start(t)
	one.awaitServing(t)
	a.start(t)

	t.Run("settings that differ", func(t *testing.T) {
		args := two.args
		defer func() { two.args = args }()
		for _, flag := range []string{"--cluster-cidr=10.44.0.0/16", "--flannel-backend=host-gw"} {
			two.args = append(slices.Clone(args), flag)
			two.start(t)
			if err := two.server.Wait(t, bootPatience); err == nil {
				t.Errorf("%s: the server ended well", flag)
			}
			name, value, _ := strings.Cut(flag, "=")
			if log := two.server.Log(); !strings.Contains(log, name) || !strings.Contains(log, value) {
				t.Errorf("the refusal does not name %s", flag)
			}
		}
		if keys, err := os.ReadDir(two.Path("/var/lib/cleat/server/tls")); err == nil {
			t.Errorf("the refused server wrote %v", keys)
		}
	})
	two.start(t)
	two.awaitServing(t)
	t.Logf("the agent is Ready after %.1f s", a.awaitReady(t))
	file := a.Path("/var/lib/cleat/agent/etc/loadbalancer.json")
	awaitServers := func() {
		t.Helper()
		lab.Eventually(t, podPatience, "the agent knows both servers", func() error {
			text, err := os.ReadFile(file)
			if err == nil && !(bytes.Contains(text, []byte(one.Addr.String()+":6443")) && bytes.Contains(text, []byte(two.Addr.String()+":6443"))) {
				err = fmt.Errorf("%s", text)
			}
			return err
		})
	}
	awaitServers()

	ns := two.namespace(t, "load") // who deletes it is alive at the end
	one.apply(t, ns, webOn("agent"))
	one.awaitPod(t, ns, "web-agent")
	container := func(n *node) string {
		return n.kubectl(t, "get", "pod", "-n", ns, "web-agent", "-o", "jsonpath={.status.containerStatuses[0].containerID}")
	}
	before := container(one)
	load := startLoad(t, one, a, ns, "https://127.0.0.1:6444", writers)
	// during does something while the load runs. Who writes to the surviving server
	// without the balancer tells what the machine is too slow for anyway.
	during := func(t *testing.T, survivor *node, what string, f func()) {
		t.Helper()
		control := startLoad(t, one, a, ns, fmt.Sprintf("https://%s:6443", survivor.Addr), 1)
		load.worst()
		f()
		gap, usual := load.worst(), control.worst()
		control.stop(t)
		t.Logf("%s: the longest time without a successful write is %v, without the balancer %v", what, gap, usual)
		if gap > longestGap+3*usual {
			t.Errorf("%s: no write for %v, want at most %v and three times %v", what, gap, longestGap, usual)
		}
	}

	t.Run("kill", func(t *testing.T) {
		during(t, two, "a server was killed", func() {
			one.server.Signal(t, "KILL")
			available(t, two, ns, "after-kill")
		})
		during(t, two, "it came back", func() {
			one.start(t)
			one.awaitServing(t)
		})
	})
	t.Run("cut", func(t *testing.T) {
		during(t, one, "a server was cut off", func() {
			at := time.Now()
			if _, err := two.Feed(`table inet cut {
				chain in { type filter hook input priority -400; policy drop; iif lo accept; }
				chain out { type filter hook output priority -400; policy drop; oif lo accept; }
			}`, "nft", "-f", "-"); err != nil {
				t.Fatal(err)
			}
			available(t, one, ns, "after-cut")
			t.Logf("the agent saw it after %v", a.saw(t, "server failed", two).Sub(at))
		})
		during(t, one, "it came back", func() {
			two.Must(t, "nft", "delete", "table", "inet", "cut")
			// It has lost its leases meanwhile, and may have ended for that.
			lab.Eventually(t, bootPatience, "the server is back", func() error {
				if ended, _ := two.server.Ended(); ended {
					two.start(t)
				}
				_, err := two.Run("kubectl", "get", "--raw", "/readyz?exclude=units")
				return err
			})
		})
	})
	load.stop(t)

	t.Run("nothing is lost", func(t *testing.T) {
		for _, n := range []*node{one, two} {
			var list corev1.ConfigMapList
			text := n.kubectl(t, "get", "--raw", "/api/v1/namespaces/"+ns+"/configmaps")
			if err := json.Unmarshal([]byte(text), &list); err != nil {
				t.Fatal(err)
			}
			there := map[string]bool{}
			for _, cm := range list.Items {
				there[cm.Name] = true
			}
			missing := 0
			for _, name := range load.acknowledged() {
				if !there[name] {
					missing++
				}
			}
			t.Logf("%s: %d writes acknowledged, %d missing", n.Name, len(load.acknowledged()), missing)
			if missing > 0 || len(load.acknowledged()) == 0 {
				t.Errorf("%s misses %d of %d writes", n.Name, missing, len(load.acknowledged()))
			}
		}
	})
	t.Run("the node never noticed", func(t *testing.T) {
		if after := container(two); after != before {
			t.Errorf("the container was %s and is %s", before, after)
		}
		since := two.kubectl(t, "get", "node", "agent", "-o", `jsonpath={range .status.conditions[?(@.type=="Ready")]}{.status} {.lastTransitionTime}{end}`)
		at, err := time.Parse("True 2006-01-02T15:04:05Z", since)
		if err != nil || at.After(load.begun) {
			t.Errorf("the node is Ready %s, the load began %v, %v", since, load.begun, err)
		}
	})
	t.Run("a restart without the server that is named", func(t *testing.T) {
		awaitServers()
		one.server.Signal(t, "KILL")
		a.process.Signal(t, "TERM")
		if err := a.process.Wait(t, time.Minute); err != nil {
			t.Errorf("cleat agent after SIGTERM: %v, want status 0", err)
		}
		a.of = two
		a.startAt(t, "https://"+one.Addr.String()+":6443")
		lab.Eventually(t, bootPatience, "the agent's units are ready", func() error {
			out, err := a.Run("cleat", "status", "-o", "json")
			if err == nil && !strings.Contains(out, `"state": "ready"`) {
				err = errors.New(out)
			}
			return err
		})
		a.awaitReady(t)
	})
}

// newControlPlane makes a server without a node of its own, on a PostgreSQL.
func newControlPlane(t *testing.T, l *lab.Lab, db *postgres, name string) *node {
	t.Helper()
	n := newDatabaseNode(t, l, db, name, "the-right-token")
	n.args = []string{"--disable-agent"}
	return n
}

// awaitServing waits until a server's API server answers.
func (n *node) awaitServing(t *testing.T) {
	t.Helper()
	lab.Eventually(t, bootPatience, n.Name+" serves", func() error {
		if ended, err := n.server.Ended(); ended {
			t.Fatalf("cleat server ended: %v", err)
		}
		_, err := n.Run("kubectl", "get", "--raw", "/readyz")
		return err
	})
}

// available proves that controllers, scheduler and kubelet work: something new
// comes up.
func available(t *testing.T, n *node, ns, name string) {
	t.Helper()
	n.kubectl(t, "create", "deployment", name, "-n", ns, "--image="+image, "--", "sleep", "3600")
	lab.Eventually(t, podPatience, name, func() error {
		out, err := n.Run("kubectl", "get", "deployment", name, "-n", ns, "-o", "jsonpath={.status.availableReplicas}")
		if err == nil && out != "1" {
			err = fmt.Errorf("available are %q", out)
		}
		return err
	})
}

// saw is when the agent last logged something about a server.
func (a *agent) saw(t *testing.T, message string, about *node) (at time.Time) {
	t.Helper()
	for line := range strings.Lines(a.process.Log()) {
		var said struct {
			Time        time.Time
			Msg, Server string
		}
		if json.Unmarshal([]byte(line), &said) == nil && said.Msg == message && said.Server == about.Addr.String()+":6443" {
			at = said.Time
		}
	}
	if at.IsZero() {
		t.Errorf("the agent did not log %q about %s", message, about.Name)
	}
	return at
}

// load is clients that write through an agent's balancer.
type load struct {
	begun   time.Time
	name    string // how what it writes begins
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu      sync.Mutex
	done    []string          // names that were acknowledged
	slowest time.Duration     // from the first try of a write to its success
	pending map[int]time.Time // when the write that each writer is at was first tried
	failed  map[string]int    // errors, by their text
}

// startLoad runs n clients, each with connections of its own, on the agent's machine.
// They use the credentials of admin and connect to host.
func startLoad(t *testing.T, admin *node, a *agent, ns, host string, n int) *load {
	t.Helper()
	raw, err := os.ReadFile(admin.Path(kubeconfigFile))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	w := &load{begun: time.Now(), cancel: cancel, name: fmt.Sprintf("write-%x", time.Now().UnixNano()), pending: map[int]time.Time{}, failed: map[string]int{}}
	for i := range n {
		cfg, err := clientcmd.RESTConfigFromKubeConfig(raw)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Host, cfg.Dial = host, a.Dial
		client, err := rest.HTTPClientFor(cfg)
		if err != nil {
			t.Fatal(err)
		}
		w.running.Go(func() {
			defer client.CloseIdleConnections()
			w.write(ctx, client, cfg.Host+"/api/v1/namespaces/"+ns+"/configmaps", i)
		})
	}
	t.Cleanup(func() { w.cancel(); w.running.Wait() })
	return w
}

// write makes one ConfigMap after the other; each is tried until it is there.
func (w *load) write(ctx context.Context, client *http.Client, url string, writer int) {
	tick := time.NewTicker(writeEvery)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		name := fmt.Sprintf("%s-%d-%05d", w.name, writer, i)
		w.mark(writer, time.Now())
		for {
			err := create(ctx, client, url, name)
			if ctx.Err() != nil {
				return
			}
			if err == nil {
				break
			}
			w.mu.Lock()
			w.failed[err.Error()]++
			w.mu.Unlock()
			select {
			case <-ctx.Done():
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
		w.mu.Lock()
		w.slowest = max(w.slowest, time.Since(w.pending[writer]))
		delete(w.pending, writer)
		w.done = append(w.done, name)
		w.mu.Unlock()
	}
}

func (w *load) mark(writer int, at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pending[writer] = at
}

// create is nil once the ConfigMap is there, be it by an attempt whose answer was lost.
func create(ctx context.Context, client *http.Client, url, name string) error {
	cm := corev1.ConfigMap{}
	cm.Name = name
	text, err := json.Marshal(cm)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(text))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	said, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusCreated && res.StatusCode != http.StatusConflict {
		return fmt.Errorf("%s: %.200s", res.Status, said)
	}
	return nil
}

// worst is the longest that a write has taken since it was last asked, those under
// way included.
func (w *load) worst() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	worst := w.slowest
	for _, since := range w.pending {
		worst = max(worst, time.Since(since))
	}
	w.slowest = 0
	return worst
}

func (w *load) stop(t *testing.T) {
	t.Helper()
	w.cancel()
	w.running.Wait()
	for text, n := range w.failed {
		t.Logf("%d times: %s", n, text)
	}
}

func (w *load) acknowledged() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.done
}
