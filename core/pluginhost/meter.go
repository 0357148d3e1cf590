package pluginhost

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/sys"
)

// Machine code of a guest cannot be preempted: neither a deadline nor the garbage
// collector gets in while it runs. wazero's own way out looks at the context at
// the head of every loop, by leaving the guest each time, which costs more than
// most loops do, and a guest that only calls never meets one.
//
// So the meter has the guest count for itself. It adds a variable, the fuel, and
// at the head of every loop and of every function that calls another it takes
// off what lies ahead: the number of instructions up to the next such place.
// When the fuel is used up, the guest calls the host, which looks at the clock
// and either fills up or ends the call. An instruction that works through a
// whole range of memory pays for its length. The guest cannot touch the fuel:
// its code may name only the variables it has itself, which is checked.

const (
	// refuel is how many instructions a guest runs between two looks at the
	// clock, some 25 µs.
	refuel = 50_000
	// graceTicks is how often a guest may look before it counts as late, some
	// 5 ms of its own time: on a busy machine a deadline passes while the guest
	// waits for a processor, and that is not its fault.
	graceTicks = 200
	// callCost is charged for a call, so that a function of up to so many
	// instructions without loops or calls need not count.
	callCost = 30
	// maxBody bounds a function body, and with it the cost of one stretch.
	maxBody = 2 << 20

	// Bounds on what a compiler works on for longer than the file is large.
	maxLocals    = 50_000  // of a function
	maxLoops     = 1000    // of a function, bulk instructions included
	maxLoopWork  = 500_000 // loops of a function times its locals
	maxLoopTotal = 200_000 // of all functions

	moduleGuard  = "cleat_guard" // in no manifest, so no guest can import from it
	functionTick = "tick"
)

const (
	wasmHeader = 8

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

	kindFunction, kindGlobal = 0, 3
	typeFunction             = 0x60
)

// sectionOrder is the order in which sections stand in a module.
func sectionOrder() []byte { return []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 10, 11} }

// meter is a module on its way through.
type meter struct {
	sections [sectionDataCount + 1][]byte
	have     [sectionDataCount + 1]bool

	types     uint64   // that the module has
	params    []uint64 // of each of them
	imported  uint64   // functions
	globals   uint64   // imported and its own
	functions []uint64 // the types of its own functions
	loops     int      // seen so far
}

// metered returns the module with the meter in it, and the one without; both
// lack custom sections.
func metered(wasm []byte) (with, without []byte, err error) {
	m := &meter{}
	if err := m.split(wasm); err != nil {
		return nil, nil, err
	}
	without = m.join(wasm)
	if err := m.rewrite(m.codeSection); err != nil {
		return nil, nil, err
	}
	return m.join(wasm), without, nil
}

// rewrite puts the meter into the sections; code is what it does to the code.
func (m *meter) rewrite(code func(body []byte) ([]byte, error)) error {
	for _, step := range []struct {
		id byte
		do func(body []byte) ([]byte, error)
	}{
		{sectionType, m.typeSection}, {sectionImport, m.importSection}, {sectionFunction, m.functionSection},
		{sectionGlobal, m.globalSection}, {sectionExport, m.exportSection}, {sectionStart, m.startSection},
		{sectionElement, m.elementSection}, {sectionCode, code},
	} {
		out, err := step.do(m.sections[step.id])
		if err != nil {
			return fmt.Errorf("section %d: %w", step.id, err)
		}
		m.sections[step.id] = out
		m.have[step.id] = m.have[step.id] || len(out) > 0
	}
	return nil
}

// join writes the sections.
func (m *meter) join(wasm []byte) []byte {
	out := slices.Clone(wasm[:wasmHeader])
	for _, id := range sectionOrder() {
		if m.have[id] {
			out = append(out, id)
			out = binary.AppendUvarint(out, uint64(len(m.sections[id])))
			out = append(out, m.sections[id]...)
		}
	}
	return out
}

