package pluginhost

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/cleat-dev/cleat/hostabi"
	"go.yaml.in/yaml/v2"
)

// What parsing a text costs grows with its length, but far more with the number
// of values in it: two bytes can make one. Manifests have a value every twenty
// bytes or so.
const (
	// maxParts bounds what may be a value in the documents of one text, and
	// maxPartsOfRequest where a request waits: what the parser makes of them when
	// it has read all cannot be interrupted.
	maxParts          = 250_000
	maxPartsOfRequest = 50_000
	// maxValues bounds the values after aliases were followed.
	maxValues = 500_000
)

var (
	errValues = fmt.Errorf("more than %d values, or %d bytes, once aliases are followed", maxValues, hostabi.MaxMessageBytes)
	errSlow   = errors.New("reading it takes longer than the call has")
)

func errParts(most int) error {
	return fmt.Errorf("more than %d lines, list items and commas; split it into several texts", most)
}

// parts counts what may begin a value without understanding the text: lines,
// dashes and question marks that begin a line, and what separates values inside
// of a line. In texts within texts it counts too much.
func parts(text []byte) int {
	n := 0
	for _, separator := range []string{",", "[", "{", "\r", "\u0085", "\u2028", "\u2029"} { // the last four end lines
		n += bytes.Count(text, []byte(separator))
	}
	n -= bytes.Count(text, []byte("\r\n"))
	for line := range bytes.Lines(text) {
		line = bytes.TrimLeft(line, " ")
		if len(bytes.TrimSpace(line)) == 0 || line[0] == '#' {
			continue
		}
		n++
		for len(line) > 1 && (line[0] == '-' || line[0] == '?') && (line[1] == ' ' || line[1] == '\t') {
			line = bytes.TrimLeft(line[1:], " \t")
			n++
		}
	}
	return n
}

// limitedReader hands out a text until the deadline. A parser reads as it goes,
// so that it ends soon after.
type limitedReader struct {
	text     *bytes.Reader
	deadline time.Time
}

// Read implements io.Reader.
func (r limitedReader) Read(b []byte) (int, error) {
	if !time.Now().Before(r.deadline) {
		return 0, errSlow
	}
	return r.text.Read(b)
}

// parseYAML parses one document as sigs.k8s.io/yaml does, without writing it
// out as JSON in between: what aliases make of it is counted first.
func parseYAML(doc []byte, deadline time.Time, left *int) (any, error) {
	d := yaml.NewDecoder(limitedReader{bytes.NewReader(doc), deadline})
	d.SetStrict(true)
	var value any
	if err := d.Decode(&value); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	c := converter{values: left, bytes: hostabi.MaxMessageBytes}
	return c.convert(value, 0)
}

// converter turns what the YAML parser returns into what hostabi.ParseJSON does.
type converter struct {
	values *int // that may still come
	bytes  int
}

func (c *converter) take(size int) error {
	*c.values--
	c.bytes -= size
	if *c.values < 0 || c.bytes < 0 {
		return errValues
	}
	return nil
}

func (c *converter) convert(v any, depth int) (any, error) {
	switch v := v.(type) {
	case map[any]any:
		if depth == hostabi.MaxJSONDepth {
			return nil, fmt.Errorf("nested deeper than %d", hostabi.MaxJSONDepth)
		}
		return c.mapping(v, depth)
	case []any:
		if depth == hostabi.MaxJSONDepth {
			return nil, fmt.Errorf("nested deeper than %d", hostabi.MaxJSONDepth)
		}
		list := make([]any, len(v))
		for i, item := range v {
			var err error
			if list[i], err = c.convert(item, depth+1); err != nil {
				return nil, err
			}
		}
		return list, c.take(len(v))
	case string:
		if err := c.take(len(v)); err != nil || utf8.ValidString(v) {
			return v, err
		}
		return throughJSON(v)
	case int:
		return int64(v), c.take(1)
	case nil, bool, int64:
		return v, c.take(1)
	default:
		if err := c.take(1); err != nil {
			return nil, err
		}
		return throughJSON(v)
	}
}

// throughJSON is for what JSON writes in its own way.
func throughJSON(v any) (any, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return hostabi.ParseJSON(text)
}

func (c *converter) mapping(m map[any]any, depth int) (any, error) {
	object := make(map[string]any, len(m))
	for k, v := range m {
		key, err := keyText(k)
		if err != nil {
			return nil, err
		}
		if err := c.take(len(key) + 1); err != nil {
			return nil, err
		}
		if _, twice := object[key]; twice {
			return nil, fmt.Errorf("key %q appears twice", cut(key, maxKeyShown))
		}
		if object[key], err = c.convert(v, depth+1); err != nil {
			return nil, err
		}
	}
	return object, nil
}

const maxKeyShown = 80

// keyText is a key of a mapping, which in JSON is text.
func keyText(k any) (string, error) {
	switch k := k.(type) {
	case string:
		return string([]rune(k)), nil // as JSON does with what is no UTF-8
	case int:
		return strconv.Itoa(k), nil
	case int64:
		return strconv.FormatInt(k, 10), nil
	case bool:
		return strconv.FormatBool(k), nil
	case float64:
		switch {
		case math.IsNaN(k):
			return ".nan", nil
		case math.IsInf(k, 1):
			return ".inf", nil
		case math.IsInf(k, -1):
			return "-.inf", nil
		}
		return strconv.FormatFloat(k, 'g', -1, 32), nil
	}
	return "", fmt.Errorf("a key is %T, not a text", k)
}
