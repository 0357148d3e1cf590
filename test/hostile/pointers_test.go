package hostile

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/cleat-dev/cleat/core/pluginhost/guesttest"
	"github.com/cleat-dev/cleat/hostabi"
)

// The memory of the guests of this file, and where they keep the texts that the
// other parameters of a host function point to.
const (
	edgePages = 2
	edgeSize  = edgePages << 16
	edgeTexts = 70_000
)

// edges are addresses and lengths at and around every border there is.
func edges() []int64 {
	return []int64{0, 1, 3, 4, 5, 252, 253, 254, 1023, 1024, 1025, 4095, 4096, 4097, 16 << 10, 16<<10 + 1, 1<<16 - 1, 1 << 16, 1<<16 + 1,
		edgeSize - 4096, edgeSize - 9, edgeSize - 8, edgeSize - 1, edgeSize, edgeSize + 1, 1 << 20, 1<<20 + 1, 4 << 20, 4<<20 + 1,
		1<<31 - 1, 1 << 31, 1<<32 - edgeSize, 1<<32 - 8, 1<<32 - 2, 1<<32 - 1}
}

// addresses are the edges that make sense as an address.
func addresses() []int64 {
	return []int64{0, 1, 1<<16 - 1, 1 << 16, edgeSize - 9, edgeSize - 1, edgeSize, edgeSize + 1, 1<<31 - 1, 1 << 31, 1<<32 - edgeSize, 1<<32 - 2, 1<<32 - 1}
}

// usual is a value that parameter p of a host function accepts.
func usual(p hostabi.Param, texts *[]byte) []byte {
	words := map[string]string{"kind_ptr": "v1/Namespace", "path_ptr": "metadata.name", "name_ptr": "default", "namespace_ptr": "default", "selector_ptr": "a=b"}
	word, ok := words[p.Name]
	if !ok {
		word = "metadata.labels"
	}
	switch p.Role {
	case hostabi.RoleIn:
		at := edgeTexts + len(*texts)
		*texts = append(*texts, word...)
		return guesttest.I32(int32(at))
	case hostabi.RoleLen:
		word, ok = words[p.Name[:len(p.Name)-len("len")]+"ptr"]
		if !ok {
			word = "metadata.labels"
		}
		return guesttest.I32(int32(len(word)))
	case hostabi.RoleBuf:
		return guesttest.I32(8192)
	case hostabi.RoleLimit:
		return guesttest.I32(1024)
	}
	switch p.Name {
	case "handle":
		return nil // the hook pushes its own
	case "index":
		return guesttest.I32(-1)
	}
	return guesttest.I32(0)
}

// edgeCalls is code that calls the function with every pair of address and
// length at every edge, and traps when the host says that it read what is not
// there, or touched a byte it was not given.
func edgeCalls(f hostabi.Function, index uint32, handle []byte, texts *[]byte) (code []byte, calls int) {
	trapIf := guesttest.If(guesttest.Trap())
	var args [][]byte
	for _, p := range f.Params {
		arg := usual(p, texts)
		if arg == nil {
			arg = handle
		}
		args = append(args, arg)
	}
	for i, p := range f.Params {
		if p.Role != hostabi.RoleIn && p.Role != hostabi.RoleBuf {
			continue
		}
		for _, at := range addresses() {
			for _, n := range append(edges(), (edgeSize-at)&(1<<32-1), (edgeSize-at+1)&(1<<32-1)) {
				calls++
				these := slices.Clone(args)
				these[i], these[i+1] = guesttest.I32(int32(uint32(at))), guesttest.I32(int32(uint32(n)))
				call := join(slices.Concat(these...), guesttest.Call(index))
				if p.Role == hostabi.RoleIn {
					if at+n > edgeSize {
						code = join(code, call, guesttest.I32(0), []byte{0x4e}, trapIf) // >= 0
					} else {
						code = join(code, call, guesttest.Drop())
					}
					continue
				}
				var guards []int64
				for _, g := range []int64{at - 1, at + n} {
					if g >= 0 && g < edgeSize {
						guards = append(guards, g)
						code = join(code, guesttest.I32(int32(g)), guesttest.I32(0xa5), []byte{0x3a, 0, 0})
					}
				}
				code = join(code, call, guesttest.Drop())
				for _, g := range guards {
					code = join(code, guesttest.I32(int32(g)), []byte{0x2d, 0, 0}, guesttest.I32(0xa5), []byte{0x47}, trapIf)
				}
			}
		}
	}
	return code, calls
}

