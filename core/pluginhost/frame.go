package pluginhost

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// wazero decodes, validates and hashes the whole of a module even when its
// machine code comes out of the cache, and the meter has to be put in first: for
// a guest of three megabytes that is ten times the work of loading the code. So
// what a plugin is opened with is its frame: the module with the meter in it,
// but with every function empty, and with the name of its machine code in a
// custom section. The code was made from the whole module, is filed under the
// name that wazero gives the frame, and nothing else is ever run.

// meterVersion changes when the meter refuses what it let through before. What
// it writes differently changes the names of machine code by itself.
const meterVersion = 1

// codeID names the machine code of a plugin by what it was made from and how.
func codeID(digest, print string, trusted bool) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %s %t", digest, print, trusted))
	return hex.EncodeToString(sum[:])
}

// meterPrint tells two meters apart by what they make of a module that has all
// they look for.
func meterPrint() (string, error) {
	function := func(code ...byte) []byte { return append([]byte{byte(len(code))}, code...) }
	section := func(id byte, body ...byte) []byte { return append([]byte{id, byte(len(body))}, body...) }
	code := []byte{2}
	code = append(code, function(0, opEnd)...)
	code = append(code, function(0,
		opLoop, blockEmpty, opCall, 0, opEnd,
		opI32Const, 0, opI32Const, 0, opI32Const, 0, opMore, memoryFill, 0,
		opGlobalGet, 0, opDrop, opEnd)...)
	wasm := []byte("\x00asm\x01\x00\x00\x00")
	for _, s := range [][]byte{
		section(sectionType, 1, typeFunction, 0, 0),
		section(sectionFunction, 2, 0, 0),
		section(sectionMemory, 1, 0, 1),
		section(sectionGlobal, 1, typeI32, 0, opI32Const, 0, opEnd),
		section(sectionExport, 1, 1, 'f', kindFunction, 1),
		section(sectionCode, code...),
	} {
		wasm = append(wasm, s...)
	}
	with, _, err := metered(wasm)
	if err != nil {
		return "", fmt.Errorf("meter: %w", err)
	}
	sum := sha256.Sum256(append(with, meterVersion))
	return hex.EncodeToString(sum[:]), nil
}

// frame returns the frame of a module whose machine code has that name.
func frame(wasm []byte, trusted bool, id string) ([]byte, error) {
	m := &meter{}
	err := m.split(wasm)
	switch {
	case err != nil:
	case trusted:
		m.sections[sectionCode], err = emptied(m.sections[sectionCode])
	default:
		err = m.rewrite(emptied)
	}
	if err != nil {
		return nil, err
	}
	const name = "cleat.code"
	custom := append([]byte{byte(len(name))}, name...)
	custom = append(custom, id...)
	out := binary.AppendUvarint(append(m.join(wasm), sectionCustom), uint64(len(custom)))
	return append(out, custom...), nil
}

// emptied returns a code section of as many functions, each of which traps.
func emptied(body []byte) ([]byte, error) {
	if body == nil {
		return nil, nil
	}
	r := &cursor{data: body}
	count := r.count()
	out := binary.AppendUvarint(make([]byte, 0, 8+4*count), uint64(count))
	for range count {
		r.bytes(r.uleb())
		out = append(out, 3, 0, opUnreachable, opEnd)
	}
	return out, r.err
}
