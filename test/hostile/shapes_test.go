package hostile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/cleat-dev/cleat/core/pluginhost/guesttest"
	"github.com/cleat-dev/cleat/hostabi"
)

// starts are guests that misbehave before the first request, so that the server
// does not begin with them.
func starts() []attack {
	i32 := guesttest.I32
	at := func(name, export string, want fate, write func(m *module) []byte) attack {
		m := admission("attacker")
		m.hook(export, write(m))
		return attack{name: "start: " + name, guest: m, want: want}
	}
	all := []attack{
		at("trap in _initialize", hostabi.ExportInitialize, refused("plugin attacker: _initialize: ", "unreachable", adviceStart), constant(guesttest.Trap())),
		at("trap in cleat_init", hostabi.ExportInit, refused("plugin attacker: cleat_init: ", "unreachable", adviceStart), constant(guesttest.Trap())),
		at("exit in _initialize", hostabi.ExportInitialize, refused("plugin attacker: _initialize: ", adviceStart), func(m *module) []byte {
			return join(i32(0), guesttest.Call(m.hostFunc(hostabi.ModuleWASI, "proc_exit")))
		}),
		at("recursion in _initialize", hostabi.ExportInitialize, refused("plugin attacker: _initialize: ", "stack overflow", adviceStart), func(m *module) []byte {
			self := m.next()
			m.fn("", "i", guesttest.Call(self))
			return join(guesttest.Call(self), guesttest.Drop())
		}),
		at("cleat_init returns an error number", hostabi.ExportInit, refused("plugin attacker: cleat_init: ", "EIO", adviceStart), constant(i32(-6))),
		at("cleat_init returns 1", hostabi.ExportInit, refused("plugin attacker: cleat_init: "), constant(i32(1))),
		at("memory taken in cleat_init", hostabi.ExportInit, harmless, constant(i32(15), guesttest.GrowMemory(), guesttest.Drop(), i32(0))),
		at("register a thousand paths", hostabi.ExportInit, harmless, func(m *module) []byte {
			// Only the paths grow: the first byte behind the prefix counts.
			register := m.hostFunc(hostabi.ModuleObject, "path_register")
			m.data = [][]byte{active(1024, []byte("metadata.labels.aaaa"))}
			count := join(guesttest.Get(0), i32(1), guesttest.Add(), guesttest.Set(0))
			digits := join(i32(1040), letters(guesttest.Get(0)), guesttest.Store())
			return join(guesttest.Until(join(digits, i32(1024), i32(20), guesttest.Call(register), guesttest.Drop(), count, guesttest.Get(0), i32(1000), guesttest.Equal())),
				// One more is one too many.
				digits, i32(1024), i32(20), guesttest.Call(register), i32(int32(hostabi.E2BIG)), guesttest.Equal(), []byte{0x45})
		}),
	}
	all[3].slow = true
	begins := admission("attacker")
	begins.start = uleb(uint64(begins.fn("", "", guesttest.Forever(nil))))
	hooks := admission("attacker")
	hook := hooks.hook(hostabi.ExportAdmissionValidate, i32(0))
	hooks.start = uleb(uint64(hooks.fn("", "", i32(1), i64(1), guesttest.Call(hook), guesttest.Drop())))
	return append(all,
		attack{name: "start: an endless start function", guest: begins, want: refused("has a start function", "_initialize")},
		attack{name: "start: a start function that calls a hook", guest: hooks, want: refused("has a start function", "_initialize")})
}

