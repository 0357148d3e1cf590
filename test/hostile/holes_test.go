package hostile

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/core/pluginhost"
	"github.com/cleat-dev/cleat/core/pluginhost/guesttest"
	"github.com/cleat-dev/cleat/hostabi"
)

// bombCount is how many entries a section claims to have that has none.
const bombCount = 0xffff_ffff

// bomb is a few bytes that claim to be a great deal.
func bombs() map[string]*module {
	all := map[string]*module{}
	add := func(name string, change func(m *module)) {
		m := admission("bomb")
		change(m)
		all[name] = m
	}
	claim := uleb(bombCount)
	for name, id := range map[string]byte{
		"types": 1, "imports": 2, "functions": 3, "tables": 4, "globals": 6, "exports": 7, "elements": 9, "codes": 10, "data segments": 11,
	} {
		add(name, func(m *module) { m.sections = map[byte][]byte{id: join(claim, []byte{0})} })
	}
	add("function names", func(m *module) {
		m.customs = [][]byte{join(text("name"), []byte{1}, uleb(uint64(len(claim))), claim)}
	})
	add("local names", func(m *module) {
		sub := join(uleb(1), uleb(0), claim)
		m.customs = [][]byte{join(text("name"), []byte{2}, uleb(uint64(len(sub))), sub)}
	})
	add("functions of an element segment", func(m *module) {
		m.tables = [][]byte{table(1, 1)}
		m.elements = [][]byte{join([]byte{0}, guesttest.I32(0), []byte{opEnd}, claim)}
	})
	add("bytes of a data segment", func(m *module) {
		m.data = [][]byte{join([]byte{0}, guesttest.I32(0), []byte{opEnd}, claim)}
	})
	add("locals", func(m *module) { m.raw("", "", join([]byte{1}, uleb(1<<28), []byte{typeI64}), nil) })
	add("targets of br_table", func(m *module) {
		m.fn("", "", guesttest.I32(0), []byte{0x0e}, uleb(1<<28), []byte{0})
	})
	add("parameters", func(m *module) {
		m.types = append(m.types, join([]byte{0x60}, claim))
	})
	add("results of a select", func(m *module) { m.fn("", "", []byte{0x1c}, uleb(1<<28)) })
	return all
}

