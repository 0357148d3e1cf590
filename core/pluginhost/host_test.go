package pluginhost

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/cleat-dev/cleat/core/extension"
	"github.com/cleat-dev/cleat/core/pluginhost/guesttest"
	"github.com/cleat-dev/cleat/hostabi"
)

// bundle is a lock and the files it refers to.
type bundle struct {
	lock  Lock
	files fstest.MapFS
}

// lockOf locks the plugins in order, with what they ask for.
func lockOf(t testing.TB, plugins ...[]byte) *bundle {
	t.Helper()
	b := &bundle{lock: Lock{Version: LockVersion}, files: fstest.MapFS{}}
	for _, wasm := range plugins {
		ins, err := Inspect(wasm)
		if err != nil {
			t.Fatalf("inspect: %v", err)
		}
		file := ins.Manifest.Name + ".wasm"
		entry, err := Propose(ins, "embedded:"+file, b.lock.NextOrder())
		if err != nil {
			t.Fatalf("propose: %v", err)
		}
		b.lock.Plugins = append(b.lock.Plugins, entry)
		b.files[file] = &fstest.MapFile{Data: wasm}
	}
	return b
}

func (b *bundle) options(t testing.TB) Options {
	t.Helper()
	text, err := b.lock.Marshal()
	if err != nil {
		t.Fatalf("marshal the lock: %v", err)
	}
	return Options{Lock: text, Embedded: b.files}
}

