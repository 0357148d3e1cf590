package pluginhost

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/cleat-dev/cleat/core/pluginhost/guesttest"
	"github.com/cleat-dev/cleat/hostabi"
	"github.com/tetratelabs/wazero"
)

// TestVerifyNamesEveryDifference changes one field of the lock at a time.
func TestVerifyNamesEveryDifference(t *testing.T) {
	wasm := hook("policy", guesttest.I32(0)).Wasm()
	tests := []struct {
		field  string
		change func(*LockedPlugin)
		locked string
		found  string
	}{
		{"sha256", func(p *LockedPlugin) { p.SHA256 = strings.Repeat("0", 64) }, strings.Repeat("0", 64), Digest(wasm)},
		{"name", func(p *LockedPlugin) { p.Name = "other" }, "other", "policy"},
		{"version", func(p *LockedPlugin) { p.Version = "0.9.0" }, "0.9.0", "1.0.0"},
		{"abi", func(p *LockedPlugin) { p.ABI = "1.7" }, "1.7", "1.0"},
		{"points", func(p *LockedPlugin) { p.Points = []hostabi.Point{hostabi.PointCNI} }, "cni", "admission"},
		{"capabilities", func(p *LockedPlugin) { p.Capabilities = p.Capabilities[:1] }, `"cleat_core_v1"`, "cleat_core_v1, cleat_object_v1, cleat_request_v1"},
		{"read_paths", func(p *LockedPlugin) { p.ReadPaths = nil }, "nothing", "metadata.labels, spec.containers[*].image"},
		{"write_paths", func(p *LockedPlugin) { p.WritePaths = []string{"spec"} }, "spec", "metadata.labels, spec.containers[*].image"},
		{"limits.memory_pages", func(p *LockedPlugin) { p.Limits.MemoryPages = 1 }, "1", "a memory that starts with 2"},
	}
	g := hook("policy", guesttest.I32(0))
	for _, test := range tests {
		t.Run(test.field, func(t *testing.T) {
			wasm := wasm
			if test.field == "limits.memory_pages" {
				g.MinPages = 2
				wasm = g.Wasm()
			}
			b := lockOf(t, wasm)
			test.change(&b.lock.Plugins[0])
			_, err := Open(t.Context(), b.options(t))
			var mismatch *Mismatch
			if !errors.As(err, &mismatch) {
				t.Fatalf("got %v, want a mismatch", err)
			}
			if mismatch.Field != test.field || mismatch.Plugin != b.lock.Plugins[0].Name ||
				!strings.Contains(mismatch.Locked, test.locked) || !strings.Contains(mismatch.Found, test.found) {
				t.Errorf("got %+v", mismatch)
			}
			text := err.Error()
			for _, want := range []string{"plugin " + mismatch.Plugin, mismatch.Field, "plugins.lock", mismatch.Fix} {
				if want == "" || !strings.Contains(text, want) {
					t.Errorf("%q lacks %q", text, want)
				}
			}
		})
	}
}

