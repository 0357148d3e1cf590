package payload

import (
	"errors"
	"io"
	"io/fs"
	"testing"
	"testing/fstest"
)

func TestAbsentPayloadSaysHowToBuildIt(t *testing.T) {
	empty := fstest.MapFS{".keep": {}}
	for name, get := range map[string]func() error{
		"archive": func() error { _, err := archive(empty, binName); return err },
		"plugins": func() error { _, err := dir(empty, pluginsDir); return err },
		"lock":    func() error { _, err := read(empty, lockName); return err },
		"open":    func() error { _, err := open(empty, imagesName); return err },
	} {
		if err := get(); !errors.Is(err, ErrNotBuilt) {
			t.Errorf("%s: got %v, want ErrNotBuilt", name, err)
		}
	}
}

func TestBuiltPayload(t *testing.T) {
	built := fstest.MapFS{
		"bin.tar.zst":        {Data: []byte("archive")},
		"bin.tar.zst.sha256": {Data: []byte("abc\n")},
		"plugins/x.wasm":     {Data: []byte("\x00asm")},
		"plugins.lock":       {Data: []byte("[[plugin]]")},
	}
	a, err := archive(built, binName)
	if err != nil || a.Name != "bin.tar.zst" || a.Digest != "abc" {
		t.Fatalf("got %+v, %v", a, err)
	}
	for range 2 {
		r, err := a.Open()
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(r); err != nil || string(body) != "archive" {
			t.Errorf("got %q, %v", body, err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	wasm, err := dir(built, pluginsDir)
	if err != nil {
		t.Fatal(err)
	}
	if names, err := fs.Glob(wasm, "*.wasm"); err != nil || len(names) != 1 || names[0] != "x.wasm" {
		t.Errorf("got %v, %v", names, err)
	}
	if lock, err := read(built, lockName); err != nil || string(lock) != "[[plugin]]" {
		t.Errorf("got %q, %v", lock, err)
	}
}

// Whatever was embedded, the exported functions agree with each other: all of
// the payload is there or none of it.
func TestEmbeddedIsWholeOrAbsent(t *testing.T) {
	_, bin := Bin()
	_, images := Images()
	_, cache := PluginCache()
	_, plugins := Plugins()
	_, lock := Lock()
	for name, err := range map[string]error{"images": images, "plugin cache": cache, "plugins": plugins, "lock": lock} {
		if (err == nil) != (bin == nil) {
			t.Errorf("%s: %v, but bin: %v", name, err, bin)
		}
		if err != nil && !errors.Is(err, ErrNotBuilt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