// TestPointersAndLengths calls every host function of the ABI with every pointer
// at every edge of memory, in every kind of hook. It is made from the ABI's table,
// so a new function is in it from its first day.
func TestPointersAndLengths(t *testing.T) {
	total := 0
	for _, f := range hostabi.Imports() {
		t.Run(f.Module+"."+f.Name, func(t *testing.T) {
			m := capable(admission("pointers"), f.Module)
			m.manifest.Points = []hostabi.Point{hostabi.PointAdmission, hostabi.PointDeployer}
			m.manifest.Limits.DeadlineMS = 20_000
			m.memories = [][]byte{limits(edgePages, edgePages)}
			register := m.hostFunc(hostabi.ModuleObject, "path_register")
			index := register
			if f.Name != "path_register" {
				index = m.hostFunc(f.Module, f.Name)
			}
			texts := []byte("metadata.labels")
			known := join(guesttest.I32(edgeTexts), guesttest.I32(int32(len(texts))), guesttest.Call(register), guesttest.Drop())
			code, calls := edgeCalls(f, index, guesttest.Get(0), &texts)
			all := m.fn("i", "", code)
			m.data = [][]byte{active(edgeTexts, texts)}
			enter := func(handle []byte) []byte { return join(handle, guesttest.Call(all), guesttest.I32(0)) }
			m.hook(hostabi.ExportInit, known, enter(guesttest.I32(0)))
			m.hook(hostabi.ExportAdmissionMutate, enter(guesttest.Get(0)))
			m.hook(hostabi.ExportAdmissionValidate, enter(guesttest.Get(0)))
			m.hook(hostabi.ExportDeployerRender, enter(guesttest.I32(0)))
			total += 4 * calls

			o := options(t, &logBook{}, lockOf(t, m.bytes())...)
			o.Cluster, o.Renderer = &cluster{}, renderer{}
			h := open(t, o)
			if result := validate(t, h, "pods"); !result.Allowed {
				t.Errorf("validate: %s", result.Message)
			}
			result, err := h.Mutate(context.Background(), request("pods"))
			if err != nil || !result.Allowed && f.Name != "object_set" && f.Name != "object_append" {
				t.Errorf("mutate: %v, %+v", err, result)
			}
			if _, _, err := h.Render(context.Background(), deployInput()); err != nil && lacks(err.Error(), "output") != nil {
				t.Errorf("render: %v", err)
			}
		})
	}
	t.Logf("%d calls", total)
}

// TestForeignPointersAndLengths does the same for what is linked from WASI, whose
// parameters have no roles: each takes every edge in turn.
func TestForeignPointersAndLengths(t *testing.T) {
	all := hostabi.ForeignImports()
	for _, extra := range []struct{ name, params string }{{"poll_oneoff", "iiii"}, {"fd_prestat_get", "ii"}, {"fd_fdstat_get", "ii"}, {"fd_close", "i"}} {
		f := hostabi.Foreign{Module: hostabi.ModuleWASI, Name: extra.name, Results: []hostabi.Type{hostabi.I32}}
		for range extra.params {
			f.Params = append(f.Params, hostabi.I32)
		}
		if !slices.ContainsFunc(all, func(have hostabi.Foreign) bool { return have.Name == f.Name }) {
			all = append(all, f)
		}
	}
	for _, f := range all {
		if len(f.Results) == 0 {
			continue // proc_exit and abort trap
		}
		t.Run(f.Name, func(t *testing.T) {
			m := admission("pointers")
			m.manifest.Limits.DeadlineMS = 20_000
			m.memories = [][]byte{limits(edgePages, edgePages)}
			index := m.importFunc(f.Module, f.Name, spell(f.Params), spell(f.Results))
			// Two buffers for fd_write: one that ends behind the memory, one that wraps.
			m.data = [][]byte{active(64, []byte("\xf8\xff\x01\x00\x10\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff"))}
			var code []byte
			for _, others := range []int32{0, 1, 64} {
				for i := range f.Params {
					for _, edge := range edges() {
						for j, p := range f.Params {
							v := others
							if j == i {
								v = int32(uint32(edge))
							}
							if p == hostabi.I64 {
								code = join(code, i64(int64(v)))
							} else {
								code = join(code, guesttest.I32(v))
							}
						}
						code = join(code, guesttest.Call(index), guesttest.Drop())
					}
				}
			}
			m.hook(hostabi.ExportAdmissionValidate, code, guesttest.I32(0))
			h, _ := alone(t, m.bytes())
			if result := validate(t, h, "pods"); !result.Allowed {
				t.Error(result.Message)
			}
		})
	}
}

