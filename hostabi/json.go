package hostabi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxJSONDepth is how deep arrays and objects may nest in JSON that crosses
// the boundary.
const MaxJSONDepth = 64

// Canonical rewrites JSON text canonically: keys in byte order, no white
// space, integers without exponent, other numbers in their shortest form. It
// refuses what two readers could take differently: duplicate keys, invalid
// UTF-8, nesting over MaxJSONDepth and anything after the value.
func Canonical(text []byte) ([]byte, error) {
	v, err := ParseJSON(text)
	if err != nil {
		return nil, err
	}
	return AppendJSON(nil, v)
}

// ParseJSON decodes one JSON value as nil, bool, int64, float64, string, []any
// or map[string]any, under the restrictions of Canonical.
func ParseJSON(text []byte) (any, error) {
	return parseJSON(text, false)
}

// jsonParser builds values from tokens. With foldKeys, keys that differ only in
// case count as duplicates: encoding/json would fill one struct field from both.
type jsonParser struct {
	*json.Decoder
	foldKeys bool
}

func parseJSON(text []byte, foldKeys bool) (any, error) {
	if !utf8.Valid(text) {
		return nil, errors.New("json: not UTF-8")
	}
	p := jsonParser{json.NewDecoder(bytes.NewReader(text)), foldKeys}
	p.UseNumber()
	v, err := p.value(0)
	if errors.Is(err, io.EOF) {
		return nil, errors.New("json: ends too early")
	}
	if err != nil {
		return nil, fmt.Errorf("json: at byte %d: %w", p.InputOffset(), err)
	}
	if _, err := p.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("json: at byte %d: text after the value", p.InputOffset())
	}
	return v, nil
}

func (p jsonParser) value(depth int) (any, error) {
	t, err := p.Token()
	if err != nil {
		return nil, err
	}
	switch t := t.(type) {
	case json.Number:
		return parseNumber(t)
	case json.Delim:
		if depth == MaxJSONDepth {
			return nil, fmt.Errorf("nested deeper than %d", MaxJSONDepth)
		}
		if t == '{' {
			return p.object(depth + 1)
		}
		return p.array(depth + 1)
	}
	return t, nil
}

func (p jsonParser) array(depth int) (any, error) {
	list := []any{}
	for p.More() {
		v, err := p.value(depth)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	_, err := p.Token()
	return list, err
}

func (p jsonParser) object(depth int) (any, error) {
	object := map[string]any{}
	seen := map[string]bool{}
	for p.More() {
		t, err := p.Token()
		if err != nil {
			return nil, err
		}
		key, _ := t.(string)
		name := key
		if p.foldKeys {
			name = strings.ToLower(key)
		}
		if seen[name] {
			return nil, fmt.Errorf("key %q appears twice", clip(key))
		}
		seen[name] = true
		if object[key], err = p.value(depth); err != nil {
			return nil, err
		}
	}
	_, err := p.Token()
	return object, err
}

// parseNumber keeps integers exact. A fraction of zero makes no float, since
// JSON does not tell 1 from 1.0.
func parseNumber(n json.Number) (any, error) {
	if i, err := strconv.ParseInt(n.String(), 10, 64); err == nil {
		return i, nil
	}
	f, err := strconv.ParseFloat(n.String(), 64)
	if err != nil || math.IsInf(f, 0) {
		return nil, fmt.Errorf("number %q is out of range", clip(n.String()))
	}
	const exact = 1 << 53
	if f == math.Trunc(f) && math.Abs(f) <= exact {
		return int64(f), nil
	}
	return f, nil
}

// AppendJSON appends v as canonical JSON; v is what ParseJSON returns.
func AppendJSON(dst []byte, v any) ([]byte, error) {
	if plain, ok := appendPlain(dst, v, 0); ok {
		return plain, nil
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return append(dst, bytes.TrimSuffix(b.Bytes(), []byte("\n"))...), nil
}

// appendPlain is AppendJSON for what most values are made of, without reflection:
// text that needs no escapes, integers, and containers of such. ok is false for
// anything else.
func appendPlain(dst []byte, v any, depth int) (_ []byte, ok bool) {
	switch v := v.(type) {
	case nil:
		return append(dst, "null"...), true
	case bool:
		return strconv.AppendBool(dst, v), true
	case int64:
		return strconv.AppendInt(dst, v, 10), true
	case string:
		return appendText(dst, v)
	case []any:
		if v == nil || depth == MaxJSONDepth {
			return nil, false
		}
		dst = append(dst, '[')
		for i, e := range v {
			if i > 0 {
				dst = append(dst, ',')
			}
			if dst, ok = appendPlain(dst, e, depth+1); !ok {
				return nil, false
			}
		}
		return append(dst, ']'), true
	case map[string]any:
		if v == nil || depth == MaxJSONDepth {
			return nil, false
		}
		var room [16]string
		keys := room[:0]
		for key := range v {
			keys = append(keys, key)
		}
		slices.Sort(keys)
		dst = append(dst, '{')
		for i, key := range keys {
			if i > 0 {
				dst = append(dst, ',')
			}
			if dst, ok = appendText(dst, key); !ok {
				return nil, false
			}
			if dst, ok = appendPlain(append(dst, ':'), v[key], depth+1); !ok {
				return nil, false
			}
		}
		return append(dst, '}'), true
	}
	return nil, false
}

func appendText(dst []byte, text string) ([]byte, bool) {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return nil, false
		}
	}
	dst = append(dst, '"')
	dst = append(dst, text...)
	return append(dst, '"'), true
}
