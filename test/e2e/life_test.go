//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	_ "modernc.org/sqlite" // the driver that the datastore uses

	"github.com/cleat-dev/cleat/test/e2e/lab"
)

const (
	kubeconfigFile = "/etc/cleat/cleat.yaml"
	stateFile      = "/var/lib/cleat/server/db/state.db"
)

// kills is how often TestKills kills the server; CLEAT_KILLS is another number.
func kills(t *testing.T) int {
	t.Helper()
	text := os.Getenv("CLEAT_KILLS")
	if text == "" {
		return 10
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 2 {
		t.Fatalf("CLEAT_KILLS=%q: want a number from 2 on", text)
	}
	return n
}

// TestKills kills the server at random moments, every other time before it is
// Ready, while a client writes without pause. Nothing that was acknowledged may be
// lost, and no container may be started anew.
func TestKills(t *testing.T) {
	t.Parallel()
	n := newNode(t, newLab(t), "n1")
	boot := n.serve(t)
	startWeb(t, n)
	c := &cluster{node: n}
	before, err := c.containers()
	if err != nil {
		t.Fatal(err)
	}
	w := startWriter(t, n)
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d, %.1f s to Ready", seed, boot)

	rounds := kills(t)
	for round := range rounds {
		moment := "booting"
		if round%2 == 0 {
			sleepRandom(random, 2)
			moment = "running"
		} else {
			n.start(t)
			sleepRandom(random, boot)
		}
		since := time.Since(n.booted).Seconds()
		if ended, err := n.server.Ended(); ended {
			t.Fatalf("the server ended by itself: %v", err)
		}
		n.server.Signal(t, "KILL")
		if err := n.server.Wait(t, podPatience); err == nil {
			t.Fatal("the server ended well after SIGKILL")
		}
		t.Logf("kill %d, %s for %.2f s, %d writes acknowledged", round+1, moment, since, w.count())
		if moment == "booting" {
			boot = n.serve(t)
		}
	}
	if rounds%2 == 1 {
		n.serve(t)
	}
	w.stop()
	w.check(t)
	lab.Eventually(t, podPatience, "the same containers, none restarted", func() error {
		after, err := c.containers()
		if err == nil && !slices.Equal(before, after) {
			err = fmt.Errorf("before %v\nafter  %v", before, after)
		}
		return err
	})
	shims := strings.Fields(n.Must(t, "sh", "-c", "pgrep -fc '^[^ ]*containerd-shim'"))
	pods := strings.Fields(n.Must(t, "sh", "-c", "crictl pods -q | wc -l"))
	if !slices.Equal(shims, pods) {
		t.Errorf("%s shims for %s pods", shims, pods)
	}
	n.stop(t)
	checkIntegrity(t, n.Path(stateFile))
}

func sleepRandom(random *rand.Rand, seconds float64) {
	time.Sleep(time.Duration(random.Float64() * seconds * float64(time.Second)))
}

func checkIntegrity(t *testing.T, file string) {
	t.Helper()
	db, err := sql.Open("sqlite", file)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var verdict string
	if err := db.QueryRowContext(t.Context(), "PRAGMA integrity_check").Scan(&verdict); err != nil || verdict != "ok" {
		t.Errorf("the database: %s, %v", verdict, err)
	}
}

// apiClient is a client of the API server that runs in the test and reaches it
// as a program on the machine would.
func apiClient(t *testing.T, n *node) (client *http.Client, server string) {
	t.Helper()
	raw, err := os.ReadFile(n.Path(kubeconfigFile))
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := clientcmd.RESTConfigFromKubeConfig(raw)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Dial = n.Dial
	cfg.Timeout = 10 * time.Second
	if client, err = rest.HTTPClientFor(cfg); err != nil {
		t.Fatal(err)
	}
	return client, cfg.Host
}

// writer makes ConfigMaps and counts in another, and keeps what was acknowledged.
type writer struct {
	client *http.Client
	base   string
	stop   func()

	mu      sync.Mutex
	created []string
	counted int // acknowledged
	tried   int // may have arrived
}

const writerNamespace = "writes"

func startWriter(t *testing.T, n *node) *writer {
	t.Helper()
	n.kubectl(t, "create", "namespace", writerNamespace)
	client, server := apiClient(t, n)
	ctx, cancel := context.WithCancel(t.Context())
	w := &writer{client: client, base: server + "/api/v1/namespaces/" + writerNamespace + "/configmaps"}
	if err := w.send(ctx, http.MethodPost, "", writeOf("counter", "0")); err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	work.Go(func() { w.work(ctx) })
	w.stop = func() {
		cancel()
		work.Wait()
		client.CloseIdleConnections()
	}
	t.Cleanup(w.stop)
	return w
}

func writeOf(name, value string) corev1.ConfigMap {
	return corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"value": value}}
}

func (w *writer) work(ctx context.Context) {
	pause := time.NewTicker(20 * time.Millisecond) // leaves the machine room to boot
	defer pause.Stop()
	for i := 1; ctx.Err() == nil; i++ {
		name := fmt.Sprintf("write-%06d", i)
		created := w.send(ctx, http.MethodPost, "", writeOf(name, name)) == nil
		w.mu.Lock()
		if created {
			w.created = append(w.created, name)
		}
		w.tried = i
		w.mu.Unlock()
		if w.send(ctx, http.MethodPut, "/counter", writeOf("counter", strconv.Itoa(i))) == nil {
			w.mu.Lock()
			w.counted = i
			w.mu.Unlock()
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
		}
	}
}

// send writes one object; nil means that the server has acknowledged it.
func (w *writer) send(ctx context.Context, method, path string, object corev1.ConfigMap) error {
	body, err := json.Marshal(object)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, w.base+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := w.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode/100 != 2 {
		err = fmt.Errorf("%s: %s", res.Status, text)
	}
	// Without the whole answer a client does not know.
	return err
}

func (w *writer) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.created)
}

// check looks for everything that was acknowledged. The writer has stopped.
func (w *writer) check(t *testing.T) {
	t.Helper()
	res, err := w.client.Get(w.base)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var list corev1.ConfigMapList
	if err := json.NewDecoder(res.Body).Decode(&list); err != nil {
		t.Fatal(err)
	}
	values := make(map[string]string, len(list.Items))
	for _, item := range list.Items {
		values[item.Name] = item.Data["value"]
	}
	if len(w.created) < 100 {
		t.Errorf("only %d writes were acknowledged: too few to lose one", len(w.created))
	}
	lost := 0
	for _, name := range w.created {
		if values[name] != name {
			lost++
		}
	}
	if lost > 0 {
		t.Errorf("%d of %d acknowledged writes are lost", lost, len(w.created))
	}
	if got, err := strconv.Atoi(values["counter"]); err != nil || got < w.counted || got > w.tried {
		t.Errorf("the counter is %q, acknowledged were %d, sent %d", values["counter"], w.counted, w.tried)
	}
	t.Logf("%d creations and the count of %d, all acknowledged, are there", len(w.created), w.counted)
}
