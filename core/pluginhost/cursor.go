package pluginhost

import (
	"encoding/binary"
	"errors"
)

var errMalformed = errors.New("malformed")

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
