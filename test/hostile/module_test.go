package hostile

import (
	"encoding/binary"
	"encoding/json"
	"slices"

	"github.com/cleat-dev/cleat/core/pluginhost/guesttest"
	"github.com/cleat-dev/cleat/hostabi"
)

// module writes the bytes of a guest. Unlike guesttest, which makes guests that
// at least their author could want, it writes whatever it is told.
type module struct {
	manifest hostabi.Manifest
	// rawManifests replace the manifest when not nil, each in a section of its own.
	rawManifests [][]byte

	types     [][]byte
	imports   [][]byte
	functions int // imported ones, so far
	defined   [][]byte
	code      [][]byte
	exports   [][]byte
	exported  map[string]bool

	memories [][]byte
	noMemory bool // none of its own, none exported
	tables   [][]byte
	globals  [][]byte
	elements [][]byte
	data     [][]byte
	start    []byte
	// sections replace or add whole sections by id.
	sections map[byte][]byte
	customs  [][]byte
}

// Value types, as a signature is spelt: "iI" is i32, i64.
const (
	typeI32 = 0x7f
	typeI64 = 0x7e
	typeRef = 0x70
)

func signature(spelt string) []byte {
	out := uleb(uint64(len(spelt)))
	for _, c := range spelt {
		if c == 'I' {
			out = append(out, typeI64)
		} else {
			out = append(out, typeI32)
		}
	}
	return out
}

// spell is the inverse of signature, for types of the ABI's table.
func spell(types []hostabi.Type) string {
	var s []byte
	for _, t := range types {
		s = append(s, map[hostabi.Type]byte{hostabi.I64: 'I'}[t])
		if s[len(s)-1] == 0 {
			s[len(s)-1] = 'i'
		}
	}
	return string(s)
}

func (m *module) typeOf(params, results string) uint64 {
	t := join([]byte{0x60}, signature(params), signature(results))
	for i, have := range m.types {
		if slices.Equal(have, t) {
			return uint64(i)
		}
	}
	m.types = append(m.types, t)
	return uint64(len(m.types) - 1)
}

// importFunc imports a function and returns its index. All imports come before
// the first function.
func (m *module) importFunc(mod, name, params, results string) uint32 {
	m.imports = append(m.imports, join(text(mod), text(name), []byte{0}, uleb(m.typeOf(params, results))))
	m.functions++
	return uint32(m.functions - 1)
}

// hostFunc imports a function of the ABI with the signature the ABI gives it.
func (m *module) hostFunc(mod, name string) uint32 {
	if f, ok := hostabi.Import(mod, name); ok {
		return m.importFunc(mod, name, spell(f.ParamTypes()), spell(f.Results))
	}
	for _, f := range hostabi.ForeignImports() {
		if f.Module == mod && f.Name == name {
			return m.importFunc(mod, name, spell(f.Params), spell(f.Results))
		}
	}
	panic("the ABI has no " + mod + "." + name)
}

// next is the index the next function will have.
func (m *module) next() uint32 { return uint32(m.functions + len(m.defined)) }

// fn adds a function with four i32 locals behind its parameters and returns its
// index.
func (m *module) fn(params, results string, body ...[]byte) uint32 {
	return m.raw(params, results, []byte{1, 4, typeI32}, join(body...))
}

// raw adds a function with the given declaration of locals.
func (m *module) raw(params, results string, locals, body []byte) uint32 {
	full := join(locals, body, []byte{opEnd})
	m.defined = append(m.defined, uleb(m.typeOf(params, results)))
	m.code = append(m.code, join(uleb(uint64(len(full))), full))
	return m.next() - 1
}

// export exports what has that index; kind 0 is a function.
func (m *module) export(name string, kind byte, index uint32) {
	m.exports = append(m.exports, join(text(name), []byte{kind}, uleb(uint64(index))))
	if m.exported == nil {
		m.exported = map[string]bool{}
	}
	m.exported[name] = true
}

// hook exports a function under the name and with the signature of the ABI.
func (m *module) hook(name string, body ...[]byte) uint32 {
	params, results := "", ""
	if f, ok := hostabi.Export(name); ok {
		params, results = spell(f.ParamTypes()), spell(f.Results)
	}
	index := m.fn(params, results, body...)
	m.export(name, 0, index)
	return index
}

// bytes completes the module (memory, marker and whatever hook the manifest needs
// and nobody wrote: they answer 0) and writes it.
func (m *module) bytes() []byte {
	for _, f := range m.manifest.RequiredExports() {
		if !m.exported[f.Name] {
			var body []byte
			if len(f.Results) > 0 {
				body = guesttest.I32(0)
			}
			m.hook(f.Name, body)
		}
	}
	return m.bare()
}

