package hostabi_test

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/hostabi"
)

func TestCanonical(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{` { "b" : 1 , "a" : [ true , null ] } `, `{"a":[true,null],"b":1}`},
		{`{"a":"<&>\u0041/"}`, `{"a":"<&>A/"}`},
		{`[1.0, 1e3, -0, 0.1, 9007199254740993, 1e300]`, `[1,1000,0,0.1,9007199254740993,1e+300]`},
		{`{"a":1,"A":2}`, `{"A":2,"a":1}`},
		{`"x"`, `"x"`},
	} {
		got, err := hostabi.Canonical([]byte(tt.text))
		if err != nil || string(got) != tt.want {
			t.Errorf("%s: got %s, %v, want %s", tt.text, got, err, tt.want)
		}
	}
}

func TestCanonicalRefuses(t *testing.T) {
	for _, tt := range []struct{ text, why string }{
		{``, "ends too early"},
		{`{"a":1`, "ends too early"},
		{`{"a":1,"a":2}`, "twice"},
		{`{"a":{"b":1,"b":1}}`, "twice"},
		{`{} {}`, "text after the value"},
		{`{}x`, "text after the value"},
		{`[1,]`, "invalid"},
		{"\"\xff\"", "not UTF-8"},
		{`1e999`, "out of range"},
		{strings.Repeat("[", 100) + strings.Repeat("]", 100), "nested deeper"},
	} {
		got, err := hostabi.Canonical([]byte(tt.text))
		if err == nil || !strings.Contains(err.Error(), tt.why) {
			t.Errorf("%.40s: got %s, %v, want %q", tt.text, got, err, tt.why)
		}
	}
}

func FuzzCanonical(f *testing.F) {
	for _, seed := range []string{`{"a":[1,2.5,"x",null,true]}`, `1e20`, `{"a":1,"a":2}`, `[[[]]]`, `"\ud800"`, `-0.0`, `123456789012345678901234567890`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		once, err := hostabi.Canonical(text)
		if err != nil {
			return
		}
		if !json.Valid(text) || !json.Valid(once) {
			t.Fatalf("%q became %q", text, once)
		}
		twice, err := hostabi.Canonical(once)
		if err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%q became %q became %q, %v", text, once, twice, err)
		}
	})
}

// TestAppendJSON compares with encoding/json, on what has a way of its own and
// what has not.
func TestAppendJSON(t *testing.T) {
	deep := any("end")
	for range 2 * hostabi.MaxJSONDepth {
		deep = map[string]any{"a": []any{deep}}
	}
	for _, v := range []any{
		nil, true, false, int64(-5), int64(math.MaxInt64), 1.5, 5, "", "plain", `"quoted" \ back`, "tab\t", "\x7f", "ü", "<&>", "\u2028",
		[]any{}, []any(nil), map[string]any{}, map[string]any(nil), []any{nil, "a", []any{int64(1)}, 2.5},
		map[string]any{"b": "1", "a": "2", "": nil, "ä": true, "c\n": int64(0)}, deep,
		map[string]any{"metadata": map[string]any{"labels": map[string]any{"z": "1", "app.kubernetes.io/name": "x"}}},
	} {
		var want bytes.Buffer
		e := json.NewEncoder(&want)
		e.SetEscapeHTML(false)
		if err := e.Encode(v); err != nil {
			t.Fatal(err)
		}
		got, err := hostabi.AppendJSON([]byte("before "), v)
		if err != nil || string(got)+"\n" != "before "+want.String() {
			t.Errorf("%v: got %s, %v, want %s", v, got, err, want.String())
		}
	}
	for _, v := range []any{math.NaN(), map[string]any{"a": make(chan int)}} {
		if got, err := hostabi.AppendJSON(nil, v); err == nil {
			t.Errorf("%v: got %s", v, got)
		}
	}
}
