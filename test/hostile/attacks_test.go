package hostile

import (
	"strings"
	"time"

	"github.com/cleat-dev/cleat/core/pluginhost/guesttest"
	"github.com/cleat-dev/cleat/hostabi"
)

// attack is a plugin that means harm, and what must become of it.
type attack struct {
	name  string
	guest *module
	wasm  []byte // instead of guest, for files that are no module
	want  fate
	// slow attacks use up their deadline or much memory; the long run leaves
	// most of them out.
	slow bool
}

func (a attack) bytes() []byte {
	if a.wasm != nil {
		return a.wasm
	}
	return a.guest.bytes()
}

// fate is what becomes of an attack. One of the first three is set.
type fate struct {
	// refused: the host does not open such a plugin, and says this.
	refused []string
	// fault: a request meets the failure policy, and message and log say this.
	fault []string
	// harmless: the request is decided as the guest says, because what it did
	// has no effect.
	harmless bool
}

func refused(says ...string) fate { return fate{refused: says} }
func faulty(says ...string) fate  { return fate{fault: says} }

var harmless = fate{harmless: true}

// What the log tells an operator to do.
const (
	adviceBug      = "this is a bug in the plugin"
	adviceDeadline = "limits.deadline_ms in plugins.lock"
	adviceStart    = "check its config and limits.memory_pages in plugins.lock, or run `cleat plugin verify`"
)

// attacks is the table.
func attacks() []attack {
	var all []attack
	for _, part := range [][]attack{loops(), recursions(), traps(), memoryBombs(), wrongAnswers(), floods(), trespasses(), starts(), wrongShapes(), wrongManifests()} {
		all = append(all, part...)
	}
	return all
}

// hooked is an attack whose validating hook has that body.
func hooked(name string, want fate, write func(m *module) []byte) attack {
	m := admission("attacker")
	body := write(m)
	m.hook(hostabi.ExportAdmissionValidate, body)
	return attack{name: name, guest: m, want: want}
}

func constant(code ...[]byte) func(*module) []byte {
	return func(*module) []byte { return join(code...) }
}

func loops() []attack {
	var all []attack
	for _, e := range append(endlessLoops(), endlessCalls()...) {
		e.guest.manifest.Name = "attacker"
		e.guest.manifest.Limits.DeadlineMS = uint32(deadline.Milliseconds())
		all = append(all, attack{name: "endless: " + e.name, guest: e.guest, want: faulty("did not finish within its deadline", adviceDeadline), slow: true})
	}
	sleeper := hooked("endless: asleep for an hour", faulty("did not finish within its deadline", adviceDeadline), func(m *module) []byte {
		poll := m.hostFuncWASI("poll_oneoff", "iiii")
		m.data = [][]byte{active(1024, sleepSubscription(time.Hour))}
		return join(guesttest.I32(1024), guesttest.I32(2048), guesttest.I32(1), guesttest.I32(4096), guesttest.Call(poll))
	})
	sleeper.slow = true
	return append(all, sleeper)
}

// recursions end where the stack does.
func recursions() []attack {
	overflow := faulty("stack overflow", adviceBug)
	all := []attack{
		hooked("recursion: direct", overflow, func(m *module) []byte {
			self := m.next()
			m.fn("", "i", guesttest.Call(self))
			return guesttest.Call(self)
		}),
		hooked("recursion: mutual", overflow, func(m *module) []byte {
			one := m.next()
			m.fn("", "i", guesttest.Call(one+1))
			m.fn("", "i", guesttest.Call(one))
			return guesttest.Call(one)
		}),
		hooked("recursion: through call_indirect", overflow, func(m *module) []byte {
			self := m.next()
			m.tables, m.elements = [][]byte{table(1, 1)}, [][]byte{element(self)}
			m.fn("", "i", guesttest.I32(0), callIndirect(m.typeOf("", "i")))
			return guesttest.Call(self)
		}),
		hooked("recursion: the hook calls itself", overflow, func(m *module) []byte {
			return join(guesttest.Get(0), guesttest.Get(1), guesttest.Call(m.next()))
		}),
		hooked("recursion: through a host call in each frame", overflow, func(m *module) []byte {
			yield := m.hostFunc(hostabi.ModuleWASI, "sched_yield")
			self := m.next()
			m.fn("", "i", guesttest.Call(yield), guesttest.Drop(), guesttest.Call(self))
			return guesttest.Call(self)
		}),
		hooked("recursion: a thousand locals in each frame", overflow, func(m *module) []byte {
			self := m.next()
			var sum []byte
			for i := range uint64(1000) {
				sum = join(sum, []byte{0x20}, uleb(i), []byte{0x6a})
			}
			m.raw("", "i", join([]byte{1}, uleb(1000), []byte{typeI32}), join(guesttest.Call(self), sum))
			return guesttest.Call(self)
		}),
	}
	for i := range all {
		all[i].slow = true
		all[i].guest.manifest.Limits.DeadlineMS = 10_000
	}
	return all
}

