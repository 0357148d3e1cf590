//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/cleat-dev/cleat/test/e2e/lab"
)

const certificateLife = 30 * time.Second

// TestCertificates lets a server with its node live for three lifetimes of its
// certificates. Everything that one of them is for goes on all the time.
func TestCertificates(t *testing.T) {
	n := newNode(t, newLab(t), "n1")
	n.serve(t)
	n.stop(t)
	// Certificates that are good for a year stay when the lifetime is changed. With
	// those of seconds from the first moment, a slow machine would renew while it boots.
	n.args = []string{"--certificate-lifetime", certificateLife.String()}
	n.serve(t)
	n.Must(t, "cleat", "certificate", "rotate")
	n.apply(t, "default", podOf("talker", "echo started; exec sleep 1000000", ""))
	n.awaitPod(t, "default", "talker")
	first := n.certificates(t)
	served := n.served(t)
	began := time.Now()

	requests := startRequests(t, n)
	for time.Since(began) < 3*certificateLife {
		n.useCertificates(t)
	}
	requests.stop()
	requests.check(t)
	n.movedOn(t, first, n.certificates(t), 2*certificateLife)
	for port, end := range n.served(t) {
		if moved := end.Sub(served[port]); moved < 2*certificateLife {
			t.Errorf("what is served on port %s ends %v after what was served at first", port, moved)
		}
	}
	if out := n.kubectl(t, "get", "events", "-A", "-o", "jsonpath={.items[?(@.reason=='UnitUnhealthy')].message}"); out != "" {
		t.Errorf("units were not well: %s", out)
	}
	if ended, err := n.server.Ended(); ended {
		t.Errorf("the server ended: %v", err)
	}
}

// useCertificates does something with each kind of certificate.
func (n *node) useCertificates(t *testing.T) {
	t.Helper()
	// The administrator's, the API server's, and the kubelet's: its status is fresh.
	if err := n.ready(); err != nil {
		t.Errorf("the node: %v", err)
	}
	// The API server's towards the kubelet, and the kubelet's own.
	if out, err := n.Run("kubectl", "logs", "talker"); err != nil || out != "started\n" {
		t.Errorf("logs: %q, %v", out, err)
	}
	if out, err := n.Run("kubectl", "exec", "talker", "--", "echo", "hello"); err != nil || out != "hello\n" {
		t.Errorf("exec: %q, %v", out, err)
	}
	if out, err := n.Run("cleat", "status"); err != nil {
		t.Errorf("status: %v\n%s", err, out)
	}
	// The controller manager's and the scheduler's, who answer by doing their work.
	name := fmt.Sprintf("job-%d", time.Now().UnixNano())
	n.kubectl(t, "create", "deployment", name, "--image", image, "--", "sleep", "1000000")
	lab.Eventually(t, podPatience, "pod of "+name+" on the node", func() error {
		out, err := n.Run("kubectl", "get", "pods", "-l", "app="+name, "-o", "jsonpath={.items[*].spec.nodeName}")
		if err == nil && out != n.Name {
			err = fmt.Errorf("it is on %q", out)
		}
		return err
	})
	n.kubectl(t, "delete", "deployment", name, "--wait=false")
}

// certificates is when each certificate on the machine ends, authorities left out.
func (n *node) certificates(t *testing.T) map[string]time.Time {
	t.Helper()
	out, err := n.Run("cleat", "certificate", "check", "-o", "json")
	var all []struct {
		File     string
		NotAfter time.Time `json:"not_after"`
		State    string
	}
	if jsonErr := json.Unmarshal([]byte(out), &all); jsonErr != nil {
		t.Fatalf("%v, %v: %s", err, jsonErr, out)
	}
	ends := map[string]time.Time{}
	for _, c := range all {
		if strings.HasSuffix(c.File, "-ca.crt") {
			continue
		}
		if left := time.Until(c.NotAfter); left > certificateLife || c.State == "expired" || c.State == "unreadable" {
			t.Errorf("%s is %s and ends in %v", c.File, c.State, left)
		}
		ends[c.File] = c.NotAfter
	}
	if len(ends) != 14 {
		t.Errorf("%d certificates: %s", len(ends), out)
	}
	return ends
}

