package pluginhost

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/cleat-dev/cleat/core/pluginhost/guesttest"
	"github.com/cleat-dev/cleat/hostabi"
)

// TestMeterKeepsMeaning runs functions that leave their body in every way, and
// instructions the meter treats specially, with and without it: the answer is
// the same.
func TestMeterKeepsMeaning(t *testing.T) {
	c, i := guesttest.Code, guesttest.I32
	i32 := []hostabi.Type{hostabi.I32}
	two := []hostabi.Type{hostabi.I32, hostabi.I32}
	brIf, br, ret, table := []byte{0x0d, 0}, []byte{0x0c, 0}, guesttest.Return(), []byte{0x0e, 1, 0, 0}
	idle := guesttest.Call(0)
	answer := c(i(40), i(2))
	tests := map[string]guesttest.Function{
		"falls through":          {Results: two, Body: c(idle, answer)},
		"returns":                {Results: two, Body: c(answer, idle, ret)},
		"branches out":           {Results: two, Body: c(idle, answer, br)},
		"branches out of blocks": {Results: two, Body: c(idle, answer, []byte{0x02, 0x40, 0x0b}, br)},
		"branches out maybe":     {Results: two, Body: c(idle, answer, i(1), brIf, guesttest.Drop(), guesttest.Drop(), i(0), i(0))},
		"branches by a table":    {Results: two, Body: c(idle, answer, i(0), table)},
		"has no call":            {Results: two, Body: answer},
		"begins with a loop":     {Results: two, Body: c([]byte{0x03, 0x40}, idle, []byte{0x0b}, answer)},
		"if and else":            {Results: two, Body: c(idle, i(0), []byte{0x04, 0x40}, guesttest.Trap(), []byte{0x05, 0x0b}, answer)},
		"loop with a result":     {Results: two, Body: c([]byte{0x03, 0x7f}, idle, i(40), []byte{0x0b}, i(2))},
		"fills memory":           {Results: two, Body: c(i(8000), i(7), i(100), []byte{0xfc, 11, 0}, answer)},
		"copies memory":          {Results: two, Body: c(i(9000), i(8000), i(100), []byte{0xfc, 10, 0, 0}, idle, answer)},
		"counts down":            {Results: two, Body: c(i(5000), guesttest.Set(0), guesttest.Until(c(guesttest.Get(0), i(-1), guesttest.Add(), []byte{0x22, 0}, []byte{0x45})), answer)},
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

// TestMeterStops ends every way of not coming to an end at the deadline.
func TestMeterStops(t *testing.T) {
	c, i := guesttest.Code, guesttest.I32
	fanOut := []guesttest.Function{{Body: nil}} // each calls the one before four times
	for n := range uint32(40) {
		fanOut = append(fanOut, guesttest.Function{Body: bytes.Repeat(guesttest.Call(n), 4)})
	}
	fill := c(i(0), i(0), i(15*pageSize), []byte{0xfc, 11, 0})
	for name, g := range map[string]guesttest.Guest{
		"loop":               hook("g", c(guesttest.Forever(nil), i(0))),
		"loop with a block":  hook("g", c(guesttest.Forever([]byte{0x02, 0x40, 0x0b}), i(0))),
		"loop of fills":      hook("g", c(guesttest.Forever(fill), i(0))),
		"calls without loop": hook("g", c(guesttest.Call(40), i(0))),
	} {
		g.MinPages = 16
		g.Functions = fanOut
		b := lockOf(t, g.Wasm())
		b.lock.Plugins[0].Limits.DeadlineMS = 50
		h := b.open(t)
		begin := time.Now()
		result, err := h.Validate(t.Context(), pod())
		if err != nil || result.Allowed || !strings.Contains(result.Message, "deadline of 50ms") {
			t.Errorf("%s: %+v, %v", name, result, err)
		}
		if spent := time.Since(begin); spent > 30*time.Second {
			t.Errorf("%s: ended after %s", name, spent)
		}
		if s := h.Stats()[0]; s.Timeouts != 1 {
			t.Errorf("%s: stats %+v", name, s)
		}
	}
}

// TestMeterNoticesTheCaller: a guest ends soon after the caller has gone.
func TestMeterNoticesTheCaller(t *testing.T) {
	b := lockOf(t, hook("g", guesttest.Code(guesttest.Forever(nil), guesttest.I32(0))).Wasm())
	b.lock.Plugins[0].Limits.DeadlineMS = 60_000
	h := b.open(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := h.Validate(ctx, pod()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestMeterRefuses(t *testing.T) {
	huge := hook("g", guesttest.I32(0))
	huge.Functions = []guesttest.Function{{Body: bytes.Repeat([]byte{0x01}, maxBody)}}
	// The fuel is variable 0 of a guest that has none of its own.
	thief := hook("g", guesttest.I32(0))
	thief.Functions = []guesttest.Function{{Body: []byte{0x42, 0x7f, opGlobalSet, 0}}}
	atomic := hook("g", guesttest.I32(0))
	atomic.Functions = []guesttest.Function{{Body: []byte{0xfe, 0x03, 0x00}}}
	for want, g := range map[string]guesttest.Guest{
		"at most 2097152 are allowed": huge, "uses variable 0 of 0": thief, "malformed": atomic,
	} {
		if _, _, err := metered(g.Wasm()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// TestMeterOfTheBundle puts the meter into real guests and shows its size.
func TestMeterOfTheBundle(t *testing.T) {
	for name, f := range realBundle(t).files {
		out, _, err := metered(f.Data)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		t.Logf("%s: %d bytes, with the meter %d", name, len(f.Data), len(out))
	}
}

// FuzzMeter feeds arbitrary bytes; nothing panics, and what wazero accepts
// without the meter it accepts with it.
func FuzzMeter(f *testing.F) {
	wasm := hook("g", guesttest.Code(guesttest.Call(1), guesttest.I32(0))).Wasm()
	f.Add(wasm)
	for i := 8; i < len(wasm); i += 5 {
		flipped := bytes.Clone(wasm)
		flipped[i] ^= 1 << (i % 8)
		f.Add(flipped)
	}
	f.Fuzz(func(t *testing.T, wasm []byte) {
		out, _, err := metered(wasm)
		if err != nil {
			return
		}
		config := wazero.NewRuntimeConfigInterpreter().WithCoreFeatures(api.CoreFeaturesV2).WithMemoryLimitPages(16)
		ctx := t.Context()
		r := wazero.NewRuntimeWithConfig(ctx, config)
		defer r.Close(ctx)
		plain, err := r.CompileModule(ctx, wasm)
		if err != nil {
			return
		}
		defer plain.Close(ctx)
		if _, err := r.CompileModule(ctx, out); err != nil {
			t.Fatalf("with the meter: %v", err)
		}
	})
}
