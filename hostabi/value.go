package hostabi

import (
	"errors"
	"fmt"
	"math"
	"unicode/utf8"

	"github.com/cleat-dev/cleat/hostabi/wire"
)

// ErrValueSize says that a value is over MaxValueBytes.
var ErrValueSize = fmt.Errorf("value is over %d bytes", MaxValueBytes)

// AppendValue appends the encoding of v to dst. v has the shape of decoded
// JSON: nil, bool, int64, float64, string, []any, map[string]any; a map becomes
// JSON text. It fails with ErrValueSize when the encoding is over
// MaxValueBytes, and on any other type.
func AppendValue(dst []byte, v any) ([]byte, error) {
	return appendValue(dst, len(dst)+MaxValueBytes, v, 0)
}

func appendValue(dst []byte, most int, v any, depth int) ([]byte, error) {
	var err error
	switch v := v.(type) {
	case nil:
		dst = wire.AppendNull(dst)
	case bool:
		dst = wire.AppendBool(dst, v)
	case int64:
		dst = wire.AppendInt(dst, v)
	case int:
		dst = wire.AppendInt(dst, int64(v))
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, fmt.Errorf("value: %v is not a JSON number", v)
		}
		dst = wire.AppendFloat(dst, v)
	case string:
		if len(dst)+len(v) > most {
			return nil, ErrValueSize
		}
		dst = wire.AppendString(dst, v)
	case []any:
		if depth == wire.MaxDepth {
			return nil, fmt.Errorf("value: lists nest deeper than %d", wire.MaxDepth)
		}
		if len(dst)+len(v) > most {
			return nil, ErrValueSize
		}
		dst = wire.AppendList(dst, uint32(len(v)))
		for _, e := range v {
			if dst, err = appendValue(dst, most, e, depth+1); err != nil {
				return nil, err
			}
		}
	case map[string]any:
		text, err := AppendJSON(nil, v)
		if err != nil {
			return nil, fmt.Errorf("value: %w", err)
		}
		if len(dst)+len(text) > most {
			return nil, ErrValueSize
		}
		dst = wire.AppendJSON(dst, text)
	default:
		return nil, fmt.Errorf("value: type %T has no encoding", v)
	}
	if len(dst) > most {
		return nil, ErrValueSize
	}
	return dst, nil
}

// DecodeValue decodes exactly one value into the shape AppendValue takes. What
// it allocates is bounded by a small multiple of len(data).
func DecodeValue(data []byte) (any, error) {
	if len(data) > MaxValueBytes {
		return nil, ErrValueSize
	}
	v, rest, ok := wire.Parse(data)
	if !ok {
		return nil, errors.New("value: truncated or malformed")
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("value: %d bytes after its end", len(rest))
	}
	return nativeValue(v)
}

func nativeValue(v wire.Value) (any, error) {
	switch v.Tag {
	case wire.TagFalse, wire.TagTrue:
		return v.IsTrue(), nil
	case wire.TagInt:
		n, _ := v.Int()
		return n, nil
	case wire.TagFloat:
		f, _ := v.Float()
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return nil, fmt.Errorf("value: %v is not a JSON number", f)
		}
		return f, nil
	case wire.TagString:
		b, _ := v.Text()
		if !utf8.Valid(b) {
			return nil, errors.New("value: string is not UTF-8")
		}
		return string(b), nil
	case wire.TagJSON:
		b, _ := v.JSON()
		return ParseJSON(b)
	case wire.TagList:
		l := v.List()
		list := make([]any, 0, l.Len())
		for e, ok := l.Next(); ok; e, ok = l.Next() {
			native, err := nativeValue(e)
			if err != nil {
				return nil, err
			}
			list = append(list, native)
		}
		return list, nil
	}
	return nil, nil
}
