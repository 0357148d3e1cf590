package supervisor

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/core/internal/joinapi"
)

// short are limits of time that a test can wait for, and that a busy machine keeps.
func short(l *limits) { l.header, l.body, l.answer = 3*time.Second, 2*time.Second, 2*time.Second }

const (
	alice = "127.0.0.2" // machines other than the server's
	bob   = "127.0.0.3"
	here  = "127.0.0.1"
)

// tcp opens a connection from a machine without a word being said on it.
func (h *harness) tcp(from string) net.Conn {
	h.t.Helper()
	c, err := h.tryTCP(from)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { c.Close() })
	return c
}

func (h *harness) tryTCP(from string) (net.Conn, error) {
	d := net.Dialer{Timeout: time.Minute, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	return d.DialContext(h.t.Context(), "tcp", h.Addr().String())
}

// tls opens a connection from a machine and shakes hands.
func (h *harness) tls(from string, protocols ...string) *tls.Conn {
	h.t.Helper()
	c := tls.Client(h.tcp(from), &tls.Config{RootCAs: h.id.Server.Pool(), ServerName: "127.0.0.1", NextProtos: protocols})
	if err := c.HandshakeContext(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
	return c
}

// ask sends a request for /ping and reports whether it was answered.
func ask(c net.Conn) error {
	if _, err := io.WriteString(c, "GET /ping HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
		return err
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, res.Body)
	return errors.Join(err, res.Body.Close())
}

// ends waits for the server to end a connection and returns what it said before.
func ends(t *testing.T, c net.Conn) string {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	said, err := io.ReadAll(c)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the connection is still open after a minute, the server said %q", said)
	}
	return string(said)
}

// isOpen reports whether the server has left a connection open; the server has
// had the time to close it, because it has answered something else since.
func isOpen(c net.Conn) bool {
	if err := c.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		return false
	}
	_, err := c.Read(make([]byte, 1))
	return errors.Is(err, os.ErrDeadlineExceeded)
}

func TestSlowClientsAreCut(t *testing.T) {
	h := start(t, short, func(l *limits) { l.answer = time.Minute })
	h.SetHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }))
	node := "Authorization: " + basic("node", clusterPassword).Get("Authorization") + "\r\nCleat-Node-Name: n1\r\nCleat-Node-Password: " + nodePassword + "\r\n"
	for name, c := range map[string]struct {
		plain bool
		send  string
		want  string
	}{
		"no handshake":                    {true, "", ""},
		"half a handshake":                {true, "\x16\x03\x01\x02\x00\x01\x00", ""},
		"no header":                       {false, "", ""},
		"half a header":                   {false, "GET /ping HTTP/1.1\r\nHost: h\r\nX: ", ""},
		"no body for an own route":        {false, "POST /v1-cleat/client-kubelet.crt HTTP/1.1\r\nHost: h\r\n" + node + "Content-Length: 1000\r\n\r\n", " 408 "},
		"half a chunk for an own route":   {false, "POST /v1-cleat/client-kubelet.crt HTTP/1.1\r\nHost: h\r\n" + node + "Transfer-Encoding: chunked\r\n\r\n400\r\nabc", " 408 "},
		"no body, and no token":           {false, "POST /v1-cleat/client-kubelet.crt HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n", " 401 "},
		"no body, the API server says no": {false, "POST /api/v1/pods HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n", " 401 "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var conn net.Conn
			if c.plain {
				conn = h.tcp(alice)
			} else {
				conn = h.tls(alice)
			}
			if _, err := io.WriteString(conn, c.send); err != nil {
				t.Fatal(err)
			}
			if said := ends(t, conn); !strings.Contains(said, c.want) || c.want == "" && said != "" {
				t.Errorf("the server said %q, want %q", said, c.want)
			}
		})
	}
}

