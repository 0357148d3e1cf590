package plugincmd

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/cleat-dev/cleat/core/pluginhost"
	"github.com/cleat-dev/cleat/core/pluginhost/guesttest"
	"github.com/cleat-dev/cleat/hostabi"
	"github.com/spf13/pflag"
)

// policy is an admission guest that allows everything.
func policy(change ...func(*guesttest.Guest)) guesttest.Guest {
	allow := guesttest.I32(0)
	g := guesttest.Guest{
		Manifest: guesttest.Admission("policy"),
		Hooks:    map[string][]byte{hostabi.ExportAdmissionMutate: allow, hostabi.ExportAdmissionValidate: allow},
	}
	for _, c := range change {
		c(&g)
	}
	return g
}

func store() guesttest.Guest {
	return guesttest.Guest{Manifest: guesttest.Cold("store", hostabi.PointDatastore), Hooks: map[string][]byte{hostabi.ExportDatastorePlan: guesttest.I32(1)}}
}

// bench is a plugins directory and a lock file for one test.
type bench struct {
	t    *testing.T
	dir  string
	lock string
	deps Deps
}

func newBench(t *testing.T) *bench {
	dir := t.TempDir()
	b := &bench{t: t, dir: filepath.Join(dir, "plugins"), lock: filepath.Join(dir, "plugins.lock")}
	b.deps = Deps{PluginsDir: b.dir}
	if err := os.Mkdir(b.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) put(name string, g guesttest.Guest) string {
	b.t.Helper()
	path := filepath.Join(b.dir, name)
	if err := os.WriteFile(path, g.Wasm(), 0o644); err != nil {
		b.t.Fatal(err)
	}
	return path
}

// run executes `plugin` with the arguments and returns what it printed.
func (b *bench) run(args ...string) (string, error) {
	b.t.Helper()
	var out bytes.Buffer
	cmd := New(b.deps)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs(append(args, "--plugins-lock", b.lock))
	err := cmd.ExecuteContext(b.t.Context())
	return out.String(), err
}

func (b *bench) must(args ...string) string {
	b.t.Helper()
	out, err := b.run(args...)
	if err != nil {
		b.t.Fatalf("plugin %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// wantError runs a command that must fail with all the words.
func (b *bench) wantError(args []string, words ...string) string {
	b.t.Helper()
	out, err := b.run(args...)
	for _, w := range words {
		if err == nil || !strings.Contains(err.Error(), w) {
			b.t.Errorf("plugin %s: got %v, want %q in it", strings.Join(args, " "), err, w)
		}
	}
	return out
}

func wantWords(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("lacks %q:\n%s", w, text)
		}
	}
}

func (b *bench) readLock() *pluginhost.Lock {
	b.t.Helper()
	text, err := os.ReadFile(b.lock)
	if err != nil {
		b.t.Fatal(err)
	}
	lock, err := pluginhost.ParseLock(text)
	if err != nil {
		b.t.Fatal(err)
	}
	return lock
}

func TestLockFromNothing(t *testing.T) {
	b := newBench(t)
	b.wantError([]string{"lock"}, "does not exist yet; name the plugins to lock")
	b.put("store.wasm", store())
	b.put("policy.wasm", policy())
	out := b.must("lock", b.dir)
	wantWords(t, out, "policy 1.0.0: new, order 10", "+ capabilities: cleat_object_v1", "+ write_paths: metadata.labels", "store 1.0.0: new, order 20", "written, 2 plugins")
	first, err := os.ReadFile(b.lock)
	if err != nil {
		t.Fatal(err)
	}
	wantWords(t, b.must("lock", b.dir), "policy 1.0.0: unchanged", "is up to date")
	wantWords(t, b.must("lock"), "is up to date")
	if second, err := os.ReadFile(b.lock); err != nil || !bytes.Equal(first, second) {
		t.Errorf("locking again changes the file: %v", err)
	}
	if p := b.readLock().Find("store"); p == nil || p.Source != "file:store.wasm" {
		t.Errorf("entry %+v", p)
	}
	wantWords(t, b.must("verify"), "policy 1.0.0: ok", "store 1.0.0: ok")
}

func TestLockAsksBeforeNewPowers(t *testing.T) {
	b := newBench(t)
	file := b.put("policy.wasm", policy())
	b.must("lock", file)
	lock := b.readLock()
	lock.Plugins[0].Order, lock.Plugins[0].Limits.DeadlineMS = 70, 777
	b.write(lock)

	// A new version with the same powers is pinned at once and keeps its limits.
	b.put("policy.wasm", policy(func(g *guesttest.Guest) { g.Manifest.Version = "1.1.0" }))
	b.wantError([]string{"verify"}, "plugin policy: version", `plugins.lock has "1.0.0"`, `the plugin has "1.1.0"`, "cleat plugin lock --accept")
	wantWords(t, b.must("lock", file), "+ version: 1.1.0", "- version: 1.0.0", "written")
	if p := b.readLock().Plugins[0]; p.Order != 70 || p.Limits.DeadlineMS != 777 || p.Version != "1.1.0" {
		t.Errorf("entry %+v", p)
	}

	// One that wants more is shown and refused.
	b.put("policy.wasm", policy(func(g *guesttest.Guest) {
		g.Manifest.Version = "2.0.0"
		g.Manifest.Admission.ReadPaths = append(g.Manifest.Admission.ReadPaths, "data")
		g.Manifest.Admission.WritePaths = g.Manifest.Admission.WritePaths[:1]
	}))
	out := b.wantError([]string{"lock", file}, "policy asks for powers", "nothing was written", "--accept")
	wantWords(t, out, "+ read_paths: data", "- write_paths: spec.containers[*].image")
	if v := b.readLock().Plugins[0].Version; v != "1.1.0" {
		t.Errorf("the lock was written: version %s", v)
	}
	b.must("lock", "--accept", file)
	wantWords(t, b.must("verify"), "policy 2.0.0: ok")

	// So is a plugin that was not there before.
	b.wantError([]string{"lock", b.put("store.wasm", store())}, "store asks for powers")
	wantWords(t, b.must("lock", "--accept", b.dir), "store 1.0.0: new, order 80")
}

func (b *bench) write(lock *pluginhost.Lock) {
	b.t.Helper()
	text, err := lock.Marshal()
	if err == nil {
		err = os.WriteFile(b.lock, text, 0o644)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

func TestLockAfterConfigChange(t *testing.T) {
	b := newBench(t)
	b.put("store.wasm", storeWithConfig())
	b.must("lock", b.dir)
	text, err := os.ReadFile(b.lock)
	if err == nil {
		err = os.WriteFile(b.lock, append(text, "\n[plugin.config]\nretain = 5\n"...), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	b.wantError([]string{"verify"}, "plugin store: config_sha256 is locked as", "cleat plugin lock")
	b.must("lock")
	wantWords(t, b.must("verify"), "store 1.0.0: ok")
	if err := os.WriteFile(b.lock, bytes.Replace(append(text, "\n[plugin.config]\nretain = 5\n"...), []byte("retain"), []byte("retian"), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	b.wantError([]string{"lock"}, `config key "retian" is unknown to plugin store; it has retain`)
}

// storeWithConfig is store with a configuration.
func storeWithConfig() guesttest.Guest {
	g := store()
	g.Manifest.ConfigSchema = map[string]hostabi.ConfigField{"retain": {Type: hostabi.ConfigInteger, Default: json.RawMessage("1"), Doc: "how many"}}
	return g
}

func TestLockRefuses(t *testing.T) {
	b := newBench(t)
	outside := filepath.Join(t.TempDir(), "policy.wasm")
	if err := os.WriteFile(outside, policy().Wasm(), 0o644); err != nil {
		t.Fatal(err)
	}
	b.wantError([]string{"lock", outside}, "is outside the plugins directory", "--plugins-dir")
	b.wantError([]string{"lock", filepath.Join(b.dir, "none.wasm")}, "no such file")
	b.wantError([]string{"lock", t.TempDir()}, "has no .wasm files")
	bad := b.put("bad.wasm", policy(func(g *guesttest.Guest) { g.NoMarker = true }))
	b.wantError([]string{"lock", bad}, "bad.wasm", "cleat_abi_1: missing")
	if _, err := os.Stat(b.lock); !os.IsNotExist(err) {
		t.Errorf("a lock was written: %v", err)
	}
}

func TestListAndInspect(t *testing.T) {
	b := newBench(t)
	b.put("store.wasm", storeWithConfig())
	b.deps.Embedded = fstest.MapFS{"policy.wasm": &fstest.MapFile{Data: policy(func(g *guesttest.Guest) {
		g.Imports = []guesttest.Import{guesttest.HostFunction(hostabi.ModuleCore, "log")}
		g.Manifest.Admission.Rules[0].MatchConditions = []hostabi.MatchCondition{{Name: "c", Expression: "object != null"}}
		g.Manifest.Admission.Rules[0].NamespaceSelector = &hostabi.LabelSelector{MatchLabels: map[string]string{"a": "b"}}
	}).Wasm()}}
	file := filepath.Join(t.TempDir(), "policy.wasm")
	if err := os.WriteFile(file, b.deps.Embedded.(fstest.MapFS)["policy.wasm"].Data, 0o644); err != nil {
		t.Fatal(err)
	}
	b.must("lock", "--embedded", file)
	b.must("lock", "--accept", b.dir)
	out := b.must("list")
	digest := b.readLock().Plugins[0].SHA256
	wantWords(t, out, "POINT", "admission", "policy", "1.0.0", digest[:12], "core_v1,object_v1,request_v1", "embedded:policy.wasm", "file:store.wasm")

	var lock pluginhost.Lock
	if err := json.Unmarshal([]byte(b.must("list", "-o", "json")), &lock); err != nil || len(lock.Plugins) != 2 || lock.Plugins[0].SHA256 != digest {
		t.Errorf("%v: %+v", err, lock)
	}
	wantWords(t, b.must("inspect", "policy"), "policy 1.0.0", "sha256         "+digest, "cleat_core_v1.log(i32,i32,i32) -> i32", "cleat_admission_mutate(i32,i64) -> i32",
		"memory memory", "CREATE,UPDATE of pods in core, versions v1", "namespace a=b", "object != null", "spec.containers[*].image")
	wantWords(t, b.must("inspect", filepath.Join(b.dir, "store.wasm")), "retain", "integer, default 1: how many")
	var report inspection
	if err := json.Unmarshal([]byte(b.must("inspect", "store", "-o", "json")), &report); err != nil || report.Manifest.Name != "store" || report.Size == 0 {
		t.Errorf("%v: %+v", err, report)
	}
	b.wantError([]string{"inspect", "nobody"}, `has no plugin "nobody"`, "cleat plugin list")
	b.wantError([]string{"inspect", "policy", "-o", "yaml"}, `"yaml" is unknown; use text or json`)
	b.wantError([]string{"list", "-o", "yaml"}, `"yaml" is unknown; use table, lock or json`)
	wantWords(t, b.wantError([]string{"inspect", b.put("bad.wasm", policy(func(g *guesttest.Guest) { g.NoMarker = true }))}, "does not conform", "cleat_abi_1"), "policy 1.0.0")
}

// TestEmbeddedLock uses the lock of the bundle, without --plugins-lock.
func TestEmbeddedLock(t *testing.T) {
	b := newBench(t)
	file := b.put("policy.wasm", policy())
	b.must("lock", "--embedded", file)
	text, err := os.ReadFile(b.lock)
	if err != nil {
		t.Fatal(err)
	}
	b.deps.Lock, b.deps.Embedded, b.lock = text, os.DirFS(b.dir), ""
	wantWords(t, b.must("list"), "embedded:policy.wasm")
	wantWords(t, b.must("verify"), "policy 1.0.0: ok")
	b.deps.Lock = []byte("version = 3")
	b.wantError([]string{"list"}, "the embedded lock", "version is 3")
}

func TestVerifyFile(t *testing.T) {
	b := newBench(t)
	wantWords(t, b.must("verify", b.put("policy.wasm", policy()), b.put("store.wasm", store())), "policy.wasm: conforms to ABI 1", "store.wasm: conforms to ABI 1")
	b.wantError([]string{"verify", b.put("trap.wasm", policy(func(g *guesttest.Guest) { g.Hooks[hostabi.ExportInit] = guesttest.Trap() }))},
		"trap.wasm does not conform to the plugin ABI: core/init-succeeds")
	b.wantError([]string{"verify", b.put("bad.wasm", policy(func(g *guesttest.Guest) { g.NoManifest = true }))},
		"bad.wasm does not conform", "core/manifest-section")
	b.wantError([]string{"verify", b.put("text.wasm", guesttest.Guest{}), filepath.Join(b.dir, "none.wasm")}, "text.wasm", "none.wasm: no such file")
}

func TestHelp(t *testing.T) {
	b := newBench(t)
	overview := b.must()
	wantWords(t, overview, "Available Commands:")
	names := []string{"new", "bench", "diff", "list", "inspect", "lock", "verify", "enable", "disable", "promote", "remove",
		"reload", "replay", "push", "pull", "sign", "bundle", "install"}
	for _, sub := range names {
		wantWords(t, b.must(sub, "--help"), "Examples:", "cleat plugin "+sub, "--plugins-dir")
	}
	commands := New(b.deps).Commands()
	if len(commands) != len(names) {
		t.Errorf("%d commands, the test knows %d", len(commands), len(names))
	}
	for _, c := range commands {
		if !regexp.MustCompile(`\b` + c.Name() + `\b`).MatchString(New(b.deps).Long) {
			t.Errorf("the overview does not say what %s is for", c.Name())
		}
		if c.Long == "" || c.Long == c.Short {
			t.Errorf("%s: its help says no more than its line in the overview", c.Name())
		}
		for line := range strings.SplitSeq(c.Long+"\n"+c.Example, "\n") {
			if len(line) > 120 {
				t.Errorf("%s: a line is too long for a terminal: %s", c.Name(), line)
			}
		}
		c.Flags().VisitAll(func(f *pflag.Flag) {
			// What stands between backquotes is taken for the name of the value.
			if name, _ := pflag.UnquoteUsage(f); strings.Contains(name, " ") {
				t.Errorf("%s --%s: its help begins with %q", c.Name(), f.Name, name)
			}
		})
	}
}

func TestShadowLock(t *testing.T) {
	b := newBench(t)
	b.wantError([]string{"lock", "--shadow", b.put("next.wasm", policy())}, "no plugin policy", "lock that one first")
	b.must("lock", b.put("policy.wasm", policy()))
	next := b.put("next.wasm", policy(func(g *guesttest.Guest) { g.Manifest.Version = "2.0.0" }))
	wantWords(t, b.must("lock", "--shadow", "--accept", next), "policy 2.0.0 (shadow): new")
	lock := b.readLock()
	if p, s := lock.Find("policy"), lock.FindShadow("policy"); len(lock.Plugins) != 2 || p.Version != "1.0.0" || s.Version != "2.0.0" {
		t.Errorf("lock %+v", lock)
	}
	wantWords(t, b.must("lock"), "is up to date")
	wantWords(t, b.must("verify"), "policy 1.0.0: ok", "policy 2.0.0: ok")
}

func TestToggle(t *testing.T) {
	b := newBench(t)
	b.deps.Socket = filepath.Join(t.TempDir(), "none.sock")
	b.must("lock", b.put("policy.wasm", policy()))
	wantWords(t, b.must("disable", "policy"), "disabled in", "no server runs here")
	if !b.readLock().Plugins[0].Disabled {
		t.Error("the lock does not say so")
	}
	wantWords(t, b.must("disable", "policy"), "disabled already")
	b.must("enable", "policy")
	if b.readLock().Plugins[0].Disabled {
		t.Error("still disabled")
	}
	b.wantError([]string{"enable", "nobody"}, `no plugin "nobody"`)
	b.wantError([]string{"reload"}, "no server answers")
}

func TestDiff(t *testing.T) {
	b := newBench(t)
	old := b.put("old.wasm", policy())
	more := b.put("more.wasm", policy(func(g *guesttest.Guest) {
		g.Manifest.Version = "2.0.0"
		g.Manifest.Admission.ReadPaths = append(g.Manifest.Admission.ReadPaths, "data")
	}))
	wantWords(t, b.must("diff", old, old), "no difference")
	wantWords(t, b.wantError([]string{"diff", old, more}, "asks for powers"), "+ read_paths: data   (new power)", "+ version: 2.0.0")
	wantWords(t, b.must("diff", more, old), "- read_paths: data")
	b.must("lock", old)
	b.wantError([]string{"diff", "policy", more}, "asks for powers")
	b.wantError([]string{"diff", "nobody", more}, `no plugin "nobody"`)
}

func TestBench(t *testing.T) {
	b := newBench(t)
	file := b.put("policy.wasm", policy())
	wantWords(t, b.must("bench", file, "--calls", "50", "--workers", "2"), "P99", "pod of 20 containers", "validate", "mutate", "allow")
	object := filepath.Join(t.TempDir(), "pod.yaml")
	if err := os.WriteFile(object, []byte("kind: Pod\nmetadata: {name: x}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var rows []benchRow
	if err := json.Unmarshal([]byte(b.must("bench", file, "--calls", "10", "--object", object, "-o", "json")), &rows); err != nil || len(rows) != 2 || rows[0].Calls != 10 {
		t.Errorf("%+v, %v", rows, err)
	}
	b.wantError([]string{"bench", file, "--calls", "0"}, "--calls 0 must be")
	b.wantError([]string{"bench", b.put("store.wasm", store())}, "no admission plugin")
	b.wantError([]string{"bench", file, "--object", "none.yaml"}, "none.yaml")
}
