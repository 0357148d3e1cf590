package pluginarchive

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Placement puts one file to its place.
type Placement struct {
	From string // moved from here, or copied across file systems
	To   string
	// Keep is the name under which a different file at To is kept; "" = it is
	// replaced for good.
	Keep string
	Mode fs.FileMode
}

// Place carries out all placements, in order, or none: when one fails, those
// before it are undone. Each file changes in one step. What is at its place
// already, with the same content, is left alone. It returns how many changed.
func Place(list []Placement) (changed int, err error) {
	var staged []step
	defer func() {
		for _, s := range staged {
			err = errors.Join(err, s.clean())
		}
	}()
	for _, p := range list {
		same, err := SameFile(p.From, p.To)
		if err != nil {
			return 0, err
		}
		if same {
			continue
		}
		s, err := stage(p)
		staged = append(staged, s)
		if err != nil {
			return 0, fmt.Errorf("prepare %s: %w", p.To, err)
		}
	}
	for i := range staged {
		if err := staged[i].commit(); err != nil {
			for j := i; j >= 0; j-- {
				err = errors.Join(err, staged[j].undo())
			}
			return 0, fmt.Errorf("place %s: %w; everything is as it was", staged[i].To, err)
		}
	}
	return len(staged), nil
}

// step is a placement on its way.
type step struct {
	Placement
	temp   string // the new file, beside its place
	old    string // a second name of the file that is replaced, "" = there was none
	placed bool
}

// stage brings the file next to its place, where a rename is all that is left.
func stage(p Placement) (step, error) {
	s := step{Placement: p}
	dir := filepath.Dir(p.To)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return s, err
	}
	f, err := os.CreateTemp(dir, ".install-*")
	if err != nil {
		return s, err
	}
	s.temp = f.Name()
	if err := f.Close(); err != nil {
		return s, err
	}
	if err := os.Rename(p.From, s.temp); err != nil {
		if err := copyFile(p.From, s.temp); err != nil {
			return s, err
		}
	}
	if err := os.Chmod(s.temp, p.Mode); err != nil {
		return s, err
	}
	if _, err := os.Lstat(p.To); errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	old := s.temp + ".old"
	if err := os.Link(p.To, old); err != nil {
		return s, err
	}
	s.old = old
	return s, nil
}

func (s *step) commit() error {
	if s.Keep != "" && s.old != "" {
		// Kept for good before it is replaced, so that a crash loses nothing.
		if err := os.Link(s.old, s.Keep); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	if err := os.Rename(s.temp, s.To); err != nil {
		return err
	}
	s.placed = true
	return syncDir(filepath.Dir(s.To))
}

func (s *step) undo() error {
	switch {
	case !s.placed:
		return nil
	case s.old != "":
		return os.Rename(s.old, s.To)
	}
	return os.Remove(s.To)
}

// clean removes what is left beside the place.
func (s *step) clean() error {
	var errs []error
	for _, f := range []string{s.temp, s.old} {
		if f == "" {
			continue
		}
		if err := os.Remove(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// SameFile reports whether two files have the same content; a file that is not
// there has none.
func SameFile(a, b string) (_ bool, err error) {
	info, err := os.Lstat(b)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if !info.Mode().IsRegular() {
		return false, fmt.Errorf("%s is not a regular file; remove it", b)
	}
	fa, err := os.Open(a)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, fa.Close()) }()
	fb, err := os.Open(b)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, fb.Close()) }()
	return sameContent(fa, fb)
}

func sameContent(a, b io.Reader) (bool, error) {
	x, y := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, errA := io.ReadFull(a, x)
		m, errB := io.ReadFull(b, y)
		if !bytes.Equal(x[:n], y[:m]) {
			return false, nil
		}
		for _, err := range []error{errA, errB} {
			if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				return false, err
			}
		}
		if errA != nil {
			return true, nil
		}
	}
}

func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err == nil {
		err = out.Sync()
	}
	return errors.Join(err, out.Close())
}

// syncDir makes a rename survive a power cut.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
