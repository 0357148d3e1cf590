package payload

import (
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/klauspost/compress/zstd"
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

func TestPackedFiles(t *testing.T) {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	pack := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: z.EncodeAll([]byte(s), nil)} }
	long := strings.Repeat("machine code ", 1000)
	packed := packedFS{fstest.MapFS{"v1/aa.zst": pack(long), "v1/bb.zst": pack(""), "v1/damaged.zst": {Data: []byte("no frame at all")}}}

	if body, err := fs.ReadFile(packed, "v1/aa"); err != nil || string(body) != long {
		t.Errorf("got %d bytes, %v", len(body), err)
	}
	if info, err := fs.Stat(packed, "v1/aa"); err != nil || info.Size() != int64(len(long)) || info.Name() != "aa" {
		t.Errorf("got %v, %v", info, err)
	}
	if _, err := fs.ReadFile(packed, "v1/damaged"); err == nil {
		t.Error("a damaged file was read")
	}
	for _, name := range []string{"v1/aa.zst", "v1/cc", "../x"} {
		if _, err := packed.Open(name); err == nil {
			t.Errorf("%s was opened", name)
		}
	}
	if err := fstest.TestFS(packedFS{fstest.MapFS{"v1/aa.zst": pack(long), "v1/bb.zst": pack("")}}, "v1/aa", "v1/bb"); err != nil {
		t.Error(err)
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
