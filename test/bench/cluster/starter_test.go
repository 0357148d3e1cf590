package cluster

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeAPI is an API server on which all goes well, one step at each request.
type fakeAPI struct {
	mu    sync.Mutex
	asked map[string]int
}

func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked[r.Method+" "+r.URL.Path]++
	n := f.asked[r.Method+" "+r.URL.Path]
	answer := func(status int, text string) {
		w.WriteHeader(status)
		io.WriteString(w, text) // the starter went away
	}
	switch r.Method + " " + r.URL.Path {
	case "GET /readyz":
		if n < 3 {
			answer(http.StatusInternalServerError, "not yet")
		}
	case "GET /api/v1/nodes/n1":
		old := time.Now().Add(-time.Hour).Format(time.RFC3339)
		fresh := time.Now().Format(time.RFC3339)
		node := `{"spec":{%s},"status":{"conditions":[{"type":"Ready","status":%q,"lastHeartbeatTime":%q}]}}`
		switch n {
		case 1:
			answer(http.StatusNotFound, "")
		case 2:
			answer(http.StatusOK, fmt.Sprintf(node, "", "True", old)) // of an earlier start
		case 3:
			answer(http.StatusOK, fmt.Sprintf(node, `"podCIDR":"10.42.0.0/24"`, "False", fresh))
		default:
			answer(http.StatusOK, fmt.Sprintf(node, `"podCIDR":"10.42.0.0/24"`, "True", fresh))
		}
	case "POST /api/v1/namespaces/default/pods":
		if n < 3 {
			answer(http.StatusForbidden, "no service account")
			return
		}
		answer(http.StatusCreated, "{}")
	case "GET /api/v1/namespaces/default/pods/first":
		phase := "Pending"
		if n > 2 {
			phase = "Running"
		}
		answer(http.StatusOK, fmt.Sprintf(`{"status":{"phase":%q}}`, phase))
	}
}

// newSpec is a spec whose API server is f.
func newSpec(t *testing.T, f http.Handler, programs ...program) spec {
	t.Helper()
	server := httptest.NewUnstartedServer(f)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // of clients that went away
	server.StartTLS()
	t.Cleanup(server.Close)
	dir := t.TempDir()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	kubeconfig := map[string]any{
		"clusters":        []any{map[string]any{"name": "c", "cluster": map[string]any{"server": server.URL, "certificate-authority-data": ca}}},
		"contexts":        []any{map[string]any{"name": "c", "context": map[string]any{"cluster": "c"}}},
		"current-context": "c",
	}
	text, err := json.Marshal(kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	s := spec{
		Programs: programs, Logs: filepath.Join(dir, "logs"), Kubeconfig: filepath.Join(dir, "kubeconfig"), Readyz: "/readyz", Node: "n1",
		Pod: json.RawMessage(`{}`), PodName: "first", Result: filepath.Join(dir, "times"), Patience: time.Minute,
	}
	if err := os.WriteFile(s.Kubeconfig, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// script is a program that writes its name when it is started and when it is told to end.
func script(name, file, after string) program {
	return program{Name: name, After: after, Args: []string{
		"sh", "-c", `echo start $1 >>"$2"; trap 'echo stop $1 >>"$2"; kill $!; exit 0' TERM; sleep 1000 & wait`, "sh", name, file,
	}}
}

func TestStarter(t *testing.T) {
	dir := t.TempDir()
	order := filepath.Join(dir, "order")
	socket := filepath.Join(dir, "store.sock")
	s := newSpec(t, &fakeAPI{asked: map[string]int{}},
		script("server", order, "unix:"+socket),
		script("kubelet", order, afterReadyz),
		script("network", order, afterPodCIDR),
		program{Name: "import", Once: true, Args: []string{"true"}},
	)
	told, tell := context.WithCancel(t.Context())
	defer tell()
	done := make(chan error, 1)
	go func() { done <- runStarter(told, s) }()
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()

	within, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var times bootTimes
	if err := poll(within, "times and programs", func() error {
		if text, err := os.ReadFile(order); err != nil || strings.Count(string(text), "start") < 3 {
			return fmt.Errorf("started: %q, %v", text, err)
		}
		text, err := os.ReadFile(s.Result)
		if err != nil {
			return err
		}
		return json.Unmarshal(text, &times)
	}); err != nil {
		t.Fatal(err)
	}
	if times.Readyz <= 0 || times.Node <= times.Readyz || times.Pod <= times.Readyz {
		t.Errorf("%+v: each milestone is later than /readyz", times)
	}
	tell()
	if err := <-done; err != nil {
		t.Error(err)
	}
	text, err := os.ReadFile(order)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Fields(strings.ReplaceAll(string(text), "start ", "+"))
	got := strings.ReplaceAll(strings.Join(lines, " "), "stop ", "-")
	// The server waits for its store and the kubelet for the server's answer; the
	// last that was started ends first.
	if strings.Index(got, "+network") < strings.Index(got, "+kubelet") || strings.Count(got, "+") != 3 || strings.Count(got, "-") != 3 ||
		!strings.HasSuffix(got, "-network -kubelet -server") && !strings.HasSuffix(got, "-network -server -kubelet") {
		t.Errorf("order: %s", got)
	}
}

func TestStarterFails(t *testing.T) {
	never := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "not ready", http.StatusInternalServerError)
	})
	for _, tc := range []struct {
		name     string
		program  program
		patience time.Duration
		want     string
	}{
		{"a program ends", program{Name: "etcd", Args: []string{"sh", "-c", "exit 3"}}, time.Minute, "etcd ended: exit status 3"},
		{"a program ends well", program{Name: "etcd", Args: []string{"true"}}, time.Minute, "etcd ended: with status 0"},
		{"a program is missing", program{Name: "etcd", Args: []string{"/does/not/exist"}}, time.Minute, "etcd: fork/exec"},
		{"what it needs does not come", program{Name: "api", After: "unix:/does/not/exist", Args: []string{"true"}}, 200 * time.Millisecond, "/does/not/exist"},
		{"it is never ready", program{Name: "sleep", Args: []string{"sleep", "1000"}}, 200 * time.Millisecond, "/readyz: context deadline exceeded: GET"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newSpec(t, never, tc.program)
			s.Patience = tc.patience
			err := runStarter(t.Context(), s)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q in it", err, tc.want)
			}
			if _, err := os.Stat(s.Result); err == nil {
				t.Error("it says how long a start took that failed")
			}
		})
	}
}
