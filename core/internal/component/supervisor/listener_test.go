package supervisor

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A machine that opens connections without end pushes out its own.
func TestConnectionsAreBounded(t *testing.T) {
	h := start(t, func(l *limits) { l.conns, l.connsPerSource, l.fresh = 12, 8, 6 })
	honest := h.tls(bob)
	if err := ask(honest); err != nil {
		t.Fatal(err)
	}
	var silent []net.Conn
	for range 40 {
		silent = append(silent, h.tcp(alice))
	}
	// Everybody else is served, in the middle of it.
	for _, from := range []string{bob, here} {
		if err := ask(h.tls(from)); err != nil {
			t.Errorf("%s: %v", from, err)
		}
	}
	if err := ask(honest); err != nil {
		t.Errorf("a connection that was there before: %v", err)
	}
	// A newcomer from the crowded machine is served too: its elders go.
	if err := ask(h.tls(alice)); err != nil {
		t.Error(err)
	}
	open := 0
	for _, c := range silent {
		if isOpen(c) {
			open++
		}
	}
	if open > 6 || open == 0 {
		t.Errorf("%d of 40 silent connections are open, want 1 to 6", open)
	}
	if !strings.Contains(h.log.String(), "too many connections") {
		t.Error("the log does not say so")
	}
}

// Idle connections go before those at work, and none of this machine's ever.
func TestConnectionsAtWorkStay(t *testing.T) {
	h := start(t, func(l *limits) { l.conns, l.connsPerSource, l.fresh = 100, 4, 100 })
	release := make(chan struct{})
	h.SetHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		<-release
		_, _ = io.WriteString(w, "end")
	}))
	watch := func(from string) *bufio.Reader {
		t.Helper()
		c := h.tls(from)
		if _, err := io.WriteString(c, "GET /watch HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(c)
		if line, err := r.ReadString('\n'); err != nil || !strings.Contains(line, "200") {
			t.Fatalf("%q, %v", line, err)
		}
		return r
	}
	idlers := []net.Conn{h.tls(alice), h.tls(alice)}
	for _, c := range idlers {
		if err := ask(c); err != nil {
			t.Fatal(err)
		}
	}
	var watches []*bufio.Reader
	for range 4 {
		watches = append(watches, watch(alice))
	}
	for i, c := range idlers {
		if isOpen(c) {
			t.Errorf("idle connection %d was kept while others work", i)
		}
	}
	// All four are at work, so the fifth is refused; this machine's are not counted.
	if c, err := h.tryTCP(alice); err == nil && ends(t, c) != "" {
		t.Error("a fifth connection was served")
	}
	for range 10 {
		watches = append(watches, watch(here))
	}
	close(release)
	for i, w := range watches {
		if rest, err := io.ReadAll(w); err != nil || !strings.Contains(string(rest), "end") {
			t.Errorf("watch %d ended with %q, %v", i, rest, err)
		}
	}
}

// A connection whose peer does not read goes before the newcomer, but only then.
func TestStuckConnectionsGoFirst(t *testing.T) {
	h := start(t, func(l *limits) {
		l.conns, l.connsPerSource, l.fresh, l.stuckAfter = 100, 2, 100, time.Millisecond
	})
	h.SetHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	}))
	for range 2 { // they ask and never read on
		c := h.tls(alice)
		if _, err := io.WriteString(c, "GET /logs HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	deadline := time.Now().Add(time.Minute)
	for {
		c, err := h.tryTCP(alice)
		if err != nil {
			t.Fatal(err)
		}
		client := tls.Client(c, &tls.Config{RootCAs: h.id.Server.Pool(), ServerName: "127.0.0.1"})
		err = client.HandshakeContext(t.Context())
		if err == nil {
			err = ask(client)
		}
		c.Close()
		if err == nil {
			break
		}
		// The buffers of the kernel are not full yet.
		if time.Now().After(deadline) {
			t.Fatalf("stuck connections keep others out: %v", err)
		}
	}
}
