package wasmfile

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

var (
	errTruncated = errors.New("ends too early")
	errOverflow  = errors.New("number has too many bytes")
)

// reader walks the bytes of one section. The first error sticks and every later
// read returns zero.
type reader struct {
	data []byte
	at   int
	err  error
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *reader) left() int {
	if r.err != nil {
		return 0
	}
	return len(r.data) - r.at
}

func (r *reader) u8() byte {
	if r.left() < 1 {
		r.fail(errTruncated)
		return 0
	}
	b := r.data[r.at]
	r.at++
	return b
}

// leb reads an unsigned LEB128 number of at most that many bits.
func (r *reader) leb(bits uint) uint64 {
	var n uint64
	for shift := uint(0); ; shift += 7 {
		b := r.u8()
		if r.err != nil {
			return 0
		}
		if shift >= bits || bits-shift < 7 && b&0x7f>>(bits-shift) != 0 {
			r.fail(errOverflow)
			return 0
		}
		n |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return n
		}
	}
}

func (r *reader) u32() uint32 { return uint32(r.leb(32)) }

// count reads the length of a vector of at most that many entries, each of
// size bytes at least, so that what a caller allocates is bounded.
func (r *reader) count(most, size int) int {
	n := r.u32()
	if r.err == nil && uint64(n) > uint64(most) {
		r.fail(fmt.Errorf("%d entries, the most is %d", n, most))
	}
	if uint64(n)*uint64(size) > uint64(r.left()) {
		r.fail(errTruncated)
	}
	if r.err != nil {
		return 0
	}
	return int(n)
}

func (r *reader) bytes(n int) []byte {
	if n < 0 || n > r.left() {
		r.fail(errTruncated)
		return nil
	}
	b := r.data[r.at : r.at+n : r.at+n]
	r.at += n
	return b
}

func (r *reader) name() string {
	b := r.bytes(r.count(maxName, 1))
	if !utf8.Valid(b) {
		r.fail(fmt.Errorf("name %q is not UTF-8", b[:min(len(b), 80)]))
	}
	return string(b)
}

// end wants the section to be read to its last byte.
func (r *reader) end() error {
	if r.err == nil && r.left() > 0 {
		return fmt.Errorf("%d bytes left over", r.left())
	}
	return r.err
}

func appendLEB(dst []byte, n uint32) []byte {
	for ; n >= 0x80; n >>= 7 {
		dst = append(dst, byte(n)|0x80)
	}
	return append(dst, byte(n))
}
