package pluginarchive

import (
	"os"
	"path/filepath"
	"testing"
)

// yard is a directory with files to place and places for them.
type yard struct {
	t   *testing.T
	dir string
}

func (y yard) write(name, text string) string {
	y.t.Helper()
	path := filepath.Join(y.dir, name)
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.WriteFile(path, []byte(text), 0o644)
	}
	if err != nil {
		y.t.Fatal(err)
	}
	return path
}

// want compares the files below a directory with what is expected.
func (y yard) want(sub string, want map[string]string) {
	y.t.Helper()
	got := map[string]string{}
	root := filepath.Join(y.dir, sub)
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		got[path[len(root)+1:]] = string(text)
		return err
	})
	if err != nil {
		y.t.Fatal(err)
	}
	for name, text := range want {
		if got[name] != text {
			y.t.Errorf("%s is %q, want %q", name, got[name], text)
		}
		delete(got, name)
	}
	if len(got) > 0 {
		y.t.Errorf("also there: %v", got)
	}
}

func (y yard) placement(name, text, to string) Placement {
	return Placement{From: y.write("from/"+name, text), To: filepath.Join(y.dir, "to", to), Mode: 0o600}
}

func TestPlace(t *testing.T) {
	y := yard{t, t.TempDir()}
	y.write("to/same", "same")
	y.write("to/old", "old")
	y.write("to/kept", "old")
	kept := y.placement("d", "new", "kept")
	kept.Keep = filepath.Join(y.dir, "to", "kept.bak")
	changed, err := Place([]Placement{
		y.placement("a", "new", "sub/new"), y.placement("b", "same", "same"), y.placement("c", "new", "old"), kept,
	})
	if err != nil || changed != 3 {
		t.Errorf("%d changed, %v", changed, err)
	}
	y.want("to", map[string]string{"sub/new": "new", "same": "same", "old": "new", "kept": "new", "kept.bak": "old"})
	if info, err := os.Stat(filepath.Join(y.dir, "to", "old")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

// When one cannot be placed, all are as they were.
func TestPlaceAllOrNothing(t *testing.T) {
	y := yard{t, t.TempDir()}
	y.write("to/old", "old")
	y.write("to/kept", "old")
	before := map[string]string{"old": "old", "kept": "old"}

	// Found while preparing.
	_, err := Place([]Placement{y.placement("a", "new", "new"), y.placement("b", "new", "old"), {From: filepath.Join(y.dir, "absent"), To: filepath.Join(y.dir, "to", "x")}})
	wantError(t, err, "absent")
	y.want("to", before)

	// Found while placing: the name for the old file cannot be used.
	stuck := y.placement("c", "new", "kept")
	stuck.Keep = filepath.Join(y.dir, "nowhere", "kept.bak")
	_, err = Place([]Placement{y.placement("d", "new", "new"), y.placement("e", "new", "old"), stuck})
	wantError(t, err, "everything is as it was")
	y.want("to", before)

	// A link is not replaced.
	if err := os.Symlink("old", filepath.Join(y.dir, "to", "link")); err != nil {
		t.Fatal(err)
	}
	_, err = Place([]Placement{y.placement("f", "new", "link")})
	wantError(t, err, "is not a regular file; remove it")
}