// TestOpenReportsAll has two broken plugins; both are named.
func TestOpenReportsAll(t *testing.T) {
	b := lockOf(t, hook("one", guesttest.I32(0)).Wasm(), hook("two", guesttest.I32(0)).Wasm(), hook("three", guesttest.I32(0)).Wasm())
	b.lock.Plugins[0].Version = "7.7.7"
	delete(b.files, "three.wasm")
	_, err := Open(t.Context(), b.options(t))
	for _, want := range []string{"plugin one: version", "plugin three: source embedded:three.wasm"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	b := lockOf(t, hook("one", guesttest.I32(0)).Wasm())
	b.lock.Plugins[0].Config = map[string]any{"colour": "blue"}
	config, _ := b.lock.Plugins[0].CanonicalConfig()
	b.lock.Plugins[0].ConfigSHA256 = Digest(config)
	_, err := Open(t.Context(), b.options(t))
	if err == nil || !strings.Contains(err.Error(), `config key "colour" is unknown to plugin one`) {
		t.Errorf("got %v", err)
	}
}

// TestInspectRefuses looks at guests that ask for more than they may, or are
// not what they say.
func TestInspectRefuses(t *testing.T) {
	i32 := []hostabi.Type{hostabi.I32}
	base := func(change func(*guesttest.Guest)) []byte {
		g := hook("g", guesttest.I32(0))
		change(&g)
		return g.Wasm()
	}
	imports := func(module, name string, params, results []hostabi.Type) []byte {
		return base(func(g *guesttest.Guest) {
			g.Imports = []guesttest.Import{{Module: module, Name: name, Params: params, Results: results}}
		})
	}
	tests := map[string]struct {
		wasm []byte
		want string
	}{
		"no wasm":                {[]byte("hello"), "not a WebAssembly"},
		"no manifest":            {base(func(g *guesttest.Guest) { g.NoManifest = true }), "built without its manifest"},
		"manifest is no JSON":    {base(func(g *guesttest.Guest) { g.RawManifest = []byte("{") }), "manifest"},
		"oversize manifest":      {base(func(g *guesttest.Guest) { g.RawManifest = bytes.Repeat([]byte(" "), hostabi.MaxManifestBytes+1) }), "the most is 65536"},
		"no marker":              {base(func(g *guesttest.Guest) { g.NoMarker = true }), "cleat_abi_1: missing"},
		"missing hook":           {base(func(g *guesttest.Guest) { delete(g.Hooks, hostabi.ExportAdmissionMutate) }), "cleat_admission_mutate: missing"},
		"undeclared capability":  {imports(hostabi.ModuleRender, "render_yaml", nil, i32), "does not declare the capability"},
		"unknown module":         {imports("cleat_shell_v1", "run", nil, i32), "cleat_shell_v1.run"},
		"unknown function":       {imports(hostabi.ModuleCore, "format_disk", nil, i32), "no host function of that name"},
		"wrong signature":        {imports(hostabi.ModuleCore, "log", i32, i32), "signature [i32] -> [i32], want [i32 i32 i32] -> [i32]"},
		"foreign host":           {imports(hostabi.ModuleEnv, "system", i32, i32), "env.system"},
		"wrong WASI signature":   {imports(hostabi.ModuleWASI, "fd_write", i32, i32), "wasi_snapshot_preview1.fd_write: signature"},
		"WASI without an answer": {imports(hostabi.ModuleWASI, "proc_raise", i32, nil), "proc_raise: this host has no such function"},
		"start function":         {base(func(g *guesttest.Guest) { g.Start = []byte{} }), "start function"},
		"memory over its limit":  {base(func(g *guesttest.Guest) { g.MinPages = 17 }), "starts with 17 pages"},
		"writes identity":        {base(func(g *guesttest.Guest) { g.Manifest.Admission.WritePaths = []string{"metadata"} }), "write path metadata reaches metadata.name, which no plugin may change"},
		"initialize with a result": {base(func(g *guesttest.Guest) {
			g.Hooks[hostabi.ExportInitialize] = []byte{}
			g.Manifest.Name = "Bad Name"
		}), "not a lower-case DNS label"},
	}
	for name, test := range tests {
		_, err := Inspect(test.wasm)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q in it", name, err, test.want)
		}
	}
}

// TestUngrantedImportIsNotLinked goes past the check of the import section: the
// linker itself has nothing but what was granted.
func TestUngrantedImportIsNotLinked(t *testing.T) {
	g := hook("g", guesttest.I32(0), guesttest.HostFunction(hostabi.ModuleRequest, "deny"))
	_, err := openProgram(t.Context(), compileSpec{cache: wazero.NewCompilationCache(), pages: 16, granted: []string{hostabi.ModuleCore}}, g.Wasm())
	if err == nil || !strings.Contains(err.Error(), "import cleat_request_v1.deny is not granted") {
		t.Errorf("got %v", err)
	}
}

// TestUnknownWASIFunctionAnswers calls a WASI function nobody serves.
func TestUnknownWASIFunctionAnswers(t *testing.T) {
	i32 := hostabi.I32
	g := hook("g", guesttest.Code(guesttest.I32(3), guesttest.I32(0), guesttest.Call(0), guesttest.I32(-60), guesttest.Add()),
		guesttest.Import{Module: hostabi.ModuleWASI, Name: "sock_shutdown", Params: []hostabi.Type{i32, i32}, Results: []hostabi.Type{i32}})
	result, err := lockOf(t, g.Wasm()).open(t).Validate(t.Context(), pod())
	if err != nil || !strings.Contains(result.Message, "returned -8") { // ENOSYS 52 - 60
		t.Errorf("got %+v, %v", result, err)
	}
}