func (m *meter) split(wasm []byte) error {
	if len(wasm) < wasmHeader {
		return errMalformed
	}
	r := &cursor{data: wasm, at: wasmHeader}
	for r.at < len(wasm) {
		id := r.byte()
		body := r.bytes(r.uleb())
		switch {
		case r.err != nil:
			return r.err
		case id == sectionCustom:
		case int(id) >= len(m.sections) || m.have[id]:
			return fmt.Errorf("section %d is unknown or there twice", id)
		default:
			m.sections[id], m.have[id] = body, true
		}
	}
	return nil
}

// moved is where a function is once the tick is among the imports.
func (m *meter) moved(function uint64) uint64 {
	if function >= m.imported {
		return function + 1
	}
	return function
}

// extend returns a vector with one more entry.
func extend(count int, entries []byte, entry ...byte) []byte {
	out := binary.AppendUvarint(nil, uint64(count)+1)
	return append(append(out, entries...), entry...)
}

// orEmpty is an empty vector where the module does not have the section.
func orEmpty(body []byte) []byte {
	if body == nil {
		return []byte{0}
	}
	return body
}

// typeSection counts parameters and adds the type of the tick, (i64) -> i64.
func (m *meter) typeSection(body []byte) ([]byte, error) {
	r := &cursor{data: orEmpty(body)}
	count := r.count()
	head := r.at
	for range count {
		if r.byte() != typeFunction {
			r.fail()
		}
		m.params = append(m.params, uint64(len(r.bytes(r.uleb()))))
		r.bytes(r.uleb())
	}
	m.types = uint64(count)
	return extend(count, r.data[head:r.at], typeFunction, 1, typeI64, 1, typeI64), r.err
}

// importSection adds the tick behind the other imports.
func (m *meter) importSection(body []byte) ([]byte, error) {
	r := &cursor{data: orEmpty(body)}
	count := r.count()
	head := r.at
	for range count {
		r.bytes(r.uleb())
		r.bytes(r.uleb())
		switch kind := r.byte(); kind {
		case kindFunction:
			r.uleb()
			m.imported++
		case kindGlobal:
			r.bytes(2)
			m.globals++
		default:
			return nil, fmt.Errorf("an import of kind %d", kind)
		}
	}
	var tick []byte
	for _, name := range []string{moduleGuard, functionTick} {
		tick = binary.AppendUvarint(tick, uint64(len(name)))
		tick = append(tick, name...)
	}
	tick = binary.AppendUvarint(append(tick, kindFunction), m.types)
	return extend(count, r.data[head:r.at], tick...), r.err
}

func (m *meter) functionSection(body []byte) ([]byte, error) {
	if body == nil {
		return nil, nil
	}
	r := &cursor{data: body}
	for range r.count() {
		m.functions = append(m.functions, r.uleb())
	}
	return body, r.err
}

// globalSection adds the fuel behind the other globals.
func (m *meter) globalSection(body []byte) ([]byte, error) {
	r := &cursor{data: orEmpty(body)}
	count := r.count()
	var entries []byte
	for range count {
		entries = append(entries, r.bytes(2)...)
		entries = m.constant(r, entries)
	}
	m.globals += uint64(count)
	return extend(count, entries, typeI64, 1, opI64Const, 0, opEnd), r.err
}

// constant copies a constant expression with its end.
func (m *meter) constant(r *cursor, out []byte) []byte {
	for r.err == nil {
		in := r.instruction()
		out = m.copy(out, in)
		if in.op == opEnd {
			break
		}
	}
	return out
}

// copy appends an instruction; functions are called by their new number.
func (m *meter) copy(out []byte, in instruction) []byte {
	if in.op == opCall || in.op == opRefFunc {
		return binary.AppendUvarint(append(out, in.op), m.moved(in.index))
	}
	return append(out, in.raw...)
}

func (m *meter) exportSection(body []byte) ([]byte, error) {
	if body == nil {
		return nil, nil
	}
	r := &cursor{data: body}
	count := r.count()
	out := binary.AppendUvarint(nil, uint64(count))
	for range count {
		name := r.bytes(r.uleb())
		kind, index := r.byte(), r.uleb()
		if kind == kindFunction {
			index = m.moved(index)
		}
		out = binary.AppendUvarint(out, uint64(len(name)))
		out = append(append(out, name...), kind)
		out = binary.AppendUvarint(out, index)
	}
	return out, r.err
}