func traps() []attack {
	i32, call := guesttest.I32, guesttest.Call
	crash := func(says string) fate { return faulty("the guest crashed: "+says, adviceBug) }
	all := []attack{
		hooked("trap: unreachable", crash("wasm error: unreachable"), constant(guesttest.Trap())),
		hooked("trap: division by zero", crash("wasm error: integer divide by zero"), constant(i32(1), i32(0), []byte{0x6d})),
		hooked("trap: overflow of a division", crash("wasm error: integer overflow"), constant(i32(-1<<31), i32(-1), []byte{0x6d})),
		hooked("trap: conversion of NaN", crash("wasm error: invalid conversion to integer"), constant([]byte{0x43, 0, 0, 0xc0, 0x7f, 0xa8})),
		hooked("trap: load behind the memory", crash("wasm error: out of bounds memory access"), constant(i32(1<<16-3), guesttest.Load())),
		hooked("trap: load at the end of the address space", crash("wasm error: out of bounds memory access"), constant(i32(-1), []byte{0x28, 2, 0xff, 0xff, 0xff, 0xff, 0xf})),
		hooked("trap: store behind the memory", crash("wasm error: out of bounds memory access"), constant(i32(-4), i32(1), guesttest.Store(), i32(0))),
		hooked("trap: memory.fill behind the memory", crash("wasm error: out of bounds memory access"), constant(i32(1), i32(0), i32(-1), memoryFill(), i32(0))),
		hooked("trap: memory.copy behind the memory", crash("wasm error: out of bounds memory access"), constant(i32(-1), i32(0), i32(2), memoryCopy(), i32(0))),
		hooked("trap: memory.init behind its segment", crash("wasm error: out of bounds memory access"), func(m *module) []byte {
			m.data = [][]byte{join([]byte{1}, text("x"))}
			return join(i32(0), i32(0), i32(2), memoryInit(), i32(0))
		}),
		hooked("trap: call of an empty table entry", crash("wasm error: invalid table access"), func(m *module) []byte {
			m.tables = [][]byte{table(1, 1)}
			return join(i32(0), callIndirect(m.typeOf("", "i")))
		}),
		hooked("trap: call behind the table", crash("wasm error: invalid table access"), func(m *module) []byte {
			m.tables = [][]byte{table(1, 1)}
			return join(i32(-1), callIndirect(m.typeOf("", "i")))
		}),
		hooked("trap: call with another signature", crash("wasm error: indirect call type mismatch"), func(m *module) []byte {
			m.tables, m.elements = [][]byte{table(1, 1)}, [][]byte{element(m.next())}
			m.fn("iI", "")
			return join(i32(0), callIndirect(m.typeOf("", "i")))
		}),
		hooked("trap: proc_exit", faulty("the guest ended itself with code 7", adviceBug), func(m *module) []byte {
			return join(i32(7), call(m.hostFunc(hostabi.ModuleWASI, "proc_exit")), i32(0))
		}),
		hooked("trap: proc_exit with the code of a deadline", faulty("cleat_admission_validate: ", "plugins.lock"), func(m *module) []byte {
			return join(i32(-0x10000001), call(m.hostFunc(hostabi.ModuleWASI, "proc_exit")), i32(0))
		}),
		hooked("trap: abort with an address outside", crash("abort: unreadable message"), func(m *module) []byte {
			return join(i32(-2), i32(-2), i32(-2), i32(-2), call(m.hostFunc(hostabi.ModuleEnv, "abort")), i32(0))
		}),
		hooked("trap: abort with a length of 4 GiB", crash("abort: "), func(m *module) []byte {
			return join(i32(0), i32(-1), guesttest.Store(), i32(4), i32(0), i32(0), i32(0), call(m.hostFunc(hostabi.ModuleEnv, "abort")), i32(0))
		}),
		hooked("trap: after words on standard error", faulty("it last wrote: last words", adviceBug), func(m *module) []byte {
			write := m.hostFunc(hostabi.ModuleWASI, "fd_write")
			m.data = [][]byte{active(1024, []byte("\x08\x04\x00\x00\x0b\x00\x00\x00last words\n"))}
			return join(i32(2), i32(1024), i32(1), i32(0), call(write), guesttest.Drop(), guesttest.Trap())
		}),
	}
	// In the mutating hook as well: the table above is about the validating one.
	mutating := admission("attacker")
	mutating.hook(hostabi.ExportAdmissionMutate, guesttest.Trap())
	return append(all, attack{name: "trap: in cleat_admission_mutate", guest: mutating, want: crash("wasm error: unreachable")})
}

