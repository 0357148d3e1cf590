package abi

import (
	"unsafe"

	"github.com/cleat-dev/cleat/hostabi/wire"
)

// Fill calls a host function that fills a buffer, with room for size bytes at
// first and once more with what it asked for. The result is fresh memory.
func Fill(size int, call func(buf []byte) int32) ([]byte, error) {
	buf := make([]byte, size)
	// The length may change between two calls only if the host is broken.
	for range 3 {
		n := call(buf)
		if n < 0 {
			return nil, wire.Errno(n)
		}
		if int(n) <= len(buf) {
			return buf[:n], nil
		}
		buf = make([]byte, n)
	}
	return nil, wire.EIO
}

// View is b as a string, without a copy; b must not be written to while the
// string is in use. It is for arguments of host functions, which keep nothing.
func View(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