// TestHoleClaims opens plugins that claim to have four thousand million of
// something: the process lives on, whether it refuses them or has no use for that.
func TestHoleClaims(t *testing.T) {
	for name, m := range bombs() {
		t.Run(name, func(t *testing.T) {
			saw := inChild(t, m.bytes(), time.Minute)
			t.Log(saw)
			if err := saw.want(3*time.Second, 3*time.Second, 200<<20); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestHoleSmallFilesThatGrow opens plugins of at most two MiB that are valid and
// make the host hold many times that, outside the memory the lock grants.
func TestHoleSmallFilesThatGrow(t *testing.T) {
	const pages, most = 16, 200 << 20 // 1 MiB granted; what the process may hold at all
	tests := map[string]func(m *module){
		"64 tables, each grown to a million entries by the guest": func(m *module) {
			var grow []byte
			for i := range byte(64) {
				m.tables = append(m.tables, table(1, 1<<20))
				grow = join(grow, growTable(i, 1<<20-1), guesttest.Drop())
			}
			m.hook(hostabi.ExportAdmissionValidate, grow, guesttest.I32(0))
		},
		"400 thousand globals": func(m *module) {
			for range 400_000 {
				m.globals = append(m.globals, []byte{typeI32, 1, 0x41, 0, opEnd})
			}
		},
		"a stack of frames with a thousand locals": func(m *module) {
			self := m.next()
			m.raw("", "", join([]byte{1}, uleb(1000), []byte{typeI64}), guesttest.Call(self))
			m.hook(hostabi.ExportAdmissionValidate, guesttest.Call(self), guesttest.I32(0))
		},
		"300 thousand functions": func(m *module) {
			for range 300_000 {
				m.raw("", "", []byte{0}, nil)
			}
		},
		"500 thousand data segments": func(m *module) {
			for range 500_000 {
				m.data = append(m.data, []byte{1, 0})
			}
		},
		"1.6 million functions in passive segments": func(m *module) {
			for range 4 {
				m.elements = append(m.elements, join([]byte{1, 0}, uleb(400_000), bytes.Repeat([]byte{0}, 400_000)))
			}
		},
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			m := admission("grower")
			m.manifest.Limits.MemoryPages = pages
			m.manifest.Limits.DeadlineMS = 5000
			change(m)
			wasm := m.bytes()
			saw := inChild(t, wasm, time.Minute)
			t.Logf("%d KiB of wasm: %s", len(wasm)>>10, saw)
			if err := saw.want(9*time.Second, 3*time.Second, most); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestHoleSlowToCompile opens a plugin of 75 KiB whose one function reads ten
// thousand variables inside a thousand loops. Compiling it must end, or be refused.
func TestHoleSlowToCompile(t *testing.T) {
	const loops, locals = 1000, 10_000
	m := admission("bomb")
	var read []byte
	for i := range uint64(locals) {
		read = join(read, []byte{0x20}, uleb(i), []byte{0x22}, uleb(i), []byte{0x1a})
	}
	m.raw("", "", join([]byte{1}, uleb(locals), []byte{typeI32}), join(repeat(loops, []byte{0x03, 0x40}), read,
		repeat(loops, guesttest.Get(0), []byte{0x0d, 0, opEnd})))
	wasm := m.bytes()
	saw := inChild(t, wasm, 20*time.Second)
	t.Logf("%d KiB of wasm: %s", len(wasm)>>10, saw)
	if err := saw.want(3*time.Second, 3*time.Second, 500<<20); err != nil {
		t.Error(err)
	}
}

// TestHoleManyLoops opens a plugin of 30 KiB that is ten thousand empty loops in a
// row. What compiling costs grows with a power of their number.
func TestHoleManyLoops(t *testing.T) {
	m := admission("bomb")
	m.fn("", "", repeat(10_000, []byte{0x03, 0x40, opEnd}))
	wasm := m.bytes()
	saw := inChild(t, wasm, 20*time.Second)
	t.Logf("%d KiB of wasm: %s", len(wasm)>>10, saw)
	if err := saw.want(3*time.Second, 3*time.Second, 500<<20); err != nil {
		t.Error(err)
	}
}

// TestHoleDeepStackStays recurses deep, returns, and is well-behaved: the stack
// it needed must not stay with the instance.
func TestHoleDeepStackStays(t *testing.T) {
	m := admission("deep")
	m.manifest.Limits.DeadlineMS = 10_000
	self := m.next()
	m.fn("i", "i", guesttest.Get(0), []byte{0x45}, guesttest.If(join(guesttest.I32(0), guesttest.Return())),
		guesttest.Get(0), guesttest.I32(-1), guesttest.Add(), guesttest.Call(self), guesttest.I32(1), guesttest.Add())
	m.hook(hostabi.ExportAdmissionValidate, guesttest.I32(400_000), guesttest.Call(self), guesttest.Drop(), guesttest.I32(0))
	h, _ := alone(t, m.bytes())
	before := measure(t)
	if result := validate(t, h, "pods"); !result.Allowed {
		t.Fatalf("got %+v", result)
	}
	after := measure(t)
	t.Logf("before: %s; after: %s", before, after)
	if grew := after.heap - before.heap; grew > 4<<20 {
		t.Errorf("an idle instance, granted 1 MiB, holds %d MiB of the Go heap after one call", grew>>20)
	}
	runtime.KeepAlive(h)
}

// TestHoleLateCrashLeaksMemory has a guest crash right behind a host call in which
// its deadline passed: its memory must go back to the system.
func TestHoleLateCrashLeaksMemory(t *testing.T) {
	m := admission("latecrash")
	m.manifest.Limits.DeadlineMS = 1
	m.manifest.Capabilities = append(m.manifest.Capabilities, hostabi.ModuleObjectJSON)
	whole := m.hostFunc(hostabi.ModuleObjectJSON, "object_json")
	m.hook(hostabi.ExportAdmissionValidate, guesttest.Get(0), guesttest.I32(0), guesttest.I32(0), guesttest.I32(0), guesttest.Call(whole), guesttest.Trap())
	req := request("pods")
	object := largeObject(10_000)
	req.Object = func() (map[string]any, error) { return object, nil }
	leaks(t, m, 100, func(h *pluginhost.Host) error {
		result, err := h.Validate(context.Background(), req)
		if err == nil && result.Allowed {
			err = fmt.Errorf("allowed")
		}
		return err
	})
}

// largeObject is an object with that many members.
func largeObject(members int) map[string]any {
	data := map[string]any{}
	for i := range members {
		data[fmt.Sprintf("key-%d", i)] = "some text of ordinary length for a value"
	}
	return map[string]any{"data": data}
}

// TestHoleFailedStartLeaksMemory has a guest whose data lies outside its memory,
// so that no instance of it ever starts.
func TestHoleFailedStartLeaksMemory(t *testing.T) {
	m := plan("unstartable", hostabi.PointDeployer)
	m.data = [][]byte{active(1<<30, []byte("x"))}
	leaks(t, m, 200, func(h *pluginhost.Host) error {
		_, _, err := h.Render(context.Background(), deployInput())
		if err == nil {
			return fmt.Errorf("no error")
		}
		return nil
	})
}

// leaks calls until n calls were made and reports mappings that stay.
func leaks(t *testing.T, m *module, n int, call func(h *pluginhost.Host) error) {
	t.Helper()
	clock := newClock()
	o := options(t, &logBook{}, lockIn(t, m.bytes(), m.manifest, 10))
	o.Now = clock.read
	h := open(t, o)
	for range 20 {
		clock.advance(breakerOver)
		if err := call(h); err != nil {
			t.Fatal(err)
		}
	}
	before := measure(t)
	for range n {
		clock.advance(breakerOver)
		if err := call(h); err != nil {
			t.Fatal(err)
		}
	}
	after := measure(t)
	t.Logf("before: %s; after %d calls: %s", before, n, after)
	if grew := after.mappings - before.mappings; grew > 10 {
		t.Errorf("%d calls left %d mappings; the kernel allows a process 65530", n, grew)
	}
}

// breakerOver is longer than a circuit breaker stays open.
const breakerOver = 61 * time.Second

// sleepSubscription asks poll_oneoff for a clock.
func sleepSubscription(d time.Duration) []byte {
	s := make([]byte, 48)
	binary.LittleEndian.PutUint64(s[24:], uint64(d))
	return s
}

func (m *module) hostFuncWASI(name, params string) uint32 {
	return m.importFunc(hostabi.ModuleWASI, name, params, "i")
}

// TestHoleSlowSecondStart lets the first instance start and any later one loop:
// a request that needs a new instance has to be answered within its deadline, not
// within the ten seconds an instance has to start.
func TestHoleSlowSecondStart(t *testing.T) {
	m := admission("slowstart")
	now := m.hostFunc(hostabi.ModuleWASI, "clock_time_get")
	m.hook(hostabi.ExportInit, guesttest.I32(1), i64(0), guesttest.I32(64), guesttest.Call(now), guesttest.Drop(),
		guesttest.I32(64), guesttest.Load(), guesttest.I32(1), []byte{0x47}, // != 1, the first reading of the clock
		guesttest.If(guesttest.Forever(nil)), guesttest.I32(0))
	m.hook(hostabi.ExportAdmissionValidate, guesttest.Trap())
	clock := newClock()
	o := options(t, &logBook{}, lockOf(t, m.bytes())...)
	o.Now = clock.read
	h := open(t, o)
	validate(t, h, "pods") // traps, so that the next request needs an instance
	clock.advance(time.Second + 1)
	begin := time.Now()
	result := validate(t, h, "pods")
	if spent := time.Since(begin); spent > 2*deadline+stallMargin {
		t.Errorf("with a deadline of %s the request took %s: %s", deadline, spent, result.Message)
	}
}

// TestHolePipe puts a pipe where a plugin should be.
func TestHolePipe(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "neighbour.wasm"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := lockOf(t, neighbour())[0]
	f.entry.Source = "file:neighbour.wasm"
	o := options(t, &logBook{}, f)
	o.PluginsDir = dir
	opened := make(chan error, 1)
	go func() {
		_, err := pluginhost.Open(context.Background(), o)
		opened <- err
	}()
	select {
	case err := <-opened:
		if err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("got %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("the host hangs in opening a pipe")
		w, err := os.OpenFile(filepath.Join(dir, "neighbour.wasm"), os.O_WRONLY|syscall.O_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		w.Close()
		<-opened
	}
}

// TestHoleControlCharacters has a guest put an escape sequence into everything a
// person reads.
func TestHoleControlCharacters(t *testing.T) {
	const escape = "denied\x1b[2J\x07\r\nfake: line"
	clean := func(s string) bool {
		return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\n' && r != '\t' || r == 0x7f })
	}
	for name, code := range map[string][]byte{
		"deny":      join(guesttest.Get(0), guesttest.I32(1024), guesttest.I32(int32(len(escape))), guesttest.I32(0), guesttest.Call(0), guesttest.Drop(), guesttest.I32(1)),
		"warn":      join(guesttest.Get(0), guesttest.I32(1024), guesttest.I32(int32(len(escape))), guesttest.Call(1), guesttest.Drop(), guesttest.I32(0)),
		"audit":     join(guesttest.Get(0), guesttest.I32(1024), guesttest.I32(6), guesttest.I32(1024), guesttest.I32(int32(len(escape))), guesttest.Call(2), guesttest.Drop(), guesttest.I32(0)),
		"error_set": join(guesttest.I32(1024), guesttest.I32(int32(len(escape))), guesttest.Call(3), guesttest.Drop(), guesttest.I32(-1)),
	} {
		t.Run(name, func(t *testing.T) {
			m := admission("escape")
			m.hostFunc(hostabi.ModuleRequest, "deny")
			m.hostFunc(hostabi.ModuleRequest, "warn")
			m.hostFunc(hostabi.ModuleRequest, "audit")
			m.hostFunc(hostabi.ModuleCore, "error_set")
			m.data = [][]byte{active(1024, []byte(escape))}
			m.hook(hostabi.ExportAdmissionValidate, code)
			h, log := alone(t, m.bytes())
			result := validate(t, h, "pods")
			for what, got := range map[string]string{"message": result.Message, "warnings": strings.Join(result.Warnings, ""), "log": log.String()} {
				if !clean(got) {
					t.Errorf("%s: control characters reach the reader: %q", what, got)
				}
			}
		})
	}
}