func (n *node) movedOn(t *testing.T, before, after map[string]time.Time, by time.Duration) {
	t.Helper()
	for file, end := range after {
		if moved := end.Sub(before[file]); moved < by {
			t.Errorf("%s ended at %v and ends at %v", path.Base(file), before[file], end)
		}
	}
}

// served is when the certificates end that are served on the machine's ports.
func (n *node) served(t *testing.T) map[string]time.Time {
	t.Helper()
	ends := map[string]time.Time{}
	for _, port := range []string{"6443", "10250", "10257", "10259"} {
		// The scheduler and the controller manager take a moment to see a new file.
		lab.Eventually(t, certificateLife, "a good certificate on port "+port, func() error {
			conn, err := n.Dial(t.Context(), "tcp", "127.0.0.1:"+port)
			if err != nil {
				return err
			}
			defer conn.Close()
			client := tls.Client(conn, &tls.Config{InsecureSkipVerify: true}) // only looked at
			if err := client.HandshakeContext(t.Context()); err != nil {
				return err
			}
			leaf := client.ConnectionState().PeerCertificates[0]
			if now := time.Now(); now.After(leaf.NotAfter) || leaf.NotAfter.Sub(now) > 2*certificateLife {
				return fmt.Errorf("%s ends at %v", leaf.Subject, leaf.NotAfter)
			}
			ends[port] = leaf.NotAfter
			return nil
		})
	}
	return ends
}

// requests are what a client with a token asks of the API server, one after the
// other, on connections that it keeps.
type requests struct {
	stop func()

	mu     sync.Mutex
	good   int
	failed []error
}

func startRequests(t *testing.T, n *node) *requests {
	t.Helper()
	raw, err := os.ReadFile(n.Path(kubeconfigFile))
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := clientcmd.RESTConfigFromKubeConfig(raw)
	if err != nil {
		t.Fatal(err)
	}
	cfg = rest.AnonymousClientConfig(cfg)
	n.kubectl(t, "create", "rolebinding", "view", "--clusterrole=view", "--serviceaccount=default:default")
	cfg.BearerToken = strings.TrimSpace(n.kubectl(t, "create", "token", "default"))
	cfg.Dial, cfg.Timeout = n.Dial, 10*time.Second
	client, err := rest.HTTPClientFor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r := &requests{}
	var work sync.WaitGroup
	work.Go(func() {
		pause := time.NewTicker(20 * time.Millisecond) // leaves room for the rest
		defer pause.Stop()
		for ctx.Err() == nil {
			err := ask(ctx, client, cfg.Host+"/api/v1/namespaces/default/pods/talker")
			if ctx.Err() == nil {
				r.mu.Lock()
				if err != nil {
					r.failed = append(r.failed, err)
				} else {
					r.good++
				}
				r.mu.Unlock()
			}
			select {
			case <-pause.C:
			case <-ctx.Done():
			}
		}
	})
	r.stop = func() {
		cancel()
		work.Wait()
		client.CloseIdleConnections()
	}
	t.Cleanup(r.stop)
	return r
}

func ask(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, res.Body)
	err = errors.Join(err, res.Body.Close())
	if res.StatusCode != http.StatusOK {
		err = errors.Join(err, errors.New(res.Status))
	}
	return err
}

func (r *requests) check(t *testing.T) {
	t.Helper()
	if len(r.failed) > 0 || r.good < 100 {
		t.Errorf("%d requests failed and %d did not: %v", len(r.failed), r.good, errors.Join(r.failed...))
	}
	t.Logf("%d requests, none failed", r.good)
}
