package pluginhost

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// wazero looks for a passed deadline at the head of every loop and nowhere else.
// A guest that only calls (f calls g twice, g calls h twice, a hundred deep)
// would run for ever, and since its machine code cannot be preempted, stop the
// whole process at the next garbage collection. guard closes that hole: every
// function that calls another gets a loop around its body, which is never
// repeated but makes wazero look once per call. What runs between two looks is
// then at most one function body.
//
// A body becomes "loop block body end end": a branch out of the body, whose
// target was the function, now leaves the block, falls off the loop and returns
// the same values. No instruction has to be decoded or changed for that.
// Functions that begin with a loop anyhow, as most do that Go compiles, stay as
// they are.
func guard(wasm []byte) ([]byte, error) {
	g := &guarder{}
	out := slices.Clone(wasm[:min(wasmHeader, len(wasm))])
	for at := len(out); at < len(wasm); {
		r := &cursor{data: wasm, at: at}
		id := r.byte()
		body := r.bytes(r.uleb())
		if r.err != nil {
			return nil, fmt.Errorf("section at byte %d: %w", at, r.err)
		}
		section, err := g.section(id, body)
		if err != nil {
			return nil, fmt.Errorf("section %d at byte %d: %w", id, at, err)
		}
		out = append(out, id)
		out = binary.AppendUvarint(out, uint64(len(section)))
		out = append(out, section...)
		at = r.at
	}
	return out, nil
}

// maxBody bounds a function body, and with it what runs between two looks.
const maxBody = 2 << 20

// Ids of sections, and the instructions guard knows.
const (
	sectionType     = 1
	sectionFunction = 3
	sectionCode     = 10

	opBlock, opLoop, opEnd    = 0x02, 0x03, 0x0b
	opCall, opCallIndirect    = 0x10, 0x11
	opLocalGet, opLocalTee    = 0x20, 0x22
	opGlobalGet               = 0x23
	opI32Const, opI64Const    = 0x41, 0x42
	blockEmpty                = 0x40
	typeFunction              = 0x60
	firstValueType, lastValue = 0x6f, 0x7f
)

var errMalformed = errors.New("malformed")

type guarder struct {
	results [][]byte // of each type
	blocks  [][]byte // the block type of each function type, as it is encoded
	funcs   []uint64 // type of each function the module defines
}

func (g *guarder) section(id byte, body []byte) ([]byte, error) {
	switch id {
	case sectionType:
		return g.types(body)
	case sectionFunction:
		r := &cursor{data: body}
		for range r.count() {
			g.funcs = append(g.funcs, r.uleb())
		}
		return body, r.err
	case sectionCode:
		return g.code(body)
	}
	return body, nil
}

// types reads the signatures and appends one without parameters for every list
// of several results, because only a type can say that of a block.
func (g *guarder) types(body []byte) ([]byte, error) {
	r := &cursor{data: body}
	count := r.count()
	head := r.at
	for range count {
		if r.byte() != typeFunction {
			r.fail()
		}
		r.valueTypes()
		g.results = append(g.results, r.valueTypes())
	}
	if r.err != nil {
		return nil, r.err
	}
	var added []byte
	total := uint64(count)
	known := map[string]uint64{}
	for _, results := range g.results {
		switch len(results) {
		case 0:
			g.blocks = append(g.blocks, []byte{blockEmpty})
		case 1:
			g.blocks = append(g.blocks, results)
		default:
			index, ok := known[string(results)]
			if !ok {
				index = total
				known[string(results)] = index
				total++
				added = append(added, typeFunction, 0)
				added = binary.AppendUvarint(added, uint64(len(results)))
				added = append(added, results...)
			}
			g.blocks = append(g.blocks, signed(index))
		}
	}
	out := binary.AppendUvarint(nil, total)
	out = append(out, body[head:r.at]...)
	return append(out, added...), nil
}

// signed is n in signed LEB128.
func signed(n uint64) []byte {
	var out []byte
	for ; n >= 0x40; n >>= 7 {
		out = append(out, byte(n&0x7f)|0x80)
	}
	return append(out, byte(n))
}

