package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/serverstatus"
	"github.com/cleat-dev/cleat/core/kernel"
)

// terminal is a pseudo-terminal of 60 columns and 20 rows, and what it shows: as
// much of a terminal as the view needs.
type terminal struct {
	tty  *os.File
	done chan struct{}

	mu   sync.Mutex
	raw  strings.Builder
	rows [][]rune
	y, x int
}

func newTerminal(t *testing.T) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	fd := int(master.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	err = errors.Join(err, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0), unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 20, Col: 60}))
	if err != nil {
		t.Fatal(err)
	}
	term := &terminal{done: make(chan struct{}), rows: [][]rune{nil}}
	if term.tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(term.done)
		buf := make([]byte, 4096)
		part := ""
		for {
			n, err := master.Read(buf)
			if err != nil {
				return // the other end is closed
			}
			part = term.take(part + string(buf[:n]))
		}
	}()
	t.Cleanup(func() { term.tty.Close(); <-term.done; master.Close() })
	return term
}

var escape = regexp.MustCompile("^\x1b\\[([0-9;]*)([A-Za-z])")

// take does what text says and returns what may be half an escape.
func (c *terminal) take(text string) (rest string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(text) > 0 {
		if text[0] == '\x1b' {
			m := escape.FindStringSubmatch(text)
			if m == nil {
				return text
			}
			c.raw.WriteString(m[0])
			text = text[len(m[0]):]
			switch m[2] {
			case "A":
				var n int
				fmt.Sscan(m[1], &n)
				c.y -= n
			case "J":
				c.rows = append(c.rows[:c.y], c.rows[c.y][:c.x])
			case "K":
				c.rows[c.y] = nil
			}
			continue
		}
		c.raw.WriteByte(text[0])
		switch text[0] {
		case '\r':
			c.x = 0
		case '\n':
			if c.y++; c.y == len(c.rows) {
				c.rows = append(c.rows, nil)
			}
		default:
			c.rows[c.y] = append(c.rows[c.y][:c.x], rune(text[0]))
			c.x++
		}
		text = text[1:]
	}
	return ""
}

func (c *terminal) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out strings.Builder
	for _, r := range c.rows {
		out.WriteString(strings.TrimRight(string(r), " ") + "\n")
	}
	return strings.TrimRight(out.String(), "\n")
}

