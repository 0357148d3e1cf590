package join

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/core/internal/token"
)

// TestStranger: what has the address of --server is no server of cleat.
func TestStranger(t *testing.T) {
	short := token.Token{Password: "x"}
	t.Run("plain HTTP", func(t *testing.T) {
		s := httptest.NewServer(http.NotFoundHandler())
		defer s.Close()
		newMachine(t, "https://"+s.Listener.Addr().String(), short).waitsWith("does not speak TLS")
	})
	t.Run("another protocol", func(t *testing.T) {
		newMachine(t, greets(t, func(c net.Conn) { c.Write([]byte("SSH-2.0-OpenSSH_9.2\r\n")) }), short).waitsWith("does not speak TLS")
	})
	t.Run("unknown name", func(t *testing.T) {
		err := (&client{}).explain(&url.Error{Err: &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "serv.example", IsNotFound: true}}})
		if !strings.Contains(err.Error(), "cannot be looked up") || !strings.Contains(err.Error(), "serv.example") {
			t.Error(err)
		}
	})
}

// TestSameCauseOnce: an error that differs in this machine's port alone is one cause.
func TestSameCauseOnce(t *testing.T) {
	const attempts = 4
	ctx, cancel := context.WithCancel(t.Context())
	seen := make(chan struct{}, 100)
	m := newMachine(t, greets(t, func(c net.Conn) {
		c.Read(make([]byte, 1<<10)) // the client has said all it says
		c.(*net.TCPConn).SetLinger(0)
		seen <- struct{}{}
	}), token.Token{Password: "x"})
	go func() {
		for range attempts {
			<-seen
		}
		cancel()
	}()
	if err := New(m.opts).Run(ctx, func() { t.Error("ready") }); err != nil {
		t.Fatal(err)
	}
	if all := m.logs.all(); len(all) != 1 || !strings.Contains(all[0], "connection reset by peer") {
		t.Errorf("the log says %q", all)
	}
}

// greets is the URL of something that does this with each connection and closes it.
func greets(t *testing.T, do func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			do(c)
			c.Close()
		}
	}()
	return "https://" + l.Addr().String()
}
