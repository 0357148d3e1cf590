package pluginhost

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/core/pluginhost/guesttest"
	"github.com/cleat-dev/cleat/hostabi"
)

// TestVoice has a plugin talk, be silenced, and be heard again.
func TestVoice(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	var out bytes.Buffer
	log := newVoiced(slog.New(slog.NewTextHandler(&out, nil)), func() time.Time { return now }).With("plugin", "p")
	line := strings.Repeat("x", 1024-voiceLine)
	say := func(n int) (logged int) {
		out.Reset()
		for range n {
			log.InfoContext(fromGuest(), line)
		}
		return strings.Count(out.String(), line)
	}
	if n := say(200); n != 64 || strings.Count(out.String(), "logs too much over time") != 1 {
		t.Errorf("%d lines of the burst, want 64:\n%s", n, out.String())
	}
	if !strings.Contains(out.String(), "plugin=p") {
		t.Errorf("the note does not name the plugin:\n%s", out.String())
	}
	now = now.Add(500 * time.Millisecond)
	if n := say(10); n != 0 || out.Len() > 0 {
		t.Errorf("half a second later: %s", out.String())
	}
	log.Info("the host speaks")
	if !strings.Contains(out.String(), "the host speaks") {
		t.Error("a line of the host was dropped")
	}
	now = now.Add(500 * time.Millisecond)
	if n := say(100); n != 16 || !strings.Contains(out.String(), "were dropped\" plugin=p lines=146") {
		t.Errorf("a second later: %d lines, want 16:\n%s", n, out.String())
	}
	now = now.Add(-time.Hour)
	if n := say(1); n != 0 {
		t.Error("a clock set back gives lines")
	}
	now = now.Add(time.Hour)
	if n := say(200); n != 64 {
		t.Errorf("an hour later: %d lines, want 64", n)
	}
}

// TestVoiceIsShared has standard output and log draw on one budget, over many
// calls.
func TestVoiceIsShared(t *testing.T) {
	say := guesttest.HostFunction(hostabi.ModuleCore, "log")
	i32 := hostabi.I32
	write := guesttest.Import{Module: hostabi.ModuleWASI, Name: "fd_write", Params: []hostabi.Type{i32, i32, i32, i32}, Results: []hostabi.Type{i32}}
	for name, g := range map[string]guesttest.Guest{
		"log": hook("talker", guesttest.Code(guesttest.I32(0), guesttest.I32(guesttest.DataAddress), guesttest.I32(2000), guesttest.Call(0)), say),
		"output": hook("talker", guesttest.Code(
			guesttest.I32(0), guesttest.I32(guesttest.DataAddress), guesttest.Store(), guesttest.I32(4), guesttest.I32(2000), guesttest.Store(),
			guesttest.I32(1), guesttest.I32(0), guesttest.I32(1), guesttest.I32(8), guesttest.Call(0)), write),
	} {
		g.Data = bytes.Repeat([]byte("blah "), 400)
		var log logs
		now := time.Unix(1_000_000, 0)
		h := lockOf(t, g.Wasm()).open(t, log.option, func(o *Options) { o.Now = func() time.Time { return now } })
		for range 200 {
			result, err := h.Validate(t.Context(), pod())
			if err != nil || !result.Allowed {
				t.Fatalf("%s: %+v, %v", name, result, err)
			}
		}
		if n := strings.Count(log.String(), "msg=\"blah"); n < voiceBurst/3000 || n > voiceBurst/2000 {
			t.Errorf("%s: %d lines of 2000 bytes, want about %d", name, n, voiceBurst/2100)
		}
	}
}

// TestOutputFlood writes more in one call than is looked at; the reason of a
// crash, on standard error, is still found.
func TestOutputFlood(t *testing.T) {
	var out bytes.Buffer
	s := stdio{log: slog.New(slog.NewTextHandler(&out, nil))}
	s.reset()
	flood := bytes.Repeat([]byte{'\n'}, 1<<20)
	begin := time.Now()
	for range 5000 {
		s.write(1, flood)
	}
	if spent := time.Since(begin); spent > 30*time.Second {
		t.Errorf("5 GiB took %s", spent)
	}
	s.write(1, []byte("too late\n"))
	s.write(2, []byte("panic: \x1b[2Jwhy\r\n"))
	if got := s.lastWords(); got != "panic:  [2Jwhy" {
		t.Errorf("last words %q", got)
	}
	if strings.Contains(out.String(), "too late") {
		t.Error("what lies beyond the bound was logged")
	}
	s.reset()
	s.write(1, bytes.Repeat([]byte("line\n"), 1000))
	s.write(2, []byte("panic: again\n"))
	if got := s.lastWords(); got != "panic: again" {
		t.Errorf("after many lines: last words %q", got)
	}
	if n := strings.Count(out.String(), "msg=line"); n != maxLines-1 {
		t.Errorf("%d lines, want %d", n, maxLines-1)
	}
	s.reset()
	s.write(1, []byte("next call\n"))
	if !strings.Contains(out.String(), "next call") {
		t.Error("the next call is not heard")
	}
}
