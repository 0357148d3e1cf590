package extract

import (
	"archive/tar"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Whatever the archive says, nothing but plain files below bin appears, and
// only if Extract succeeds.
func FuzzExtract(f *testing.F) {
	plain := func(members ...member) []byte { return makeArchive(f, members...) }
	f.Add(programArchive(f, "1"))
	f.Add(plain(member{name: "bin/../x", body: "1"}))
	f.Add(plain(member{name: "bin/x", kind: tar.TypeSymlink, link: "/"}))
	f.Add(compress(f, []byte("no tar")))
	f.Add([]byte("no zstd"))
	f.Fuzz(func(t *testing.T, archive []byte) {
		top := t.TempDir()
		dir := filepath.Join(top, "data")
		bin, err := Extract(t.Context(), dir, sumOf(archive), opener(archive))
		if err == nil && bin != filepath.Join(dir, sumOf(archive), "bin") {
			t.Fatalf("got %s", bin)
		}
		walkErr := fs.WalkDir(os.DirFS(top), ".", func(name string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir(), name == "data/"+lockName, name == "data/"+currentLink:
				return nil
			case !strings.HasPrefix(name, "data/"+sumOf(archive)+"/"), !d.Type().IsRegular():
				t.Errorf("%s of type %v appeared", name, d.Type())
			}
			return nil
		})
		if walkErr != nil {
			t.Fatal(walkErr)
		}
	})
}

// The tar layer, without compression and digest in front of it.
func FuzzCheckPath(f *testing.F) {
	for _, name := range []string{"bin", "bin/x", "bin/", "/bin/x", "bin/../x", "bin//x", "b\x00n", `bin\x`, "./bin/x", ""} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		clean, err := checkPath(name)
		if err != nil {
			return
		}
		if clean != filepath.Clean(clean) || filepath.IsAbs(clean) || !filepath.IsLocal(clean) || (clean != "bin" && !strings.HasPrefix(clean, "bin/")) {
			t.Errorf("%q was accepted as %q", name, clean)
		}
	})
}

func FuzzContents(f *testing.F) {
	f.Add([]byte(`[{"name":"bin/runc","size":6}]`))
	f.Add([]byte(`[{"name":"../../etc/passwd","size":6}]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		files, err := parseContents(body)
		for _, file := range files {
			if err == nil && !filepath.IsLocal(file.Name) {
				t.Errorf("%q was accepted", file.Name)
			}
		}
	})
}
