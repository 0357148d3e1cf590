package pluginhost

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/core/pluginhost/guesttest"
	"github.com/cleat-dev/cleat/hostabi"
)

// TestTablesTogether bounds what all tables may grow to, not each of them.
func TestTablesTogether(t *testing.T) {
	const half, whole = "\x80\x80\x20", "\x80\x80\x40" // 1<<19 and 1<<20 as numbers of the format
	for section, want := range map[string]struct {
		bounded bool
		err     string
	}{
		"\x00":                         {true, ""},
		"\x01\x70\x01\x01" + whole:     {true, ""},
		"\x01\x70\x00\x01":             {false, ""},
		"\x01\x70\x01\x01\x81\x80\x40": {false, ""},
		"\x01\x70\x00\x81\x80\x40":     {false, "more than 1048576 entries"},
		"\x02\x70\x01\x01" + half + "\x6f\x01\x01" + half:  {true, ""},
		"\x02\x70\x01\x01" + half + "\x70\x01\x01" + whole: {false, "its 2 tables may grow"},
		"\x02\x70\x01\x01" + half + "\x70\x00\x01":         {false, "its 2 tables may grow"},
	} {
		_, bounded, err := readTables([]byte(section))
		if bounded != want.bounded || (err == nil) != (want.err == "") || err != nil && !strings.Contains(err.Error(), want.err) {
			t.Errorf("%x: bounded %t, %v, want %+v", section, bounded, err, want)
		}
	}
}

// TestPipe reads plugins and locks from what is no file, which must not wait.
func TestPipe(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "p.wasm")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("p.wasm", filepath.Join(dir, "link.wasm")); err != nil {
		t.Fatal(err)
	}
	sources := Sources{PluginsDir: dir}
	for name, read := range map[string]func() error{
		"plugin": func() error {
			_, err := sources.Read(context.Background(), LockedPlugin{Name: "p", Source: "file:p.wasm"})
			return err
		},
		"link": func() error {
			_, err := sources.Read(context.Background(), LockedPlugin{Name: "p", Source: "file:link.wasm"})
			return err
		},
		"lock":   func() error { _, err := ReadFile(pipe, 1<<20); return err },
		"device": func() error { _, err := ReadFile("/dev/zero", 1<<20); return err },
	} {
		done := make(chan error, 1)
		go func() { done <- read() }()
		select {
		case err := <-done:
			if err == nil || !strings.Contains(err.Error(), "not a regular file") {
				t.Errorf("%s: %v", name, err)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%s: it waits for the other end", name)
		}
	}
}

// TestOneLineOfWords takes control characters out of what people read.
func TestOneLineOfWords(t *testing.T) {
	const words = "denied\x1b[2J\x07\r\nfake: line"
	const want = "denied [2J   fake: line"
	if got := oneLine("a\u009bb\u202ec\u2028d\u2067 ü"); got != "a b c d  ü" {
		t.Errorf("got %q", got)
	}
	say := func(call []byte, result int32) []byte {
		return guesttest.Code(guesttest.I32(guesttest.DataAddress), guesttest.I32(int32(len(words))), call, guesttest.Drop(), guesttest.I32(result))
	}
	deny := hook("p", guesttest.Code(guesttest.Get(0), say(guesttest.Code(guesttest.I32(0), guesttest.Call(0)), 1)),
		guesttest.HostFunction(hostabi.ModuleRequest, "deny"))
	fault := hook("p", say(guesttest.Call(0), -1), guesttest.HostFunction(hostabi.ModuleCore, "error_set"))
	logged := hook("p", guesttest.Code(guesttest.I32(0), say(guesttest.Call(0), 1)), guesttest.HostFunction(hostabi.ModuleCore, "log"))
	for name, g := range map[string]guesttest.Guest{"deny": deny, "error_set": fault, "log": logged} {
		g.Data = []byte(words)
		var log logs
		h := lockOf(t, g.Wasm()).open(t, log.option)
		result, err := h.Validate(t.Context(), pod())
		if err != nil || result.Allowed {
			t.Fatalf("%s: %+v, %v", name, result, err)
		}
		if got := result.Message + log.String(); !strings.Contains(got, want) {
			t.Errorf("%s: %q lacks %q", name, got, want)
		}
	}
}
