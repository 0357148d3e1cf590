package wasmfile_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/hostabi/wasmfile"
)

const (
	million = "\xc0\x84\x3d" // as a number of the format
	endless = "\xff\xff\xff\xff\x0f"
)

// long is a section of any size.
func long(id byte, body string) string {
	n := len(body)
	return string([]byte{id, byte(n) | 0x80, byte(n>>7) | 0x80, byte(n>>14) | 0x80, byte(n>>21) & 0x7f}) + body
}

// TestBounds has files that hold more than they are allowed to, or say that they
// do, where no import or export shows it.
func TestBounds(t *testing.T) {
	repeat := func(n string, count int, entry string) string { return n + strings.Repeat(entry, count) }
	body := func(locals string) string {
		return section(1, "\x01\x60\x00\x00") + section(3, "\x01\x00") + section(10, "\x01"+string([]byte{byte(len(locals) + 1)})+locals+"\x0b")
	}
	tests := map[string]struct{ sections, why string }{
		"tables":                  {section(4, "\x65"+strings.Repeat("\x70\x00\x01", 101)), "the most is 100"},
		"claimed tables":          {section(4, "\x64"), "ends too early"},
		"globals":                 {long(6, repeat(million, 1_000_000, "\x7f\x00\x0b")), "the most is 10000"},
		"functions":               {section(1, "\x01\x60\x00\x00") + long(3, repeat(million, 1_000_000, "\x00")), "the most is 100000"},
		"parameters":              {long(1, repeat("\xe8\x07", 1000, "\x60\xe8\x07"+strings.Repeat("\x7f", 1000)+"\x00")), "in all types"},
		"passive functions":       {long(9, repeat("\x01\x01\x00"+million, 1_000_000, "\x00")), "the most is 200000"},
		"functions in segments":   {long(9, repeat("\x03", 3, "\x01\x00\xf0\x93\x09"+strings.Repeat("\x00", 150_000))), "in all segments"},
		"claimed functions":       {section(9, "\x01\x00\x41\x00\x0b"+endless), "entries"},
		"kind of elements":        {section(9, "\x01\x08\x00\x00"), "unknown kind 8"},
		"data":                    {long(11, repeat(million, 1_000_000, "\x01\x00")), "the most is 100000"},
		"claimed data":            {section(11, endless), "entries"},
		"claimed bytes of data":   {section(11, "\x01\x01"+endless), "entries"},
		"claimed data count":      {section(12, endless), "entries"},
		"kind of data":            {section(11, "\x01\x03\x00"), "unknown kind 3"},
		"constant of data":        {section(11, "\x01\x00\x10\x00\x0b\x00"), "unknown instruction 0x10"},
		"long number in constant": {section(11, "\x01\x00\x41\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x0b\x00"), "too many bytes"},
		"bodies":                  {section(10, "\x01\x02\x00\x0b"), "1 bodies for 0 functions"},
		"claimed bodies":          {section(10, endless), "entries"},
		"locals":                  {body("\x02\xc0\x84\x3d\x7f\x01\x7f"), "more than 50000 variables"},
		"claimed locals":          {body("\x7f"), "ends too early"},
		"custom sections":         {strings.Repeat(custom("a", ""), 101), "more than 100 custom sections"},
		"large custom sections":   {strings.Repeat(long(0, "\x01a"+strings.Repeat("x", 20<<20)), 2), "without debug information"},
	}
	for name, tt := range tests {
		_, err := wasmfile.Parse([]byte(header + tt.sections))
		if err == nil || !strings.Contains(err.Error(), tt.why) {
			t.Errorf("%s: got %v, want %q", name, err, tt.why)
		}
	}
	whole := section(1, "\x01\x60\x00\x00") + section(3, "\x01\x00") + section(4, "\x01\x70\x00\x01") + section(5, "\x01\x00\x01") +
		section(6, "\x02\x7f\x00\x41\x7f\x0b\x7b\x00\xfd\x0c"+strings.Repeat("\x0b", 16)+"\x0b") +
		section(9, "\x03\x00\x41\x00\x0b\x01\x00"+"\x05\x70\x02\xd2\x00\x0b\xd0\x70\x0b"+"\x02\x00\x41\x00\x0b\x00\x01\x00") +
		section(12, "\x03") + section(10, "\x01\x05\x01\x03\x7f\x01\x0b") + section(11, "\x03\x00\x41\x00\x0b\x01x\x01\x01y\x02\x00\x23\x00\x0b\x00")
	if _, err := wasmfile.Parse([]byte(header + whole)); err != nil {
		t.Errorf("a file with everything: %v", err)
	}
}

// TestBuiltPlugins holds the bounds against the plugins of the bundle, where
// they were built.
func TestBuiltPlugins(t *testing.T) {
	files, err := filepath.Glob("../../build/bundle/plugins/*.wasm")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := wasmfile.Parse(data); err != nil {
			t.Errorf("%s: %v", filepath.Base(f), err)
		}
	}
}