// open opens a host that is closed with the test.
func (b *bundle) open(t testing.TB, change ...func(*Options)) *Host {
	t.Helper()
	o := b.options(t)
	for _, c := range change {
		c(&o)
	}
	h, err := Open(t.Context(), o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		if err := h.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return h
}

// hook is an admission guest whose validating hook has that body.
func hook(name string, body []byte, imports ...guesttest.Import) guesttest.Guest {
	allow := guesttest.I32(0)
	return guesttest.Guest{
		Manifest: guesttest.Admission(name),
		Imports:  imports,
		Hooks:    map[string][]byte{hostabi.ExportAdmissionMutate: allow, hostabi.ExportAdmissionValidate: body},
	}
}

// pod is a request to create a pod with two containers.
func pod() *extension.AdmissionRequest {
	return &extension.AdmissionRequest{
		ID: "r1", Operation: hostabi.OperationCreate, Version: "v1", Kind: "Pod", Resource: "pods",
		Namespace: "default", Name: "web", UserName: "alice",
		Object: func() (map[string]any, error) {
			return map[string]any{
				"metadata": map[string]any{"name": "web", "labels": map[string]any{"app": "web"}},
				"spec": map[string]any{"containers": []any{
					map[string]any{"name": "a", "image": "a:1"},
					map[string]any{"name": "b", "image": "b:1"},
				}},
			}, nil
		},
		NamespaceLabels: func() (map[string]string, error) { return map[string]string{"team": "red"}, nil },
	}
}

// logs collects log lines.
type logs struct {
	mu  sync.Mutex
	buf strings.Builder
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logs) option(o *Options) {
	o.Logger = slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// TestHostileGuests runs guests that misbehave in every way that is left to
// them. Each is stopped, named, and leaves the host working.
func TestHostileGuests(t *testing.T) {
	c := guesttest.Code
	core := func(name string) guesttest.Import { return guesttest.HostFunction(hostabi.ModuleCore, name) }
	i32 := []hostabi.Type{hostabi.I32}
	tests := []struct {
		name  string
		guest guesttest.Guest
		kind  FaultKind
		want  string // in the message
	}{
		{"endless loop", hook("loop", guesttest.Forever(nil)), FaultTimeout, "did not finish within its deadline of 1s"},
		{"loop that calls the host", hook("logloop", guesttest.Forever(c(guesttest.I32(0), guesttest.I32(0), guesttest.I32(0), guesttest.Call(0), guesttest.Drop())), core("log")),
			FaultTimeout, "did not finish"},
		{"trap", hook("trap", guesttest.Trap()), FaultTrap, "the guest crashed: wasm error: unreachable"},
		{"load out of bounds", hook("bounds", c(guesttest.I32(-8), guesttest.Load())), FaultTrap, "out of bounds memory access"},
		{"recursion without end", hook("recursion", c(guesttest.Get(0), []byte{0x42, 0}, guesttest.Call(3))), FaultTrap, "stack overflow"},
		{"calls without a loop", hook("fib", doubling()), FaultTimeout, "did not finish"},
		{"exit", hook("exit", c(guesttest.I32(7), guesttest.Call(0), guesttest.I32(0)),
			guesttest.Import{Module: hostabi.ModuleWASI, Name: "proc_exit", Params: i32}), FaultTrap, "ended itself with code 7"},
		{"exit with code 0", hook("exit0", c(guesttest.I32(0), guesttest.Call(0), guesttest.I32(0)),
			guesttest.Import{Module: hostabi.ModuleWASI, Name: "proc_exit", Params: i32}), FaultTrap, "ended itself with code 0"},
		{"abort", hook("abort", c(guesttest.I32(0), guesttest.I32(0), guesttest.I32(3), guesttest.I32(0), guesttest.Call(0), guesttest.I32(0)),
			guesttest.Import{Module: hostabi.ModuleEnv, Name: "abort", Params: append(append(i32, i32...), append(i32, i32...)...)}), FaultTrap, "abort: no message (line 3)"},
		{"error number", hook("errno", guesttest.I32(-6)), FaultError, "host failure (EIO)"},
		{"unknown error number", hook("errno2", guesttest.I32(-1<<31)), FaultError, "returned -2147483648"},
		{"no verdict", hook("verdict", guesttest.I32(2)), FaultOutput, "returned 2, which is no verdict"},
		{"sleep over the deadline", sleeper(), FaultTimeout, "did not finish"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if test.kind == FaultTimeout {
				test.guest.Manifest.Limits.DeadlineMS = 1000
			}
			h := lockOf(t, test.guest.Wasm()).open(t)
			var log logs
			h.log = slog.New(slog.NewTextHandler(&log, nil))
			begin := time.Now()
			result, err := h.Validate(t.Context(), pod())
			if err != nil {
				t.Fatalf("validate: %v", err)
			}
			if spent := time.Since(begin); spent > 30*time.Second {
				t.Errorf("took %s", spent)
			}
			name := test.guest.Manifest.Name
			if result.Allowed || result.Code != 500 || result.Plugin != name {
				t.Fatalf("got %+v, want a refusal with code 500 by %s", result, name)
			}
			for _, want := range []string{"did not decide: ", test.want, "plugins.lock"} {
				if !strings.Contains(result.Message, want) {
					t.Errorf("message %q lacks %q", result.Message, want)
				}
			}
			stats := h.Stats()[0]
			if got := map[FaultKind]uint64{FaultTimeout: stats.Timeouts, FaultTrap: stats.Traps, FaultError: stats.Errors, FaultOutput: stats.Errors}[test.kind]; got != 1 {
				t.Errorf("stats %+v do not count one %s", stats, test.kind)
			}
			// The pool is not poisoned: the mutating hook of the same guest works.
			if result, err := h.Mutate(t.Context(), pod()); err != nil || !result.Allowed {
				t.Errorf("the next call: %+v, %v", result, err)
			}
		})
	}
}

// doubling is a hook that calls itself twice, a hundred calls deep: no loop, and
// no end either. Its index is 3: marker, init and the mutating hook come first.
func doubling() []byte {
	again := guesttest.Code(guesttest.Get(0), guesttest.I32(-1), guesttest.Add(), []byte{0x42, 0}, guesttest.Call(3), guesttest.Drop())
	first := guesttest.Code(guesttest.Get(1), []byte{0xa7}, guesttest.If(guesttest.Code(guesttest.I32(100), guesttest.Set(0))))
	return guesttest.Code(first, guesttest.Get(0), guesttest.If(guesttest.Code(again, again)), guesttest.I32(0))
}

// sleeper is a guest that asks poll_oneoff for an hour.
func sleeper() guesttest.Guest {
	i32 := hostabi.I32
	g := hook("sleeper", guesttest.Code(guesttest.I32(guesttest.DataAddress), guesttest.I32(2048), guesttest.I32(1), guesttest.I32(4096), guesttest.Call(0)),
		guesttest.Import{Module: hostabi.ModuleWASI, Name: "poll_oneoff", Params: []hostabi.Type{i32, i32, i32, i32}, Results: []hostabi.Type{i32}})
	g.Data = make([]byte, subscriptionSize)
	copy(g.Data[24:], []byte{0, 0, 0xa0, 0xb8, 0x30, 0x18, 0, 0}) // nanoseconds, little-endian
	g.Data[28] = 0xff
	return g
}

func TestFailurePolicyIgnore(t *testing.T) {
	b := lockOf(t, hook("trap", guesttest.Trap()).Wasm(), hook("fine", guesttest.I32(0)).Wasm())
	b.lock.Plugins[0].FailurePolicy = hostabi.FailurePolicyIgnore
	var log logs
	h := b.open(t, log.option)
	result, err := h.Validate(t.Context(), pod())
	if err != nil || !result.Allowed {
		t.Fatalf("got %+v, %v, want the request allowed", result, err)
	}
	if calls := h.Stats()[1].Calls; calls != 1 {
		t.Errorf("the plugin behind the broken one was called %d times, want once", calls)
	}
	if text := log.String(); !strings.Contains(text, "plugin fault ignored") || !strings.Contains(text, "plugin=trap") {
		t.Errorf("log does not tell about the fault:\n%s", text)
	}
}

// TestMemoryBomb has a guest take all the memory it can: it gets its limit and
// no page more, and its instance is not used again.
func TestMemoryBomb(t *testing.T) {
	grow := guesttest.Code(guesttest.Until(guesttest.Code(guesttest.I32(1), guesttest.GrowMemory(), guesttest.I32(-1), guesttest.Equal())), guesttest.I32(0))
	h := lockOf(t, hook("bomb", grow).Wasm()).open(t)
	for range 3 {
		if result, err := h.Validate(t.Context(), pod()); err != nil || !result.Allowed {
			t.Fatalf("got %+v, %v", result, err)
		}
	}
	stats := h.Stats()[0]
	if limit := uint64(16 * pageSize); stats.MemoryPeak != limit {
		t.Errorf("memory peak is %d bytes, want exactly the limit of %d", stats.MemoryPeak, limit)
	}
	if stats.Recycled != 3 || stats.PoolMisses != 2 || stats.Idle != 0 {
		t.Errorf("stats %+v, want every instance recycled", stats)
	}
}

func TestTables(t *testing.T) {
	big := hook("table", guesttest.I32(0))
	big.TableMin, big.TableMax = 1<<24, 1<<24
	if _, err := Inspect(big.Wasm()); err == nil || !strings.Contains(err.Error(), "more than 1048576 entries") {
		t.Errorf("a huge table: %v", err)
	}
	growing := hook("table", guesttest.Code(guesttest.GrowTable(1<<26), guesttest.Drop(), guesttest.I32(0)))
	growing.TableMin = 1
	_, err := Open(t.Context(), lockOf(t, growing.Wasm()).options(t))
	if err == nil || !strings.Contains(err.Error(), "compile") {
		t.Errorf("a table that grows without bound: %v", err)
	}
	growing.TableMax = 100
	if result, err := lockOf(t, growing.Wasm()).open(t).Validate(t.Context(), pod()); err != nil || !result.Allowed {
		t.Errorf("a table that cannot grow that far: %+v, %v", result, err)
	}
}

// TestBreaker drives a guest that traps through closed, open, half-open and
// back, with a clock of the test's own.
func TestBreaker(t *testing.T) {
	var mu sync.Mutex
	now := time.Unix(1_000_000, 0)
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	advance := func(d time.Duration) { mu.Lock(); defer mu.Unlock(); now = now.Add(d) }
	var log logs
	h := lockOf(t, hook("trap", guesttest.Trap()).Wasm()).open(t, log.option, func(o *Options) { o.Now = clock })

	for range breakerFaults {
		if _, err := h.Validate(t.Context(), pod()); err != nil {
			t.Fatal(err)
		}
	}
	result, err := h.Validate(t.Context(), pod())
	if err != nil || result.Allowed || !strings.Contains(result.Message, "switched off after repeated faults, the last: the guest crashed") {
		t.Fatalf("got %+v, %v, want the breaker open", result, err)
	}
	if s := h.Stats()[0]; s.Breaker != BreakerOpen || s.Refused != 1 || s.Calls != breakerFaults {
		t.Errorf("stats %+v", s)
	}
	if !strings.Contains(log.String(), "plugin switched off") {
		t.Errorf("log does not tell:\n%s", log.String())
	}
	advance(breakerMinPause)
	if result, err := h.Mutate(t.Context(), pod()); err != nil || !result.Allowed {
		t.Fatalf("half-open: got %+v, %v, want the sound hook to close the breaker", result, err)
	}
	if s := h.Stats()[0]; s.Breaker != BreakerClosed {
		t.Errorf("breaker is %s, want closed", s.Breaker)
	}
}

// TestCallerGoesAway cancels the request in the middle of a hook: the error is
// the caller's, and no fault of the plugin.
func TestCallerGoesAway(t *testing.T) {
	g := hook("loop", guesttest.Code(guesttest.I32(0), guesttest.I32(guesttest.DataAddress), guesttest.I32(5), guesttest.Call(0), guesttest.Drop(),
		guesttest.Forever(nil)), guesttest.HostFunction(hostabi.ModuleCore, "log"))
	g.Data = []byte("hello")
	g.Manifest.Limits.DeadlineMS = 60_000
	entered := make(chan struct{})
	h := lockOf(t, g.Wasm()).open(t, func(o *Options) {
		o.Logger = slog.New(slog.NewTextHandler(writerFunc(func(b []byte) {
			if strings.Contains(string(b), "msg=hello") {
				close(entered)
			}
		}), nil))
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-entered; cancel() }()
	_, err := h.Validate(ctx, pod())
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want %v", err, context.Canceled)
	}
	if s := h.Stats()[0]; s.Timeouts+s.Traps != 0 || s.Breaker != BreakerClosed {
		t.Errorf("stats %+v blame the plugin", s)
	}
}

// writerFunc is an io.Writer that looks at what it is given.
type writerFunc func([]byte)

func (f writerFunc) Write(b []byte) (int, error) { f(b); return len(b), nil }

func TestPoolBusy(t *testing.T) {
	g := hook("loop", guesttest.Forever(nil))
	b := lockOf(t, g.Wasm())
	b.lock.Plugins[0].Limits.PoolMax = 1
	b.lock.Plugins[0].Limits.DeadlineMS = 500
	h := b.open(t)
	p := h.current.Load().plugins[0]
	in, _, err := p.pool.get(t.Context(), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	result, err := h.Validate(t.Context(), pod())
	if err != nil || result.Allowed || !strings.Contains(result.Message, "every instance is busy") || !strings.Contains(result.Message, "limits.pool_max") {
		t.Errorf("got %+v, %v", result, err)
	}
	p.pool.put(in, true)
}

// TestManyAtOnce hammers one plugin from many goroutines and closes the host.
func TestManyAtOnce(t *testing.T) {
	before := runtime.NumGoroutine()
	h, err := Open(t.Context(), lockOf(t, hook("fine", guesttest.I32(0)).Wasm()).options(t))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 200 {
				result, err := h.Validate(t.Context(), pod())
				if err != nil || !result.Allowed {
					t.Errorf("got %+v, %v", result, err)
					return
				}
			}
		})
	}
	wg.Wait()
	s := h.Stats()[0]
	if s.Calls != 3200 || s.Idle > 4 || s.Busy != 0 || s.Recycled != 0 {
		t.Errorf("stats %+v", s)
	}
	if err := h.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if result, err := h.Validate(t.Context(), pod()); err == nil || result.Allowed || !strings.Contains(err.Error(), "closed") {
		t.Errorf("after close: %+v, %v", result, err)
	}
	eventually(t, "goroutines of the host to end", func() bool { return runtime.NumGoroutine() <= before })
}

// eventually polls for a condition other goroutines bring about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		<-tick.C
	}
}
