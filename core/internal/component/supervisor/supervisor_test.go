package supervisor

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/core/internal/joinapi"
	"github.com/cleat-dev/cleat/core/internal/nodepassword"
	"github.com/cleat-dev/cleat/core/internal/pki"
)

func TestHandlerComesAndGoes(t *testing.T) {
	h := start(t)
	auth := request{path: joinapi.PathReady, user: "node", password: clusterPassword}
	for _, c := range []struct {
		handler http.Handler
		api     int
		ready   int
	}{{nil, 503, 503}, {http.NotFoundHandler(), 404, 200}, {nil, 503, 503}} {
		h.SetHandler(c.handler)
		status, body := h.do(request{path: "/api"})
		if status != c.api || status == 503 && !strings.Contains(body, `"kind":"Status"`) {
			t.Errorf("/api: %d %s, want %d", status, body, c.api)
		}
		if status, _ := h.do(auth); status != c.ready {
			t.Errorf("readyz: %d, want %d", status, c.ready)
		}
	}
}

// TestOwnNodeWaits holds the kubelet of this machine until the port opens, and
// nobody else.
func TestOwnNodeWaits(t *testing.T) {
	h := start(t)
	h.SetHandler(http.NotFoundHandler())
	own := h.client(h.clientCert(h.id.Client, joinapi.NodeUser(h.Config.NodeName), "system:nodes"))
	ask := func(ctx context.Context, client *http.Client) (status int, err error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.url+"/api", nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.Do(req)
		if err != nil {
			return 0, err
		}
		return res.StatusCode, res.Body.Close()
	}
	for name, client := range map[string]*http.Client{
		"nobody": h.client(nil), "another node": h.client(h.clientCert(h.id.Client, joinapi.NodeUser("another"), "system:nodes")),
	} {
		if status, err := ask(t.Context(), client); status != http.StatusNotFound {
			t.Errorf("%s: %d, %v; want the API server's answer", name, status, err)
		}
	}
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if status, err := ask(short, own); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the own node: %d, %v; want it to wait", status, err)
	}
	waiting := make(chan int, 1)
	go func() {
		status, _ := ask(t.Context(), own)
		waiting <- status
	}()
	h.Open()
	h.Open()
	if status := <-waiting; status != http.StatusNotFound {
		t.Errorf("the own node, once the port is open: %d", status)
	}
}

func TestHandlerSwapUnderLoad(t *testing.T) {
	h := start(t)
	stop := make(chan struct{})
	var swapper, load sync.WaitGroup
	swapper.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if i%2 == 0 {
				h.SetHandler(http.NotFoundHandler())
			} else {
				h.SetHandler(nil)
			}
		}
	})
	for range 4 {
		client := h.client(nil)
		load.Go(func() {
			for range 50 {
				res, err := client.Get(h.url + "/api")
				if err != nil {
					t.Error(err)
					return
				}
				if res.StatusCode != 404 && res.StatusCode != 503 {
					t.Error(res.Status)
				}
				if err := res.Body.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	load.Wait()
	close(stop)
	swapper.Wait()
}

func TestHTTP2(t *testing.T) {
	h := start(t)
	res, err := h.client(nil).Get(h.url + "/ping")
	if err != nil {
		t.Fatal(err)
	}
	if err := res.Body.Close(); err != nil {
		t.Fatal(err)
	}
	if res.ProtoMajor != 2 {
		t.Errorf("protocol %s", res.Proto)
	}
}

func TestServingCertificateFollowsItsFile(t *testing.T) {
	h := start(t)
	served := func() *x509.Certificate {
		t.Helper()
		conn := dial(t, h, &tls.Config{RootCAs: h.id.Server.Pool(), ServerName: "127.0.0.1"})
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0]
	}
	first := served()
	if !served().Equal(first) {
		t.Error("another certificate without a reason")
	}
	h.issueServing("renamed")
	if second := served(); second.VerifyHostname("renamed") != nil {
		t.Errorf("still serving %v", second.DNSNames)
	}
	// In the middle of a change the pair does not fit: the old one stays.
	key := readFile(t, h.KeyFile)
	other, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	for _, broken := range [][]byte{other, []byte("no key")} {
		if err := os.WriteFile(h.KeyFile, broken, 0o600); err != nil {
			t.Fatal(err)
		}
		if served().VerifyHostname("renamed") != nil {
			t.Error("a broken pair took over")
		}
	}
	if err := os.Remove(h.CertFile); err != nil {
		t.Fatal(err)
	}
	if served().VerifyHostname("renamed") != nil {
		t.Error("a missing file took over")
	}
	if err := os.WriteFile(h.KeyFile, key, 0o600); err != nil {
		t.Fatal(err)
	}
	h.issueServing("third")
	if served().VerifyHostname("third") != nil {
		t.Error("the repaired pair is not served")
	}
}

func TestSNICertificate(t *testing.T) {
	h := start(t)
	loop, err := pki.NewAuthority("loop", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	keyPEM, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	key, err := pki.ParseKey(keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	const name = "apiserver-loopback-client"
	certPEM, err := loop.Sign(key.Public(), pki.Leaf{CommonName: name, Server: true, DNSNames: []string{name}}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	h.SetSNICertificate(name, pair)
	for server, pool := range map[string]*x509.CertPool{name: loop.Pool(), "127.0.0.1": h.id.Server.Pool()} {
		if err := dial(t, h, &tls.Config{RootCAs: pool, ServerName: server}).Close(); err != nil {
			t.Error(err)
		}
	}
}

// A client certificate that nobody here signed must reach the API server,
// whose authenticator decides.
func TestHandlerSeesForeignCertificates(t *testing.T) {
	h := start(t)
	seen := make(chan int, 1)
	h.SetHandler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- len(r.TLS.PeerCertificates) }))
	stranger, err := pki.NewAuthority("stranger", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if status, _ := h.do(request{path: "/api", cert: h.clientCert(stranger, "x")}); status != 200 || <-seen != 1 {
		t.Errorf("%d", status)
	}
}

// Long answers and connections taken over are cut at a stop, in bounded time.
func TestStopCutsWatchesAndHijackedConnections(t *testing.T) {
	h := start(t)
	gone := make(chan struct{})
	h.SetHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/exec" {
			conn, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, err = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\n\r\n")
			if err = errors.Join(err, rw.Flush()); err != nil {
				t.Error(err)
			}
			_ = conn // the handler goes, the connection stays
			return
		}
		w.WriteHeader(http.StatusOK)
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		<-r.Context().Done()
		close(gone)
	}))
	watch, err := h.client(nil).Get(h.url + "/watch")
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Body.Close()
	exec := dial(t, h, &tls.Config{RootCAs: h.id.Server.Pool(), ServerName: "127.0.0.1"})
	defer exec.Close()
	if _, err := io.WriteString(exec, "GET /exec HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(exec)
	if line, err := reader.ReadString('\n'); err != nil || !strings.Contains(line, "101") {
		t.Fatalf("%q, %v", line, err)
	}
	begun := time.Now()
	if err := h.stop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took > drainTimeout+5*time.Second {
		t.Errorf("stopping took %v", took)
	}
	if _, err := io.Copy(io.Discard, watch.Body); err == nil {
		t.Error("the watch ended as if complete")
	}
	if _, err := io.Copy(io.Discard, reader); err != nil && !errors.Is(err, net.ErrClosed) && !strings.Contains(err.Error(), "reset") && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("exec: %v", err)
	}
	<-gone
	if _, err := net.Dial("tcp", h.Addr().String()); err == nil {
		t.Error("the port is still open")
	}
}

