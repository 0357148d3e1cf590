package localapi

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// open serves handler at a socket that Listen made.
func open(t *testing.T, handler http.Handler, change func(*http.Server)) (socket string) {
	t.Helper()
	// A directory that everybody may enter, as one made by somebody else may be.
	dir, err := os.MkdirTemp("", "localapi")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(dir, "s")
	listener, err := Listen(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	server := NewServer(handler)
	change(server)
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	return socket
}

func dial(t *testing.T, socket string) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestSocketIsRoots(t *testing.T) {
	socket := open(t, http.NotFoundHandler(), func(*http.Server) {})
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v, want mode 600", info.Mode(), err)
	}
	// An earlier run's socket gives way, and so does a file.
	again, err := Listen(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
	private := filepath.Join(t.TempDir(), "new", "s")
	made, err := Listen(t.Context(), private)
	if err != nil {
		t.Fatal(err)
	}
	defer made.Close()
	if info, err := os.Stat(filepath.Dir(private)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v, want mode 700", info.Mode(), err)
	}
}

// Whoever got to the socket before its mode was changed is still nobody.
func TestOthersAreNotHeard(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	inner, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	l := &listener{Listener: inner, allowed: []uint32{uint32(os.Geteuid()) + 1}, slots: make(chan struct{}, 1)}
	accepted := make(chan error, 1)
	go func() {
		_, err := l.Accept()
		accepted <- err
	}()
	c := dial(t, socket)
	if said, err := io.ReadAll(c); err != nil || len(said) > 0 {
		t.Errorf("%q, %v, want the end at once", said, err)
	}
	l.Close()
	if err := <-accepted; !errors.Is(err, net.ErrClosed) {
		t.Errorf("somebody else was let in: %v", err)
	}
}

// As root, with a real other user and a socket that lets everybody connect.
func TestAnotherUserIsNotHeard(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("not root: TestOthersAreNotHeard tests the same rule")
		return
	}
	socket := open(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "heard") }), func(*http.Server) {})
	if err := os.Chmod(socket, 0o666); err != nil {
		t.Fatal(err)
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(filepath.Dir(socket), "test")
	if err := os.WriteFile(program, self, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "-test.run=^TestChild$", "-test.v")
	cmd.Env = []string{"CLEAT_TEST_SOCKET=" + socket}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("connected, told nothing")) {
		t.Errorf("%s%v", out, err)
	}
	if body, err := Ask(t.Context(), socket, http.MethodGet, "/"); err != nil || string(body) != "heard" {
		t.Errorf("root: %s, %v", body, err)
	}
}

// TestChild is the other user.
func TestChild(t *testing.T) {
	socket := os.Getenv("CLEAT_TEST_SOCKET")
	if socket == "" {
		return
	}
	c := dial(t, socket)
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n") // it may be closed already
	if said, _ := io.ReadAll(c); len(said) > 0 {
		t.Errorf("told %q", said)
	}
	t.Log("connected, told nothing")
}

func TestSocketBounds(t *testing.T) {
	socket := open(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		}
	}), func(s *http.Server) { s.ReadTimeout = 3 * time.Second })
	for name, c := range map[string]struct{ send, want string }{
		"a long header": {"GET / HTTP/1.1\r\nHost: h\r\nX: " + strings.Repeat("x", 32<<10) + "\r\n\r\n", " 431 "},
		"half a header": {"GET / HTTP/1.1\r\nHost: h\r\nX: ", ""},
		"no body":       {"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n", " 413 "},
		"a long body":   {"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2000000\r\n\r\n" + strings.Repeat("x", maxBody+1), " 413 "},
		"silence":       {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := dial(t, socket)
			go func() { _, _ = io.WriteString(conn, c.send) }()
			conn.SetReadDeadline(time.Now().Add(time.Minute))
			if said, err := io.ReadAll(conn); errors.Is(err, os.ErrDeadlineExceeded) || !strings.Contains(string(said), c.want) || c.want == "" && len(said) > 0 {
				t.Errorf("%.200q, %v", said, err)
			}
		})
	}
}

func TestSocketConnectionsAreBounded(t *testing.T) {
	socket := open(t, http.NotFoundHandler(), func(*http.Server) {})
	var all []net.Conn
	for range maxConns {
		all = append(all, dial(t, socket))
	}
	one := dial(t, socket)
	if said, err := io.ReadAll(one); err != nil || len(said) > 0 {
		t.Errorf("one more than %d: %q, %v", maxConns, said, err)
	}
	for _, c := range all {
		c.Close()
	}
	deadline := time.Now().Add(time.Minute)
	for {
		_, err := Ask(t.Context(), socket, http.MethodGet, "/")
		if err != nil && strings.Contains(err.Error(), "404") {
			break // answered
		}
		if time.Now().After(deadline) {
			t.Fatalf("nobody is let in after the others left: %v", err)
		}
	}
}

func FuzzRequest(f *testing.F) {
	for _, s := range []string{"GET / HTTP/1.1\r\nHost: h\r\n\r\n", "POST /x HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc", "GET", "\x16\x03\x01"} {
		f.Add([]byte(s))
	}
	server := NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }))
	inner, err := net.Listen("unix", filepath.Join(f.TempDir(), "s"))
	if err != nil {
		f.Fatal(err)
	}
	go server.Serve(&listener{Listener: inner, allowed: []uint32{uint32(os.Geteuid())}, slots: make(chan struct{}, maxConns)})
	f.Cleanup(func() { server.Close() })
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := net.Dial("unix", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(30 * time.Second))
		if _, err := c.Write(text); err != nil && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
			t.Fatal(err)
		}
		if err := c.(*net.UnixConn).CloseWrite(); err != nil && !errors.Is(err, syscall.ENOTCONN) && !errors.Is(err, syscall.EPIPE) {
			t.Fatal(err)
		}
		said, err := io.ReadAll(c)
		if errors.Is(err, os.ErrDeadlineExceeded) || len(said) > 1<<20 {
			t.Fatalf("%q: %d bytes, %v", text, len(said), err)
		}
	})
}
