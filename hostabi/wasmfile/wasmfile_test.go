package wasmfile_test

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/hostabi/wasmfile"
)

const (
	header = "\x00asm\x01\x00\x00\x00"
	// Three types: () -> (), () -> i32, (i32 i32 i32) -> i32.
	types = "\x03\x60\x00\x00\x60\x00\x01\x7f\x60\x03\x7f\x7f\x7f\x01\x7f"
	// cleat_core_v1.log and wasi_snapshot_preview1.proc_exit.
	imports = "\x02" + "\x0dcleat_core_v1\x03log\x00\x02" + "\x16wasi_snapshot_preview1\x09proc_exit\x00\x00"
	// Functions 2, 3, 4: () -> (), () -> i32, () -> i32.
	funcs   = "\x03\x00\x01\x01"
	memory  = "\x01\x01\x10\x80\x02" // 16 to 256 pages
	exports = "\x04" + "\x06memory\x02\x00" + "\x0bcleat_abi_1\x00\x02" + "\x0acleat_init\x00\x03" + "\x0ecleat_cni_plan\x00\x04"
)

func section(id byte, body string) string {
	if len(body) < 0x80 {
		return string([]byte{id, byte(len(body))}) + body
	}
	return string([]byte{id, byte(len(body)) | 0x80, byte(len(body) >> 7)}) + body
}

func custom(name, data string) string {
	return section(0, string([]byte{byte(len(name))})+name+data)
}

func module() string {
	return header + section(1, types) + section(2, imports) + section(3, funcs) + section(5, memory) +
		section(7, exports) + custom("producers", "x")
}

const manifest = `{"name":"x","version":"1.2.3","description":"d","abi":{"major":1,"minor":0},"points":["cni"],"capabilities":["cleat_core_v1"]}`

func TestParse(t *testing.T) {
	f, err := wasmfile.Parse([]byte(module()))
	if err != nil {
		t.Fatal(err)
	}
	i32 := []hostabi.Type{hostabi.I32}
	wantImports := []wasmfile.Import{
		{Module: "cleat_core_v1", Name: "log", Func: wasmfile.FuncType{Params: []hostabi.Type{"i32", "i32", "i32"}, Results: i32}},
		{Module: "wasi_snapshot_preview1", Name: "proc_exit"},
	}
	if !reflect.DeepEqual(f.Imports, wantImports) {
		t.Errorf("imports %+v", f.Imports)
	}
	wantExports := []wasmfile.Export{
		{Name: "memory", Kind: wasmfile.KindMemory},
		{Name: "cleat_abi_1"},
		{Name: "cleat_init", Func: wasmfile.FuncType{Results: i32}},
		{Name: "cleat_cni_plan", Func: wasmfile.FuncType{Results: i32}},
	}
	if !reflect.DeepEqual(f.Exports, wantExports) {
		t.Errorf("exports %+v", f.Exports)
	}
	if want := []wasmfile.Memory{{Min: 16, Max: 256, HasMax: true}}; !slices.Equal(f.Memories, want) {
		t.Errorf("memories %+v", f.Memories)
	}
	if !slices.Equal(f.Capabilities(), []string{"cleat_core_v1"}) {
		t.Errorf("capabilities %v", f.Capabilities())
	}
	if data, err := f.Custom("producers"); err != nil || string(data) != "x" {
		t.Errorf("producers %q, %v", data, err)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, tt := range []struct{ name, file, why string }{
		{"nothing", "", "not a WebAssembly"},
		{"component", "\x00asm\x0d\x00\x01\x00", "not a WebAssembly"},
		{"cut section", header + "\x01\x7f\x00", "ends too early"},
		{"unknown section", header + section(14, ""), "unknown section 14"},
		{"section twice", header + section(1, "\x00") + section(1, "\x00"), "section 1 twice"},
		{"many types", header + section(1, "\xff\xff\xff\xff\x0f"), "entries"},
		{"long number", header + section(1, "\xff\xff\xff\xff\xff\x01"), "too many bytes"},
		{"type form", header + section(1, "\x01\x5f\x00\x00"), "not a function"},
		{"value type", header + section(1, "\x01\x60\x01\x01\x00"), "unknown value type"},
		{"left over", header + section(1, "\x00\x00"), "left over"},
		{"missing type", header + section(3, "\x01\x05"), "function type 5 of 0"},
		{"import kind", header + section(2, "\x01\x01a\x01b\x09"), "unknown kind 9"},
		{"import name", header + section(2, "\x01\x01\xff\x01b\x00"), "not UTF-8"},
		{"export kind", header + section(7, "\x01\x01a\x09\x00"), "unknown kind 9"},
		{"export of nothing", header + section(7, "\x01\x01a\x00\x03"), "function 3 of 0"},
		{"export twice", header + section(7, "\x02\x01a\x03\x00\x01a\x03\x00"), "twice"},
		{"limits flag", header + section(5, "\x01\x08\x00"), "limits flag"},
		{"many sections", header + strings.Repeat(custom("a", ""), 1001), "more than 1000 sections"},
	} {
		_, err := wasmfile.Parse([]byte(tt.file))
		if err == nil || !strings.Contains(err.Error(), tt.why) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.why)
		}
	}
}

