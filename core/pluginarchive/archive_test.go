package pluginarchive

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

func entries() []Entry {
	return []Entry{
		{Path: "files/store.wasm", Data: []byte("wasm")},
		{Path: LockName, Data: []byte("version = 1\n")},
		{Path: "images/a.tar", Data: []byte("image")},
	}
}

func written(t testing.TB, list []Entry) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := Write(&b, "v1.2.3", list); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func wantError(t *testing.T, err error, words ...string) {
	t.Helper()
	for _, w := range words {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("error %v, want one with %q", err, w)
		}
	}
}

func TestWriteExtract(t *testing.T) {
	data := written(t, entries())
	if !bytes.Equal(data, written(t, entries())) {
		t.Error("equal entries give different archives")
	}
	backwards := entries()
	slices.Reverse(backwards)
	if !bytes.Equal(data, written(t, backwards)) {
		t.Error("the order of the entries shows in the archive")
	}
	dir := t.TempDir()
	x, err := Extract(t.Context(), bytes.NewReader(data), dir)
	if err != nil {
		t.Fatal(err)
	}
	if x.Cleat != "v1.2.3" || len(x.Files) != 3 {
		t.Errorf("index %+v", x)
	}
	for _, e := range entries() {
		got, err := os.ReadFile(filepath.Join(dir, e.Path))
		if err != nil || !bytes.Equal(got, e.Data) {
			t.Errorf("%s: %q, %v", e.Path, got, err)
		}
	}
	if _, err := Extract(t.Context(), bytes.NewReader(data), dir); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second time into one directory: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Extract(ctx, bytes.NewReader(data), t.TempDir()); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

func TestWriteRefuses(t *testing.T) {
	for _, tc := range []struct {
		list []Entry
		want string
	}{
		{nil, "there is no plugins.lock"},
		{append(entries(), Entry{Path: "../x"}), "no path of an archive"},
		{append(entries(), entries()[0]), "each once"},
		{append(entries(), Entry{Path: "images/b.tar", From: t.TempDir()}), "not a regular file"},
		{append(entries(), Entry{Path: "images/b.tar", From: "/absent/b.tar"}), "no such file"},
	} {
		_, err := Write(io.Discard, "", tc.list)
		wantError(t, err, tc.want)
	}
}

// member is a file of an archive that no program of ours writes.
type member struct {
	tar.Header
	data string
}

func raw(t *testing.T, members ...member) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	for _, m := range members {
		if m.Typeflag == 0 {
			m.Typeflag = tar.TypeReg
		}
		if m.Typeflag == tar.TypeReg {
			m.Size = int64(len(m.data))
		}
		if err := w.WriteHeader(&m.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, m.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func index(files ...File) member {
	text, err := json.Marshal(Index{Format: Format, Files: files})
	if err != nil {
		panic(err)
	}
	return member{Header: tar.Header{Name: IndexName}, data: string(text)}
}

func file(name, data string) File {
	return File{Path: name, Size: int64(len(data)), SHA256: digest([]byte(data))}
}

func plain(name, data string) member { return member{Header: tar.Header{Name: name}, data: data} }

func TestHostileArchives(t *testing.T) {
	lock := file(LockName, "L")
	link := func(kind byte, name, target string) member {
		return member{Header: tar.Header{Typeflag: kind, Name: name, Linkname: target}}
	}
	for _, tc := range []struct {
		name, want string
		data       []byte
	}{
		{"good", "", raw(t, index(lock), plain(LockName, "L"))},
		{"empty", "EOF", nil},
		{"no zstd", "magic", []byte("PK\x03\x04xxxxxxxxxxxxxxxxxx")},
		{"no index", "it begins with", raw(t, plain(LockName, "L"))},
		{"index is a link", "it begins with", raw(t, link(tar.TypeSymlink, IndexName, "/etc/passwd"))},
		{"index is no JSON", "index.json", raw(t, plain(IndexName, "{"))},
		{"another format", "format is", raw(t, plain(IndexName, `{"format":"x"}`))},
		{"huge index", "it begins with", raw(t, plain(IndexName, strings.Repeat(" ", maxIndexBytes+1)))},
		{"climbs", "no path of an archive", raw(t, index(file("../x", "x"), lock))},
		{"climbs in the middle", "no path of an archive", raw(t, index(file("files/../../x", "x"), lock))},
		{"absolute", "no path of an archive", raw(t, index(file("/etc/x", "x"), lock))},
		{"elsewhere", "no path of an archive", raw(t, index(file("bin/x", "x"), lock))},
		{"into the store's place", "no path of an archive", raw(t, index(file("files/oci/x", "x"), lock))},
		{"into the cache's place", "no path of an archive", raw(t, index(file("files/cache/x", "x"), lock))},
		{"hidden", "no path of an archive", raw(t, index(file("files/.x", "x"), lock))},
		{"twice", "each once", raw(t, index(lock, lock))},
		{"not sorted", "paths are sorted", raw(t, index(lock, file("files/a", "x")))},
		{"no lock", "there is no plugins.lock", raw(t, index())},
		{"huge", "said to have", raw(t, index(file("files/a.wasm", ""), File{LockName, 1 << 40, lock.SHA256}))},
		{"negative", "said to have -1 bytes", raw(t, index(File{LockName, -1, lock.SHA256}))},
		{"no digest", "64 lower-case hex", raw(t, index(File{LockName, 1, "x"}))},
		{"missing file", "it ends before plugins.lock", raw(t, index(lock))},
		{"another file", `it has "files/x"`, raw(t, index(lock), plain("files/x", "L"))},
		{"a link", "not a regular file in it", raw(t, index(lock), link(tar.TypeSymlink, LockName, "/etc/passwd"))},
		{"a hard link", "not a regular file in it", raw(t, index(lock), link(tar.TypeLink, LockName, "/etc/passwd"))},
		{"a device", "not a regular file in it", raw(t, index(lock), link(tar.TypeChar, LockName, ""))},
		{"a directory", "it has", raw(t, index(lock), link(tar.TypeDir, LockName+"/", ""))},
		{"longer", "has 2 bytes, its index says 1", raw(t, index(lock), plain(LockName, "LL"))},
		{"changed", "the archive is damaged or was changed", raw(t, index(lock), plain(LockName, "M"))},
		{"one more", `it has "x", which its index does not list`, raw(t, index(lock), plain(LockName, "L"), plain("x", "x"))},
		{"a file is a directory", "files/a/b", raw(t, index(file("files/a", "x"), file("files/a/b", "x"), lock), plain("files/a", "x"), plain("files/a/b", "x"), plain(LockName, "L"))},
		{"cut", "archive:", raw(t, index(lock), plain(LockName, "L"))[:60]},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "in")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			_, err := Extract(t.Context(), bytes.NewReader(tc.data), dir)
			if tc.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantError(t, err, tc.want)
			if around, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(around) != 1 {
				t.Errorf("something was written beside the directory: %v, %v", around, err)
			}
		})
	}
}

