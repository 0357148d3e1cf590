// Package sdnotify tells the service manager how the process is, in the protocol
// of sd_notify(3).
//
// It is not go-systemd's daemon package, because that one reads the socket's name
// from the environment at each message. Here the variables are taken out of the
// environment first: the embedded API server, kubelet and containerd each announce
// READY=1 for the process when they find them, and containers' shims would inherit
// them.
package sdnotify

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// maxStatus is how many bytes of a status are sent; a message must fit a datagram
// and `systemctl status` shows it on one line.
const maxStatus = 512

// Manager is the service manager of this process. Its methods may be called from
// any goroutine; those of a nil Manager do nothing.
type Manager struct {
	conn *net.UnixConn
	// Watchdog is how often the manager wants to hear of the process, zero for never.
	Watchdog time.Duration
}

// Take takes NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID out of the environment
// and connects to the manager they name. Without NOTIFY_SOCKET the Manager is nil.
// The error names the variable that is wrong.
func Take() (*Manager, error) {
	socket, usec, pid := os.Getenv("NOTIFY_SOCKET"), os.Getenv("WATCHDOG_USEC"), os.Getenv("WATCHDOG_PID")
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
		if err := os.Unsetenv(name); err != nil {
			return nil, err
		}
	}
	if socket == "" {
		return nil, nil
	}
	m := &Manager{}
	if usec != "" && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		n, err := strconv.ParseInt(usec, 10, 64)
		if err != nil || n <= 0 || n > int64(24*time.Hour/time.Microsecond) {
			return nil, fmt.Errorf("WATCHDOG_USEC %q: must be microseconds, at most a day's; it comes from WatchdogSec= of the service", usec)
		}
		m.Watchdog = time.Duration(n) * time.Microsecond
	}
	if socket[0] != '/' && socket[0] != '@' {
		return nil, fmt.Errorf("NOTIFY_SOCKET %q: must be a path or an abstract name; only a service manager should set it", socket)
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("NOTIFY_SOCKET: %w; start the server without the variable if no service manager waits for it", err)
	}
	m.conn = conn
	return m, nil
}

// Ready says that the service is up.
func (m *Manager) Ready() error { return m.send("READY=1") }

// Stopping says that it is about to end.
func (m *Manager) Stopping() error { return m.send("STOPPING=1") }

// Alive is what a watchdog wants to hear.
func (m *Manager) Alive() error { return m.send("WATCHDOG=1") }

// Status sets the line that `systemctl status` shows. Line breaks become blanks:
// behind one, a text could say anything else of the protocol.
func (m *Manager) Status(text string) error {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > maxStatus {
		text = strings.ToValidUTF8(text[:maxStatus-3], "") + "..."
	}
	return m.send("STATUS=" + text)
}

// Extend asks for at least d more for a start or stop that goes on.
func (m *Manager) Extend(d time.Duration) error {
	return m.send("EXTEND_TIMEOUT_USEC=" + strconv.FormatInt(d.Microseconds(), 10))
}

func (m *Manager) send(message string) error {
	if m == nil {
		return nil
	}
	// A manager that does not read must not hold the process up.
	if err := m.conn.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	_, err := m.conn.Write([]byte(message))
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("tell the service manager: %w", err)
	}
	return err
}

// Close ends the connection.
func (m *Manager) Close() error {
	if m == nil {
		return nil
	}
	return m.conn.Close()
}