func (m *meter) startSection(body []byte) ([]byte, error) {
	if body == nil {
		return nil, nil
	}
	r := &cursor{data: body}
	return binary.AppendUvarint(nil, m.moved(r.uleb())), r.err
}

// elementSection renumbers the functions in the tables' initial contents.
func (m *meter) elementSection(body []byte) ([]byte, error) {
	if body == nil {
		return nil, nil
	}
	const passive, explicit, expressions = 1, 2, 4
	r := &cursor{data: body}
	count := r.count()
	out := binary.AppendUvarint(nil, uint64(count))
	for range count {
		flags := r.uleb()
		if flags > passive|explicit|expressions {
			return nil, errMalformed
		}
		out = binary.AppendUvarint(out, flags)
		if flags&passive == 0 {
			if flags&explicit != 0 {
				out = binary.AppendUvarint(out, r.uleb())
			}
			out = m.constant(r, out)
		}
		if flags&(passive|explicit) != 0 {
			out = append(out, r.byte())
		}
		n := r.count()
		out = binary.AppendUvarint(out, uint64(n))
		for range n {
			if flags&expressions != 0 {
				out = m.constant(r, out)
			} else {
				out = binary.AppendUvarint(out, m.moved(r.uleb()))
			}
		}
	}
	return out, r.err
}

func (m *meter) codeSection(body []byte) ([]byte, error) {
	if body == nil {
		return nil, nil
	}
	r := &cursor{data: body}
	count := r.count()
	if r.err != nil || count != len(m.functions) {
		return nil, errMalformed
	}
	out := binary.AppendUvarint(make([]byte, 0, 2*len(body)), uint64(count))
	for i := range count {
		function := r.bytes(r.uleb())
		if r.err != nil {
			return nil, r.err
		}
		if len(function) > maxBody {
			return nil, fmt.Errorf("function %d is %d bytes, at most %d are allowed", i, len(function), maxBody)
		}
		if m.functions[i] >= uint64(len(m.params)) {
			return nil, errMalformed
		}
		function, err := m.function(function, m.params[m.functions[i]])
		if err != nil {
			return nil, fmt.Errorf("function %d: %w", i, err)
		}
		out = binary.AppendUvarint(out, uint64(len(function)))
		out = append(out, function...)
	}
	return out, r.err
}

// stretch is code that runs once from its head: a function's outside its loops,
// or a loop's outside the loops in it.
type stretch struct {
	cost int
	at   int // where the cost stands in the output, -1 for the function's
}

// function puts the meter into one body.
func (m *meter) function(function []byte, params uint64) ([]byte, error) {
	r := &cursor{data: function}
	groups := r.count()
	locals := params
	head := r.at
	for range groups {
		if locals += r.uleb(); locals > maxLocals {
			r.fail()
		}
		r.valueType()
	}
	declared := r.data[head:r.at]
	if r.err != nil {
		return nil, r.err
	}
	stretches := []stretch{{at: -1}}
	current := []int{0} // the stretches that are open, innermost last
	blocks := []byte{0} // what is open: a loop, or anything else
	calls, temp, loops := false, false, 0
	var out []byte
	for len(blocks) > 0 {
		in := r.instruction()
		if r.err != nil {
			return nil, r.err
		}
		here := &stretches[current[len(current)-1]]
		here.cost++
		switch in.op {
		case opGlobalGet, opGlobalSet:
			if in.index >= m.globals {
				return nil, fmt.Errorf("it uses variable %d of %d", in.index, m.globals)
			}
		case opBlock, opIf:
			blocks = append(blocks, in.op)
		case opEnd:
			if blocks[len(blocks)-1] == opLoop {
				current = current[:len(current)-1]
			}
			blocks = blocks[:len(blocks)-1]
		case opCall, opCallIndirect:
			calls = true
			here.cost += callCost
		}
		if shift, ok := in.bulkLength(); ok {
			temp = true
			loops++
			out = m.chargeLength(out, locals, shift)
		}
		out = m.copy(out, in)
		if in.op == opLoop {
			loops++
			blocks = append(blocks, opLoop)
			current = append(current, len(stretches))
			stretches = append(stretches, stretch{cost: 1, at: m.costAt(len(out))})
			out = m.charge(out)
		}
	}
	if r.at != len(function) {
		return nil, errMalformed
	}
	if m.loops += loops; loops > maxLoops || uint64(loops)*locals > maxLoopWork || m.loops > maxLoopTotal {
		return nil, fmt.Errorf("%d loops and bulk instructions with %d variables: more than can be compiled in good time", loops, locals)
	}
	for _, s := range stretches[1:] {
		putCost(out[s.at:], s.cost)
	}
	return m.assemble(groups, declared, temp, stretches[0].cost, calls, out), nil
}

