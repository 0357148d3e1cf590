package hostabi_test

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/hostabi/wire"
)

func TestValueRoundTrip(t *testing.T) {
	for _, v := range []any{
		nil, true, false, int64(0), int64(math.MinInt64), int64(math.MaxInt64), 1.5, -0.25, "", "grüß dich",
		[]any{}, []any{nil, "a", int64(1), []any{true}},
		map[string]any{}, map[string]any{"a": []any{int64(1), 2.5}, "b": map[string]any{"<c>": nil}},
		[]any{map[string]any{"x": "y"}},
	} {
		encoded, err := hostabi.AppendValue([]byte("before"), v)
		if err != nil {
			t.Errorf("%v: %v", v, err)
			continue
		}
		encoded, found := bytes.CutPrefix(encoded, []byte("before"))
		if !found {
			t.Errorf("%v: AppendValue wrote over dst", v)
		}
		got, err := hostabi.DecodeValue(encoded)
		if err != nil || !reflect.DeepEqual(got, v) {
			t.Errorf("%v: got %v, %v", v, got, err)
		}
	}
}

// The bytes are the ABI: guests in other languages read them.
func TestValueBytes(t *testing.T) {
	for _, tt := range []struct {
		value any
		want  string
	}{
		{nil, "\x00"}, {false, "\x01"}, {true, "\x02"},
		{int64(-2), "\x03\xfe\xff\xff\xff\xff\xff\xff\xff"},
		{1.5, "\x04\x00\x00\x00\x00\x00\x00\xf8\x3f"},
		{"ab", "\x05\x02\x00\x00\x00ab"},
		{[]any{nil, true}, "\x06\x02\x00\x00\x00\x00\x02"},
		{map[string]any{"b": int64(1), "a": "<"}, "\x07\x0f\x00\x00\x00{\"a\":\"<\",\"b\":1}"},
	} {
		got, err := hostabi.AppendValue(nil, tt.value)
		if err != nil || string(got) != tt.want {
			t.Errorf("%v: got %q, %v, want %q", tt.value, got, err, tt.want)
		}
	}
}

func TestAppendValueRefuses(t *testing.T) {
	deep := any("x")
	for range wire.MaxDepth + 1 {
		deep = []any{deep}
	}
	for _, v := range []any{math.NaN(), math.Inf(1), struct{}{}, uint8(1), deep, []any{struct{}{}}, map[string]any{"a": make(chan int)}} {
		if got, err := hostabi.AppendValue(nil, v); err == nil {
			t.Errorf("%v: got %q", v, got)
		}
	}
	huge := strings.Repeat("x", hostabi.MaxValueBytes)
	for _, v := range []any{huge, []any{huge}, map[string]any{"a": huge}, make([]any, hostabi.MaxValueBytes)} {
		if _, err := hostabi.AppendValue(nil, v); !errors.Is(err, hostabi.ErrValueSize) {
			t.Errorf("%T of 1 MiB: got %v, want ErrValueSize", v, err)
		}
	}
}

func TestDecodeValueRefuses(t *testing.T) {
	for name, data := range map[string]string{
		"nothing":         "",
		"unknown tag":     "\x08",
		"half a number":   "\x03\x00",
		"long string":     "\x05\xff\xff\xff\xff",
		"long list":       "\x06\xff\xff\xff\xff\x00",
		"trailing bytes":  "\x00\x00",
		"string of bytes": "\x05\x01\x00\x00\x00\xff",
		"broken JSON":     "\x07\x01\x00\x00\x00{",
		"not a number":    "\x04\x00\x00\x00\x00\x00\x00\xf8\x7f",
		"deep list":       strings.Repeat("\x06\x01\x00\x00\x00", wire.MaxDepth+1) + "\x00",
	} {
		if got, err := hostabi.DecodeValue([]byte(data)); err == nil {
			t.Errorf("%s: got %v", name, got)
		}
	}
	if _, err := hostabi.DecodeValue(make([]byte, hostabi.MaxValueBytes+1)); !errors.Is(err, hostabi.ErrValueSize) {
		t.Errorf("large value: got %v, want ErrValueSize", err)
	}
}

func FuzzDecodeValue(f *testing.F) {
	for _, v := range []any{nil, true, int64(5), 2.5, "text", []any{nil, "a", []any{int64(1)}}, map[string]any{"a": 1.5}} {
		encoded, err := hostabi.AppendValue(nil, v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(encoded)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := hostabi.DecodeValue(data)
		if err != nil {
			return
		}
		encoded, err := hostabi.AppendValue(nil, v)
		if err != nil {
			t.Fatalf("%q decodes to %v, which has no encoding: %v", data, v, err)
		}
		again, err := hostabi.DecodeValue(encoded)
		if err != nil || !reflect.DeepEqual(again, v) {
			t.Fatalf("%q decodes to %v, then to %v, %v", data, v, again, err)
		}
	})
}