func memoryBombs() []attack {
	i32 := guesttest.I32
	untilRefused := func(code []byte) []byte { return join(guesttest.Until(join(code, i32(-1), guesttest.Equal())), i32(0)) }
	shaped := func(name string, want fate, change func(m *module)) attack {
		m := admission("attacker")
		change(m)
		return attack{name: name, guest: m, want: want}
	}
	return []attack{
		hooked("memory: grown page by page until it is refused", harmless, constant(untilRefused(join(i32(1), guesttest.GrowMemory())))),
		hooked("memory: grown by 4 GiB", harmless, constant(i32(-1), guesttest.GrowMemory(), i32(1), guesttest.Add())),
		hooked("memory: grown to the limit and filled", harmless, constant(i32(15), guesttest.GrowMemory(), guesttest.Drop(), i32(0), i32(255), i32(1<<20), memoryFill(), i32(0))),
		hooked("memory: a table grown until it is refused", harmless, func(m *module) []byte {
			m.tables = [][]byte{table(1, 1<<20)}
			return untilRefused(growTable(0, 1<<16))
		}),
		shaped("memory: begins with 4 GiB", refused("starts with 65536 pages", "limits.memory_pages"), func(m *module) { m.memories = [][]byte{limits(1<<16, 0)} }),
		shaped("memory: begins with a page too much", refused("starts with 17 pages", "limits.memory_pages"), func(m *module) { m.memories = [][]byte{limits(17, 0)} }),
		shaped("memory: begins with more than there can be", refused("attacker"), func(m *module) {
			m.memories = [][]byte{limits(1<<32-1, 0)}
		}),
		shaped("memory: a maximum below its minimum", refused("attacker"), func(m *module) { m.memories = [][]byte{limits(2, 1)} }),
		shaped("memory: shared", refused("plugin attacker: compile: "), func(m *module) { m.memories = [][]byte{{3, 1, 1}} }),
		shaped("memory: two", refused("2 memories, want one"), func(m *module) { m.memories = [][]byte{limits(1, 0), limits(1, 0)} }),
		shaped("memory: a table of four thousand million", refused("hold more than 1048576 entries"), func(m *module) { m.tables = [][]byte{table(1<<32-1, 0)} }),
		shaped("memory: tables of two million together", refused("hold more than 1048576 entries"), func(m *module) {
			m.tables = [][]byte{table(1<<20, 1<<20), table(1<<20, 1<<20)}
		}),
		shaped("memory: a table that may grow without end and does", refused("plugin attacker: compile: "), func(m *module) {
			m.tables = [][]byte{table(1, 0)}
			m.hook(hostabi.ExportAdmissionValidate, growTable(0, 1<<26), guesttest.Drop(), i32(0))
		}),
		shaped("memory: a function of three MiB", refused("function", "at most 2097152 are allowed"), func(m *module) {
			m.fn("", "", repeat(3<<20, []byte{0x01}))
		}),
		shaped("memory: two million types", refused("the most is 65536"), func(m *module) {
			m.sections = map[byte][]byte{1: join(uleb(2_000_000), repeat(2_000_000, []byte{0x60, 0, 0}))}
		}),
		shaped("memory: twenty thousand imports", refused("the most is 10000"), func(m *module) {
			m.typeOf("", "")
			m.sections = map[byte][]byte{2: join(uleb(20_000), repeat(20_000, text("a"), text("b"), []byte{0, 0}))}
		}),
		shaped("memory: two thousand sections", refused("more than 1000 sections"), func(m *module) {
			for range 2000 {
				m.customs = append(m.customs, text("x"))
			}
		}),
		shaped("memory: data outside", refused("attacker", adviceStart), func(m *module) { m.data = [][]byte{active(1<<30, []byte("x"))} }),
		shaped("memory: an element outside", harmless, func(m *module) {
			m.tables = [][]byte{table(1, 1)}
			m.elements = [][]byte{join([]byte{0}, i32(1<<30), []byte{opEnd}, uleb(1), uleb(0))}
			m.fn("", "")
		}),
	}
}

