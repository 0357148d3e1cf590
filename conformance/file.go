package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cleat-dev/cleat/core/pluginhost"
	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/hostabi/wasmfile"
)

// fileChecks look at the file and run nothing.
func fileChecks() []check {
	valid := []string{"core/manifest-valid"}
	return []check{
		core("core/module", "The plugin ABI",
			"A plugin is a core WebAssembly module.", nil, checkModule),
		core("core/manifest-section", "The plugin ABI",
			"The manifest is in the custom section cleat.plugin, which is there once.", []string{"core/module"}, checkManifestSection),
		core("core/abi-version", "The plugin ABI",
			"The manifest asks for the ABI's major version and a minor version that the host has.", []string{"core/manifest-section"}, checkABIVersion),
		core("core/manifest-valid", "Limits",
			"The manifest is JSON without double keys, within its limits, and every field has a meaning.", []string{"core/abi-version"}, checkManifestValid),
		core("core/abi-marker", "cleat_abi_1",
			"The plugin exports the marker of its ABI major, cleat_abi_1.", valid, checkMarker),
		core("core/imports-granted", "Rules",
			"The import module is the capability: the manifest declares every one that is imported.", valid, checkImportsGranted),
		core("core/imports-known", "Imports",
			"Every import is a function of the ABI with its signature; nothing else links.", []string{"core/imports-granted"}, checkImportsKnown),
		core("core/abi-declared", "Imports",
			"The ABI version of the manifest is that of the newest function imported, or newer.", []string{"core/imports-known"}, checkABIDeclared),
		core("core/exports-signatures", "Exports",
			"The plugin exports cleat_init and the hooks of its points, with their signatures.", valid, checkExports),
		core("core/memory-exported", "The plugin ABI",
			"The plugin has one memory of its own and exports it as memory.", valid, checkMemoryExported),
		core("core/memory-limit", "The plugin ABI",
			"The memory starts within limits.memory_pages of the manifest.", []string{"core/memory-exported"}, checkMemoryLimit),
		core("core/no-start-function", "The plugin ABI",
			"The plugin is a reactor: it has no start function, and no code runs before _initialize.", valid, checkNoStart),
		core("core/host-accepts", "Rules",
			"The host finds nothing else to refuse: tables, write paths, match conditions, WASI functions.",
			[]string{"core/abi-marker", "core/abi-declared", "core/exports-signatures", "core/memory-limit", "core/no-start-function"}, checkHostAccepts),
	}
}

func checkModule(_ context.Context, s *subject) (finding, error) {
	var err error
	if s.file, err = wasmfile.Parse(s.wasm); err != nil {
		return failed("%v", err)
	}
	return passed("is a module with %d imports and %d exports", len(s.file.Imports), len(s.file.Exports))
}

func checkManifestSection(_ context.Context, s *subject) (finding, error) {
	var err error
	if s.manifestText, err = s.file.Custom(hostabi.ManifestSection); err != nil {
		return failed("%v", err)
	}
	return passed("has a manifest of %d bytes", len(s.manifestText))
}

func checkABIVersion(_ context.Context, s *subject) (finding, error) {
	var m struct {
		ABI hostabi.ABIVersion `json:"abi"`
	}
	if err := json.Unmarshal(s.manifestText, &m); err != nil {
		return inapplicable("its manifest cannot be read")
	}
	if m.ABI.Major != hostabi.ABIMajor || m.ABI.Minor > hostabi.ABIMinor {
		return failed("needs ABI %s, this host has %d.%d", m.ABI, hostabi.ABIMajor, hostabi.ABIMinor)
	}
	return passed("needs ABI %s", m.ABI)
}

func checkManifestValid(_ context.Context, s *subject) (finding, error) {
	m, err := hostabi.ParseManifest(s.manifestText)
	if err != nil {
		return failed("%v", err)
	}
	s.manifest = m
	return passed("calls itself %s %s", m.Name, m.Version)
}

func checkMarker(_ context.Context, s *subject) (finding, error) {
	marker, _ := hostabi.Export(hostabi.ExportABIMarker)
	if why := s.lacksExport(marker); why != "" {
		return failed("%s", why)
	}
	return passed("exports %s", marker.Name)
}

func checkImportsGranted(_ context.Context, s *subject) (finding, error) {
	for _, module := range s.file.Capabilities() {
		if !slices.Contains(s.manifest.Capabilities, module) {
			return failed("imports from %s, and its manifest declares %s", clip(module), strings.Join(s.manifest.Capabilities, ", "))
		}
	}
	return passed("imports from %d capabilities, all declared", len(s.file.Capabilities()))
}

