// Package guesttest assembles small WebAssembly guests for tests: well-behaved
// ones, and those a compiler would never make. It has just the instructions
// such guests need.
package guesttest

import (
	"encoding/binary"
	"encoding/json"

	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/hostabi/wasmfile"
)

// Guest describes a module. The zero Guest has one page of memory and exports
// the marker and a cleat_init that returns 0.
type Guest struct {
	Manifest hostabi.Manifest
	// RawManifest replaces Manifest in the custom section when not nil.
	RawManifest []byte
	NoManifest  bool
	NoMarker    bool

	Imports []Import
	// Functions are called by the hooks only; the i-th has the index
	// len(Imports)+i.
	Functions []Function
	// Hooks are the exported hooks by name with the code of their body, which
	// leaves an i32. cleat_init and _initialize (which leaves nothing) may be
	// among them.
	Hooks map[string][]byte

	MinPages, MaxPages uint32 // MaxPages 0 = no maximum; MinPages 0 = 1
	Data               []byte // at address DataAddress
	TableMin, TableMax uint32 // TableMin 0 = no table; TableMax 0 = no maximum
	Start              []byte // body of a start function, nil for none
}

// Import is one imported function.
type Import struct {
	Module, Name    string
	Params, Results []hostabi.Type
}

// Function is a function that is not exported.
type Function struct {
	Params, Results []hostabi.Type
	Body            []byte
}

// DataAddress is where Guest.Data is put.
const DataAddress = 1024

// HostFunction returns the import of a function of the ABI; Call(i) calls the
// i-th import.
func HostFunction(module, name string) Import {
	f, ok := hostabi.Import(module, name)
	if !ok {
		return Import{Module: module, Name: name, Results: []hostabi.Type{hostabi.I32}}
	}
	return Import{module, name, f.ParamTypes(), f.Results}
}

// deadlineMS is what a guest gets for a call: a busy machine is no fault of the guest's.
// One that comes to no end needs a shorter deadline.
const deadlineMS = 10_000

// Admission returns a manifest of an admission plugin that validates and
// mutates what the rules select; without rules, CREATE and UPDATE of pods.
func Admission(name string, rules ...hostabi.MatchRule) hostabi.Manifest {
	if len(rules) == 0 {
		rules = []hostabi.MatchRule{{
			Name: "pods", Operations: []hostabi.Operation{hostabi.OperationCreate, hostabi.OperationUpdate},
			APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"},
		}}
	}
	return hostabi.Manifest{
		Name: name, Version: "1.0.0", Description: "a guest for tests",
		ABI: hostabi.ABIVersion{Major: hostabi.ABIMajor}, Points: []hostabi.Point{hostabi.PointAdmission},
		Capabilities:  []string{hostabi.ModuleCore, hostabi.ModuleObject, hostabi.ModuleRequest},
		Limits:        hostabi.Limits{MemoryPages: 16, DeadlineMS: deadlineMS},
		FailurePolicy: hostabi.FailurePolicyFail,
		Admission: &hostabi.AdmissionManifest{
			Mutate: true, Validate: true,
			ReadPaths:  []string{"metadata.labels", "spec.containers[*].image"},
			WritePaths: []string{"metadata.labels", "spec.containers[*].image"},
			Rules:      rules,
		},
	}
}

// Cold returns the manifest of a plugin for a plan point.
func Cold(name string, point hostabi.Point) hostabi.Manifest {
	return hostabi.Manifest{
		Name: name, Version: "1.0.0", Description: "a guest for tests",
		ABI: hostabi.ABIVersion{Major: hostabi.ABIMajor}, Points: []hostabi.Point{point},
		Capabilities:  []string{hostabi.ModuleCore, hostabi.ModuleRender},
		Limits:        hostabi.Limits{MemoryPages: 16, DeadlineMS: deadlineMS},
		FailurePolicy: hostabi.FailurePolicyFail,
	}
}

// Wasm returns the bytes of the guest. A manifest that cannot be encoded is a
// mistake of the test and panics.
func (g Guest) Wasm() []byte {
	a := &assembler{guest: g}
	module := a.module()
	if g.NoManifest {
		return module
	}
	text := g.RawManifest
	if text == nil {
		var err error
		if text, err = json.Marshal(g.Manifest); err != nil {
			panic(err)
		}
	}
	wasm, err := wasmfile.SetCustom(module, hostabi.ManifestSection, text)
	if err != nil {
		panic(err)
	}
	return wasm
}