// Somebody who asks and does not read holds nothing but what is on its way.
func TestSlowReadersAreCut(t *testing.T) {
	h := start(t, short)
	left := make(chan struct{}, 1)
	h.SetHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, "no")
		context.AfterFunc(r.Context(), func() { left <- struct{}{} })
	}))
	for _, path := range []string{"/api", joinapi.PathPing} {
		conn := h.tls(alice, "h2")
		// Frames by hand: the preface, SETTINGS with a window of nothing, HEADERS.
		headers := []byte{0x82, 0x87, 0x04, byte(len(path))} // GET, https, a literal :path
		headers = append(append(headers, path...), 0x01, 0x01, 'h')
		frame := func(kind, flags, stream byte, payload []byte) []byte {
			return append([]byte{0, 0, byte(len(payload)), kind, flags, 0, 0, 0, stream}, payload...)
		}
		text := append([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), frame(4, 0, 0, []byte{0, 4, 0, 0, 0, 0})...)
		text = append(text, frame(1, 5, 1, headers)...)
		if _, err := conn.Write(text); err != nil {
			t.Fatal(err)
		}
		// The server gives the stream up: RST_STREAM.
		reset := false
		for !reset {
			var head [9]byte
			if _, err := io.ReadFull(conn, head[:]); err != nil {
				t.Fatalf("%s: no reset: %v", path, err)
			}
			length := int64(head[0])<<16 | int64(head[1])<<8 | int64(head[2])
			if _, err := io.CopyN(io.Discard, conn, length); err != nil {
				t.Fatal(err)
			}
			reset = head[3] == 3 && head[8] == 1
		}
	}
	<-left
}

func TestSizes(t *testing.T) {
	h := start(t)
	h.SetHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n, err)
	}))
	many := http.Header{}
	for i := range h.limits.headerFields + 10 {
		many.Add("X-Many", fmt.Sprint(i))
	}
	big := make([]byte, 3<<20)
	for _, c := range []struct {
		what   string
		q      request
		status int
		say    string
	}{
		{"header fields", request{path: "/ping", header: many}, 431, "at most 1000"},
		{"header fields for the API server", request{path: "/api", header: many}, 431, "at most 1000"},
		{"a path", request{path: "/" + strings.Repeat("a", 300<<10)}, 431, ""},
		{"a header", request{path: "/ping", header: http.Header{"X": {strings.Repeat("a", 300<<10)}}}, 431, ""},
		{"a body where there is none", request{method: "GET", path: "/ping", body: []byte("x")}, 413, "at most 0"},
		{"a certificate request", request{method: "POST", path: joinapi.PathClientKubelet, user: "node", password: clusterPassword, body: big}, 413, "at most 16384"},
		{"a large object for the API server", request{method: "POST", path: "/api", body: big}, 200, fmt.Sprint(len(big))},
		{"a header as clients send", request{path: "/api", header: http.Header{"X": {strings.Repeat("a", 100<<10)}}}, 200, "0"},
	} {
		for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
			r, err := http.NewRequestWithContext(t.Context(), map[bool]string{true: "GET", false: c.q.method}[c.q.method == ""], h.url+c.q.path, bytes.NewReader(c.q.body))
			if err != nil {
				t.Fatal(err)
			}
			if c.q.header != nil {
				r.Header = c.q.header.Clone()
			}
			if c.q.user != "" {
				r.SetBasicAuth(c.q.user, c.q.password)
			}
			res, err := h.over(protocol, nil).Do(r)
			if err != nil {
				// Over HTTP/2 the client knows the limit and does not send it, or the connection ends.
				if text := err.Error(); protocol == "HTTP/2.0" && c.status == 431 &&
					(strings.Contains(text, "header list larger than peer's advertised limit") || strings.Contains(text, "COMPRESSION_ERROR")) {
					continue
				}
				t.Fatalf("%s over %s: %v", c.what, protocol, err)
			}
			body, err := io.ReadAll(res.Body)
			if err = errors.Join(err, res.Body.Close()); err != nil || res.StatusCode != c.status || !strings.Contains(string(body), c.say) {
				t.Errorf("%s over %s: %s %s %v, want %d %q", c.what, protocol, res.Status, body, err, c.status, c.say)
			}
		}
	}
	// A body without a length is cut where it is read.
	conn := h.tls(alice)
	go func() {
		_, _ = io.WriteString(conn, "POST /v1-cleat/client-kubelet.crt HTTP/1.1\r\nHost: h\r\nAuthorization: "+basic("node", clusterPassword).Get("Authorization")+
			"\r\nCleat-Node-Name: n1\r\nCleat-Node-Password: "+nodePassword+"\r\nTransfer-Encoding: chunked\r\n\r\n")
		_, _ = io.WriteString(conn, strings.Repeat("400\r\n"+strings.Repeat("x", 1024)+"\r\n", 100))
	}()
	if res, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || res.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("endless chunks: %v, %v", res, err)
	}
}

