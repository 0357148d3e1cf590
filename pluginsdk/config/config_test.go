//go:build !wasip1

package config_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/pluginsdk/config"
)

func TestParse(t *testing.T) {
	c, err := config.Parse([]byte(` { "s" : "a\"\\\/\b\f\n\r\tgr\u00fc\u00DF \ud83d\ude00 \ud83d! " , "n":-12,"zero":0,
		"yes":true,"no":false,"list":["a","b"],"none":[],"map":{"b":"2","a":"1"},"empty":{} } `))
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ got, want any }{
		"string":       {c.String("s"), "a\"\\/\b\f\n\r\tgrüß 😀 \ufffd! "},
		"integer":      {c.Int("n"), int64(-12)},
		"zero":         {c.Int("zero"), int64(0)},
		"true":         {c.Bool("yes"), true},
		"false":        {c.Bool("no"), false},
		"list":         {c.Strings("list"), []string{"a", "b"}},
		"empty list":   {c.Strings("none"), []string{}},
		"map":          {c.Map("map"), []config.Entry{{Key: "a", Value: "1"}, {Key: "b", Value: "2"}}},
		"empty map":    {c.Map("empty"), []config.Entry{}},
		"other type":   {c.Int("s"), int64(0)},
		"absent":       {c.Strings("absent"), []string(nil)},
		"there":        {c.Has("no"), true},
		"not there":    {c.Has("absent"), false},
		"of a map":     {c.String("a"), ""},
		"of zero conf": {config.Config{}.String("a"), ""},
	} {
		if !reflect.DeepEqual(tt.got, tt.want) {
			t.Errorf("%s: got %#v, want %#v", name, tt.got, tt.want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, tt := range []struct{ text, why string }{
		{``, "want '{'"},
		{`[]`, "want '{'"},
		{`{`, `want '"'`},
		{`{"a"}`, "want ':'"},
		{`{"a":}`, "want a string"},
		{`{"a":1,}`, `want '"'`},
		{`{"a":1 "b":2}`, "want '}'"},
		{`{"a":1}{}`, "text after the end"},
		{`{"a":1,"a":2}`, "there twice"},
		{`{"m":{"b":"1","a":"2","b":"3"}}`, "there twice"},
		{`{"a":null}`, "want a string"},
		{`{"a":nul}`, "want a string"},
		{`{"a":1.5}`, "not whole"},
		{`{"a":1e3}`, "not whole"},
		{`{"a":01}`, "malformed"},
		{`{"a":-}`, "malformed"},
		{`{"a":99999999999999999999}`, "too large"},
		{`{"a":[1]}`, `want '"'`},
		{`{"a":[["b"]]}`, `want '"'`},
		{`{"a":["b",]}`, `want '"'`},
		{`{"a":["b"`, "want ']'"},
		{`{"a":{"b":{}}}`, `want '"'`},
		{`{"a":"b`, "without an end"},
		{`{"a":"\`, "without an end"},
		{`{"a":"\u12`, "hexadecimal"},
		{`{"a":"\x"}`, "unknown escape"},
		{"{\"a\":\"\n\"}", "control character"},
		{"{\"a\":\"\\n\n\"}", "control character"},
		{"{\"a\":\"\xff\"}", "not UTF-8"},
		{`{"a":"` + strings.Repeat("x", 64<<10) + `"}`, "over 64 KiB"},
	} {
		if c, err := config.Parse([]byte(tt.text)); err == nil || !strings.Contains(err.Error(), tt.why) {
			t.Errorf("%.40q: got %v, %v, want %q", tt.text, c, err, tt.why)
		}
	}
}

// What is read is what encoding/json reads, and every configuration a host can
// hand out is read.
func FuzzParse(f *testing.F) {
	for _, text := range []string{
		`{}`, `{"a":"b","c":-1,"d":true,"e":["f","g"],"h":{"i":"j"}}`, `{"a":"\ud83d\ude00\ud800\u0000\/"}`, `{"a":1.0}`, `{"a":["\\"`,
		`{"z":"\ud800\ud83d\ude00"}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := config.Parse(text)
		var reference map[string]any
		jsonErr := json.Unmarshal(text, &reference)
		if err == nil && jsonErr != nil {
			t.Fatalf("%q is read, but is no JSON: %v", text, jsonErr)
		}
		if v, jsonErr := hostabi.ParseJSON(text); jsonErr == nil && flat(v) {
			canonical, jsonErr := hostabi.AppendJSON(nil, v)
			if _, err := config.Parse(canonical); jsonErr == nil && len(canonical) <= hostabi.MaxConfigBytes && err != nil {
				t.Fatalf("%q is refused: %v", canonical, err)
			}
		}
		if err != nil {
			return
		}
		for key, want := range reference {
			if got := native(c, key, want); !reflect.DeepEqual(got, want) {
				t.Fatalf("%q: %q is %#v, want %#v", text, key, got, want)
			}
		}
	})
}

// flat reports whether a configuration could look like that.
func flat(v any) bool {
	m, ok := v.(map[string]any)
	for _, field := range m {
		switch field := field.(type) {
		case string, bool, int64:
		case []any:
			for _, e := range field {
				if _, text := e.(string); !text {
					return false
				}
			}
		case map[string]any:
			for _, e := range field {
				if _, text := e.(string); !text {
					return false
				}
			}
		default:
			return false
		}
	}
	return ok
}

func native(c config.Config, key string, like any) any {
	switch like.(type) {
	case string:
		return c.String(key)
	case bool:
		return c.Bool(key)
	case float64:
		return float64(c.Int(key))
	case []any:
		list := []any{}
		for _, text := range c.Strings(key) {
			list = append(list, text)
		}
		return list
	}
	m := map[string]any{}
	for _, e := range c.Map(key) {
		m[e.Key] = e.Value
	}
	return m
}