// wrongShapes are files whose imports and exports are not those of the ABI. They
// are made from its tables, so that a new function is covered as it comes.
func wrongShapes() []attack {
	var all []attack
	add := func(name string, m *module, says ...string) {
		all = append(all, attack{name: "shape: " + name, guest: m, want: refused(says...)})
	}
	for _, e := range hostabi.Exports() {
		owner := func() *module {
			if len(e.Points) == 0 || e.Points[0] == hostabi.PointAdmission {
				return admission("attacker")
			}
			return plan("attacker", e.Points[0])
		}
		params, results := spell(e.ParamTypes()), spell(e.Results)
		for what, types := range map[string][2]string{
			"a parameter too many": {params + "i", results}, "another result": {params, "I"}, "two results": {params, "ii"}, "other parameters": {"II", results},
		} {
			m := owner()
			body := []byte{0x00}
			m.export(e.Name, 0, m.fn(types[0], types[1], body))
			add(fmt.Sprintf("%s with %s", e.Name, what), m, "export "+e.Name, "want ")
		}
		missing := owner()
		missing.exported = map[string]bool{e.Name: true}
		add(e.Name+" missing", missing, "export "+e.Name, "missing")
		memory := owner()
		memory.export(e.Name, 2, 0)
		add(e.Name+" is a memory", memory, "export "+e.Name, "a memory, want a func")
	}
	for _, f := range hostabi.Imports() {
		for what, types := range map[string][2]string{
			"a parameter too many": {spell(f.ParamTypes()) + "i", spell(f.Results)}, "no result": {spell(f.ParamTypes()), ""}, "wide parameters": {"IIIIIIIIIIII", "i"},
		} {
			m := capable(admission("attacker"), f.Module)
			m.importFunc(f.Module, f.Name, types[0], types[1])
			add(fmt.Sprintf("import of %s with %s", f.Name, what), m, "import "+f.Module+"."+f.Name, "want ")
		}
		m := admission("attacker")
		m.manifest.Capabilities = []string{hostabi.ModuleCore}
		if f.Module == hostabi.ModuleCore {
			m.manifest.Capabilities = []string{hostabi.ModuleRequest}
		}
		m.importFunc(f.Module, f.Name, spell(f.ParamTypes()), spell(f.Results))
		add("import of "+f.Name+" without its capability", m, "import "+f.Module+"."+f.Name, "does not declare the capability")
	}
	for _, f := range hostabi.ForeignImports() {
		m := admission("attacker")
		m.importFunc(f.Module, f.Name, spell(f.Params)+"I", spell(f.Results))
		add(fmt.Sprintf("import of %s with a parameter too many", f.Name), m, "import "+f.Module+"."+f.Name, "want ")
	}
	imported := func(name, mod, function, results string, says ...string) {
		m := admission("attacker")
		m.importFunc(mod, function, "i", results)
		add(name, m, says...)
	}
	imported("import from an unknown module", "cleat_network_v1", "dial", "i", "import cleat_network_v1.dial", "does not declare the capability")
	imported("import from a later major version", "cleat_core_v2", "log", "i", "import cleat_core_v2.log")
	imported("import from a module without a name", "", "", "i", "import .")
	imported("import of an unknown host function", hostabi.ModuleCore, "exec", "i", "import cleat_core_v1.exec", "no host function of that name")
	imported("import of an unknown function of env", "env", "system", "i", "import env.system", "no host function of that name")
	imported("import of an unknown WASI function without a result", hostabi.ModuleWASI, "proc_raise2", "", "has no such function")
	imported("import of an unknown WASI function with a wide result", hostabi.ModuleWASI, "sock_fly", "I", "has no such function")
	for name, kind := range map[string][]byte{"memory": {2, 0, 1}, "table": {1, 0x70, 0, 1}, "global": {3, 0x7f, 0}} {
		m := admission("attacker")
		m.imports = append(m.imports, join(text("env"), text("it"), kind))
		add("import of a "+name, m, "only functions can be imported")
	}
	mem := admission("attacker")
	mem.noMemory = true
	add("no memory", mem, "0 memories, want one of its own")
	hidden := admission("attacker")
	hidden.exported = map[string]bool{hostabi.ExportMemory: true}
	add("memory not exported", hidden, "exported as \"memory\"")
	twice := admission("attacker")
	twice.export("x", 2, 0)
	twice.export("x", 2, 0)
	add("two exports of one name", twice, "export \"x\" twice")
	beyond := admission("attacker")
	beyond.export("x", 0, 1<<31)
	add("export of a function that is not there", beyond, "export \"x\" is function")
	initialize := admission("attacker")
	initialize.export(hostabi.ExportInitialize, 0, initialize.fn("i", "i", guesttest.I32(0)))
	add("_initialize with a parameter", initialize, "export _initialize must be a function without parameters or results")

	// What WASI has and this host has not links, and answers that it is not there.
	stub := hooked("shape: unknown WASI functions that can say no", harmless, func(m *module) []byte {
		open := m.importFunc(hostabi.ModuleWASI, "path_open", "iiiiiIIii", "i")
		sock := m.importFunc(hostabi.ModuleWASI, "sock_accept", "iii", "i")
		nosys := join(guesttest.I32(52), guesttest.Equal(), []byte{0x45}, guesttest.If(guesttest.Trap()))
		zero, wide := guesttest.I32(0), i64(0)
		return join(zero, zero, zero, zero, zero, wide, wide, zero, zero, guesttest.Call(open), nosys,
			zero, zero, zero, guesttest.Call(sock), nosys, zero)
	})
	return append(all, stub)
}

// capable gives the manifest the capability and what it needs.
func capable(m *module, module string) *module {
	for _, have := range m.manifest.Capabilities {
		if have == module {
			return m
		}
	}
	m.manifest.Capabilities = append(m.manifest.Capabilities, module)
	if module == hostabi.ModuleLookup {
		m.manifest.Lookups = []string{"v1/Namespace"}
	}
	return m
}

