// Package wasmfile reads what a WebAssembly binary says about itself (imports,
// exports, memories, custom sections) without compiling or running it, and
// writes custom sections. It is made for files from strangers: what it
// allocates is bounded by the file, and no input panics.
package wasmfile

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/cleat-dev/cleat/hostabi"
)

// MaxBytes is the largest file Parse accepts.
const MaxBytes = 64 << 20

// Bounds on what a file may declare; see also bounds.go.
const (
	maxTypes    = 1 << 16
	maxFuncs    = 100_000
	maxValues   = 1000 // parameters, or results, of one function
	maxImports  = 10_000
	maxExports  = 10_000
	maxMemories = 16
	maxSections = 1000
	maxName     = 1 << 16
)

const header = "\x00asm\x01\x00\x00\x00"

// Section ids of the WebAssembly binary format.
const (
	sectionCustom    = 0
	sectionType      = 1
	sectionImport    = 2
	sectionFunction  = 3
	sectionTable     = 4
	sectionMemory    = 5
	sectionGlobal    = 6
	sectionExport    = 7
	sectionStart     = 8
	sectionElement   = 9
	sectionCode      = 10
	sectionData      = 11
	sectionDataCount = 12
	sectionLast      = 13
)

// Kind is what an import or export is.
type Kind byte

// The kinds of the WebAssembly binary format.
const (
	KindFunc   Kind = 0
	KindTable  Kind = 1
	KindMemory Kind = 2
	KindGlobal Kind = 3
)

// String returns "func", "table", "memory" or "global".
func (k Kind) String() string {
	switch k {
	case KindFunc:
		return "func"
	case KindTable:
		return "table"
	case KindMemory:
		return "memory"
	case KindGlobal:
		return "global"
	}
	return fmt.Sprintf("kind %d", byte(k))
}

// FuncType is the signature of a function.
type FuncType struct {
	Params, Results []hostabi.Type
}

// Import is one entry of the import section.
type Import struct {
	Module, Name string
	Kind         Kind
	Func         FuncType // when Kind is KindFunc
}

// Export is one entry of the export section.
type Export struct {
	Name string
	Kind Kind
	Func FuncType // when Kind is KindFunc
}

// Memory is the size of a memory, in pages of 64 KiB.
type Memory struct {
	Min    uint64
	Max    uint64 // when HasMax
	HasMax bool
	Import bool // the host brings it
}

// CustomSection is one custom section. Data refers to the parsed bytes.
type CustomSection struct {
	Name string
	Data []byte
}

// File is what a WebAssembly binary says about itself, in file order.
type File struct {
	Imports  []Import
	Exports  []Export
	Memories []Memory
	Customs  []CustomSection
	HasStart bool // a start function runs on instantiation

	types       []FuncType
	funcs       []uint32 // type of each function, imported ones first
	defined     int      // functions of its own
	customBytes int      // of all custom sections
}

// section is one section of a file: data[start:end] with its header.
type section struct {
	id         byte
	start, end int
	body       []byte
}

// split cuts a file into its sections.
func split(data []byte) ([]section, error) {
	if len(data) > MaxBytes {
		return nil, fmt.Errorf("wasm: %d bytes, the most is %d", len(data), MaxBytes)
	}
	if !bytes.HasPrefix(data, []byte(header)) {
		return nil, errors.New("wasm: not a WebAssembly 1.0 core module (a component, or no wasm at all)")
	}
	var sections []section
	r := reader{data: data, at: len(header)}
	for r.left() > 0 {
		s := section{start: r.at}
		s.id = r.u8()
		s.body = r.bytes(r.count(MaxBytes, 1))
		s.end = r.at
		if r.err != nil {
			return nil, fmt.Errorf("wasm: section %d at byte %d: %w", s.id, s.start, r.err)
		}
		if s.id > sectionLast {
			return nil, fmt.Errorf("wasm: unknown section %d at byte %d", s.id, s.start)
		}
		if len(sections) == maxSections {
			return nil, fmt.Errorf("wasm: more than %d sections", maxSections)
		}
		sections = append(sections, s)
	}
	return sections, nil
}

// Parse reads the sections of a WebAssembly binary.
func Parse(data []byte) (*File, error) {
	sections, err := split(data)
	if err != nil {
		return nil, err
	}
	f := &File{}
	var seen [sectionLast + 1]bool
	for _, s := range sections {
		if s.id != sectionCustom && seen[s.id] {
			return nil, fmt.Errorf("wasm: section %d twice, again at byte %d", s.id, s.start)
		}
		seen[s.id] = true
		if err := f.read(s); err != nil {
			return nil, fmt.Errorf("wasm: section %d at byte %d: %w", s.id, s.start, err)
		}
	}
	return f, nil
}

