package pluginhost

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// maxTableEntries bounds what a guest's function tables may hold together; an
// entry takes 8 bytes of the host, outside the guest's memory limit.
const maxTableEntries = 1 << 20

const (
	typeFuncref   = 0x70
	typeExternref = 0x6f
)

var errTableSection = errors.New("malformed table section")

// tables reads a module's own tables: how many entries they start with, and
// whether all of them have a maximum and these are within maxTableEntries
// together. The file was parsed before, so its sections are known to be
// well-formed.
func tables(wasm []byte) (entries uint64, bounded bool, err error) {
	for at := wasmHeader; at < len(wasm); {
		id := wasm[at]
		size, n := binary.Uvarint(wasm[at+1:])
		body := at + 1 + n
		if n <= 0 || size > uint64(len(wasm)-body) {
			return 0, false, errTableSection
		}
		at = body + int(size)
		if id == sectionTable {
			return readTables(wasm[body:at])
		}
	}
	return 0, true, nil
}

func readTables(data []byte) (entries uint64, bounded bool, err error) {
	next := func() uint64 {
		v, n := binary.Uvarint(data)
		if n <= 0 {
			err = errTableSection
			return 0
		}
		data = data[n:]
		return v
	}
	bounded = true
	most := uint64(0) // that all of them may grow to
	count := next()
	for i := uint64(0); i < count && err == nil; i++ {
		if element := next(); err == nil && element != typeFuncref && element != typeExternref {
			return 0, false, fmt.Errorf("table %d: elements of type %#x are not supported", i, element)
		}
		limits := next()
		if limits > 1 {
			return 0, false, fmt.Errorf("table %d: limits of kind %d are not supported", i, limits)
		}
		entries += min(next(), maxTableEntries+1)
		if limits == 1 {
			most += min(next(), maxTableEntries+1)
		}
		bounded = bounded && limits == 1 && most <= maxTableEntries
		if entries > maxTableEntries {
			return 0, false, fmt.Errorf("its tables hold more than %d entries", maxTableEntries)
		}
	}
	if err == nil && !bounded && count > 1 {
		return 0, false, fmt.Errorf("its %d tables may grow to more than %d entries together; give each of them a maximum", count, maxTableEntries)
	}
	return entries, bounded, err
}
