package pluginhost

import (
	"bytes"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/core/pluginhost/guesttest"
	"github.com/cleat-dev/cleat/hostabi"
)

// TestGuardKeepsMeaning runs functions that leave their body in every way, with
// and without the guard: the answer is the same.
func TestGuardKeepsMeaning(t *testing.T) {
	c, i := guesttest.Code, guesttest.I32
	i32 := []hostabi.Type{hostabi.I32}
	two := []hostabi.Type{hostabi.I32, hostabi.I32}
	brIf, br, ret, table := []byte{0x0d, 0}, []byte{0x0c, 0}, guesttest.Return(), []byte{0x0e, 1, 0, 0}
	idle := guesttest.Call(0)
	tests := map[string]guesttest.Function{
		"falls through":          {Results: two, Body: c(idle, i(40), i(2))},
		"returns":                {Results: two, Body: c(i(40), i(2), idle, ret)},
		"branches out":           {Results: two, Body: c(idle, i(40), i(2), br)},
		"branches out of blocks": {Results: two, Body: c(idle, i(40), i(2), []byte{0x02, 0x40, 0x0b}, br)},
		"branches out maybe":     {Results: two, Body: c(idle, i(40), i(2), i(1), brIf, guesttest.Drop(), guesttest.Drop(), i(0), i(0))},
		"branches by a table":    {Results: two, Body: c(idle, i(40), i(2), i(0), table)},
		"has no call":            {Results: two, Body: c(i(40), i(2))},
		"begins with a loop":     {Results: two, Body: c([]byte{0x03, 0x40}, idle, []byte{0x0b}, i(40), i(2))},
	}
	for name, f := range tests {
		for _, trusted := range []bool{false, true} {
			g := hook("g", c(guesttest.Call(1), guesttest.Add(), guesttest.Set(2), guesttest.Call(2), guesttest.Call(3), guesttest.Drop(), i(0), guesttest.Get(2), []byte{0x6b}))
			g.Functions = []guesttest.Function{{}, f, {Body: c(idle, ret)}, {Results: i32, Body: c(idle, i(5), br)}}
			b := lockOf(t, g.Wasm())
			b.lock.Plugins[0].Trusted = trusted
			result, err := b.open(t).Validate(t.Context(), pod())
			if err != nil || !strings.Contains(result.Message, "returned -42") {
				t.Errorf("%s, trusted %t: %+v, %v", name, trusted, result, err)
			}
		}
	}
}

func TestGuardRefuses(t *testing.T) {
	g := hook("g", guesttest.I32(0))
	g.Functions = []guesttest.Function{{Body: bytes.Repeat([]byte{0x01}, maxBody)}}
	if _, err := guard(g.Wasm()); err == nil || !strings.Contains(err.Error(), "at most 2097152 are allowed") {
		t.Errorf("a huge function: %v", err)
	}
}

// TestGuardLeavesMostOfGoAlone counts how many functions of a real guest are
// changed: the price of the guard.
func TestGuardLeavesMostOfGoAlone(t *testing.T) {
	for name, f := range realBundle(t).files {
		guarded, err := guard(f.Data)
		if err != nil {
			t.Fatal(err)
		}
		wrapped := (len(guarded) - len(f.Data)) / len("loop block end end .")
		t.Logf("%s: about %d functions wrapped", name, wrapped)
		if wrapped > 400 {
			t.Errorf("%s: about %d functions wrapped", name, wrapped)
		}
	}
}

// FuzzGuard feeds arbitrary bytes; nothing panics, and what comes out can be read
// again.
func FuzzGuard(f *testing.F) {
	wasm := hook("g", guesttest.Code(guesttest.Call(1), guesttest.I32(0))).Wasm()
	f.Add(wasm)
	for i := 8; i < len(wasm); i += 5 {
		flipped := bytes.Clone(wasm)
		flipped[i] ^= 1 << (i % 8)
		f.Add(flipped)
	}
	f.Fuzz(func(t *testing.T, wasm []byte) {
		once, err := guard(wasm)
		if err != nil {
			return
		}
		if _, err := guard(once); err != nil {
			t.Fatalf("guarded code: %v", err)
		}
	})
}
