package sdnotify

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// listen is the socket of a service manager; receive returns its next message.
func listen(t *testing.T, name string) (receive func() string) {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return func() string {
		t.Helper()
		if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 4096)
		n, err := conn.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
}

func TestMessages(t *testing.T) {
	for _, socket := range []string{filepath.Join(t.TempDir(), "notify"), "@cleat-sdnotify-" + strconv.Itoa(os.Getpid())} {
		receive := listen(t, socket)
		t.Setenv("NOTIFY_SOCKET", socket)
		t.Setenv("WATCHDOG_USEC", "3000000")
		t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
		m, err := Take()
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
			if v, ok := os.LookupEnv(name); ok {
				t.Errorf("%s=%s is left for others", name, v)
			}
		}
		if m.Watchdog != 3*time.Second {
			t.Errorf("watchdog: %s", m.Watchdog)
		}
		long := strings.Repeat("é", maxStatus)
		for _, c := range []struct {
			say  func() error
			want string
		}{
			{m.Ready, "READY=1"},
			{m.Stopping, "STOPPING=1"},
			{m.Alive, "WATCHDOG=1"},
			{func() error { return m.Extend(90 * time.Second) }, "EXTEND_TIMEOUT_USEC=90000000"},
			{func() error { return m.Status("waits\nREADY=1\r\n for more") }, "STATUS=waits READY=1 for more"},
			{func() error { return m.Status(long) }, "STATUS=" + strings.Repeat("é", (maxStatus-3)/2) + "..."},
		} {
			if err := c.say(); err != nil {
				t.Fatal(err)
			}
			if got := receive(); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTake(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	listen(t, socket)
	for _, c := range []struct{ name, socket, usec, pid, err string }{
		{name: "no manager", usec: "nonsense"},
		{name: "another process's watchdog", socket: socket, usec: "5", pid: "1"},
		{name: "no number", socket: socket, usec: "1s", err: `WATCHDOG_USEC "1s"`},
		{name: "negative", socket: socket, usec: "-1", err: `WATCHDOG_USEC "-1"`},
		{name: "relative", socket: "notify", err: `NOTIFY_SOCKET "notify"`},
		{name: "nobody there", socket: socket + ".gone", err: "start the server without the variable"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("NOTIFY_SOCKET", c.socket)
			t.Setenv("WATCHDOG_USEC", c.usec)
			t.Setenv("WATCHDOG_PID", c.pid)
			m, err := Take()
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("got %v, want %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if (m != nil) != (c.socket != "") {
				t.Errorf("manager %v for socket %q", m, c.socket)
			}
			if m != nil && m.Watchdog != 0 {
				t.Errorf("watchdog %s of another process", m.Watchdog)
			}
			if err := m.Ready(); err != nil {
				t.Error(err)
			}
		})
	}
}