// await waits until the terminal shows something.
func (c *terminal) await(t *testing.T, what string) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !strings.Contains(c.String(), what) {
		if time.Now().After(deadline) {
			t.Errorf("the terminal never shows %q, but\n%s", what, c)
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func (c *terminal) all() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.raw.String()
}

func bootingStatus(at time.Time) serverstatus.Status {
	ms := func(n int64) *int64 { return &n }
	unit := func(s kernel.Status) serverstatus.Unit { return serverstatus.Unit{Status: s, StartedAfterMS: ms(100)} }
	return serverstatus.Status{
		State: serverstatus.StateStarting, StartedAt: at, ObservedAt: at.Add(45 * time.Second),
		Units: []serverstatus.Unit{
			unit(kernel.Status{Unit: "plugins", State: kernel.StateReady, ReadyAfterMS: ms(1500)}),
			unit(kernel.Status{Unit: "kubelet", State: kernel.StateWaiting, WaitingFor: []string{"apiserver", "images"}}),
			unit(kernel.Status{Unit: "images", State: kernel.StateStarting, Since: at.Add(40 * time.Second), Progress: "unpacking\x1b[2J <a>"}),
			unit(kernel.Status{Unit: "apiserver", State: kernel.StateStarting, Since: at.Add(10 * time.Second), ProbeError: "connection refused"}),
		},
	}
}

// fakeServer is a server whose status a test sets. asked counts how often it was
// asked for.
type fakeServer struct {
	log   *slog.Logger
	set   func(change func(*serverstatus.Status))
	asked atomic.Int64
}

// serveOnTerminal runs a server whose log goes to a terminal.
func serveOnTerminal(t *testing.T, term *terminal, environ, args []string, run func(s *fakeServer)) *fakeServer {
	t.Helper()
	fake := new(fakeServer)
	var mu sync.Mutex
	var status *serverstatus.Status
	a := serverApp(t, func(_ context.Context, _ *config.Config, log *slog.Logger) error {
		now := time.Now()
		fake.log = log
		fake.set = func(change func(*serverstatus.Status)) {
			mu.Lock()
			defer mu.Unlock()
			s := bootingStatus(now)
			change(&s)
			status = &s
		}
		run(fake)
		return nil
	})
	inner := a.environ
	a.environ = func() []string { return append(inner(), environ...) }
	a.bootEvery = time.Millisecond
	a.bootStatus = func(context.Context) (serverstatus.Status, error) {
		fake.asked.Add(1)
		mu.Lock()
		defer mu.Unlock()
		if status == nil {
			return serverstatus.Status{}, errors.New("no answer yet")
		}
		return *status, nil
	}
	if code := a.main(append([]string{"cleat", "server"}, args...), strings.NewReader(""), new(strings.Builder), term.tty); code != 0 {
		t.Errorf("exit code %d:\n%s", code, term)
	}
	return fake
}

func TestBootView(t *testing.T) {
	clock := regexp.MustCompile(`\d\d:\d\d:\d\d\.\d\d\d`)
	for _, environ := range [][]string{{"TERM=xterm"}, {"TERM=xterm", "NO_COLOR=1"}} {
		term := newTerminal(t)
		serveOnTerminal(t, term, environ, nil, func(s *fakeServer) {
			s.log.Info("first")
			s.set(func(*serverstatus.Status) {})
			term.await(t, "booting for")
			s.log.Info("a line that is longer than the sixty columns of this terminal has")
			s.log.Info("third")
			term.await(t, "third")
			term.await(t, "waits for apiserver, images")
			want := `CLOCK INF first
CLOCK INF a line that is longer than the sixty columns of this terminal has
CLOCK INF third
booting for 45.0s, 1 of 4 units are ready
! apiserver  starts for 35.0s already  connection refused
> images     5.0s  unpacking [2J <a>
- kubelet    waits for apiserver, images`
			if diff := cmp.Diff(want, clock.ReplaceAllString(term.String(), "CLOCK")); diff != "" {
				t.Errorf("%v (-want +got):\n%s", environ, diff)
			}
			s.set(func(s *serverstatus.Status) { s.Units = s.Units[:2] })
			term.await(t, "1 of 2")
			s.set(func(s *serverstatus.Status) { s.State, s.Units = serverstatus.StateReady, s.Units[:1] })
			term.await(t, "ready after")
			s.log.Info("last")
		})
		term.await(t, "last")
		want := `CLOCK INF first
CLOCK INF a line that is longer than the sixty columns of this terminal has
CLOCK INF third
1 units were ready after 1.6s; the longest took plugins 1.5s
CLOCK INF last`
		if diff := cmp.Diff(want, clock.ReplaceAllString(term.String(), "CLOCK")); diff != "" {
			t.Errorf("%v (-want +got):\n%s", environ, diff)
		}
		if coloured := strings.Contains(term.all(), "\x1b[1;31m! apiserver"); coloured != (len(environ) == 1) {
			t.Errorf("%v: coloured: %v", environ, coloured)
		}
	}
}

// A server that stops while it boots leaves nothing of the view, and one from
// before is not shown.
func TestBootViewOfAnother(t *testing.T) {
	term := newTerminal(t)
	serveOnTerminal(t, term, nil, nil, func(s *fakeServer) {
		s.set(func(s *serverstatus.Status) {
			s.StartedAt = s.StartedAt.Add(-time.Hour)
			s.Units = append(s.Units, serverstatus.Unit{Status: kernel.Status{Unit: "of-another", State: kernel.StateWaiting}})
		})
		s.log.Info("refused")
		for looked := s.asked.Load(); s.asked.Load() < looked+2; {
			term.await(t, "refused")
		}
		s.set(func(*serverstatus.Status) {})
		term.await(t, "booting")
	})
	if strings.Contains(term.all(), "of-another") {
		t.Errorf("another server was shown: %q", term.all())
	}
	fmt.Fprintln(term.tty, "the end")
	term.await(t, "the end")
	if shown := term.String(); strings.Contains(shown, "booting") || !strings.Contains(shown, "refused") {
		t.Errorf("left:\n%s", shown)
	}
}

// Where it was not asked for, or cannot be drawn, nothing but the log is written.
func TestNoBootView(t *testing.T) {
	for name, c := range map[string]struct{ environ, args []string }{
		"json":          {nil, []string{"--log-format", "json"}},
		"text":          {nil, []string{"--log-format", "text"}},
		"dumb terminal": {[]string{"TERM=dumb"}, nil},
	} {
		term := newTerminal(t)
		fake := serveOnTerminal(t, term, c.environ, c.args, func(s *fakeServer) {
			s.set(func(*serverstatus.Status) {})
			s.log.Info("only this")
		})
		if n := fake.asked.Load(); n != 0 {
			t.Errorf("%s: the server was asked %d times", name, n)
		}
		term.await(t, "only this")
		if text := term.all(); strings.Contains(text, "booting") || strings.Contains(text, clearBelow) || strings.Contains(text, clearLine) {
			t.Errorf("%s: %q", name, text)
		}
	}
	if v := newBootView(new(strings.Builder), &config.Options{LogFormat: "auto"}, nil); v != nil {
		t.Error("a view without a terminal")
	}
}