func checkImportsKnown(_ context.Context, s *subject) (finding, error) {
	for _, i := range s.file.Imports {
		if i.Kind != wasmfile.KindFunc {
			return failed("imports the %s %s.%s", i.Kind, clip(i.Module), clip(i.Name))
		}
		params, results, known := functionOf(i)
		switch {
		case !known && i.Module == hostabi.ModuleWASI:
			continue // answers ENOSYS
		case !known:
			return failed("imports %s.%s, which ABI %d.%d does not have", clip(i.Module), clip(i.Name), hostabi.ABIMajor, hostabi.ABIMinor)
		case !slices.Equal(i.Func.Params, params) || !slices.Equal(i.Func.Results, results):
			return failed("imports %s.%s as %v -> %v, it is %v -> %v", i.Module, i.Name, i.Func.Params, i.Func.Results, params, results)
		}
	}
	return passed("imports %d functions, all of the ABI", len(s.file.Imports))
}

// functionOf returns the signature of an import as the ABI has it.
func functionOf(i wasmfile.Import) (params, results []hostabi.Type, known bool) {
	if f, ok := hostabi.Import(i.Module, i.Name); ok {
		return f.ParamTypes(), f.Results, true
	}
	for _, f := range hostabi.ForeignImports() {
		if f.Module == i.Module && f.Name == i.Name {
			return f.Params, f.Results, true
		}
	}
	return nil, nil, false
}

func checkABIDeclared(_ context.Context, s *subject) (finding, error) {
	for _, i := range s.file.Imports {
		f, ok := hostabi.Import(i.Module, i.Name)
		if !ok {
			continue
		}
		major, minor, err := parseVersion(f.Since)
		if err != nil {
			return finding{}, err
		}
		if need := (hostabi.ABIVersion{Major: major, Minor: minor}); need.Minor > s.manifest.ABI.Minor {
			return failed("imports %s.%s of ABI %s, and its manifest says %s", i.Module, i.Name, need, s.manifest.ABI)
		}
	}
	return passed("needs nothing newer than ABI %s", s.manifest.ABI)
}

func parseVersion(text string) (major, minor int, err error) {
	before, after, _ := strings.Cut(text, ".")
	major, err = strconv.Atoi(before)
	if err == nil {
		minor, err = strconv.Atoi(after)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("version %q of the ABI's table: %w", text, err)
	}
	return major, minor, nil
}

func checkExports(_ context.Context, s *subject) (finding, error) {
	required := s.manifest.RequiredExports()
	for _, f := range required {
		if f.Name == hostabi.ExportABIMarker {
			continue
		}
		if why := s.lacksExport(f); why != "" {
			return failed("%s", why)
		}
	}
	for _, e := range s.file.Exports {
		if e.Name == hostabi.ExportInitialize && (e.Kind != wasmfile.KindFunc || len(e.Func.Params)+len(e.Func.Results) > 0) {
			return failed("exports %s, which is no function without parameters and results", e.Name)
		}
	}
	return passed("exports %d functions as its points need them", len(required)-1)
}

// lacksExport says why the file does not export f, "" when it does.
func (s *subject) lacksExport(f hostabi.Function) string {
	for _, e := range s.file.Exports {
		switch {
		case e.Name != f.Name:
			continue
		case e.Kind != wasmfile.KindFunc:
			return fmt.Sprintf("exports %s as a %s", f.Name, e.Kind)
		case !slices.Equal(e.Func.Params, f.ParamTypes()) || !slices.Equal(e.Func.Results, f.Results):
			return fmt.Sprintf("exports %s as %v -> %v, it is %v -> %v", f.Name, e.Func.Params, e.Func.Results, f.ParamTypes(), f.Results)
		}
		return ""
	}
	return "does not export " + f.Name
}

func checkMemoryExported(_ context.Context, s *subject) (finding, error) {
	exported := slices.ContainsFunc(s.file.Exports, func(e wasmfile.Export) bool {
		return e.Name == hostabi.ExportMemory && e.Kind == wasmfile.KindMemory
	})
	switch {
	case len(s.file.Memories) != 1:
		return failed("has %d memories", len(s.file.Memories))
	case s.file.Memories[0].Import:
		return failed("imports its memory")
	case !exported:
		return failed("does not export its memory as %s", hostabi.ExportMemory)
	}
	return passed("exports its memory")
}

func checkMemoryLimit(_ context.Context, s *subject) (finding, error) {
	pages, limit := s.file.Memories[0].Min, s.manifest.Limits.MemoryPages
	if limit != 0 && pages > uint64(limit) {
		return failed("starts with %d pages, its limit is %d", pages, limit)
	}
	return passed("starts with %d pages", pages)
}

func checkNoStart(_ context.Context, s *subject) (finding, error) {
	if s.file.HasStart {
		return failed("has a start function")
	}
	return passed("has no start function")
}

func checkHostAccepts(_ context.Context, s *subject) (finding, error) {
	if _, err := pluginhost.Inspect(s.wasm); err != nil {
		return failed("%v", err)
	}
	if err := s.prepare(); err != nil {
		return finding{}, err
	}
	return passed("was accepted by the host")
}

// clip makes text from a plugin fit a report: one line, not too long.
func clip(text string) string { return clipTo(text, 300) }

func clipTo(text string, most int) string {
	text = strings.ToValidUTF8(strings.Join(strings.Fields(text), " "), "?")
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, text)
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

var errNotPrepared = errors.New("the plugin was not prepared")
