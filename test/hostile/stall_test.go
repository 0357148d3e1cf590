package hostile

import (
	"testing"
	"time"

	"github.com/cleat-dev/cleat/core/pluginhost/guesttest"
	"github.com/cleat-dev/cleat/hostabi"
)

// Bounds of what an untrusted guest may do to the process it runs in. A call may
// take its deadline and a margin for a busy machine; a collection may have to
// wait for one instruction on all of the guest's memory. Without the guard each
// of them is seconds, or for ever.
const (
	stallDeadline = 500 * time.Millisecond
	stallMargin   = 3 * time.Second
	stallGC       = 3 * time.Second
	stallPeak     = 1500 << 20
)

// endless is a guest that does not end, by one way of not ending.
type endless struct {
	name  string
	guest *module
}

// stalling begins a guest for this file.
func stalling(name string) *module {
	m := admission(name)
	m.manifest.Limits.DeadlineMS = uint32(stallDeadline.Milliseconds())
	m.manifest.Limits.MemoryPages = 512 // the default
	return m
}

const big = 30 << 20 // most of that memory

// endlessLoops are the ways not to end that have a loop in them.
func endlessLoops() []endless {
	loop := func(body ...[]byte) []byte { return guesttest.Forever(join(body...)) }
	i32 := guesttest.I32
	var all []endless
	add := func(name string, change func(m *module) []byte) {
		m := stalling("loop")
		m.memories = [][]byte{limits(big>>16+1, 0)}
		body := change(m)
		m.hook(hostabi.ExportAdmissionValidate, body)
		all = append(all, endless{name, m})
	}
	add("loop", func(*module) []byte { return loop() })
	add("loop of br_if", func(*module) []byte {
		return join([]byte{0x03, 0x40}, i32(1), []byte{0x0d, 0x00, opEnd}, i32(0))
	})
	add("loop of br_table", func(*module) []byte {
		return join([]byte{0x03, 0x40}, i32(7), []byte{0x0e, 2, 0, 0, 0, opEnd, 0x00})
	})
	add("two loops that jump into each other", func(*module) []byte {
		return join([]byte{0x03, 0x40, 0x03, 0x40}, guesttest.Get(0), []byte{0x0e, 2, 0, 1, 1, opEnd, opEnd, 0x00})
	})
	add("loop with a result", func(*module) []byte {
		return join([]byte{0x03, 0x7f, 0x0c, 0, opEnd})
	})
	add("loop that calls", func(m *module) []byte {
		leaf := m.fn("", "")
		return loop(guesttest.Call(leaf))
	})
	add("loop of memory.fill over 30 MiB", func(*module) []byte { return loop(i32(0), i32(1), i32(big), memoryFill()) })
	add("loop of memory.copy over 30 MiB", func(*module) []byte { return loop(i32(0), i32(16), i32(big), memoryCopy()) })
	add("loop of memory.grow", func(*module) []byte { return loop(i32(1), guesttest.GrowMemory(), guesttest.Drop()) })
	add("loop of table.fill over a million entries", func(m *module) []byte {
		m.tables = [][]byte{table(1<<20, 1<<20)}
		return loop(i32(0), []byte{0xd0, 0x70}, i32(1<<20), tableFill())
	})
	add("loop of table.copy over a million entries", func(m *module) []byte {
		m.tables = [][]byte{table(1<<20, 1<<20)}
		return loop(i32(0), i32(0), i32(1<<20), tableCopy())
	})
	add("loop of table.grow", func(m *module) []byte {
		m.tables = [][]byte{table(1, 1<<20)}
		return loop(growTable(0, 1), guesttest.Drop())
	})
	add("loop that calls the host", func(m *module) []byte {
		return loop(guesttest.Call(m.hostFunc(hostabi.ModuleWASI, "sched_yield")), guesttest.Drop())
	})
	add("loop that asks for the time", func(m *module) []byte {
		clock := m.hostFunc(hostabi.ModuleWASI, "clock_time_get")
		return loop(i32(0), i64(0), i32(64), guesttest.Call(clock), guesttest.Drop())
	})
	return all
}