// bare writes the module without completing its exports.
func (m *module) bare() []byte {
	if !m.noMemory {
		if m.memories == nil {
			m.memories = [][]byte{limits(1, 0)}
		}
		if !m.exported[hostabi.ExportMemory] {
			m.export(hostabi.ExportMemory, 2, 0)
		}
	}
	bodies := map[byte][]byte{
		1: vector(m.types), 2: vector(m.imports), 3: vector(m.defined), 4: vector(m.tables), 5: vector(m.memories),
		6: vector(m.globals), 7: vector(m.exports), 8: m.start, 9: vector(m.elements), 10: vector(m.code), 11: vector(m.data),
	}
	if len(m.data) > 0 {
		bodies[12] = uleb(uint64(len(m.data)))
	}
	for id, body := range m.sections {
		bodies[id] = body
	}
	out := []byte("\x00asm\x01\x00\x00\x00")
	for _, id := range []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 10, 11} {
		if body := bodies[id]; len(body) > 1 || len(body) == 1 && (id == 8 || body[0] > 0) {
			out = join(out, section(id, body))
		}
	}
	for _, c := range m.customs {
		out = join(out, section(0, c))
	}
	manifests := m.rawManifests
	if manifests == nil {
		encoded, err := json.Marshal(m.manifest)
		if err != nil {
			panic(err)
		}
		manifests = [][]byte{encoded}
	}
	for _, raw := range manifests {
		out = join(out, section(0, join(text(hostabi.ManifestSection), raw)))
	}
	return out
}

func section(id byte, body []byte) []byte {
	return join([]byte{id}, uleb(uint64(len(body))), body)
}

func vector(items [][]byte) []byte { return join(uleb(uint64(len(items))), join(items...)) }

func text(s string) []byte { return join(uleb(uint64(len(s))), []byte(s)) }

func uleb(n uint64) []byte { return binary.AppendUvarint(nil, n) }

func join(parts ...[]byte) []byte { return slices.Concat(parts...) }

// limits are those of a memory or table; most 0 is no maximum.
func limits(least, most uint64) []byte {
	if most == 0 {
		return join([]byte{0}, uleb(least))
	}
	return join([]byte{1}, uleb(least), uleb(most))
}

// table is a table of functions.
func table(least, most uint64) []byte { return join([]byte{typeRef}, limits(least, most)) }

// active is an active data segment.
func active(at int32, content []byte) []byte {
	return join([]byte{0}, guesttest.I32(at), []byte{opEnd}, uleb(uint64(len(content))), content)
}

// element puts functions into table 0 from its first entry on.
func element(functions ...uint32) []byte {
	out := join([]byte{0}, guesttest.I32(0), []byte{opEnd}, uleb(uint64(len(functions))))
	for _, f := range functions {
		out = join(out, uleb(uint64(f)))
	}
	return out
}

// repeat is n copies of code.
func repeat(n int, code ...[]byte) []byte { return slices.Repeat(join(code...), n) }

// Instructions that guesttest has no need for.
const (
	opEnd   = 0x0b
	opDiv64 = 0x80 // unsigned
	opOr64  = 0x84
)

func callIndirect(t uint64) []byte { return join([]byte{0x11}, uleb(t), []byte{0}) }

func i64(n int64) []byte {
	out := []byte{0x42}
	for {
		b := byte(n & 0x7f)
		n >>= 7
		if n == 0 && b&0x40 == 0 || n == -1 && b&0x40 != 0 {
			return append(out, b)
		}
		out = append(out, b|0x80)
	}
}

// Bulk instructions; each pops three numbers.
func memoryFill() []byte { return []byte{0xfc, 11, 0} }
func memoryCopy() []byte { return []byte{0xfc, 10, 0, 0} }
func memoryInit() []byte { return []byte{0xfc, 8, 0, 0} }
func tableFill() []byte  { return []byte{0xfc, 17, 0} }
func tableCopy() []byte  { return []byte{0xfc, 14, 0, 0} }

// growTable grows table t by n null entries and leaves the old size or -1.
func growTable(t byte, n int32) []byte {
	return join([]byte{0xd0, 0x70}, guesttest.I32(n), []byte{0xfc, 15, t})
}

// letters turns the number that v pushes, below 4096, into four letters.
func letters(v []byte) []byte {
	nibble := func(n int32) []byte {
		return join(v, guesttest.I32(4*n), []byte{0x76}, guesttest.I32(15), []byte{0x71}, guesttest.I32(8*n), []byte{0x74})
	}
	return join(nibble(0), nibble(1), []byte{0x72}, nibble(2), []byte{0x72}, guesttest.I32(0x61616161), guesttest.Add())
}
