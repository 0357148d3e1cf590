package hostabi

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Bounds of a field path.
const (
	MaxPathBytes    = 1024
	MaxPathSegments = 32
)

// FieldPath names values inside an object: spec.containers[*].image,
// metadata.labels['a.b/c']. The zero FieldPath names nothing.
type FieldPath struct {
	segments []PathSegment
	text     string
}

// PathSegment is one step of a FieldPath: a map key, or every element of a list.
type PathSegment struct {
	Key  string // map key, when Each is false
	Each bool   // [*]
}

// ParseFieldPath reads a field path. Keys of letters, digits, '_' and '-' are
// written plainly and joined by dots; any other key stands in ['...'], where a
// backslash quotes a quote or a backslash. The first step is a key.
func ParseFieldPath(text string) (FieldPath, error) {
	fail := func(at int, why string) (FieldPath, error) {
		return FieldPath{}, fmt.Errorf("field path %q: at byte %d: %s", clip(text), at, why)
	}
	if len(text) > MaxPathBytes {
		return fail(MaxPathBytes, fmt.Sprintf("longer than %d bytes", MaxPathBytes))
	}
	if !utf8.ValidString(text) {
		return fail(0, "not UTF-8")
	}
	var segments []PathSegment
	for i := 0; i < len(text) || i == 0; {
		if len(segments) == MaxPathSegments {
			return fail(i, fmt.Sprintf("more than %d steps", MaxPathSegments))
		}
		rest := text[i:]
		switch {
		case strings.HasPrefix(rest, "[*]"):
			if i == 0 {
				return fail(i, "an object is not a list; start with a key")
			}
			segments = append(segments, PathSegment{Each: true})
			i += len("[*]")
		case strings.HasPrefix(rest, "["):
			key, n, err := quotedKey(rest)
			if err != nil {
				return fail(i, err.Error())
			}
			segments = append(segments, PathSegment{Key: key})
			i += n
		default:
			if i > 0 {
				if rest[0] != '.' {
					return fail(i, "want '.', \"['key']\" or \"[*]\"")
				}
				i++
			}
			n := plainKeyLen(text[i:])
			if n == 0 {
				return fail(i, "want a key of letters, digits, '_' or '-'; write any other as ['key']")
			}
			segments = append(segments, PathSegment{Key: text[i : i+n]})
			i += n
		}
	}
	return FieldPath{segments: segments, text: formatPath(segments)}, nil
}

// String returns the canonical text, which parses to the same path.
func (p FieldPath) String() string { return p.text }

// Segments returns the steps; the caller does not write to them.
func (p FieldPath) Segments() []PathSegment { return p.segments }

// Wildcards returns how many steps are [*].
func (p FieldPath) Wildcards() int {
	n := 0
	for _, s := range p.segments {
		if s.Each {
			n++
		}
	}
	return n
}

// Covers reports whether q names the same values as p or values inside them,
// so that who may read p may read q.
func (p FieldPath) Covers(q FieldPath) bool {
	if len(p.segments) == 0 || len(p.segments) > len(q.segments) {
		return false
	}
	for i, s := range p.segments {
		if s != q.segments[i] {
			return false
		}
	}
	return true
}

// quotedKey reads ['key'] at the start of text and returns the key and the
// number of bytes it took.
func quotedKey(text string) (key string, n int, err error) {
	if !strings.HasPrefix(text, "['") {
		return "", 0, errors.New("want \"['key']\" or \"[*]\"; single elements cannot be named")
	}
	var b strings.Builder
	for i := len("['"); i < len(text); i++ {
		switch c := text[i]; {
		case c == '\'':
			if !strings.HasPrefix(text[i:], "']") {
				return "", 0, errors.New("want ']' after the closing quote")
			}
			if b.Len() == 0 {
				return "", 0, errors.New("empty key")
			}
			return b.String(), i + len("']"), nil
		case c == '\\':
			i++
			if i == len(text) || (text[i] != '\'' && text[i] != '\\') {
				return "", 0, errors.New("a backslash quotes only a quote or a backslash")
			}
			b.WriteByte(text[i])
		case c < 0x20 || c == 0x7f:
			return "", 0, errors.New("control character in a key")
		default:
			b.WriteByte(c)
		}
	}
	return "", 0, errors.New("no closing quote")
}

func plainKeyLen(text string) int {
	for i := range len(text) {
		c := text[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' {
			continue
		}
		return i
	}
	return len(text)
}

func formatPath(segments []PathSegment) string {
	var b strings.Builder
	for i, s := range segments {
		switch {
		case s.Each:
			b.WriteString("[*]")
		case plainKeyLen(s.Key) == len(s.Key):
			if i > 0 {
				b.WriteByte('.')
			}
			b.WriteString(s.Key)
		default:
			b.WriteString("['")
			b.WriteString(strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s.Key))
			b.WriteString("']")
		}
	}
	return b.String()
}

// clip shortens hostile text for an error message.
func clip(text string) string {
	const most = 80
	if len(text) <= most {
		return text
	}
	return text[:most] + "…"
}
