package hostile

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/cleat-dev/cleat/core/extension"
	"github.com/cleat-dev/cleat/core/pluginhost"
	"github.com/cleat-dev/cleat/core/pluginhost/guesttest"
	"github.com/cleat-dev/cleat/hostabi"
)

// deadline is what hostile guests get for a call unless a test says otherwise.
const deadline = 100 * time.Millisecond

// admission begins a guest that is asked about pods.
func admission(name string) *module {
	m := &module{manifest: guesttest.Admission(name)}
	m.manifest.ABI.Minor = hostabi.ABIMinor
	m.manifest.Limits.DeadlineMS = uint32(deadline.Milliseconds())
	return m
}

// plan begins a guest for a plan point.
func plan(name string, point hostabi.Point) *module {
	m := &module{manifest: guesttest.Cold(name, point)}
	m.manifest.ABI.Minor = hostabi.ABIMinor
	m.manifest.Limits.DeadlineMS = uint32(deadline.Milliseconds())
	return m
}

// neighbour is a well-behaved plugin that is asked about pods and config maps:
// it reads a label and allows.
func neighbour() []byte {
	m := admission("neighbour")
	m.manifest.Limits.DeadlineMS = 10_000 // a busy machine is no fault of its own
	m.manifest.Admission.Rules[0].Resources = []string{"pods", "configmaps"}
	register := m.hostFunc(hostabi.ModuleObject, "path_register")
	get := m.hostFunc(hostabi.ModuleObject, "object_get")
	path := "metadata.labels"
	m.data = [][]byte{active(1024, []byte(path))}
	m.hook(hostabi.ExportInit, guesttest.I32(1024), guesttest.I32(int32(len(path))), guesttest.Call(register))
	m.hook(hostabi.ExportAdmissionValidate, guesttest.Get(0), guesttest.I32(0), guesttest.I32(2048), guesttest.I32(4096),
		guesttest.Call(get), guesttest.Drop(), guesttest.I32(0))
	return m.bytes()
}

// guestFile is a plugin with its entry in the lock.
type guestFile struct {
	wasm  []byte
	entry pluginhost.LockedPlugin
}

// lockIn makes the entry a careless operator would write: whatever the manifest
// asks for is granted.
func lockIn(t testing.TB, wasm []byte, m hostabi.Manifest, order int) guestFile {
	t.Helper()
	if m.FailurePolicy == "" {
		m.FailurePolicy = hostabi.FailurePolicyFail
	}
	ins := &pluginhost.Inspection{Manifest: m, SHA256: pluginhost.Digest(wasm), Size: len(wasm)}
	entry, err := pluginhost.Propose(ins, "embedded:"+m.Name+".wasm", order)
	if err != nil {
		t.Fatalf("lock %s: %v", m.Name, err)
	}
	return guestFile{wasm, entry}
}

// lockOf locks files that pass inspection.
func lockOf(t testing.TB, files ...[]byte) []guestFile {
	t.Helper()
	var all []guestFile
	for i, wasm := range files {
		ins, err := pluginhost.Inspect(wasm)
		if err != nil {
			t.Fatalf("inspect: %v", err)
		}
		all = append(all, lockIn(t, wasm, ins.Manifest, 10*(i+1)))
	}
	return all
}

// options are those of a host of these plugins, which logs to log.
func options(t testing.TB, log *logBook, files ...guestFile) pluginhost.Options {
	t.Helper()
	lock := pluginhost.Lock{Version: pluginhost.LockVersion}
	bundle := fstest.MapFS{}
	for _, f := range files {
		lock.Plugins = append(lock.Plugins, f.entry)
		bundle[f.entry.Name+".wasm"] = &fstest.MapFile{Data: f.wasm}
	}
	encoded, err := lock.Marshal()
	if err != nil {
		t.Fatalf("lock: %v", err)
	}
	return pluginhost.Options{Lock: encoded, Embedded: bundle, Logger: log.logger()}
}

// open opens a host that is closed with the test.
func open(t testing.TB, o pluginhost.Options) *pluginhost.Host {
	t.Helper()
	h, err := pluginhost.Open(context.Background(), o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { closeHost(t, h) })
	return h
}

func closeHost(t testing.TB, h *pluginhost.Host) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := h.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
}

// alone opens a host of one plugin.
func alone(t testing.TB, wasm []byte) (*pluginhost.Host, *logBook) {
	t.Helper()
	log := &logBook{}
	return open(t, options(t, log, lockOf(t, wasm)...)), log
}

// request is a request to create something of that resource.
func request(resource string) *extension.AdmissionRequest {
	return &extension.AdmissionRequest{
		ID: "r1", Operation: hostabi.OperationCreate, Version: "v1", Kind: "Thing", Resource: resource,
		Namespace: "default", Name: "web", UserName: "alice", UserGroups: []string{"devs"},
		UserExtra: map[string][]string{"scopes": {"a"}},
		Object: func() (map[string]any, error) {
			return map[string]any{
				"metadata": map[string]any{"name": "web", "labels": map[string]any{"app": "web"}},
				"spec": map[string]any{"secret": "undeclared", "containers": []any{
					map[string]any{"name": "a", "image": "a:1"},
					map[string]any{"name": "b", "image": "b:1"},
				}},
			}, nil
		},
		NamespaceLabels: func() (map[string]string, error) { return map[string]string{"team": "red"}, nil },
	}
}

// validate sends a request through the validating plugins.
func validate(t testing.TB, h *pluginhost.Host, resource string) extension.AdmissionResult {
	t.Helper()
	result, err := h.Validate(context.Background(), request(resource))
	if err != nil {
		t.Fatalf("validate: %v", err)
	}
	return result
}

// clock is a clock that a test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Unix(1_000_000, 0)} }

func (c *clock) read() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// logBook is what an operator would read.
type logBook struct {
	mu    sync.Mutex
	text  bytes.Buffer
	lines int
	bytes int
	// onLine, when set, sees every line.
	onLine func(string)
}

const keptLog = 1 << 20 // bytes of log a test keeps

func (l *logBook) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines++
	l.bytes += len(b)
	if l.text.Len() < keptLog {
		l.text.Write(b)
	}
	if l.onLine != nil {
		l.onLine(string(b))
	}
	return len(b), nil
}

func (l *logBook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logBook) size() (lines, bytes int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines, l.bytes
}

func (l *logBook) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// lacks returns the wanted texts that are not in got.
func lacks(got string, want ...string) error {
	for _, w := range want {
		if !strings.Contains(got, w) {
			return fmt.Errorf("lacks %q:\n%s", w, got)
		}
	}
	return nil
}