// endlessCalls are the ways not to end without a single loop.
func endlessCalls() []endless {
	i32, get, call := guesttest.I32, guesttest.Get, guesttest.Call
	less := join(get(0), i32(-1), guesttest.Add())
	var all []endless
	add := func(name string, change func(m *module) []byte) {
		m := stalling("calls")
		body := change(m)
		m.hook(hostabi.ExportAdmissionValidate, body, i32(0))
		all = append(all, endless{name, m})
	}
	add("a function that calls itself twice, a hundred deep", func(m *module) []byte {
		self := m.next()
		m.fn("i", "", get(0), guesttest.If(join(less, call(self), less, call(self))))
		return join(i32(100), call(self))
	})
	add("two functions that call each other twice", func(m *module) []byte {
		one, two := m.next(), m.next()+1
		m.fn("i", "", get(0), guesttest.If(join(less, call(two), less, call(two))))
		m.fn("i", "", get(0), guesttest.If(join(less, call(one), less, call(one))))
		return join(i32(100), call(one))
	})
	add("a function that calls itself twice through a table", func(m *module) []byte {
		m.tables = [][]byte{table(1, 1)}
		self := m.next()
		t := m.typeOf("i", "")
		m.elements = [][]byte{element(self)}
		again := join(less, i32(0), callIndirect(t))
		m.fn("i", "", get(0), guesttest.If(join(again, again)))
		return join(i32(100), call(self))
	})
	add("a ladder of functions, each calling the next twice", func(m *module) []byte {
		first := m.next()
		for range 100 {
			m.fn("", "", repeat(2, call(m.next()+1)))
		}
		m.fn("", "")
		return call(first)
	})
	return all
}