func TestFileSources(t *testing.T) {
	dir := t.TempDir()
	inside, outside := filepath.Join(dir, "plugins"), filepath.Join(dir, "outside.wasm")
	wasm := hook("g", guesttest.I32(0)).Wasm()
	for _, err := range []error{os.MkdirAll(filepath.Join(inside, "sub"), 0o755), os.WriteFile(outside, wasm, 0o644),
		os.WriteFile(filepath.Join(inside, "sub", "g.wasm"), wasm, 0o644), os.Symlink(outside, filepath.Join(inside, "link.wasm"))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	open := func(source, pluginsDir string) error {
		b := lockOf(t, wasm)
		b.lock.Plugins[0].Source = source
		o := b.options(t)
		o.PluginsDir = pluginsDir
		h, err := Open(t.Context(), o)
		if err == nil {
			err = h.Close(t.Context())
		}
		return err
	}
	if err := open("file:sub/g.wasm", inside); err != nil {
		t.Errorf("a file of the plugins directory: %v", err)
	}
	for source, want := range map[string]string{
		"file:link.wasm": "escapes from parent",
		"file:sub":       "not a regular file",
		"file:none.wasm": "no such file",
		"oci:example.com/g:1@sha256:" + Digest(nil): "no registry can be asked here",
	} {
		if err := open(source, inside); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", source, err, want)
		}
	}
	if err := open("file:sub/g.wasm", ""); err == nil || !strings.Contains(err.Error(), "--plugins-dir") {
		t.Errorf("without a plugins directory: %v", err)
	}
}

// TestSwappedFile changes the file of a cold plugin after the host was opened
// and its code dropped: what is loaded again must still be what was locked.
func TestSwappedFile(t *testing.T) {
	plan := guesttest.Guest{Manifest: guesttest.Cold("store", hostabi.PointDatastore), Hooks: map[string][]byte{hostabi.ExportDatastorePlan: guesttest.I32(1)}}
	b := lockOf(t, plan.Wasm())
	h := b.open(t)
	if _, err := h.PlanDatastore(t.Context(), hostabi.DatastoreRequest{}); err == nil || !strings.Contains(err.Error(), "no datastore plugin claims") {
		t.Fatalf("got %v", err)
	}
	h.current.Load().plugins[0].drop()
	plan.Hooks[hostabi.ExportDatastorePlan] = guesttest.I32(0)
	b.files["store.wasm"] = &fstest.MapFile{Data: plan.Wasm()}
	_, err := h.PlanDatastore(t.Context(), hostabi.DatastoreRequest{})
	if err == nil || !strings.Contains(err.Error(), "sha256") || !strings.Contains(err.Error(), "changed while the server runs") {
		t.Errorf("got %v", err)
	}
}

// FuzzOpen opens damaged and arbitrary files through every gate. Whatever gets
// past the checks is compiled and run under its limits; nothing panics, hangs
// or is accepted with another digest.
func FuzzOpen(f *testing.F) {
	g := objectGuest("g", []string{"metadata.labels"}, "object_set", set(guesttest.Get(0), 0, -1, "x"), guesttest.I32(0))
	g.TableMin, g.TableMax = 1, 2
	wasm := g.Wasm()
	f.Add(wasm)
	f.Add(hook("h", guesttest.Forever(nil)).Wasm())
	for i := 8; i < len(wasm); i += 7 {
		flipped := slices.Clone(wasm)
		flipped[i] ^= 1 << (i % 8)
		f.Add(flipped)
		f.Add(wasm[:i])
	}
	f.Fuzz(func(t *testing.T, wasm []byte) {
		ins, err := Inspect(wasm)
		if err != nil {
			return
		}
		entry, err := Propose(ins, "embedded:g.wasm", 1)
		if err != nil {
			return
		}
		entry.Limits = LockedLimits{MemoryPages: 64, DeadlineMS: 50, PoolMax: 1}
		text, err := (&Lock{Version: LockVersion, Plugins: []LockedPlugin{entry}}).Marshal()
		if err != nil {
			return
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		h, err := Open(ctx, Options{Lock: text, Embedded: fstest.MapFS{"g.wasm": &fstest.MapFile{Data: wasm}}})
		if err != nil {
			return
		}
		for _, ask := range []hookKind{hookMutate, hookValidate} {
			if _, err := h.admit(ctx, ask, pod()); err != nil {
				t.Errorf("%s: %v", ask.export(), err)
			}
		}
		if err := h.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
	})
}
