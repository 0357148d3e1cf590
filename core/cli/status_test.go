package cli

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/cleat-dev/cleat/core/internal/serverstatus"
	"github.com/cleat-dev/cleat/core/kernel"
)

// statusServer answers GET /status on a unix socket until stop.
func statusServer(t *testing.T, handler http.HandlerFunc) (socket string, stop func()) {
	t.Helper()
	return localServer(t, "GET /status", handler)
}

// localServer answers one kind of request on a unix socket until stop.
func localServer(t *testing.T, pattern string, handler http.HandlerFunc) (socket string, stop func()) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc(pattern, handler)
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	go func() { _ = srv.Serve(l) }()
	stop = func() { _ = srv.Close() }
	t.Cleanup(stop)
	return socket, stop
}

func answer(s *serverstatus.Status) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(s) }
}

func fullStatus(now time.Time) *serverstatus.Status {
	ms := int64(1234)
	unit := func(s kernel.Status) serverstatus.Unit { return serverstatus.Unit{Status: s} }
	return &serverstatus.Status{
		Version: "0.1.0", Kubernetes: "v1.36.3", Node: "n1", StartedAt: now.Add(-90 * time.Second), State: serverstatus.StateStarting,
		Datastore: &serverstatus.Datastore{Driver: "kine", Description: "SQLite in /db"},
		Units: []serverstatus.Unit{
			unit(kernel.Status{Unit: "pki", State: kernel.StateReady, Since: now.Add(-26 * time.Hour), ReadyAfterMS: &ms}),
			unit(kernel.Status{Unit: "apiserver", State: kernel.StateStarting, Since: now.Add(-75 * time.Second), ProbeError: "readyz:\x1b[31m 503\nnot yet"}),
			unit(kernel.Status{Unit: "kubelet", State: kernel.StateWaiting, WaitingFor: []string{"apiserver", "containerd"}}),
		},
		Plugins: []serverstatus.Plugin{
			{Name: "admission-labels", Version: "0.1.0", State: serverstatus.PluginActive, Calls: 12, Allowed: 9, Denied: 2, Faults: 1, P50US: 8.25, P99US: 12345.6},
			{Name: "old", Version: "0.0.9", State: serverstatus.PluginDisabled},
		},
		Addons: []serverstatus.Addon{{Name: "web", File: "/m/web.yaml", State: serverstatus.AddonFailed, Objects: 3, Error: "no kind \"Foo\""}},
		Certificates: []serverstatus.Certificate{
			{File: "/tls/a.crt", Subject: "CN=system:admin", NotAfter: time.Date(2026, 12, 31, 0, 0, 0, 0, time.UTC), DaysLeft: 362, State: serverstatus.CertificateOK},
			{File: "/tls/b.crt", State: serverstatus.CertificateUnreadable, Error: "no PEM"},
		},
	}
}

func TestStatus(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	status := fullStatus(now)
	socket, _ := statusServer(t, answer(status))
	a := testApp()
	a.now = func() time.Time { return now }

	code, stdout, stderr := call(a, "status", "--socket", socket)
	want := `UNIT       STATE     SINCE  READY AFTER  WAITING FOR            ERROR
pki        ready     1d2h   1.234s       -                      -
apiserver  starting  1m15s  -            -                      readyz: [31m 503 not yet
kubelet    waiting   -      -            apiserver, containerd  -

PLUGIN            VERSION  STATE     CALLS  ALLOWED  DENIED  FAULTS  P50     P99
admission-labels  0.1.0    active    12     9        2       1       8.25µs  12.3ms
old               0.0.9    disabled  0      0        0       0       -       -

ADDON  STATE   OBJECTS  FILE         ERROR
web    failed  3        /m/web.yaml  no kind "Foo"

CERTIFICATE  STATE       ENDS        DAYS LEFT  SUBJECT
/tls/a.crt   ok          2026-12-31  362        CN=system:admin
/tls/b.crt   unreadable  -           -          no PEM

NODE  STATE     UP     VERSION  KUBERNETES  DATASTORE
n1    starting  1m30s  0.1.0    v1.36.3     SQLite in /db
`
	if diff := cmp.Diff(want, stdout); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if code != 1 || stderr != "cleat: 2 of 3 units not ready: apiserver, kubelet\n" {
		t.Errorf("exit code %d, said %q", code, stderr)
	}

	status.Units = status.Units[:1]
	for output, decode := range map[string]func([]byte, any) error{
		"json": json.Unmarshal,
		"yaml": func(text []byte, into any) error { return yaml.Unmarshal(text, into) },
	} {
		code, stdout, stderr = call(a, "status", "--socket", socket, "-o", output)
		var got serverstatus.Status
		if err := decode([]byte(stdout), &got); err != nil {
			t.Errorf("%s %q: %v", output, stdout, err)
		}
		if diff := cmp.Diff(*status, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", output, diff)
		}
		if code != 0 || stderr != "" || strings.HasPrefix(stdout, "{") != (output == "json") {
			t.Errorf("all ready: exit code %d, wrote %q, said %q", code, stdout, stderr)
		}
	}

	status.Units = nil
	if code, _, stderr := call(a, "status", "--socket", socket); code != 1 || !strings.Contains(stderr, "no units yet") {
		t.Errorf("no units: exit code %d, said %q", code, stderr)
	}
}

