package wasmfile

import "fmt"

// Bounds on what a compiler and a running guest hold for a file, beside the
// guest's memory. Real plugins stay far below.
const (
	maxTypeValues = 100_000 // parameters and results of all types
	maxTables     = 100
	maxGlobals    = 10_000
	maxElements   = 200_000 // functions that all element segments name
	maxSegments   = 100_000 // of data, and of elements
	maxLocals     = 50_000  // variables of one function
	maxCustoms    = 100
	maxCustom     = 32 << 20 // bytes of all custom sections
)

// bound reads the sections that Parse does not describe, for no more than that
// they hold what they say and not too much of it.
func (f *File) bound(id byte, r *reader) error {
	switch id {
	case sectionTable:
		r.count(maxTables, 3)
		return r.err
	case sectionGlobal:
		for range r.count(maxGlobals, 3) {
			r.bytes(2)
			r.constant()
		}
	case sectionElement:
		boundElements(r)
	case sectionDataCount:
		r.most(r.u32(), maxSegments)
	case sectionCode:
		if n := r.count(maxFuncs, 3); r.err == nil && n != f.defined {
			r.fail(fmt.Errorf("%d bodies for %d functions", n, f.defined))
		}
		for r.left() > 0 {
			boundLocals(&reader{data: r.bytes(r.count(MaxBytes, 1))}, r)
		}
	case sectionData:
		for range r.count(maxSegments, 2) {
			boundData(r)
		}
	}
	return r.end()
}

// most fails when n is over the limit.
func (r *reader) most(n uint32, limit int) {
	if r.err == nil && uint64(n) > uint64(limit) {
		r.fail(fmt.Errorf("%d entries, the most is %d", n, limit))
	}
}

// Flags of an element segment.
const (
	elementPassive     = 1 // or declared
	elementExplicit    = 2 // names its table, when it is not passive
	elementExpressions = 4 // of constants instead of function numbers
)

func boundElements(r *reader) {
	total := 0
	for range r.count(maxSegments, 3) {
		flags := r.u32()
		if flags > elementPassive|elementExplicit|elementExpressions {
			r.fail(fmt.Errorf("unknown kind %d of segment", flags))
			return
		}
		if flags&elementPassive == 0 {
			if flags&elementExplicit != 0 {
				r.u32()
			}
			r.constant()
		}
		if flags&(elementPassive|elementExplicit) != 0 {
			r.u8()
		}
		n := r.count(maxElements, 1)
		if total += n; total > maxElements {
			r.fail(fmt.Errorf("more than %d functions in all segments", maxElements))
		}
		if r.err != nil {
			return
		}
		for range n {
			if flags&elementExpressions != 0 {
				r.constant()
			} else {
				r.u32()
			}
		}
	}
}

// boundLocals reads the variables a function body declares; its error is
// that of the section.
func boundLocals(body, section *reader) {
	total := uint64(0)
	for range body.count(maxLocals, 2) {
		n := body.u32()
		body.u8()
		if total += uint64(n); total > maxLocals {
			body.fail(fmt.Errorf("a function of more than %d variables", maxLocals))
		}
		if body.err != nil {
			break
		}
	}
	if body.err != nil {
		section.fail(body.err)
	}
}

// Kinds of data segments.
const (
	dataActive   = 0
	dataPassive  = 1
	dataExplicit = 2 // active, names its memory
)

func boundData(r *reader) {
	switch kind := r.u32(); kind {
	case dataActive:
		r.constant()
	case dataPassive:
	case dataExplicit:
		r.u32()
		r.constant()
	default:
		r.fail(fmt.Errorf("unknown kind %d of segment", kind))
	}
	r.bytes(r.count(MaxBytes, 1))
}

// constant reads a constant expression to its end.
func (r *reader) constant() {
	for r.err == nil {
		switch op := r.u8(); op {
		case 0x0b: // end
			return
		case 0x41, 0x42, 0xd0: // i32.const, i64.const, ref.null
			r.skipLEB()
		case 0x43: // f32.const
			r.bytes(4)
		case 0x44: // f64.const
			r.bytes(8)
		case 0x23, 0xd2: // global.get, ref.func
			r.u32()
		case 0x6a, 0x6b, 0x6c, 0x7c, 0x7d, 0x7e: // add, sub and mul of integers
		case 0xfd: // vectors
			if r.u32() != 12 { // v128.const
				r.fail(fmt.Errorf("unknown instruction %#x in a constant", op))
			}
			r.bytes(16)
		default:
			r.fail(fmt.Errorf("unknown instruction %#x in a constant", op))
		}
	}
}

// skipLEB reads a number of up to 64 bits, signed or not.
func (r *reader) skipLEB() {
	for range 10 {
		if r.u8() < 0x80 {
			return
		}
	}
	r.fail(errOverflow)
}
