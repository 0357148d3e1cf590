//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/cleat-dev/cleat/test/e2e/lab"
)

const certificateLife = 30 * time.Second

// TestCertificates lets a server and an agent live for three lifetimes of their
// certificates. Everything that one of them is for goes on all the time.
func TestCertificates(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	n := newNode(t, l, "n1")
	n.serve(t)
	n.stop(t)
	// Certificates that are good for a year stay when the lifetime is changed. With
	// those of seconds from the first moment, a slow machine would renew while it boots.
	n.args = []string{"--certificate-lifetime", certificateLife.String()}
	n.serve(t)
	n.Must(t, "cleat", "certificate", "rotate")
	a := newAgent(t, l, n, "n2")
	a.start(t)
	a.awaitReady(t)
	for _, name := range []string{"n1", "n2"} {
		n.apply(t, "default", podOf("on-"+name, "echo started; exec sleep 1000000", "  nodeName: "+name))
		n.awaitPod(t, "default", "on-"+name)
	}
	c := &certified{n: n, a: a}
	files, served := c.files(t), c.served(t)
	began := time.Now()

	requests := startRequests(t, n)
	for time.Since(began) < 3*certificateLife {
		c.use(t)
	}
	requests.stop()
	requests.check(t)
	// Three lifetimes have five renewals, and a slow machine takes longer than that.
	if most := 1 + int(time.Since(began)/(certificateLife/2)); c.cut > most {
		t.Errorf("%d of %d requests to kubelets were cut", c.cut, c.asked)
	}
	movedOn(t, files, c.files(t))
	movedOn(t, served, c.served(t))
	file := a.Path("/var/lib/cleat/agent/tls/client-kubelet.crt")
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	a.Must(t, "cleat", "certificate", "rotate")
	if after, err := os.ReadFile(file); err != nil || bytes.Equal(before, after) {
		t.Errorf("the agent was asked for new certificates and has the old ones, %v", err)
	}
	// A busy machine has units that are late with an answer. What counts is why.
	out := n.kubectl(t, "get", "events", "-A", "-o", "jsonpath={.items[?(@.reason=='UnitUnhealthy')].message}")
	for _, word := range []string{"certificate", "x509", "nauthorized"} {
		if strings.Contains(out, word) {
			t.Errorf("units were not well: %s", out)
		}
	}
	for name, process := range map[string]*lab.Process{"server": n.server, "agent": a.process} {
		if ended, err := process.Ended(); ended {
			t.Errorf("the %s ended: %v", name, err)
		}
	}
}

// certified is a server with its node, and an agent.
type certified struct {
	n *node
	a *agent

	asked, cut int // of kubelets
}

func (c *certified) machines() []*lab.Machine { return []*lab.Machine{c.n.Machine, c.a.Machine} }

// use does something with each kind of certificate.
func (c *certified) use(t *testing.T) {
	t.Helper()
	n := c.n
	for _, m := range c.machines() {
		// The administrator's and the API server's; the kubelet's keeps the node Ready.
		if out, err := n.Run("kubectl", "get", "node", m.Name); err != nil || !strings.Contains(out, " Ready ") {
			t.Errorf("the node: %s, %v", out, err)
		}
		// The API server's towards the kubelet, and the kubelet's own.
		c.askKubelet(t, "started\n", "kubectl", "logs", "on-"+m.Name)
		c.askKubelet(t, "hello\n", "kubectl", "exec", "on-"+m.Name, "--", "echo", "hello")
		eventuallyPrints(t, m, podPatience, m.Name, "cleat", "status")
	}
	// The controller manager's and the scheduler's, who answer by doing their work.
	name := fmt.Sprintf("work-%d", time.Now().UnixNano())
	n.kubectl(t, "create", "deployment", name, "--image", image, "--", "sleep", "1000000")
	lab.Eventually(t, podPatience, "pod of "+name+" on a node", func() error {
		out, err := n.Run("kubectl", "get", "pods", "-l", "app="+name, "-o", "jsonpath={.items[*].spec.nodeName}")
		if err == nil && !strings.HasPrefix(out, "n") {
			err = fmt.Errorf("it is on %q", out)
		}
		return err
	})
	n.kubectl(t, "delete", "deployment", name, "--wait=false")
}

// askKubelet runs what the API server hands to a kubelet. What is on its way at the
// moment when the certificate between the two is renewed is cut, and good when it
// is asked again.
func (c *certified) askKubelet(t *testing.T, want string, args ...string) {
	t.Helper()
	out, err := c.n.Run(args...)
	if err != nil {
		t.Logf("cut: %v", err)
		c.cut++
		out, err = c.n.Run(args...)
	}
	c.asked++
	if err != nil || out != want {
		t.Errorf("%v: %q, %v", args, out, err)
	}
}

// files is when each certificate on the machines ends, authorities left out.
func (c *certified) files(t *testing.T) map[string]time.Time {
	t.Helper()
	ends := map[string]time.Time{}
	for _, m := range c.machines() {
		out, err := m.Run("cleat", "certificate", "check", "-o", "json")
		var all []struct {
			File     string
			NotAfter time.Time `json:"not_after"`
			State    string
		}
		if jsonErr := json.Unmarshal([]byte(out), &all); jsonErr != nil {
			t.Fatalf("%v, %v: %s", err, jsonErr, out)
		}
		for _, found := range all {
			if strings.HasSuffix(found.File, "-ca.crt") {
				continue
			}
			if left := time.Until(found.NotAfter); left > certificateLife || left <= 0 {
				t.Errorf("%s on %s is %s and ends in %v", found.File, m.Name, found.State, left)
			}
			ends[m.Name+": "+found.File] = found.NotAfter
		}
	}
	if len(ends) != 10+4+4 {
		t.Errorf("%d certificates: %v", len(ends), ends)
	}
	return ends
}

// served is when the certificates end that are served on the machines' ports.
func (c *certified) served(t *testing.T) map[string]time.Time {
	t.Helper()
	ends := map[string]time.Time{}
	for _, m := range c.machines() {
		ports := []string{"10250"}
		if m == c.n.Machine {
			ports = append(ports, "6443", "10257", "10259")
		}
		for _, port := range ports {
			// Who serves on it takes a moment to see a new file.
			lab.Eventually(t, certificateLife, "a good certificate on port "+port, func() error {
				leaf, err := shown(t.Context(), m, port)
				if err != nil {
					return err
				}
				if left := time.Until(leaf.NotAfter); left < 0 || left > certificateLife {
					return fmt.Errorf("%s ends in %v", leaf.Subject, left)
				}
				ends[m.Name+": port "+port] = leaf.NotAfter
				return nil
			})
		}
	}
	return ends
}

// shown is the certificate that a port of the machine shows.
func shown(ctx context.Context, m *lab.Machine, port string) (*x509.Certificate, error) {
	conn, err := m.Dial(ctx, "tcp", "127.0.0.1:"+port)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	client := tls.Client(conn, &tls.Config{InsecureSkipVerify: true}) // only looked at
	if err := client.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return client.ConnectionState().PeerCertificates[0], nil
}

func movedOn(t *testing.T, before, after map[string]time.Time) {
	t.Helper()
	for name, end := range after {
		if end.Sub(before[name]) < 2*certificateLife {
			t.Errorf("%s ended at %v and ends at %v", name, before[name], end)
		}
	}
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
	cfg.Dial, cfg.Timeout = n.Dial, time.Minute
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
			err := ask(ctx, client, cfg.Host+"/api/v1/namespaces/default/pods/on-n1")
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
