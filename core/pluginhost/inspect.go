package pluginhost

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/hostabi/wasmfile"
	"github.com/tetratelabs/wazero/api"
)

// Inspection is what a plugin's file says about itself; nothing of it was run.
type Inspection struct {
	Manifest hostabi.Manifest
	SHA256   string
	Size     int
	Imports  []wasmfile.Import
	Exports  []wasmfile.Export
	// MemoryPages is the memory an instance starts with, in pages of 64 KiB.
	MemoryPages uint64
	// features are the WebAssembly proposals the guest is compiled with.
	features api.CoreFeatures
}

// Inspect reads a plugin's file and checks that it conforms to the ABI: a valid
// manifest, the exports of its points, no import beyond the capabilities it
// declares. The error names everything that is wrong.
func Inspect(wasm []byte) (*Inspection, error) { return inspect(wasm, Digest(wasm)) }

// inspect is Inspect of a file whose digest is known.
func inspect(wasm []byte, digest string) (*Inspection, error) {
	file, err := wasmfile.Parse(wasm)
	if err != nil {
		return nil, err
	}
	manifest, err := file.Manifest()
	if err != nil {
		return nil, err
	}
	ins := &Inspection{Manifest: manifest, SHA256: digest, Size: len(wasm), Imports: file.Imports, Exports: file.Exports}
	for _, m := range file.Memories {
		ins.MemoryPages += m.Min
	}
	errs := []error{
		file.CheckManifest(manifest),
		checkWASI(file.Imports),
		checkInitialize(file.Exports),
		ins.checkTables(wasm),
		checkWritePaths(manifest),
	}
	if _, err := newAdmission([]*plugin{{manifest: manifest, locked: LockedPlugin{Name: manifest.Name}}}); err != nil {
		errs = append(errs, err)
	}
	return ins, errors.Join(errs...)
}

// checkTables bounds the function tables. A table without a maximum (Go's
// linker writes none) cannot be grown by a guest compiled without reference
// types, so that is what such a guest gets.
func (ins *Inspection) checkTables(wasm []byte) error {
	_, bounded, err := tables(wasm)
	ins.features = api.CoreFeaturesV2
	if !bounded {
		ins.features = ins.features.SetEnabled(api.CoreFeatureReferenceTypes, false)
	}
	return err
}

// checkWASI checks the signatures of the WASI functions the host serves. Any
// other is linked to a stub, if it can report an error.
func checkWASI(imports []wasmfile.Import) error {
	var errs []error
	for _, i := range imports {
		if i.Module != hostabi.ModuleWASI || i.Kind != wasmfile.KindFunc {
			continue
		}
		want, served := wasiSignature(i.Name)
		switch {
		case served && (!slices.Equal(i.Func.Params, want.Params) || !slices.Equal(i.Func.Results, want.Results)):
			errs = append(errs, fmt.Errorf("import %s.%s: signature %v -> %v, want %v -> %v",
				i.Module, i.Name, i.Func.Params, i.Func.Results, want.Params, want.Results))
		case !served && !slices.Equal(i.Func.Results, []hostabi.Type{hostabi.I32}):
			errs = append(errs, fmt.Errorf("import %s.%s: this host has no such function", i.Module, cut(i.Name, 80)))
		}
	}
	return errors.Join(errs...)
}

// wasiSignature returns the signature of a WASI function the host serves: those
// of the ABI, and a few that language runtimes call before anything else.
func wasiSignature(name string) (wasmfile.FuncType, bool) {
	for _, f := range hostabi.ForeignImports() {
		if f.Module == hostabi.ModuleWASI && f.Name == name {
			return wasmfile.FuncType{Params: f.Params, Results: f.Results}, true
		}
	}
	const i32 = hostabi.I32
	sig := wasmfile.FuncType{Results: []hostabi.Type{i32}}
	switch name {
	case "sched_yield":
	case "poll_oneoff":
		sig.Params = []hostabi.Type{i32, i32, i32, i32}
	case "fd_prestat_get", "fd_fdstat_get":
		sig.Params = []hostabi.Type{i32, i32}
	case "fd_close":
		sig.Params = []hostabi.Type{i32}
	default:
		return wasmfile.FuncType{}, false
	}
	return sig, true
}

func checkInitialize(exports []wasmfile.Export) error {
	for _, e := range exports {
		if e.Name == hostabi.ExportInitialize && (e.Kind != wasmfile.KindFunc || len(e.Func.Params)+len(e.Func.Results) > 0) {
			return fmt.Errorf("export %s must be a function without parameters or results", e.Name)
		}
	}
	return nil
}

// identity lists what the API server has already decided about an object when
// admission runs.
func identity() []string {
	return []string{"apiVersion", "kind", "metadata.name", "metadata.namespace", "metadata.uid",
		"metadata.resourceVersion", "metadata.generation", "metadata.creationTimestamp", "metadata.managedFields"}
}

func checkWritePaths(m hostabi.Manifest) error {
	if m.Admission == nil {
		return nil
	}
	var errs []error
	for _, text := range m.Admission.WritePaths {
		path, err := hostabi.ParseFieldPath(text)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, fixed := range identity() {
			f, err := hostabi.ParseFieldPath(fixed)
			if err != nil {
				return err
			}
			if path.Covers(f) || f.Covers(path) {
				errs = append(errs, fmt.Errorf("write path %s reaches %s, which no plugin may change; declare narrower paths", text, fixed))
			}
		}
	}
	return errors.Join(errs...)
}
