package logging

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
)

const token = "K10" + "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" + "::server:hunter2"

func TestFormats(t *testing.T) {
	for _, c := range []struct {
		format string
		json   bool
	}{{FormatAuto, true}, {FormatJSON, true}, {FormatText, false}, {"", true}} {
		var out bytes.Buffer
		New(&out, c.format, false).Info("unit ready", "unit", "pki")
		if got := json.Valid(out.Bytes()); got != c.json {
			t.Errorf("format %q: JSON = %v, want %v: %s", c.format, got, c.json, out.String())
		}
		if strings.Contains(out.String(), "\x1b[") {
			t.Errorf("format %q: colours in something that is no terminal: %q", c.format, out.String())
		}
	}
}

func TestDebug(t *testing.T) {
	for _, debug := range []bool{false, true} {
		var out bytes.Buffer
		New(&out, FormatText, debug).Debug("detail")
		if got := out.Len() > 0; got != debug {
			t.Errorf("debug %v: wrote %q", debug, out.String())
		}
	}
}

func TestSecretsAreRedacted(t *testing.T) {
	for _, format := range []string{FormatText, FormatJSON} {
		var out bytes.Buffer
		l := New(&out, format, false)
		l.Info("joined with "+token, "token", "hunter2", "err", errors.New("get https://x/?t="+token+" failed"))
		l.Info("args", "argv", []string{"cleat", "--token", token}, slog.Group("auth", "Password", "hunter2", "user", "node"))
		l.With("authorization", "Bearer hunter2").Error("refused")
		if strings.Contains(out.String(), "hunter2") {
			t.Errorf("%s: a secret was logged:\n%s", format, out.String())
		}
		for _, want := range []string{redacted, "node", "failed"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s: %q is missing:\n%s", format, want, out.String())
			}
		}
	}
}

func TestLines(t *testing.T) {
	var out bytes.Buffer
	w := Lines(New(&out, FormatJSON, false), slog.LevelWarn)
	for _, part := range []string{"one\ntw", "o\r\n\n", "three"} {
		if n, err := w.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatalf("Write(%q) = %d, %v", part, n, err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got, want := messages(t, out.Bytes()), "one|two|three"; got != want {
		t.Errorf("lines %q, want %q", got, want)
	}
	if !strings.Contains(out.String(), `"level":"WARN"`) {
		t.Errorf("level lost: %s", out.String())
	}
}

func TestLinesAreBounded(t *testing.T) {
	var out bytes.Buffer
	w := Lines(New(&out, FormatJSON, false), slog.LevelInfo)
	if _, err := w.Write(bytes.Repeat([]byte("x"), 3*maxLine+5)); err != nil {
		t.Fatal(err)
	}
	if len(w.part) > maxLine {
		t.Errorf("holds %d bytes", len(w.part))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(messages(t, out.Bytes()), "x"); got != 3*maxLine+5 {
		t.Errorf("%d bytes arrived, want %d", got, 3*maxLine+5)
	}
}

func TestStd(t *testing.T) {
	var out bytes.Buffer
	Std(New(&out, FormatJSON, false), slog.LevelWarn).Printf("http: %s", "bad")
	if got := messages(t, out.Bytes()); got != "http: bad" {
		t.Errorf("got %q", got)
	}
}

func TestAtLeast(t *testing.T) {
	var out bytes.Buffer
	h := AtLeast(New(&out, FormatJSON, true).Handler(), slog.LevelWarn)
	l := slog.New(h.WithGroup("g").WithAttrs([]slog.Attr{slog.Int("a", 1)}))
	l.Info("chatter")
	l.Warn("kept")
	// a bridge that never asks Enabled
	if err := h.Handle(t.Context(), slog.Record{Level: slog.LevelDebug, Message: "sneaked"}); err != nil {
		t.Fatal(err)
	}
	if got := messages(t, out.Bytes()); got != "kept" {
		t.Errorf("got %q", got)
	}
}

// messages joins the messages of JSON lines with "|".
func messages(t *testing.T, out []byte) string {
	t.Helper()
	var all []string
	for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); {
		var line struct{ Msg string }
		if err := dec.Decode(&line); err != nil {
			t.Fatal(err)
		}
		all = append(all, line.Msg)
	}
	return strings.Join(all, "|")
}
