package conformance_test

import (
	"bytes"
	"strings"

	"github.com/cleat-dev/cleat/core/pluginhost/guesttest"
	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/hostabi/wire"
)

// The guests of these tests are written instruction by instruction. All read
// into one large buffer, and have a function that looks for a text in memory.

const (
	bufferAt    = 1 << 16
	bufferSize  = 1 << 20
	scratchAt   = 16 // below the data
	guestPages  = 32
	pagesLimit  = 64
	guestMillis = 250
)

// guest is a guest under construction.
type guest struct {
	guesttest.Guest
	imports map[string]uint32
	find    uint32
	length  byte // the local that holds how much was read last
}

func newGuest(m hostabi.Manifest, length byte, functions ...[2]string) *guest {
	m.Limits = hostabi.Limits{MemoryPages: pagesLimit, DeadlineMS: guestMillis}
	g := &guest{imports: map[string]uint32{}, length: length}
	g.Manifest, g.MinPages, g.Hooks = m, guestPages, map[string][]byte{}
	for _, f := range functions {
		g.imports[f[1]] = uint32(len(g.Imports))
		g.Imports = append(g.Imports, hostFunction(f[0], f[1]))
	}
	g.find = uint32(len(g.Imports))
	i32 := hostabi.I32
	g.Functions = []guesttest.Function{{Params: []hostabi.Type{i32, i32, i32, i32}, Results: []hostabi.Type{i32}, Body: findBody()}}
	return g
}

func hostFunction(module, name string) guesttest.Import {
	for _, f := range hostabi.ForeignImports() {
		if f.Module == module && f.Name == name {
			return guesttest.Import{Module: module, Name: name, Params: f.Params, Results: f.Results}
		}
	}
	return guesttest.HostFunction(module, name)
}

// Instructions that package guesttest does not have.
var (
	opNe     = []byte{0x47}
	opGtU    = []byte{0x4b}
	opGeU    = []byte{0x4f}
	opAnd    = []byte{0x71}
	opLoad8  = []byte{0x2d, 0x00, 0x00}
	opBlock  = []byte{0x02, 0x40}
	opLoop   = []byte{0x03, 0x40}
	opEnd    = []byte{0x0b}
	opWide   = []byte{0x56} // i64.gt_u
	wideOne  = []byte{0x42, 0x01}
	leaveTwo = []byte{0x0d, 0x01}
	again    = []byte{0x0c, 0x00}
)

// findBody is find(at, length, pattern, patternLength): whether the pattern is
// in the memory.
func findBody() []byte {
	const at, length, pattern, patternLength, i, j = 0, 1, 2, 3, 4, 5
	get, set, add, one := guesttest.Get, guesttest.Set, guesttest.Add(), guesttest.I32(1)
	here := code(get(at), get(i), add, get(j), add, opLoad8)
	there := code(get(pattern), get(j), add, opLoad8)
	return code(
		opBlock, opLoop,
		get(i), get(patternLength), add, get(length), opGtU, leaveTwo,
		guesttest.I32(0), set(j),
		opBlock, opLoop,
		get(j), get(patternLength), guesttest.Equal(), guesttest.If(code(one, guesttest.Return())),
		here, there, opNe, leaveTwo,
		get(j), one, add, set(j), again, opEnd, opEnd,
		get(i), one, add, set(i), again, opEnd, opEnd,
		guesttest.I32(0))
}

func code(parts ...[]byte) []byte { return guesttest.Code(parts...) }

// call calls a host function; the arguments are pushed before.
func (g *guest) call(name string, args ...[]byte) []byte {
	return code(code(args...), guesttest.Call(g.imports[name]))
}

// text pushes address and length of a text, which it adds to the data.
func (g *guest) text(s string) []byte {
	at := bytes.Index(g.Data, []byte(s))
	if at < 0 {
		at = len(g.Data)
		g.Data = append(g.Data, s...)
	}
	return code(guesttest.I32(int32(guesttest.DataAddress+at)), guesttest.I32(int32(len(s))))
}

// value pushes address and length of an encoded text.
func (g *guest) value(s string) []byte { return g.text(string(wire.AppendString(nil, s))) }

