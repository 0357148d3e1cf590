package wire_test

import (
	"testing"

	"github.com/cleat-dev/cleat/hostabi/wire"
)

func TestParseList(t *testing.T) {
	buf := wire.AppendList(nil, 3)
	buf = wire.AppendString(buf, "a")
	buf = wire.AppendNull(buf)
	buf = wire.AppendInt(buf, -7)
	buf = append(buf, "rest"...)

	v, rest, ok := wire.Parse(buf)
	if !ok || string(rest) != "rest" {
		t.Fatalf("rest %q, ok %v", rest, ok)
	}
	list := v.List()
	if list.Len() != 3 {
		t.Fatalf("%d elements", list.Len())
	}
	first, _ := list.Next()
	if text, ok := first.Text(); !ok || string(text) != "a" {
		t.Errorf("first is %q, %v", text, ok)
	}
	second, _ := list.Next()
	if !second.IsNull() {
		t.Error("second is not null")
	}
	third, _ := list.Next()
	if n, ok := third.Int(); !ok || n != -7 {
		t.Errorf("third is %d, %v", n, ok)
	}
	if _, ok := list.Next(); ok {
		t.Error("a fourth element")
	}
}

func TestWrongTag(t *testing.T) {
	v, _, _ := wire.Parse(wire.AppendBool(nil, true))
	if _, ok := v.Text(); ok {
		t.Error("true is a text")
	}
	if _, ok := v.Int(); ok {
		t.Error("true is an integer")
	}
	if _, ok := v.Float(); ok {
		t.Error("true is a number")
	}
	if _, ok := v.JSON(); ok {
		t.Error("true is JSON")
	}
	list := v.List()
	if _, ok := list.Next(); ok || list.Len() != 0 {
		t.Error("true is a list")
	}
}

// A guest decodes on every request.
func TestParseDoesNotAllocate(t *testing.T) {
	buf := wire.AppendString(wire.AppendList(nil, 1), "text")
	if n := testing.AllocsPerRun(100, func() {
		v, _, _ := wire.Parse(buf)
		list := v.List()
		list.Next()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(wire.AppendString(wire.AppendList(nil, 1), "text"))
	f.Add([]byte("\x06\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, buf []byte) {
		v, rest, ok := wire.Parse(buf)
		if !ok {
			return
		}
		if len(rest) >= len(buf) {
			t.Fatal("a value of no bytes")
		}
		list := v.List()
		want, n := list.Len(), 0
		for _, ok := list.Next(); ok; _, ok = list.Next() {
			n++
		}
		if n != want {
			t.Fatalf("%d of %d elements", n, want)
		}
	})
}