func wrongAnswers() []attack {
	i32 := guesttest.I32
	return []attack{
		hooked("answer: 2", faulty("returned 2, which is no verdict", adviceBug), constant(i32(2))),
		hooked("answer: the largest number", faulty("returned 2147483647, which is no verdict", adviceBug), constant(i32(1<<31-1))),
		hooked("answer: an error number", faulty("host failure (EIO)"), constant(i32(-6))),
		hooked("answer: the least number", faulty("returned -2147483648"), constant(i32(-1<<31))),
	}
}

func floods() []attack {
	i32, get, call, drop := guesttest.I32, guesttest.Get, guesttest.Call, guesttest.Drop
	// times runs code n times, counting in local 2.
	times := func(n int32, code ...[]byte) []byte {
		return guesttest.Until(join(join(code...), get(2), i32(1), guesttest.Add(), guesttest.Set(2), get(2), i32(n), guesttest.Equal()))
	}
	flood := func(name, mod, function string, n int32, params func(m *module) []byte) attack {
		a := hooked("flood: "+name, harmless, func(m *module) []byte {
			f := m.hostFunc(mod, function)
			m.memories = [][]byte{limits(4, 0)}
			return join(times(n, params(m), call(f), drop()), i32(0))
		})
		a.guest.manifest.Limits.DeadlineMS = 10_000
		a.slow = n > 10_000
		return a
	}
	words := func(m *module) { m.data = [][]byte{active(1024, []byte(strings.Repeat("words ", 3000)))} }
	all := []attack{
		flood("a million host calls", hostabi.ModuleWASI, "sched_yield", 1_000_000, func(*module) []byte { return nil }),
		flood("a million reads of a field", hostabi.ModuleRequest, "request_get", 1_000_000, func(*module) []byte { return join(get(0), i32(7), i32(2048), i32(100)) }),
		flood("ten thousand log lines", hostabi.ModuleCore, "log", 10_000, func(m *module) []byte { words(m); return join(i32(8), i32(1024), i32(10)) }),
		flood("a thousand log lines of 17 KiB", hostabi.ModuleCore, "log", 1000, func(m *module) []byte { words(m); return join(i32(8), i32(1024), i32(17<<10)) }),
		flood("ten thousand warnings", hostabi.ModuleRequest, "warn", 10_000, func(m *module) []byte { words(m); return join(get(0), i32(1024), i32(9000)) }),
		flood("ten thousand annotations", hostabi.ModuleRequest, "audit", 10_000, func(m *module) []byte { words(m); return join(get(0), i32(1024), i32(5), i32(1024), i32(9000)) }),
		flood("ten thousand denials not meant", hostabi.ModuleRequest, "deny", 10_000, func(m *module) []byte { words(m); return join(get(0), i32(1024), i32(9000), i32(0)) }),
		flood("ten thousand error texts", hostabi.ModuleCore, "error_set", 10_000, func(m *module) []byte { words(m); return join(i32(1024), i32(9000)) }),
		flood("a thousand random numbers of 64 KiB", hostabi.ModuleWASI, "random_get", 1000, func(*module) []byte { return join(i32(0), i32(64<<10)) }),
	}
	lines := hooked("flood: ten thousand lines on standard output", harmless, func(m *module) []byte {
		write := m.hostFunc(hostabi.ModuleWASI, "fd_write")
		m.data = [][]byte{active(1024, []byte("\x08\x04\x00\x00\x04\x00\x00\x00abc\n"))}
		return join(times(10_000, i32(1), i32(1024), i32(1), i32(0), call(write), drop()), i32(0))
	})
	giant := hooked("flood: a line of ten MiB on standard error", harmless, func(m *module) []byte {
		write := m.hostFunc(hostabi.ModuleWASI, "fd_write")
		m.data = [][]byte{active(1024, []byte("\x08\x04\x00\x00\x00\x04\x00\x00")), active(1032, []byte(strings.Repeat("x", 1024)))}
		return join(times(10_000, i32(2), i32(1024), i32(1), i32(0), call(write), drop()), i32(0))
	})
	mutations := admission("attacker")
	register := mutations.hostFunc(hostabi.ModuleObject, "path_register")
	set := mutations.hostFunc(hostabi.ModuleObject, "object_set")
	path := "metadata.labels.x"
	mutations.data = [][]byte{active(1024, []byte(path)), active(2048, []byte("\x05\x01\x00\x00\x00y"))}
	mutations.hook(hostabi.ExportInit, i32(1024), i32(int32(len(path))), call(register))
	mutations.hook(hostabi.ExportAdmissionMutate, times(10_000, get(0), i32(0), i32(-1), i32(2048), i32(6), call(set), drop()), i32(0))
	for _, a := range []*attack{&lines, &giant} {
		a.guest.manifest.Limits.DeadlineMS = 10_000
	}
	mutations.manifest.Limits.DeadlineMS = 10_000
	return append(all, lines, giant, attack{name: "flood: ten thousand mutations", guest: mutations, want: harmless})
}

