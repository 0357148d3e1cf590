package wasmfile

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cleat-dev/cleat/hostabi"
)

// pageBytes is the size of a WebAssembly page.
const pageBytes = 64 << 10

// Capabilities returns the import modules of the capability scheme that the
// file imports from, sorted. What it imports is all it can ever call.
func (f *File) Capabilities() []string {
	var modules []string
	for _, i := range f.Imports {
		if i.Module != hostabi.ModuleWASI && i.Module != hostabi.ModuleEnv && !slices.Contains(modules, i.Module) {
			modules = append(modules, i.Module)
		}
	}
	slices.Sort(modules)
	return modules
}

// CheckManifest returns every way in which the file is not what the manifest
// says, joined, or nil: imports that are undeclared, unknown or of another
// signature, exports that are missing or of another signature, a start
// function, and memory over the limit.
func (f *File) CheckManifest(m hostabi.Manifest) error {
	var errs []error
	for _, i := range f.Imports {
		if err := checkImport(i, m); err != nil {
			errs = append(errs, fmt.Errorf("wasm: import %s.%s: %w", clip(i.Module), clip(i.Name), err))
		}
	}
	for _, want := range m.RequiredExports() {
		if err := f.checkExport(want); err != nil {
			errs = append(errs, fmt.Errorf("wasm: export %s: %w", want.Name, err))
		}
	}
	return errors.Join(append(errs, f.checkStart(), f.checkMemory(m))...)
}

func checkImport(i Import, m hostabi.Manifest) error {
	if i.Kind != KindFunc {
		return fmt.Errorf("a %s; only functions can be imported", i.Kind)
	}
	switch i.Module {
	case hostabi.ModuleWASI:
		return nil // the host links the whole module and answers ENOSYS
	case hostabi.ModuleEnv:
		for _, f := range hostabi.ForeignImports() {
			if f.Module == i.Module && f.Name == i.Name {
				return sameType(i.Func, f.Params, f.Results)
			}
		}
		return errors.New("no host function of that name")
	}
	if !slices.Contains(m.Capabilities, i.Module) {
		return fmt.Errorf("the manifest of %s does not declare the capability", m.Name)
	}
	f, ok := hostabi.Import(i.Module, i.Name)
	if !ok {
		return fmt.Errorf("no host function of that name in ABI %d.%d", hostabi.ABIMajor, hostabi.ABIMinor)
	}
	return sameType(i.Func, f.ParamTypes(), f.Results)
}

func (f *File) checkExport(want hostabi.Function) error {
	for _, e := range f.Exports {
		if e.Name != want.Name {
			continue
		}
		if e.Kind != KindFunc {
			return fmt.Errorf("a %s, want a func", e.Kind)
		}
		return sameType(e.Func, want.ParamTypes(), want.Results)
	}
	return errors.New("missing")
}

// checkStart refuses a start section: it would run before the host has set up
// anything, and before anybody asked.
func (f *File) checkStart() error {
	if f.HasStart {
		return errors.New("wasm: has a start function; build a reactor, which exports _initialize")
	}
	return nil
}

func (f *File) checkMemory(m hostabi.Manifest) error {
	exported := slices.ContainsFunc(f.Exports, func(e Export) bool {
		return e.Name == hostabi.ExportMemory && e.Kind == KindMemory
	})
	switch {
	case len(f.Memories) != 1 || f.Memories[0].Import || !exported:
		return fmt.Errorf("wasm: %d memories, want one of its own, exported as %q", len(f.Memories), hostabi.ExportMemory)
	case m.Limits.MemoryPages != 0 && f.Memories[0].Min > uint64(m.Limits.MemoryPages):
		return fmt.Errorf("wasm: starts with %d pages of %d bytes, limits.memory_pages of %s is %d",
			f.Memories[0].Min, pageBytes, m.Name, m.Limits.MemoryPages)
	}
	return nil
}

func sameType(have FuncType, params, results []hostabi.Type) error {
	if slices.Equal(have.Params, params) && slices.Equal(have.Results, results) {
		return nil
	}
	return fmt.Errorf("signature %v -> %v, want %v -> %v", have.Params, have.Results, params, results)
}