func TestStatusOfAStrangeServer(t *testing.T) {
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		want    string
	}{
		"error":      {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusTeapot) }, "answered 418"},
		"not JSON":   {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }, "not a server's status"},
		"other JSON": {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "[]") }, "not a server's status"},
		"endless": {func(w http.ResponseWriter, _ *http.Request) {
			for chunk := make([]byte, 1<<16); ; {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		}, "larger than 4096 KiB"},
	} {
		t.Run(name, func(t *testing.T) {
			socket, _ := statusServer(t, c.handler)
			code, stdout, stderr := call(testApp(), "status", "--socket", socket)
			if code != 1 || stdout != "" || !strings.Contains(stderr, c.want) {
				t.Errorf("exit code %d, wrote %q, said %q", code, stdout, stderr)
			}
		})
	}
}

func TestStatusOfADeadServer(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"status", "--socket", socket}, {"status", "--watch", "--socket", socket}} {
		if code, stdout, stderr := call(testApp(), args...); code != 1 || stdout != "" || !strings.Contains(stderr, "is cleat running?") {
			t.Errorf("%v: exit code %d, wrote %q, said %q", args, code, stdout, stderr)
		}
	}
}

// TestWatch: a line for everything at first, one for each change, and an end with
// the server.
func TestWatch(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	before, after := fullStatus(now), fullStatus(now)
	after.State, after.Addons = serverstatus.StateReady, nil
	after.Units[1] = serverstatus.Unit{Status: kernel.Status{Unit: "apiserver", State: kernel.StateReady}}
	after.Plugins[0].Calls++ // no change worth a line
	first := `03:04:05 unit pki ready
03:04:05 unit apiserver starting: readyz: [31m 503 not yet
03:04:05 unit kubelet waiting: for apiserver, containerd
03:04:05 plugin admission-labels active: 0.1.0
03:04:05 plugin old disabled: 0.0.9
03:04:05 addon web failed: no kind "Foo"
03:04:05 certificate /tls/a.crt ok
03:04:05 certificate /tls/b.crt unreadable: no PEM
03:04:05 server n1 starting
`
	changed := "03:04:05 unit apiserver ready\n03:04:05 server n1 ready\n03:04:05 addon web gone\n"
	for output, check := range map[string]func(stdout string) bool{
		"table": func(stdout string) bool { return stdout == first+changed },
		"json": func(stdout string) bool {
			return strings.Count(stdout, "\n") == 2 && strings.Count(stdout, `{"version":"0.1.0"`) == 2
		},
		"yaml": func(stdout string) bool {
			return strings.Count(stdout, "---\n") == 2 && strings.Count(stdout, "node: n1\n") == 2
		},
	} {
		t.Run(output, func(t *testing.T) {
			var asked atomic.Int32
			var stop func()
			socket, stop := statusServer(t, func(w http.ResponseWriter, r *http.Request) {
				switch asked.Add(1) {
				case 1, 2:
					answer(before)(w, r)
				case 3, 4:
					answer(after)(w, r)
				default:
					stop()
				}
			})
			a := testApp()
			a.now, a.watchEvery = func() time.Time { return now }, time.Millisecond
			code, stdout, stderr := call(a, "status", "--watch", "--socket", socket, "-o", output)
			if !check(stdout) {
				t.Errorf("wrote %s", stdout)
			}
			if code != 1 || !strings.HasPrefix(stderr, "cleat: the server has gone: ") || strings.Contains(stderr, "running?") {
				t.Errorf("exit code %d, said %q", code, stderr)
			}
		})
	}
}

func TestWatchEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	socket, _ := statusServer(t, answer(fullStatus(time.Now())))
	a := testApp()
	a.watchEvery = time.Hour
	if err := a.watchStatus(ctx, writerFunc(func(p []byte) (int, error) { cancel(); return len(p), nil }), socket, outputTable); err != nil {
		t.Error(err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestScreenWritesWhatDiffers(t *testing.T) {
	var out strings.Builder
	columns, rows := 10, 5
	s := &screen{w: &out, size: func() (int, int) { return columns, rows }}
	step := func(what, want string, lines ...string) {
		t.Helper()
		out.Reset()
		if err := s.draw(lines); err != nil {
			t.Fatal(err)
		}
		if out.String() != want {
			t.Errorf("%s: wrote %q, want %q", what, out.String(), want)
		}
	}
	step("first", "\x1b[2Kone\r\n\x1b[2Ktwo\r\n", "one", "two")
	step("same", "\x1b[2A\r\n\r\n", "one", "two")
	step("one line", "\x1b[2A\r\n\x1b[2Ktoo long f\r\n", "one", "too long for it")
	step("fewer", "\x1b[2A\r\n\x1b[J", "one")
	columns, rows = 40, 3
	step("resized, and too many", "\x1b[H\x1b[J\x1b[2K1\r\n\x1b[2K… 3 more lines; enlarge the window\r\n", "1", "2", "3", "4")
	s.below, s.paint = true, func(line string) string { return "<" + line + ">" }
	columns = 3
	step("resized, below text of others", "\x1b[2K<one>\r\n", "one")
	out.Reset()
	if err := errors.Join(s.erase(), s.erase()); err != nil || out.String() != "\x1b[1A\x1b[J" {
		t.Errorf("erase: wrote %q, %v", out.String(), err)
	}
	step("after that", "\x1b[2K<two>\r\n", "two")
	if got := fit([]string{"äöü"}, 2, 1); !slices.Equal(got, []string{"äö"}) {
		t.Errorf("cut to %q", got)
	}
}