func (f *File) read(s section) error {
	r := &reader{data: s.body}
	switch s.id {
	case sectionCustom:
		f.readCustom(r)
	case sectionType:
		f.readTypes(r)
	case sectionImport:
		f.readImports(r)
	case sectionFunction:
		f.defined = r.count(maxFuncs, 1)
		for range f.defined {
			f.funcs = append(f.funcs, f.typeIndex(r))
		}
	case sectionMemory:
		for range r.count(maxMemories, 2) {
			f.Memories = append(f.Memories, readMemory(r))
		}
	case sectionExport:
		f.readExports(r)
	case sectionStart:
		f.HasStart = true
		return nil
	default:
		return f.bound(s.id, r)
	}
	return r.end()
}

func (f *File) readCustom(r *reader) {
	c := CustomSection{r.name(), r.bytes(r.left())}
	f.customBytes += len(r.data)
	switch {
	case len(f.Customs) == maxCustoms:
		r.fail(fmt.Errorf("more than %d custom sections", maxCustoms))
	case f.customBytes > maxCustom:
		r.fail(fmt.Errorf("custom sections of more than %d bytes; build without debug information", maxCustom))
	}
	f.Customs = append(f.Customs, c)
}

func (f *File) readTypes(r *reader) {
	values := 0
	for range r.count(maxTypes, 3) {
		if form := r.u8(); form != 0x60 && r.err == nil {
			r.fail(fmt.Errorf("type form %#x is not a function", form))
		}
		t := FuncType{readValueTypes(r), readValueTypes(r)}
		f.types = append(f.types, t)
		if values += len(t.Params) + len(t.Results); values > maxTypeValues {
			r.fail(fmt.Errorf("more than %d parameters and results in all types", maxTypeValues))
		}
		if r.err != nil {
			return
		}
	}
}

func readValueTypes(r *reader) []hostabi.Type {
	n := r.count(maxValues, 1)
	if n == 0 {
		return nil
	}
	types := make([]hostabi.Type, n)
	for i := range types {
		types[i] = readValueType(r)
	}
	return types
}

func readValueType(r *reader) hostabi.Type {
	switch b := r.u8(); b {
	case 0x7f:
		return hostabi.I32
	case 0x7e:
		return hostabi.I64
	case 0x7d:
		return "f32"
	case 0x7c:
		return "f64"
	case 0x7b:
		return "v128"
	case 0x70:
		return "funcref"
	case 0x6f:
		return "externref"
	default:
		r.fail(fmt.Errorf("unknown value type %#x", b))
		return ""
	}
}

// typeIndex reads an index into types; 0 after a failure.
func (f *File) typeIndex(r *reader) uint32 {
	i := r.u32()
	if r.err == nil && uint64(i) >= uint64(len(f.types)) {
		r.fail(fmt.Errorf("function type %d of %d", i, len(f.types)))
		return 0
	}
	return i
}

func (f *File) readImports(r *reader) {
	for range r.count(maxImports, 4) {
		i := Import{Module: r.name(), Name: r.name(), Kind: Kind(r.u8())}
		switch i.Kind {
		case KindFunc:
			index := f.typeIndex(r)
			if r.err != nil {
				return
			}
			i.Func = f.types[index]
			f.funcs = append(f.funcs, index)
		case KindTable:
			readValueType(r)
			readLimits(r)
		case KindMemory:
			m := readMemory(r)
			m.Import = true
			f.Memories = append(f.Memories, m)
		case KindGlobal:
			readValueType(r)
			r.u8()
		default:
			r.fail(fmt.Errorf("import %q %q is of unknown %s", clip(i.Module), clip(i.Name), i.Kind))
		}
		if r.err != nil {
			return
		}
		f.Imports = append(f.Imports, i)
	}
}

func (f *File) readExports(r *reader) {
	names := map[string]bool{}
	for range r.count(maxExports, 3) {
		e := Export{Name: r.name(), Kind: Kind(r.u8())}
		index := r.u32()
		switch {
		case r.err != nil:
			return
		case names[e.Name]:
			r.fail(fmt.Errorf("export %q twice", clip(e.Name)))
			return
		case e.Kind > KindGlobal:
			r.fail(fmt.Errorf("export %q is of unknown %s", clip(e.Name), e.Kind))
			return
		case e.Kind == KindFunc && uint64(index) >= uint64(len(f.funcs)):
			r.fail(fmt.Errorf("export %q is function %d of %d", clip(e.Name), index, len(f.funcs)))
			return
		case e.Kind == KindFunc:
			e.Func = f.types[f.funcs[index]]
		}
		names[e.Name] = true
		f.Exports = append(f.Exports, e)
	}
}

func readMemory(r *reader) Memory {
	flags, min, max := readLimits(r)
	return Memory{Min: min, Max: max, HasMax: flags&1 != 0}
}

// readLimits reads the limits of a memory or table: flag 1 = with a maximum,
// 2 = shared, 4 = of 64 bits.
func readLimits(r *reader) (flags byte, min, max uint64) {
	flags = r.u8()
	if flags > 7 {
		r.fail(fmt.Errorf("unknown limits flag %#x", flags))
		return flags, 0, 0
	}
	bits := uint(32)
	if flags&4 != 0 {
		bits = 64
	}
	min = r.leb(bits)
	if flags&1 != 0 {
		max = r.leb(bits)
	}
	return flags, min, max
}

func clip(s string) string { return s[:min(len(s), 80)] }