func buffer() []byte { return code(guesttest.I32(bufferAt), guesttest.I32(bufferSize)) }

// has pushes whether what was read last has the text in it.
func (g *guest) has(s string) []byte {
	return code(guesttest.I32(bufferAt), guesttest.Get(g.length), g.text(s), guesttest.Call(g.find))
}

// word pushes the 32 bits at an offset of what was read, tag the first byte.
func word(offset int32) []byte { return code(guesttest.I32(bufferAt+offset), guesttest.Load()) }
func tag() []byte              { return code(guesttest.I32(bufferAt), opLoad8) }

func is(n int32) []byte       { return code(guesttest.I32(n), guesttest.Equal()) }
func both(a, b []byte) []byte { return code(a, b, opAnd) }

func when(condition []byte, then ...[]byte) []byte {
	return code(condition, guesttest.If(code(then...)))
}

func trap() []byte { return guesttest.Trap() }

func give(n int32) []byte { return code(guesttest.I32(n), guesttest.Return()) }

// refuse says why and returns EINVAL.
func (g *guest) refuse(why string) []byte {
	return code(g.call("error_set", g.text(why)), guesttest.Drop(), give(int32(hostabi.EINVAL)))
}

// letters fills scratch with eight random letters.
func (g *guest) letters(at int32) []byte {
	letter := func(at int32) []byte {
		return code(guesttest.I32(at), guesttest.I32(at), guesttest.Load(), guesttest.I32(0x0f0f0f0f), opAnd, guesttest.I32(0x61616161), guesttest.Add(), guesttest.Store())
	}
	return code(g.call("random_get", guesttest.I32(at), guesttest.I32(8)), guesttest.Drop(), letter(at), letter(at+4))
}

// Paths of the admission guests, by the number path_register gives them.
const (
	pathHost = iota
	pathImages
	pathLabel
)

func admissionPaths() []string {
	return []string{"spec.hostname", "spec.containers[*].image", "metadata.labels.checked"}
}

// The parts of an admission guest that a wrong one changes. Each begins with
// one of its own, which may return.
type admissionParts struct {
	init     func(*guest) []byte
	host     func(*guest) []byte // validate, once spec.hostname was read
	images   func(*guest) []byte // validate, once the images were read
	request  func(*guest) []byte // validate, once request field `field` was read
	field    hostabi.RequestField
	mutate   func(*guest) []byte
	deny     func(*guest) []byte // instead of calling deny
	limit    int32               // of the buffer, 0 = bufferSize
	settings func(*guest)
}

