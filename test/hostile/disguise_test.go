package hostile

import (
	"testing"
	"time"

	"github.com/cleat-dev/cleat/core/pluginhost/guesttest"
	"github.com/cleat-dev/cleat/hostabi"
)

// What counts the guest's instructions reads the code a second time, beside the
// compiler. Where the two read the same bytes differently, a guest can hide an
// instruction from the one and have the other run it. These guests do that.

// disguises are endless loops that look like something else.
func disguises() map[string]*module {
	all := map[string]*module{}
	add := func(name string, write func(m *module)) {
		m := stalling("disguise")
		for i := range 40 { // types 0 to 39 exist, whatever the guest calls one
			m.types = append(m.types, join([]byte{0x60}, uleb(uint64(i)), repeat(i, []byte{typeI32}), []byte{0}))
		}
		write(m)
		all[name] = m
	}
	// fd 80 00 is vector instruction 0, a load with two numbers behind it, or
	// instruction 0x80, unreachable, and then: end, loop.
	add("a loop among the numbers of a vector instruction", func(m *module) {
		m.hook(hostabi.ExportAdmissionValidate, []byte{0x02, 0x40}, guesttest.I32(1), []byte{0x0d, 0},
			[]byte{0xfd, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
			[]byte{0xfd, 0x80, 0x00, opEnd, 0x03}, []byte{0x40, 0x01}, []byte{0x0c, 0, opEnd}, guesttest.I32(0))
	})
	// 02 63 02 is a block of type 0x63 and a block, or a block of a reference to
	// type 2; 03 is the type of the second block, or a loop.
	add("a loop as the type of a block", func(m *module) {
		m.hook(hostabi.ExportAdmissionValidate, []byte{0x02, 0x63, 0x02, 0x03, 0x40, 0x01, 0x0c, 0, opEnd, 0x00, opEnd, 0x1a}, guesttest.I32(0))
	})
	// The same with the type of a local variable, where the code begins.
	add("a loop behind the type of a local", func(m *module) {
		f := m.raw("iI", "i", []byte{1, 1, 0x63, 0x02}, []byte{0x03, 0x40, 0x01, 0x0c, 0, opEnd, 0x00})
		m.export(hostabi.ExportAdmissionValidate, 0, f)
	})
	return all
}

// TestHoleDisguisedLoops wants each of them refused, or stopped at its deadline.
func TestHoleDisguisedLoops(t *testing.T) {
	for name, m := range disguises() {
		t.Run(name, func(t *testing.T) {
			saw := inChild(t, m.bytes(), 10*time.Second)
			t.Log(saw)
			if err := saw.want(stallDeadline+stallMargin, stallGC, stallPeak); err != nil {
				t.Error(err)
			}
			if saw.Died == "" && saw.OpenError == "" && saw.Allowed {
				t.Error("it ended by itself: this guest does not test what it is to test")
			}
		})
	}
}

// TestHoleUncheckedInstruction has an instruction that the validator takes for
// part of the one before and the compiler does not: a select of references to type
// 26, where 26 is also a drop. With it a guest makes a function reference out of
// a number, and calls it. A plugin with such a select has to be refused.
func TestHoleUncheckedInstruction(t *testing.T) {
	m := stalling("forger")
	for i := range 40 {
		m.types = append(m.types, join([]byte{0x60}, uleb(uint64(i)), repeat(i, []byte{typeI32}), []byte{0}))
	}
	m.tables = [][]byte{table(1, 1)}
	null := []byte{0xd0, 0x70}
	m.hook(hostabi.ExportAdmissionValidate,
		guesttest.I32(0), guesttest.I32(0x12345678), // where to, and what
		null, null, guesttest.I32(1), []byte{0x1c, 1, 0x63, 26},
		[]byte{0x26, 0}, // table.set
		guesttest.I32(0), callIndirect(0), guesttest.Trap())
	saw := inChild(t, m.bytes(), 10*time.Second)
	t.Log(saw)
	if saw.Died != "" {
		t.Errorf("the process of the host did not live: %s", saw.Died)
	}
	if saw.Died == "" && saw.OpenError == "" {
		t.Error("it was accepted")
	}
}

// TestMeteredGuests are guests whose instructions cost more than they look.
func TestMeteredGuests(t *testing.T) {
	i32 := guesttest.I32
	for name, write := range map[string]func(m *module) []byte{
		"a variable the guest does not have": func(m *module) []byte {
			// The counter would be behind the last of its own.
			m.globals = [][]byte{{typeI64, 1, 0x42, 0, opEnd}}
			return join(i64(1<<62), []byte{0x24, 1}, guesttest.Forever(nil))
		},
		"a call of the function behind the imports": func(m *module) []byte {
			m.importFunc(hostabi.ModuleWASI, "sched_yield", "", "i")
			return guesttest.Forever(join(guesttest.Call(0), guesttest.Drop()))
		},
		"an import of what counts": func(m *module) []byte {
			m.importFunc("cleat_guard", "tick", "", "I")
			return guesttest.Forever(nil)
		},
		"first touches of all memory": func(m *module) []byte {
			m.manifest.Limits.MemoryPages = 4096
			m.memories = [][]byte{limits(4096, 0)}
			return guesttest.Forever(join(guesttest.Get(2), i32(1), guesttest.Store(), guesttest.Get(2), i32(4096), guesttest.Add(), i32(0xfff_ffff), []byte{0x71}, guesttest.Set(2)))
		},
		"divisions in a row": func(m *module) []byte {
			return guesttest.Forever(repeat(20_000, i32(-7), guesttest.Get(2), i32(1), []byte{0x72, 0x6d}, guesttest.Set(2)))
		},
		"leaves too small to count, called in a row": func(m *module) []byte {
			leaf := m.fn("", "", repeat(4, i32(64), i32(64), guesttest.Load(), i32(3), []byte{0x72, 0x6e}, guesttest.Drop()))
			return guesttest.Forever(repeat(20_000, guesttest.Call(leaf)))
		},
		"memory.grow by nothing in a row": func(m *module) []byte {
			return guesttest.Forever(repeat(20_000, i32(0), guesttest.GrowMemory(), guesttest.Drop()))
		},
		"bulk instructions of length 0 in a row": func(m *module) []byte {
			return guesttest.Forever(repeat(1000, i32(0), i32(0), i32(0), memoryCopy()))
		},
		"bulk instructions of length 15 in a row": func(m *module) []byte {
			return guesttest.Forever(repeat(1000, i32(0), i32(0), i32(15), memoryFill()))
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := stalling("counted")
			body := write(m)
			m.hook(hostabi.ExportAdmissionValidate, body)
			saw := inChild(t, m.bytes(), 30*time.Second)
			t.Log(saw)
			if err := saw.want(stallDeadline+stallMargin, stallGC, stallPeak); err != nil {
				t.Error(err)
			}
			if saw.OpenError == "" {
				if err := lacks(saw.Message, "did not finish within its deadline"); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