// assembler writes the sections.
type assembler struct {
	guest Guest
	types [][]byte
}

func (a *assembler) module() []byte {
	g := a.guest
	var imports, functions, exports, code [][]byte
	for _, i := range g.Imports {
		imports = append(imports, join(name(i.Module), name(i.Name), []byte{0}, uleb(a.typeOf(i.Params, i.Results))))
	}
	add := func(export string, params, results []hostabi.Type, body []byte) uint32 {
		index := uint32(len(g.Imports) + len(functions))
		functions = append(functions, uleb(a.typeOf(params, results)))
		if export != "" {
			exports = append(exports, join(name(export), []byte{0}, uleb(index)))
		}
		full := join([]byte{1, 4, 0x7f}, body, []byte{0x0b}) // four i32 locals
		code = append(code, join(uleb(uint32(len(full))), full))
		return index
	}
	for _, f := range g.Functions {
		add("", f.Params, f.Results, f.Body)
	}
	if !g.NoMarker {
		add(hostabi.ExportABIMarker, nil, nil, nil)
	}
	if _, own := g.Hooks[hostabi.ExportInit]; !own {
		add(hostabi.ExportInit, nil, []hostabi.Type{hostabi.I32}, I32(0))
	}
	for _, f := range append(hostabi.Exports(), hostabi.Function{Name: hostabi.ExportInitialize}) {
		if body, ok := g.Hooks[f.Name]; ok {
			add(f.Name, f.ParamTypes(), f.Results, body)
		}
	}
	var start []byte
	if g.Start != nil {
		start = uleb(add("", nil, nil, g.Start))
	}
	exports = append(exports, join(name(hostabi.ExportMemory), []byte{2, 0}))

	out := []byte("\x00asm\x01\x00\x00\x00")
	out = section(out, 1, vector(a.types))
	out = section(out, 2, vector(imports))
	out = section(out, 3, vector(functions))
	if g.TableMin > 0 {
		out = section(out, 4, vector([][]byte{join([]byte{0x70}, limits(g.TableMin, g.TableMax))}))
	}
	out = section(out, 5, vector([][]byte{limits(max(g.MinPages, 1), g.MaxPages)}))
	out = section(out, 7, vector(exports))
	if start != nil {
		out = section(out, 8, start)
	}
	out = section(out, 10, vector(code))
	if len(g.Data) > 0 {
		data := join([]byte{0}, I32(DataAddress), []byte{0x0b}, uleb(uint32(len(g.Data))), g.Data)
		out = section(out, 11, vector([][]byte{data}))
	}
	return out
}

// typeOf returns the index of the signature, adding it when it is new.
func (a *assembler) typeOf(params, results []hostabi.Type) uint32 {
	t := join([]byte{0x60}, valueTypes(params), valueTypes(results))
	for i, have := range a.types {
		if string(have) == string(t) {
			return uint32(i)
		}
	}
	a.types = append(a.types, t)
	return uint32(len(a.types) - 1)
}

func valueTypes(types []hostabi.Type) []byte {
	out := uleb(uint32(len(types)))
	for _, t := range types {
		switch t {
		case hostabi.I64:
			out = append(out, 0x7e)
		default:
			out = append(out, 0x7f)
		}
	}
	return out
}

func limits(min, max uint32) []byte {
	if max == 0 {
		return join([]byte{0}, uleb(min))
	}
	return join([]byte{1}, uleb(min), uleb(max))
}

func section(out []byte, id byte, body []byte) []byte {
	return join(out, []byte{id}, uleb(uint32(len(body))), body)
}

func vector(items [][]byte) []byte {
	return join(uleb(uint32(len(items))), join(items...))
}

func name(s string) []byte { return join(uleb(uint32(len(s))), []byte(s)) }

func uleb(n uint32) []byte { return binary.AppendUvarint(nil, uint64(n)) }

func join(parts ...[]byte) []byte {
	var out []byte
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}