func TestRequestsInFlight(t *testing.T) {
	h := start(t, func(l *limits) { l.inFlight = 2; l.body = time.Minute })
	slow := func() net.Conn {
		c := h.tls(alice)
		if _, err := io.WriteString(c, "POST /v1-cleat/client-kubelet.crt HTTP/1.1\r\nHost: h\r\nAuthorization: "+basic("node", clusterPassword).Get("Authorization")+
			"\r\nCleat-Node-Name: n1\r\nCleat-Node-Password: "+nodePassword+"\r\nExpect: 100-continue\r\nContent-Length: 1000\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		// The server asks for the body, so the request is in flight.
		if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.Contains(line, "100") {
			t.Fatalf("%q, %v", line, err)
		}
		return c
	}
	slow()
	slow()
	get := func(from string) (int, string) {
		c := h.tls(from)
		if _, err := io.WriteString(c, "GET /ping HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, res.Header.Get("Retry-After")
	}
	if status, after := get(bob); status != http.StatusTooManyRequests || after != "1" {
		t.Errorf("a third request: %d, try again after %q", status, after)
	}
	if status, _ := get(here); status != http.StatusOK {
		t.Errorf("this machine's own: %d", status)
	}
}

// The limits of the own routes do not reach what follows on the same connection:
// a watch that lasts, a connection that is taken over.
func TestLongRequestsAfterShortOnes(t *testing.T) {
	h := start(t, short)
	h.SetHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		if r.URL.Path == "/exec" {
			conn, rw, err := control.Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, err = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\n\r\n")
			if err = errors.Join(err, rw.Flush()); err != nil {
				t.Error(err)
			}
			go func() { // it outlives the handler
				defer conn.Close()
				_, _ = io.Copy(conn, rw)
			}()
			return
		}
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for begun := time.Now(); time.Since(begun) < h.limits.answer+500*time.Millisecond; {
			<-tick.C
			_, err := io.WriteString(w, "event\n")
			if err = errors.Join(err, control.Flush()); err != nil {
				t.Error(err)
				return
			}
		}
		_, _ = io.WriteString(w, "last\n") // the client says so if it is missing
	}))
	var clients sync.WaitGroup
	defer clients.Wait()
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
		clients.Go(func() {
			client := h.over(protocol, nil)
			for _, path := range []string{"/ping", "/watch", "/ping", "/watch"} {
				res, err := client.Get(h.url + path)
				if err != nil {
					t.Errorf("%s over %s: %v", path, protocol, err)
					return
				}
				text, err := io.ReadAll(res.Body)
				if err = errors.Join(err, res.Body.Close()); err != nil || path == "/watch" && !strings.HasSuffix(string(text), "last\n") {
					t.Errorf("%s over %s: %q, %v", path, protocol, text, err)
				}
			}
		})
	}
	conn := h.tls(alice)
	if err := ask(conn); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "GET /exec HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	for line := ""; line != "\r\n"; {
		var err error
		if line, err = r.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	begun := time.Now()
	for time.Since(begun) < h.limits.answer+500*time.Millisecond { // longer than any deadline that could have stuck
		if _, err := io.WriteString(conn, "x"); err != nil {
			t.Fatal(err)
		}
		if b, err := r.ReadByte(); err != nil || b != 'x' {
			t.Fatalf("taken over for %v: %q, %v", time.Since(begun), b, err)
		}
	}
}