// trespasses reach for what the manifest does not declare or another call has.
// Each guest checks the answer of the host and traps when it is not the one the
// ABI promises; so harmless means: refused by the host function.
func trespasses() []attack {
	i32, get, call := guesttest.I32, guesttest.Get, guesttest.Call
	expect := func(e hostabi.Errno) []byte {
		return join(i32(int32(e)), guesttest.Equal(), []byte{0x45}, guesttest.If(guesttest.Trap()))
	}
	const paths = "spec.secret\x00metadata.labels\x00spec.containers[*].image"
	secret := join(i32(1024), i32(11))
	labels := join(i32(1036), i32(15))
	images := join(i32(1052), i32(24))
	with := func(name string, init []byte, validate, mutate func(register, object, set, remove, add uint32) []byte) attack {
		m := admission("attacker")
		// metadata.labels may be read only, the images be written only.
		m.manifest.Admission.ReadPaths, m.manifest.Admission.WritePaths = []string{"metadata.labels"}, []string{"spec.containers[*].image"}
		var f [5]uint32
		for i, name := range []string{"path_register", "object_get", "object_set", "object_remove", "object_append"} {
			f[i] = m.hostFunc(hostabi.ModuleObject, name)
		}
		m.data = [][]byte{active(1024, []byte(paths)), active(2048, []byte("\x05\x01\x00\x00\x00y"))}
		m.hook(hostabi.ExportInit, join(labels, call(f[0]), guesttest.Drop(), images, call(f[0]), guesttest.Drop()), init, i32(0))
		if validate != nil {
			m.hook(hostabi.ExportAdmissionValidate, validate(f[0], f[1], f[2], f[3], f[4]), i32(0))
		}
		if mutate != nil {
			m.hook(hostabi.ExportAdmissionMutate, mutate(f[0], f[1], f[2], f[3], f[4]), i32(0))
		}
		return attack{name: "trespass: " + name, guest: m, want: harmless}
	}
	type hook = func(register, object, set, remove, add uint32) []byte
	read := func(handle, path []byte, e hostabi.Errno) hook {
		return func(_, object, _, _, _ uint32) []byte {
			return join(handle, path, i32(2048), i32(4096), call(object), expect(e))
		}
	}
	write := func(handle, path, index []byte, e hostabi.Errno) hook {
		return func(_, _, set, remove, add uint32) []byte {
			return join(handle, path, index, i32(2048), i32(6), call(set), expect(e),
				handle, path, index, call(remove), expect(e),
				handle, path, index, i32(2048), i32(6), call(add), expect(e))
		}
	}
	all := []attack{
		with("registers an undeclared path", join(secret, call(0), expect(hostabi.EACCES)), nil, nil),
		with("registers a path above a declared one", join(i32(1036), i32(8), call(0), expect(hostabi.EACCES)), nil, nil),
		with("registers a path in a hook", nil, func(register, _, _, _, _ uint32) []byte {
			return join(secret, call(register), expect(hostabi.ENOTSUP), labels, call(register), expect(hostabi.ENOTSUP))
		}, nil),
		with("reads a path it may only write", nil, read(get(0), i32(1), hostabi.EACCES), nil),
		with("reads a path number nobody gave it", nil, read(get(0), i32(2), hostabi.EINVAL), nil),
		with("reads path number -1", nil, read(get(0), i32(-1), hostabi.EINVAL), nil),
		with("writes a path it may only read", nil, nil, write(get(0), i32(0), i32(-1), hostabi.EACCES)),
		with("writes a path number nobody gave it", nil, nil, write(get(0), i32(1<<30), i32(-1), hostabi.EINVAL)),
		with("writes in the validating hook", nil, write(get(0), i32(1), i32(0), hostabi.ENOTSUP), nil),
		with("writes at position -2", nil, nil, write(get(0), i32(1), i32(-2), hostabi.EINVAL)),
		with("reads in cleat_init", join(i32(1), i32(0), i32(2048), i32(4096), call(1), expect(hostabi.EBADF)), nil, nil),
		with("handle 0", nil, read(i32(0), i32(0), hostabi.EBADF), nil),
		with("handle -1", nil, read(i32(-1), i32(0), hostabi.EBADF), nil),
		with("the next handle", nil, read(join(get(0), i32(1), guesttest.Add()), i32(0), hostabi.EBADF), nil),
		with("the handle before", nil, read(join(get(0), i32(-1), guesttest.Add()), i32(0), hostabi.EBADF), nil),
		with("the handle of the call before", nil, func(_, object, _, _, _ uint32) []byte {
			// Word 512 keeps the handle of the last call, 0 at first: never valid.
			return join(i32(512), guesttest.Load(), i32(0), i32(2048), i32(4096), call(object), expect(hostabi.EBADF),
				i32(512), get(0), guesttest.Store())
		}, nil),
		with("a thousand guessed handles", nil, func(_, object, _, _, _ uint32) []byte {
			guess := join(get(2), i32(7919), []byte{0x6c}, get(0), guesttest.Add())
			return guesttest.Until(join(get(2), i32(1), guesttest.Add(), guesttest.Set(2),
				guess, i32(0), i32(2048), i32(4096), call(object), expect(hostabi.EBADF), get(2), i32(1000), guesttest.Equal()))
		}, nil),
	}
	// Re-entrancy: a host function never calls the guest, so all a guest can do is
	// call its own exports. They then run as what was entered, not as themselves.
	m := admission("attacker")
	m.manifest.Admission.WritePaths = []string{"metadata.labels"}
	register, set := m.hostFunc(hostabi.ModuleObject, "path_register"), m.hostFunc(hostabi.ModuleObject, "object_set")
	m.data = [][]byte{active(1024, []byte("metadata.labels.x")), active(2048, []byte("\x05\x01\x00\x00\x00y"))}
	init := m.hook(hostabi.ExportInit, i32(1024), i32(17), call(register))
	mutate := m.hook(hostabi.ExportAdmissionMutate, get(0), i32(0), i32(-1), i32(2048), i32(6), call(set))
	m.hook(hostabi.ExportAdmissionValidate, call(init), expect(hostabi.ENOTSUP), get(0), get(1), call(mutate), expect(hostabi.ENOTSUP), i32(0))
	all = append(all, attack{name: "re-entrancy: a hook calls cleat_init and another hook", guest: m, want: harmless})

	early := admission("attacker")
	early.hostFunc(hostabi.ModuleObject, "object_get")
	hook1 := early.hook(hostabi.ExportAdmissionValidate, get(1), i64(77), []byte{0x51},
		guesttest.If(join(get(0), i32(0), i32(2048), i32(4096), call(0), expect(hostabi.EBADF))), i32(0))
	early.tables, early.elements = [][]byte{table(1, 1)}, [][]byte{element(hook1)}
	early.hook(hostabi.ExportInitialize, i32(1), i64(77), i32(0), callIndirect(early.typeOf("iI", "i")), guesttest.Drop())
	return append(all, attack{name: "re-entrancy: _initialize calls a hook through a table", guest: early, want: harmless})
}