// assemble joins declarations, the charge of the function itself and its code.
func (m *meter) assemble(groups int, declared []byte, temp bool, cost int, calls bool, code []byte) []byte {
	if temp {
		groups++
	}
	out := binary.AppendUvarint(make([]byte, 0, len(code)+len(declared)+64), uint64(groups))
	out = append(out, declared...)
	if temp {
		out = append(out, 1, typeI32)
	}
	if calls || cost > callCost {
		at := m.costAt(len(out))
		out = m.charge(out)
		putCost(out[at:], cost)
	}
	return append(out, code...)
}

// costBytes is the room for a cost, as signed LEB128 that is not shortened.
const costBytes = 4

func putCost(to []byte, cost int) {
	for i := range costBytes {
		to[i] = byte(cost>>(7*i))&0x7f | 0x80
	}
	to[costBytes-1] &= 0x7f
}

// costAt is where the cost stands in a charge that begins at start.
func (m *meter) costAt(start int) int {
	return start + 1 + len(binary.AppendUvarint(nil, m.globals)) + 1
}

// charge takes a cost, which is filled in later, off the fuel.
func (m *meter) charge(out []byte) []byte {
	out = binary.AppendUvarint(append(out, opGlobalGet), m.globals)
	out = append(append(out, opI64Const), make([]byte, costBytes)...)
	out = binary.AppendUvarint(append(out, opI64Sub, opGlobalSet), m.globals)
	return append(out, m.check()...)
}

// chargeLength takes the length on top of the stack off the fuel and leaves it
// there; temp is a variable for it.
func (m *meter) chargeLength(out []byte, temp uint64, shift byte) []byte {
	out = binary.AppendUvarint(append(out, opLocalTee), temp)
	out = binary.AppendUvarint(append(out, opGlobalGet), m.globals)
	out = binary.AppendUvarint(append(out, opLocalGet), temp)
	out = append(out, opI64ExtendI32U, opI64Const, shift, opI64ShrU, opI64Sub)
	out = binary.AppendUvarint(append(out, opGlobalSet), m.globals)
	return append(out, m.check()...)
}

// check calls the tick when the fuel is used up.
func (m *meter) check() []byte {
	out := binary.AppendUvarint([]byte{opGlobalGet}, m.globals)
	out = append(out, opI64Const, 0, opI64LtS, opIf, blockEmpty, opGlobalGet)
	out = binary.AppendUvarint(out, m.globals)
	out = binary.AppendUvarint(append(out, opCall), m.imported)
	out = binary.AppendUvarint(append(out, opGlobalSet), m.globals)
	return append(out, opEnd)
}

// errLate ends a call that is past its deadline.
func errLate() error { return sys.NewExitError(sys.ExitCodeDeadlineExceeded) }

// work notes that a guest did so much, in units of a refuel, and ends the call
// if it is late.
func (c *callContext) work(units int) {
	c.ticks += units
	if c.late(time.Now()) || c.Context.Err() != nil {
		panic(errLate())
	}
}

// late reports whether the guest had its time.
func (c *callContext) late(now time.Time) bool {
	return c.ticks > graceTicks && now.After(c.deadline)
}

// tick looks at the clock for a guest whose fuel is used up, and more than used
// up by a bulk instruction.
func tick(ctx context.Context, _ api.Module, stack []uint64) {
	c, ok := ctx.(*callContext)
	if !ok {
		panic(errors.New("a guest ran outside a call"))
	}
	c.work(1 + int(-int64(stack[0])/refuel))
	stack[0] = refuel
}