// wrongManifests are files whose custom section, or whatever is there in place of
// a module, is not one.
func wrongManifests() []attack {
	var all []attack
	add := func(name string, says string, raw ...[]byte) {
		m := admission("attacker")
		m.rawManifests = raw
		all = append(all, attack{name: "manifest: " + name, guest: m, want: refused(says)})
	}
	valid, err := json.Marshal(admission("attacker").manifest)
	if err != nil {
		panic(err)
	}
	with := func(key, value string) []byte {
		return append([]byte(`{"`+key+`":`+value+`,`), valid[1:]...)
	}
	add("none", "not a cleat plugin", [][]byte{}...)
	all[0].guest.rawManifests = [][]byte{}
	add("two", `2 custom sections "cleat.plugin"`, valid, valid)
	add("empty", "json: ends too early", []byte{})
	add("70 KiB", "the most is 65536", append(bytes.Repeat([]byte(" "), 70<<10), valid...))
	add("no UTF-8", "json: not UTF-8", append([]byte("\xff"), valid...))
	add("half of it", "manifest: json: ", valid[:len(valid)/2])
	add("text after it", "text after the value", append(bytes.Clone(valid), '1'))
	add("a list", "manifest: json: cannot unmarshal array", []byte("[]"))
	add("a name twice", "appears twice", with("name", `"other"`))
	add("a name twice in other letters", "appears twice", with("NAME", `"other"`))
	add("30 thousand levels deep", "nested deeper than 64", []byte(strings.Repeat("[", 30_000)))
	add("a number no integer holds", "out of range", with("x", "1e400"))
	change := func(name, says string, edit func(m *hostabi.Manifest)) {
		m := admission("attacker")
		edit(&m.manifest)
		all = append(all, attack{name: "manifest: " + name, guest: m, want: refused(says)})
	}
	change("another major version", "abi.major", func(m *hostabi.Manifest) { m.ABI.Major = 2 })
	change("a later minor version", "use a newer cleat", func(m *hostabi.Manifest) { m.ABI.Minor = 1 << 20 })
	change("a path for a name", "not a lower-case DNS label", func(m *hostabi.Manifest) { m.Name = "../../etc/passwd" })
	change("an escape sequence in its description", "control character", func(m *hostabi.Manifest) { m.Description = "\x1b[2J" })
	change("an unknown capability", "capabilities", func(m *hostabi.Manifest) { m.Capabilities = append(m.Capabilities, "cleat_network_v1") })
	change("an unknown point", "points", func(m *hostabi.Manifest) { m.Points = append(m.Points, "everything") })
	change("4 GiB of memory", "limits.memory_pages", func(m *hostabi.Manifest) { m.Limits.MemoryPages = 1 << 16 })
	change("a deadline of an hour", "limits.deadline_ms", func(m *hostabi.Manifest) { m.Limits.DeadlineMS = 3_600_000 })
	change("a write path to the identity", "no plugin may change", func(m *hostabi.Manifest) { m.Admission.WritePaths = []string{"metadata"} })
	change("a write path to the whole object", "path", func(m *hostabi.Manifest) { m.Admission.WritePaths = []string{""} })
	change("a path of 40 steps", "path", func(m *hostabi.Manifest) { m.Admission.ReadPaths = []string{strings.Repeat("a.", 39) + "a"} })
	change("a hundred rules", "want 1 to 64", func(m *hostabi.Manifest) {
		rule := m.Admission.Rules[0]
		m.Admission.Rules = nil
		for i := range 100 {
			rule.Name = fmt.Sprintf("r%d", i)
			m.Admission.Rules = append(m.Admission.Rules, rule)
		}
	})
	change("a condition that is no expression", "match condition", func(m *hostabi.Manifest) {
		m.Admission.Rules[0].MatchConditions = []hostabi.MatchCondition{{Name: "a", Expression: "object."}}
	})
	change("a condition three hundred parentheses deep", "match condition", func(m *hostabi.Manifest) {
		m.Admission.Rules[0].MatchConditions = []hostabi.MatchCondition{{Name: "a", Expression: strings.Repeat("(", 1500) + "true" + strings.Repeat(")", 1500)}}
	})
	change("a condition that yields a number", "want bool", func(m *hostabi.Manifest) {
		m.Admission.Rules[0].MatchConditions = []hostabi.MatchCondition{{Name: "a", Expression: "1"}}
	})

	file := func(name, says string, wasm []byte) {
		all = append(all, attack{name: "file: " + name, wasm: wasm, guest: admission("attacker"), want: refused(says)})
	}
	good := admission("attacker").bytes()
	file("empty", "not a WebAssembly 1.0 core module", []byte{})
	file("an ELF program", "not a WebAssembly 1.0 core module", []byte("\x7fELF\x02\x01\x01"))
	file("a component", "not a WebAssembly 1.0 core module", []byte("\x00asm\x0d\x00\x01\x00"))
	file("the header alone", "not a cleat plugin", good[:8])
	file("a section longer than the file", "ends too early", append(bytes.Clone(good), 0, 0xff, 0xff, 0x7f))
	file("a length without end", "number has too many bytes", append(bytes.Clone(good), 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff))
	file("a length that stops", "ends too early", append(bytes.Clone(good), 0, 0xff))
	file("a custom section without a name", "ends too early", append(bytes.Clone(good), 0, 0))
	file("a custom section whose name is longer than it", "ends too early", append(bytes.Clone(good), 0, 2, 9, 'x'))
	file("a custom section whose name is no UTF-8", "is not UTF-8", append(bytes.Clone(good), 0, 2, 1, 0xff))
	file("an unknown section", "unknown section 99", append(bytes.Clone(good), 99, 0))
	file("a section twice", "section 5 twice", append(bytes.Clone(good), 5, 1, 0))
	return all
}