// TestStateAbuse stores more than a plugin may keep, and counts what reaches the
// datastore.
func TestStateAbuse(t *testing.T) {
	m := capable(admission("hoarder"), hostabi.ModuleKV)
	m.manifest.Limits.DeadlineMS = 10_000
	m.manifest.Limits.MemoryPages = 64
	set, get := m.hostFunc(hostabi.ModuleKV, "kv_set"), m.hostFunc(hostabi.ModuleKV, "kv_get")
	m.memories = [][]byte{limits(40, 40)}
	i32, local := guesttest.I32, guesttest.Get
	times := func(n int32, code ...[]byte) []byte {
		return join(i32(0), guesttest.Set(2), guesttest.Until(join(join(code...), local(2), i32(1), guesttest.Add(), guesttest.Set(2), local(2), i32(n), guesttest.Equal())))
	}
	key := join(i32(64), letters(local(2)), guesttest.Store())
	m.hook(hostabi.ExportAdmissionValidate,
		times(2000, key, i32(64), i32(4), i32(1<<16), i32(64<<10), guesttest.Call(set), guesttest.Drop()),
		times(2000, key, i32(64), i32(4), i32(1<<16), i32(64<<10+1), guesttest.Call(set), i32(int32(hostabi.E2BIG)), []byte{0x47}, guesttest.If(guesttest.Trap())),
		times(2000, key, i32(64), i32(4), i32(1<<16), i32(64<<10), guesttest.Call(get), guesttest.Drop()), i32(0))
	o := options(t, &logBook{}, lockOf(t, m.bytes())...)
	c := &cluster{}
	o.Cluster = c
	h := open(t, o)
	for range 3 {
		if result := validate(t, h, "pods"); !result.Allowed {
			t.Error(result.Message)
		}
	}
	kept := 0
	for _, v := range c.state["hoarder"] {
		kept += len(v)
	}
	t.Logf("%d keys, %d KiB, %d reads of the datastore", len(c.state["hoarder"]), kept>>10, c.reads)
	if len(c.state["hoarder"]) > hostabi.MaxStateKeys || kept > hostabi.MaxStateKeys*hostabi.MaxStateValue {
		t.Errorf("%d keys of %d bytes together", len(c.state["hoarder"]), kept)
	}
}

// TestLookupAbuse asks for kinds that are not granted, and for far too much.
func TestLookupAbuse(t *testing.T) {
	for kind, allowed := range map[string]bool{"v1/Namespace": true, "v1/Secret": false, "v1/Namespaces": false, "v1/namespace": false, "v1/Namespace\x00": false, "": false} {
		t.Run(fmt.Sprintf("%q", kind), func(t *testing.T) {
			m := capable(admission("curious"), hostabi.ModuleLookup)
			m.manifest.Limits.DeadlineMS = 10_000
			get := m.hostFunc(hostabi.ModuleLookup, "lookup_get")
			m.memories = [][]byte{limits(2, 2)}
			m.data = [][]byte{active(1024, []byte(kind+"default"))}
			i32 := guesttest.I32
			m.hook(hostabi.ExportAdmissionValidate, i32(1024), i32(int32(len(kind))), i32(0), i32(0), i32(1024+int32(len(kind))), i32(7), i32(0), i32(0), i32(2048), i32(4096),
				guesttest.Call(get), i32(0), []byte{0x48}) // 1 for a negative answer: deny
			o := options(t, &logBook{}, lockOf(t, m.bytes())...)
			o.Cluster = &cluster{}
			if result := validate(t, open(t, o), "pods"); result.Allowed != allowed {
				t.Errorf("got %+v", result)
			}
		})
	}
}