// admission is a guest that denies pods with a host name from the registry,
// warns, counts, and labels.
func admission(p admissionParts) *guest {
	const core, object, request, wasi = hostabi.ModuleCore, hostabi.ModuleObject, hostabi.ModuleRequest, hostabi.ModuleWASI
	m := guesttest.Admission("guest")
	m.Admission.ReadPaths, m.Admission.WritePaths = admissionPaths(), admissionPaths()[pathLabel:]
	m.Admission.Rules[0].Operations = []hostabi.Operation{hostabi.OperationCreate, hostabi.OperationUpdate, hostabi.OperationDelete}
	g := newGuest(m, 2, [2]string{core, "error_set"}, [2]string{core, "config_get"}, [2]string{object, "path_register"}, [2]string{object, "object_get"},
		[2]string{object, "object_set"}, [2]string{request, "request_get"}, [2]string{request, "deny"}, [2]string{request, "warn"},
		[2]string{request, "audit"}, [2]string{wasi, "random_get"}, [2]string{wasi, "clock_time_get"})
	part := func(f func(*guest) []byte) []byte {
		if f == nil {
			return nil
		}
		return f(g)
	}
	limit := p.limit
	if limit == 0 {
		limit = bufferSize
	}
	read := func(path int32) []byte {
		return code(g.call("object_get", guesttest.Get(0), guesttest.I32(path), guesttest.I32(bufferAt), guesttest.I32(limit)), guesttest.Set(2))
	}
	ask := func(field hostabi.RequestField) []byte {
		return code(g.call("request_get", guesttest.Get(0), guesttest.I32(int32(field)), buffer()), guesttest.Set(2))
	}
	var register []byte
	for _, path := range admissionPaths() {
		register = code(register, g.call("path_register", g.text(path)), guesttest.Drop())
	}
	deny := code(g.call("deny", guesttest.Get(0), g.text("spec.hostname: is set; leave it out"), guesttest.I32(0)), guesttest.Drop())
	if p.deny != nil {
		deny = p.deny(g)
	}
	g.Hooks[hostabi.ExportInit] = code(register, part(p.init), guesttest.I32(0))
	g.Hooks[hostabi.ExportAdmissionValidate] = code(
		ask(p.field), part(p.request),
		read(pathImages), part(p.images),
		g.call("audit", guesttest.Get(0), g.text("seen"), g.text("yes")), guesttest.Drop(),
		read(pathHost), part(p.host),
		when(g.has("registry.local"),
			g.call("warn", guesttest.Get(0), g.text("spec.hostname: is set")), guesttest.Drop(), deny, give(hostabi.VerdictDeny)),
		guesttest.I32(0))
	g.Hooks[hostabi.ExportAdmissionMutate] = code(
		ask(hostabi.RequestOperation), when(g.has("DELETE"), give(0)),
		read(pathLabel), part(p.mutate),
		when(code(tag(), is(0)),
			g.call("object_set", guesttest.Get(0), guesttest.I32(pathLabel), guesttest.I32(-1), g.value("true")), guesttest.Drop()),
		guesttest.I32(0))
	if p.settings != nil {
		p.settings(g)
	}
	return g
}

// planned is a guest of a plan point: it reads its input, does what first says,
// and sets the output when the input has the text mine.
func planned(point hostabi.Point, export, mine, output string, first func(*guest) []byte) *guest {
	const core, wasi = hostabi.ModuleCore, hostabi.ModuleWASI
	g := newGuest(guesttest.Cold("guest", point), 0, [2]string{core, "input_get"}, [2]string{core, "output_set"}, [2]string{core, "error_set"}, [2]string{wasi, "random_get"})
	var before []byte
	if first != nil {
		before = first(g)
	}
	g.Hooks[export] = code(
		g.call("input_get", buffer()), guesttest.Set(0), before,
		when(g.has(mine), g.call("output_set", g.text(output)), guesttest.Drop(), give(hostabi.PlanDecided)),
		guesttest.I32(hostabi.PlanNotMine))
	return g
}

// told sets the output with eight random letters in the place of eight #.
func (g *guest) told(output string) []byte {
	text := g.text(output)
	at := guesttest.DataAddress + bytes.Index(g.Data, []byte(output)) + strings.Index(output, "########")
	return code(g.letters(int32(at)), g.call("output_set", text), guesttest.Drop(), give(hostabi.PlanDecided))
}

func deployer(first func(*guest) []byte) *guest {
	return deployerWith(`{"objects":[{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}}]}`, first)
}

// deployerWith decides about files with a ConfigMap, and refuses one kind of
// garbage.
func deployerWith(output string, first func(*guest) []byte) *guest {
	return planned(hostabi.PointDeployer, hostabi.ExportDeployerRender, "ConfigMap", output, func(g *guest) []byte {
		var before []byte
		if first != nil {
			before = first(g)
		}
		return code(before, when(g.has("[unclosed"), g.refuse("content: a list is not closed; close it")))
	})
}

func cni(first func(*guest) []byte) *guest {
	return cniWith(`{"driver":"none","description":"none"}`, first)
}

func cniWith(output string, first func(*guest) []byte) *guest {
	return planned(hostabi.PointCNI, hostabi.ExportCNIPlan, "{", output, first)
}

func datastore(first func(*guest) []byte) *guest {
	return datastoreWith(`{"driver":"kine","endpoint":"sqlite://","description":"a file"}`, first)
}

func datastoreWith(output string, first func(*guest) []byte) *guest {
	return planned(hostabi.PointDatastore, hostabi.ExportDatastorePlan, `"endpoint":"sqlite`, output, first)
}