func TestRunNamesWhatIsWrong(t *testing.T) {
	h := start(t)
	run := func(change func(*Options)) error {
		o := h.Options
		cfg := *o.Config
		o.Config = &cfg
		change(&o)
		return New(o).Run(t.Context(), func() { t.Error("ready") })
	}
	for want, change := range map[string]func(*Options){
		"--https-listen-port": func(o *Options) { o.Config.HTTPSListenPort = h.Addr().Port },
		"s.crt":               func(o *Options) { o.CertFile += ".missing" },
		"does not answer itself": func(o *Options) {
			o.Cluster = func() (*pki.Identity, error) { return pki.NewIdentity(time.Now()) }
		},
		"no datastore": func(o *Options) { o.Store = func() (Store, error) { return nil, errors.New("no datastore") } },
	} {
		if err := run(change); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := New(h.Options).Run(ctx, func() { t.Error("ready") }); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before start: %v", err)
	}
}

func TestPasswordRecords(t *testing.T) {
	for _, bad := range []string{"", "x", `{"version":2}`} {
		store := &memory{keys: map[string][]byte{"/nodepasswords/n": []byte(bad)}}
		if err := newPasswords(store, time.Now).check(t.Context(), "n", nodePassword); err == nil || errors.Is(err, errTaken) {
			t.Errorf("record %q: %v", bad, err)
		}
	}
	// Of many who come at once, one gets the name.
	store := &memory{keys: map[string][]byte{}}
	p := newPasswords(store, time.Now)
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for i := range 4 {
		wg.Go(func() {
			err := p.check(t.Context(), "n", nodePassword+string(rune('a'+i)))
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won++
			} else if !errors.Is(err, errTaken) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won != 1 {
		t.Errorf("%d got the name", won)
	}
}

// A record tells when its machine came last, within a minute, so that one that has
// just come is not taken for that of a node which is gone.
func TestPasswordRecordsSayWhenTheirMachineCame(t *testing.T) {
	store := &memory{keys: map[string][]byte{}}
	begun := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	now := begun
	p := newPasswords(store, func() time.Time { return now })
	come := func(password string) nodepassword.Record {
		t.Helper()
		if err := p.check(t.Context(), "n", password); (err == nil) != (password == nodePassword) {
			t.Fatal(err)
		}
		r, err := nodepassword.Parse(store.copy()["/nodepasswords/n"])
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	first := come(nodePassword)
	if !first.Created.Equal(begun) || !first.Seen.Equal(begun) {
		t.Errorf("%+v", first)
	}
	now = begun.Add(seenEvery / 2)
	if r := come(nodePassword); !r.Seen.Equal(begun) {
		t.Errorf("written again after %v", seenEvery/2)
	}
	now = begun.Add(time.Hour)
	if r := come("fedcba9876543210"); !r.Seen.Equal(begun) {
		t.Error("a stranger was taken for the machine")
	}
	if r := come(nodePassword); !r.Created.Equal(begun) || !r.Seen.Equal(now) {
		t.Errorf("%+v, want seen at %v", r, now)
	}
	now = begun // the clock was set back
	if r := come(nodePassword); !r.Seen.Equal(begun) {
		t.Errorf("%+v, want seen at %v", r, now)
	}
	// It was removed in between: the name is free, and the same machine's again.
	if err := store.remove("/nodepasswords/n"); err != nil {
		t.Fatal(err)
	}
	if r := come(nodePassword); !r.Created.Equal(begun) {
		t.Errorf("%+v", r)
	}
}