// A bomb is stopped by the sizes of its index.
func TestBombs(t *testing.T) {
	huge := strings.Repeat("\x00", maxLock+1)
	_, err := Extract(t.Context(), bytes.NewReader(raw(t, index(file(LockName, huge)), plain(LockName, huge))), t.TempDir())
	wantError(t, err, "at most 1048576 are possible")
	// After the end of the tar there is no more than its padding.
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(z, zeros{}, 64<<20); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = Extract(t.Context(), bytes.NewReader(append(raw(t, index(file(LockName, "L")), plain(LockName, "L")), b.Bytes()...)), t.TempDir())
	wantError(t, err, "it goes on after its end")
	var many []File
	for i := range MaxFiles + 1 {
		many = append(many, file(fmt.Sprintf("files/%06d", i), ""))
	}
	_, err = Extract(t.Context(), bytes.NewReader(raw(t, index(many...))), t.TempDir())
	wantError(t, err, "4097 files, at most 4096")
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

func FuzzExtract(f *testing.F) {
	f.Add(written(f, entries()))
	f.Add([]byte("\x28\xb5\x2f\xfd"))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := filepath.Join(t.TempDir(), "in")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		x, err := Extract(t.Context(), bytes.NewReader(data), dir)
		if around, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(around) != 1 {
			t.Fatalf("something was written beside the directory: %v, %v", around, err)
		}
		if err != nil {
			return
		}
		for _, file := range x.Files {
			got, err := os.ReadFile(filepath.Join(dir, file.Path))
			if err != nil || digest(got) != file.SHA256 {
				t.Errorf("%s: %v", file.Path, err)
			}
		}
	})
}

// The tar inside, without the compression that stops most mutations.
func FuzzIndex(f *testing.F) {
	f.Add([]byte(index(file(LockName, "L"), file("files/a.wasm", "x")).data))
	f.Fuzz(func(t *testing.T, text []byte) {
		x, err := parseIndex(text)
		if err != nil {
			return
		}
		for _, file := range x.Files {
			if !filepath.IsLocal(file.Path) || file.Size < 0 || file.Size > maxImage {
				t.Errorf("accepted %+v", file)
			}
		}
	})
}
