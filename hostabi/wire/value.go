package wire

import "math"

// Tag is the first byte of an encoded value.
type Tag byte

// The tags of ABI v1. Numbers are little-endian.
const (
	TagNull   Tag = 0 // null or absent
	TagFalse  Tag = 1
	TagTrue   Tag = 2
	TagInt    Tag = 3 // int64
	TagFloat  Tag = 4 // IEEE 754 binary64
	TagString Tag = 5 // u32 byte length, UTF-8 bytes
	TagList   Tag = 6 // u32 count, then that many values
	TagJSON   Tag = 7 // u32 byte length, JSON text; an object, mostly
)

// MaxDepth is how deep lists may nest in one value.
const MaxDepth = 16

// Value is one decoded value. It refers to the buffer it was parsed from.
type Value struct {
	Tag  Tag
	bits uint64 // int64, float64 bits, or the count of a list
	data []byte // text of a string or JSON, elements of a list
}

// Parse reads the value at the start of buf and returns what follows it. ok is
// false when buf does not start with a complete, well-formed value.
func Parse(buf []byte) (v Value, rest []byte, ok bool) {
	return parse(buf, 0)
}

func parse(buf []byte, depth int) (v Value, rest []byte, ok bool) {
	if len(buf) == 0 {
		return Value{}, nil, false
	}
	v.Tag, buf = Tag(buf[0]), buf[1:]
	switch v.Tag {
	case TagNull, TagFalse, TagTrue:
		return v, buf, true
	case TagInt, TagFloat:
		if len(buf) < 8 {
			return Value{}, nil, false
		}
		for i := range 8 {
			v.bits |= uint64(buf[i]) << (8 * i)
		}
		return v, buf[8:], true
	case TagString, TagJSON:
		n, buf, ok := parseLength(buf)
		if !ok {
			return Value{}, nil, false
		}
		v.data = buf[:n:n]
		return v, buf[n:], true
	case TagList:
		// An element takes a byte at least, so the length bounds the count too.
		n, buf, ok := parseLength(buf)
		if !ok || depth == MaxDepth {
			return Value{}, nil, false
		}
		rest := buf
		for range n {
			if _, rest, ok = parse(rest, depth+1); !ok {
				return Value{}, nil, false
			}
		}
		used := len(buf) - len(rest)
		v.bits, v.data = uint64(n), buf[:used:used]
		return v, rest, true
	}
	return Value{}, nil, false
}

func parseLength(buf []byte) (n int, rest []byte, ok bool) {
	if len(buf) < 4 {
		return 0, nil, false
	}
	length := uint32(buf[0]) | uint32(buf[1])<<8 | uint32(buf[2])<<16 | uint32(buf[3])<<24
	buf = buf[4:]
	if uint64(length) > uint64(len(buf)) {
		return 0, nil, false
	}
	return int(length), buf, true
}

// IsNull reports whether the value is null or absent.
func (v Value) IsNull() bool { return v.Tag == TagNull }

// IsTrue reports whether the value is the boolean true.
func (v Value) IsTrue() bool { return v.Tag == TagTrue }

// Int returns the integer, ok only for TagInt.
func (v Value) Int() (n int64, ok bool) { return int64(v.bits), v.Tag == TagInt }

// Float returns the number, ok only for TagFloat.
func (v Value) Float() (f float64, ok bool) {
	return math.Float64frombits(v.bits), v.Tag == TagFloat
}

// Text returns the bytes of a string, ok only for TagString. They stay in the
// buffer the value was parsed from.
func (v Value) Text() (b []byte, ok bool) { return v.data, v.Tag == TagString }

// JSON returns the JSON text, ok only for TagJSON.
func (v Value) JSON() (b []byte, ok bool) { return v.data, v.Tag == TagJSON }

// List returns the elements; it is empty for any other tag.
func (v Value) List() List {
	if v.Tag != TagList {
		return List{}
	}
	return List{n: int(v.bits), rest: v.data}
}

// List walks the elements of a list value.
type List struct {
	n    int
	rest []byte
}

// Len returns how many elements are left.
func (l List) Len() int { return l.n }

// Next returns the next element; ok is false at the end.
func (l *List) Next() (v Value, ok bool) {
	if l.n == 0 {
		return Value{}, false
	}
	v, l.rest, ok = parse(l.rest, 1)
	if !ok {
		l.n = 0
		return Value{}, false
	}
	l.n--
	return v, true
}

// AppendNull appends null.
func AppendNull(dst []byte) []byte { return append(dst, byte(TagNull)) }

// AppendBool appends a boolean.
func AppendBool(dst []byte, b bool) []byte {
	if b {
		return append(dst, byte(TagTrue))
	}
	return append(dst, byte(TagFalse))
}

// AppendInt appends an integer.
func AppendInt(dst []byte, n int64) []byte {
	return append64(append(dst, byte(TagInt)), uint64(n))
}

// AppendFloat appends a number.
func AppendFloat(dst []byte, f float64) []byte {
	return append64(append(dst, byte(TagFloat)), math.Float64bits(f))
}

// AppendString appends a string of UTF-8 text, shorter than 4 GiB.
func AppendString(dst []byte, s string) []byte {
	return append(append32(append(dst, byte(TagString)), uint32(len(s))), s...)
}

// AppendJSON appends JSON text, shorter than 4 GiB.
func AppendJSON(dst, text []byte) []byte {
	return append(append32(append(dst, byte(TagJSON)), uint32(len(text))), text...)
}

// AppendList appends the head of a list; count values must follow.
func AppendList(dst []byte, count uint32) []byte {
	return append32(append(dst, byte(TagList)), count)
}

func append32(dst []byte, n uint32) []byte {
	return append(dst, byte(n), byte(n>>8), byte(n>>16), byte(n>>24))
}

func append64(dst []byte, n uint64) []byte {
	return append32(append32(dst, uint32(n)), uint32(n>>32))
}