func (g *guarder) code(body []byte) ([]byte, error) {
	r := &cursor{data: body}
	count := r.count()
	if r.err != nil || count != len(g.funcs) {
		return nil, errMalformed
	}
	out := binary.AppendUvarint(make([]byte, 0, len(body)+8*count), uint64(count))
	for i := range count {
		function := r.bytes(r.uleb())
		if r.err != nil {
			return nil, r.err
		}
		if len(function) > maxBody {
			return nil, fmt.Errorf("function %d is %d bytes, at most %d are allowed", i, len(function), maxBody)
		}
		if g.funcs[i] >= uint64(len(g.blocks)) {
			return nil, errMalformed
		}
		function, err := wrap(function, g.blocks[g.funcs[i]])
		if err != nil {
			return nil, fmt.Errorf("function %d: %w", i, err)
		}
		out = binary.AppendUvarint(out, uint64(len(function)))
		out = append(out, function...)
	}
	return out, nil
}

// wrap puts the loop around the body of a function that needs one.
func wrap(function, block []byte) ([]byte, error) {
	r := &cursor{data: function}
	for range r.count() {
		r.uleb()
		r.byte()
	}
	if r.err != nil || r.at == len(function) {
		return nil, errMalformed
	}
	locals, body := function[:r.at], function[r.at:]
	if !mayCall(body) || beginsWithLoop(body) {
		return function, nil
	}
	out := make([]byte, 0, len(function)+2*len(block)+4)
	out = append(out, locals...)
	out = append(append(out, opLoop), block...)
	out = append(append(out, opBlock), block...)
	out = append(out, body...) // with its end
	return append(out, opEnd, opEnd), nil
}

// mayCall reports whether a call could be among the instructions; a body without
// these bytes has none for certain.
func mayCall(body []byte) bool {
	return bytes.IndexByte(body, opCall) >= 0 || bytes.IndexByte(body, opCallIndirect) >= 0
}

// beginsWithLoop reports whether every way through the body meets a loop before
// it meets a call: nothing but opened blocks and moves of variables come first.
func beginsWithLoop(body []byte) bool {
	r := &cursor{data: body}
	for r.err == nil {
		switch op := r.byte(); {
		case op == opLoop:
			return r.err == nil
		case op == opBlock:
			if t := r.byte(); t != blockEmpty && (t < firstValueType || t > lastValue) {
				return false // a type index, which Go's compiler does not write
			}
		case op >= opLocalGet && op <= opLocalTee, op == opGlobalGet:
			r.uleb()
		case op == opI32Const, op == opI64Const:
			r.skipLEB()
		default:
			return false
		}
	}
	return false
}

// cursor reads a section; the first error sticks.
type cursor struct {
	data []byte
	at   int
	err  error
}

func (r *cursor) fail() {
	if r.err == nil {
		r.err = errMalformed
	}
	r.at = len(r.data)
}

func (r *cursor) byte() byte {
	if r.at >= len(r.data) {
		r.fail()
		return 0
	}
	r.at++
	return r.data[r.at-1]
}

func (r *cursor) uleb() uint64 {
	v, n := binary.Uvarint(r.data[r.at:])
	if n <= 0 {
		r.fail()
		return 0
	}
	r.at += n
	return v
}

func (r *cursor) skipLEB() {
	for r.byte() >= 0x80 {
	}
}

func (r *cursor) bytes(n uint64) []byte {
	if n > uint64(len(r.data)-r.at) {
		r.fail()
		return nil
	}
	r.at += int(n)
	return r.data[r.at-int(n) : r.at]
}

// count reads the length of a vector whose entries take a byte at least.
func (r *cursor) count() int {
	n := r.uleb()
	if n > uint64(len(r.data)-r.at) {
		r.fail()
		return 0
	}
	return int(n)
}

func (r *cursor) valueTypes() []byte {
	return r.bytes(r.uleb())
}