// TestUntrustedGuestsStopAndLetTheCollectorRun runs every way not to end while
// the child collects garbage without pause.
func TestUntrustedGuestsStopAndLetTheCollectorRun(t *testing.T) {
	for _, e := range append(endlessLoops(), endlessCalls()...) {
		t.Run(e.name, func(t *testing.T) {
			saw := inChild(t, e.guest.bytes(), time.Minute)
			t.Log(saw)
			if err := saw.want(stallDeadline+stallMargin, stallGC, stallPeak); err != nil {
				t.Error(err)
			}
			if saw.OpenError != "" {
				t.Errorf("not entered: %s", saw.OpenError)
			}
			if err := lacks(saw.Message, "did not finish within its deadline", "limits.deadline_ms"); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestTrustedLoopStallsTheCollector is the experiment behind the rule that a
// plugin is never trusted unless an operator says so: the same guest, trusted,
// and the process stops for good at its first collection.
func TestTrustedLoopStallsTheCollector(t *testing.T) {
	wasm := endlessLoops()[0].guest.bytes()
	free := inChild(t, wasm, time.Minute)
	t.Log("untrusted: ", free)
	if err := free.want(stallDeadline+stallMargin, stallGC, stallPeak); err != nil {
		t.Error(err)
	}
	stuck := inChild(t, wasm, 5*time.Second, childTrusted+"=1")
	t.Log("trusted: ", stuck)
	if !stuck.TimedOut {
		t.Errorf("a trusted loop no longer stalls the process: correct doc comments and the security page: %v", stuck)
	}
}

// TestHoleStraightLineBulkMemory has no loop and no call to look at: one function
// that works on 30 MiB six hundred times, line by line.
func TestHoleStraightLineBulkMemory(t *testing.T) {
	for name, bulk := range map[string]struct {
		code  []byte
		table bool
	}{
		"memory.fill": {join(guesttest.Get(0), guesttest.Get(0), guesttest.Get(2), memoryFill()), false},
		"memory.copy": {join(guesttest.Get(3), guesttest.Get(4), guesttest.Get(2), memoryCopy()), false},
		"table.copy":  {join(guesttest.Get(3), guesttest.Get(3), guesttest.Get(5), tableCopy()), true},
	} {
		t.Run(name, func(t *testing.T) {
			m := stalling("bulk")
			m.memories = [][]byte{limits(big>>16+1, 0)}
			if bulk.table {
				m.tables = [][]byte{table(1<<20, 1<<20)}
			}
			m.hook(hostabi.ExportAdmissionValidate, guesttest.I32(big), guesttest.Set(2), guesttest.I32(16), guesttest.Set(4),
				guesttest.I32(1<<20), guesttest.Set(5), repeat(600, bulk.code), guesttest.I32(0))
			saw := inChild(t, m.bytes(), time.Minute)
			t.Log(saw)
			if err := saw.want(stallDeadline+stallMargin, stallGC, stallPeak); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestHoleCallsToALongLeaf has a function without calls, which is given no look
// at the deadline, called often from one that is looked at once.
func TestHoleCallsToALongLeaf(t *testing.T) {
	m := stalling("leaf")
	// x = *p; x = ~0 / (x | 1), ten thousand times; *p = x
	leaf := m.raw("", "", []byte{1, 1, typeI64}, join(guesttest.I32(0), []byte{0x29, 3, 0}, guesttest.Set(0),
		repeat(10_000, i64(-1), guesttest.Get(0), i64(1), []byte{opOr64, opDiv64}, guesttest.Set(0)),
		guesttest.I32(0), guesttest.Get(0), []byte{0x37, 3, 0}))
	m.hook(hostabi.ExportAdmissionValidate, repeat(20_000, guesttest.Call(leaf)), guesttest.I32(0))
	saw := inChild(t, m.bytes(), time.Minute)
	t.Log(saw)
	if err := saw.want(stallDeadline+stallMargin, stallGC, stallPeak); err != nil {
		t.Error(err)
	}
}

// TestHoleLateVerdict has a guest come to its verdict long after its deadline,
// where nothing could look at the clock in between. Such a verdict is no verdict.
func TestHoleLateVerdict(t *testing.T) {
	m := stalling("late")
	m.memories = [][]byte{limits(big>>16+1, 0)}
	m.hook(hostabi.ExportAdmissionValidate, guesttest.I32(big), guesttest.Set(2),
		repeat(500, guesttest.Get(2), guesttest.Drop(), guesttest.I32(0), guesttest.I32(0), guesttest.Get(2), memoryFill()), guesttest.I32(0))
	saw := inChild(t, m.bytes(), time.Minute)
	t.Log(saw)
	if saw.CallTook > stallDeadline && saw.Allowed {
		t.Errorf("a verdict that came %s after the deadline was taken", (saw.CallTook - stallDeadline).Round(time.Millisecond))
	}
}

// TestOneProcessor runs some of the endless guests where they have the only
// processor, which who watches the deadline needs as well.
func TestOneProcessor(t *testing.T) {
	for _, e := range append(endlessLoops()[:6], endlessCalls()[:2]...) {
		t.Run(e.name, func(t *testing.T) {
			saw := inChild(t, e.guest.bytes(), time.Minute, "GOMAXPROCS=1")
			t.Log(saw)
			if err := saw.want(stallDeadline+stallMargin, 2*stallGC, stallPeak); err != nil {
				t.Error(err)
			}
			if err := lacks(saw.Message, "did not finish within its deadline"); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestLargestInstruction measures the longest a process can be kept from
// collecting garbage by one instruction: a fill of all the memory a lock can grant.
func TestLargestInstruction(t *testing.T) {
	m := stalling("giant")
	m.manifest.Limits.MemoryPages = hostabi.MaxMemoryPages
	m.memories = [][]byte{limits(hostabi.MaxMemoryPages, 0)}
	m.hook(hostabi.ExportAdmissionValidate, guesttest.Forever(join(guesttest.I32(0), guesttest.I32(1), guesttest.I32(1<<30), memoryFill())))
	saw := inChild(t, m.bytes(), time.Minute)
	t.Log(saw)
	const seconds = 15 * time.Second // a gigabyte touched for the first time, on a slow machine
	if err := saw.want(stallDeadline+seconds, seconds, 1<<30+200<<20); err != nil {
		t.Error(err)
	}
}

// TestEndlessStart loops where the server has not begun yet: it gives up after the
// ten seconds an instance has to start, and says why.
func TestEndlessStart(t *testing.T) {
	for _, export := range []string{hostabi.ExportInitialize, hostabi.ExportInit} {
		t.Run(export, func(t *testing.T) {
			t.Parallel()
			m := admission("attacker")
			m.hook(export, guesttest.Forever(nil))
			begin := time.Now()
			saw := inChild(t, m.bytes(), time.Minute)
			t.Log(saw)
			if saw.Died != "" {
				t.Fatal(saw.Died)
			}
			if err := lacks(saw.OpenError, "plugin attacker: "+export+": ", adviceStart); err != nil {
				t.Error(err)
			}
			if spent := time.Since(begin); spent > 40*time.Second {
				t.Errorf("took %s", spent)
			}
		})
	}
}