func TestSetCustom(t *testing.T) {
	file := []byte(module())
	once, err := wasmfile.SetCustom(file, hostabi.ManifestSection, []byte("first"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(once, file) {
		t.Error("SetCustom changed other sections")
	}
	long := strings.Repeat("x", 300)
	twice, err := wasmfile.SetCustom(once, hostabi.ManifestSection, []byte(long))
	if err != nil {
		t.Fatal(err)
	}
	f, err := wasmfile.Parse(twice)
	if err != nil {
		t.Fatal(err)
	}
	if data, err := f.Custom(hostabi.ManifestSection); err != nil || string(data) != long {
		t.Errorf("got %q, %v", data, err)
	}
	direct, err := wasmfile.SetCustom(file, hostabi.ManifestSection, []byte(long))
	if err != nil || !bytes.Equal(direct, twice) {
		t.Errorf("the bytes depend on what was there before: %v", err)
	}
	if _, err := wasmfile.SetCustom([]byte("text"), "a", nil); err == nil {
		t.Error("text is taken for wasm")
	}
}

func TestManifest(t *testing.T) {
	parse := func(file string) (hostabi.Manifest, error) {
		f, err := wasmfile.Parse([]byte(file))
		if err != nil {
			t.Fatal(err)
		}
		return f.Manifest()
	}
	if m, err := parse(module() + custom(hostabi.ManifestSection, manifest)); err != nil || m.Name != "x" {
		t.Errorf("got %+v, %v", m, err)
	}
	if _, err := parse(module()); !errors.Is(err, wasmfile.ErrNoSection) {
		t.Errorf("no manifest: got %v", err)
	}
	if _, err := parse(module() + custom(hostabi.ManifestSection, "{}") + custom(hostabi.ManifestSection, "{}")); err == nil || errors.Is(err, wasmfile.ErrNoSection) {
		t.Errorf("two manifests: got %v", err)
	}
	if _, err := parse(module() + custom(hostabi.ManifestSection, "{}")); err == nil {
		t.Error("an empty manifest is accepted")
	}
}

func TestCheckManifest(t *testing.T) {
	m, err := hostabi.ParseManifest([]byte(manifest))
	if err != nil {
		t.Fatal(err)
	}
	check := func(file string, m hostabi.Manifest) error {
		f, err := wasmfile.Parse([]byte(file))
		if err != nil {
			t.Fatal(err)
		}
		return f.CheckManifest(m)
	}
	if err := check(module(), m); err != nil {
		t.Error(err)
	}

	powerless := m
	powerless.Capabilities = []string{hostabi.ModuleRequest}
	wantError(t, check(module(), powerless), "does not declare the capability")
	other := m
	other.Points = []hostabi.Point{hostabi.PointDatastore}
	wantError(t, check(module(), other), "export cleat_datastore_plan: missing")
	small := m
	small.Limits.MemoryPages = 8
	wantError(t, check(module(), small), "starts with 16 pages")

	for _, tt := range []struct{ old, new, why string }{
		{"\x03log\x00\x02", "\x03fog\x00\x02", "no host function of that name in ABI 1.1"},
		{"\x03log\x00\x02", "\x03log\x00\x01", "signature [] -> [i32], want [i32 i32 i32] -> [i32]"},
		{"\x0acleat_init\x00\x03", "\x0acleat_init\x00\x02", "export cleat_init: signature"},
		{"\x0bcleat_abi_1\x00\x02", "\x0bcleat_abi_2\x00\x02", "export cleat_abi_1: missing"},
		{"\x06memory\x02\x00", "\x06memary\x02\x00", "exported as \"memory\""},
		{section(7, exports), section(7, exports) + section(8, "\x02"), "start function"},
	} {
		file := strings.Replace(module(), tt.old, tt.new, 1)
		if file == module() {
			t.Fatalf("%q is not in the module", tt.old)
		}
		wantError(t, check(file, m), tt.why)
	}
	memoryImport := header + section(2, "\x01\x03env\x06memory\x02\x00\x01") + section(7, "\x01\x06memory\x02\x00")
	wantError(t, check(memoryImport, m), "only functions can be imported")
	stranger := header + section(1, types) + section(2, "\x01\x03env\x04exit\x00\x00")
	wantError(t, check(stranger, m), "import env.exit: no host function of that name")
}

func wantError(t *testing.T, err error, why string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), why) {
		t.Errorf("got %v, want %q", err, why)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(module()))
	f.Add([]byte(module() + custom(hostabi.ManifestSection, "{}")))
	f.Add([]byte(header + section(5, "\x01\x05\x80\x80\x04\x80\x80\x08")))
	m, err := hostabi.ParseManifest([]byte(manifest))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := wasmfile.Parse(data)
		if err != nil {
			return
		}
		// Only their not failing badly matters here.
		_ = file.CheckManifest(m)
		_, _ = file.Manifest()

		set, err := wasmfile.SetCustom(data, "fuzz", []byte("data"))
		if err != nil {
			t.Fatal(err)
		}
		again, err := wasmfile.Parse(set)
		if err != nil {
			if strings.Contains(err.Error(), "more than 1000 sections") || strings.Contains(err.Error(), "custom sections") {
				return
			}
			t.Fatalf("with a section added: %v", err)
		}
		if got, err := again.Custom("fuzz"); err != nil || string(got) != "data" {
			t.Fatalf("got %q, %v", got, err)
		}
		if !reflect.DeepEqual(again.Imports, file.Imports) || !reflect.DeepEqual(again.Exports, file.Exports) {
			t.Fatal("adding a section changed imports or exports")
		}
	})
}
