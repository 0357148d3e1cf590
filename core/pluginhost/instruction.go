package pluginhost

// Instructions that the meter has to know by name.
const (
	opBlock, opLoop, opIf      = 0x02, 0x03, 0x04
	opUnreachable, opEnd       = 0x00, 0x0b
	opDrop                     = 0x1a
	memoryFill                 = 0x0b // of opMore
	opBrTable                  = 0x0e
	opCall, opCallIndirect     = 0x10, 0x11
	opSelectTyped              = 0x1c
	opLocalGet, opLocalTee     = 0x20, 0x22
	opGlobalGet, opGlobalSet   = 0x23, 0x24
	opTableGet, opTableSet     = 0x25, 0x26
	opFirstAccess, opLastStore = 0x28, 0x3e
	opMemorySize, opMemoryGrow = 0x3f, 0x40
	opI32Const, opI64Const     = 0x41, 0x42
	opF32Const, opF64Const     = 0x43, 0x44
	opI64LtS                   = 0x53
	opI64Sub, opI64ShrU        = 0x7d, 0x88
	opI64ExtendI32U            = 0xad
	opLastPlain                = 0xc4 // of those without immediates
	opRefNull, opRefIsNull     = 0xd0, 0xd1
	opRefFunc                  = 0xd2
	opMore, opVector           = 0xfc, 0xfd
	blockEmpty                 = 0x40
	typeI32, typeI64           = 0x7f, 0x7e
)

// Instructions behind opMore.
const (
	moreMemoryInit, moreDataDrop, moreMemoryCopy, moreMemoryFill = 8, 9, 10, 11
	moreTableInit, moreElemDrop, moreTableCopy                   = 12, 13, 14
	moreTableGrow, moreTableSize, moreTableFill                  = 15, 16, 17
)

// instruction is one decoded instruction; raw is all of it.
type instruction struct {
	op    byte
	sub   uint64 // behind opMore and opVector
	index uint64 // of a call, ref.func, global.get, global.set
	raw   []byte
}

// valueType reads a type that WebAssembly 2.0 has; later ones take more bytes,
// and readers that know them disagree with those that do not about where an
// instruction ends.
func (r *cursor) valueType() {
	switch t := r.byte(); t {
	case typeI32, typeI64, 0x7d, 0x7c, 0x7b, typeFuncref, typeExternref:
	default:
		r.fail()
	}
}

// blockType reads the type of a block: none, one value, or the index of a type.
func (r *cursor) blockType() {
	const short, most = 0x40, 5
	switch t := r.byte(); {
	case t == blockEmpty, t < short:
	case t < 0x80:
		r.at--
		r.valueType()
	default:
		for n := 2; ; n++ {
			t := r.byte()
			if t < short {
				return
			}
			if t < 0x80 || n == most { // negative, or too long
				r.fail()
				return
			}
		}
	}
}

// instruction reads the next instruction of WebAssembly 2.0 in the one way it
// is usually written. Anything else is malformed: what wazero reads otherwise
// than we do would escape the meter.
func (r *cursor) instruction() instruction {
	start := r.at
	in := instruction{op: r.byte()}
	switch op := in.op; {
	case op == opBlock, op == opLoop, op == opIf:
		r.blockType()
	case op == 0x0c, op == 0x0d: // br, br_if
		r.uleb()
	case op == opBrTable:
		for range r.count() {
			r.uleb()
		}
		r.uleb()
	case op == opCall, op == opRefFunc, op == opGlobalGet, op == opGlobalSet:
		in.index = r.uleb()
	case op == opCallIndirect:
		r.uleb()
		r.uleb()
	case op == opSelectTyped:
		if r.byte() != 1 {
			r.fail()
		}
		r.valueType()
	case op >= opLocalGet && op <= opLocalTee, op == opTableGet, op == opTableSet:
		r.uleb()
	case op >= opFirstAccess && op <= opLastStore:
		r.uleb()
		r.uleb()
	case op == opMemorySize, op == opMemoryGrow:
		if r.byte() != 0 {
			r.fail()
		}
	case op == opRefNull:
		if t := r.byte(); t != typeFuncref && t != typeExternref {
			r.fail()
		}
	case op == opI32Const, op == opI64Const:
		r.skipLEB()
	case op == opF32Const:
		r.bytes(4)
	case op == opF64Const:
		r.bytes(8)
	case op <= 0x01, op == 0x05, op == opEnd, op == 0x0f, op == 0x1a, op == 0x1b, op == opRefIsNull,
		op >= 0x45 && op <= opLastPlain:
	case op == opMore:
		in.sub = uint64(r.byte()) // a byte with its high bit set is none of them
		r.moreImmediates(in.sub)
	case op == opVector:
		in.sub = uint64(r.byte())
		if in.sub >= 0x80 && r.byte() != 1 { // 128 to 255, in their only short form
			r.fail()
		}
		r.vectorImmediates(in.sub)
	default:
		r.fail()
	}
	if r.err == nil {
		in.raw = r.data[start:r.at]
	}
	return in
}

func (r *cursor) moreImmediates(sub uint64) {
	switch sub {
	case 0, 1, 2, 3, 4, 5, 6, 7:
	case moreDataDrop, moreMemoryFill, moreElemDrop, moreTableGrow, moreTableSize, moreTableFill:
		r.uleb()
	case moreMemoryInit, moreMemoryCopy, moreTableInit, moreTableCopy:
		r.uleb()
		r.uleb()
	default:
		r.fail()
	}
}

func (r *cursor) vectorImmediates(sub uint64) {
	switch {
	case sub <= 11, sub == 92, sub == 93: // loads and stores
		r.uleb()
		r.uleb()
	case sub == 12, sub == 13: // a constant, a shuffle
		r.bytes(16)
	case sub >= 21 && sub <= 34: // a lane
		r.byte()
	case sub >= 84 && sub <= 91: // a lane in memory
		r.uleb()
		r.uleb()
		r.byte()
	}
}

// bulkLength reports whether the instruction works through a length that lies
// on top of the stack, and how far to shift that right to get its cost.
func (in instruction) bulkLength() (shift byte, ok bool) {
	if in.op != opMore {
		return 0, false
	}
	switch in.sub {
	case moreMemoryInit, moreMemoryCopy, moreMemoryFill:
		return 4, true // some 16 bytes in the time of an instruction
	case moreTableInit, moreTableCopy, moreTableFill, moreTableGrow:
		return 0, true
	}
	return 0, false
}
