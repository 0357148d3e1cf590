package images

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/cleat-dev/cleat/core/internal/paths"
)

// memoryStore takes archives whose content is "image <name>".
type memoryStore struct {
	held     map[string]bool
	imported chan string // one entry for each import
}

func newMemoryStore() *memoryStore {
	return &memoryStore{held: map[string]bool{}, imported: make(chan string, 100)}
}

func (s *memoryStore) Import(_ context.Context, r io.Reader) ([]string, error) {
	content, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	name, ok := strings.CutPrefix(string(content), "image ")
	s.imported <- name
	switch {
	case !ok:
		return nil, errors.New("no tar")
	case name == "":
		return nil, nil
	}
	s.held[name] = true
	return []string{name}, nil
}

func (s *memoryStore) Missing(_ context.Context, names []string) ([]string, error) {
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return s.held[n] }), nil
}

func (s *memoryStore) Close() error { return nil }

func (s *memoryStore) imports() []string {
	var names []string
	for {
		select {
		case n := <-s.imported:
			names = append(names, n)
		default:
			return names
		}
	}
}

func newComponent(t *testing.T, s *memoryStore) (*Component, *bytes.Buffer) {
	var log bytes.Buffer
	c := &Component{
		Data: paths.Data(t.TempDir()),
		Log:  slog.New(slog.NewTextHandler(&log, nil)),
		open: func(context.Context) (store, error) { return s, nil },
	}
	if err := os.MkdirAll(c.Data.Images(), 0o700); err != nil {
		t.Fatal(err)
	}
	return c, &log
}

func (c *Component) write(t *testing.T, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(c.Data.Images(), name), content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// once runs the component until it is ready.
func (c *Component) once(t *testing.T) error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	return c.Run(ctx, cancel)
}

func gzipped(t *testing.T, s string) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(s)); err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zstded(t *testing.T, s string) []byte {
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(s)); err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestRunImportsWhatIsThere(t *testing.T) {
	s := newMemoryStore()
	c, log := newComponent(t, s)
	c.write(t, "a.tar", []byte("image a"))
	c.write(t, "b.tar.gz", gzipped(t, "image b"))
	c.write(t, "c.tgz", gzipped(t, "image c"))
	c.write(t, "d.tar.zst", zstded(t, "image d"))
	c.write(t, "broken.tar.gz", gzipped(t, "image x")[:15])
	c.write(t, "empty.tar", nil)
	c.write(t, "nameless.tar", []byte("image "))
	c.write(t, "notes.txt", []byte("image notes"))
	c.write(t, ".hidden.tar", []byte("image hidden"))
	c.Payload = []Payload{{Name: "pause.tar.zst", Open: func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(zstded(t, "image pause"))), nil
	}}}
	if err := c.once(t); err != nil {
		t.Fatal(err)
	}
	want := []string{"pause", "a", "b", "c", "d", ""}
	if got := s.imports(); !slices.Equal(got, want) {
		t.Errorf("imported %q, want %q", got, want)
	}
	for _, name := range []string{"broken.tar.gz", "empty.tar", "nameless.tar"} {
		if !strings.Contains(log.String(), `level=ERROR msg="image archive not imported" file=`+name) {
			t.Errorf("%s not reported:\n%s", name, log)
		}
	}
}

func TestRestartImportsOnlyWhatChanged(t *testing.T) {
	s := newMemoryStore()
	c, _ := newComponent(t, s)
	for _, n := range []string{"a", "b", "c", "d"} {
		c.write(t, n+".tar", []byte("image "+n))
	}
	if err := c.once(t); err != nil {
		t.Fatal(err)
	}
	s.imports()

	c.write(t, "b.tar", []byte("image b2"))
	touched := time.Now().Add(-time.Hour)
	if err := os.Chtimes(filepath.Join(c.Data.Images(), "c.tar"), touched, touched); err != nil {
		t.Fatal(err)
	}
	delete(s.held, "d")
	if err := c.once(t); err != nil {
		t.Fatal(err)
	}
	if got, want := s.imports(), []string{"b2", "d"}; !slices.Equal(got, want) {
		t.Errorf("imported %q, want %q", got, want)
	}
}

func TestDamagedRecordImportsAgain(t *testing.T) {
	s := newMemoryStore()
	c, log := newComponent(t, s)
	c.write(t, "a.tar", []byte("image a"))
	c.write(t, ".imported.json", []byte("{"))
	if err := c.once(t); err != nil {
		t.Fatal(err)
	}
	if got := s.imports(); !slices.Equal(got, []string{"a"}) || !strings.Contains(log.String(), "not usable") {
		t.Errorf("imported %q, log %s", got, log)
	}
}

func TestPayloadMustBeWhole(t *testing.T) {
	s := newMemoryStore()
	c, _ := newComponent(t, s)
	open := func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("image p")), nil }
	c.Payload = []Payload{{Name: "p.tar", Digest: strings.Repeat("0", 64), Open: open}}
	if err := c.once(t); err == nil || !strings.Contains(err.Error(), "p.tar: its sha256 is") {
		t.Error(err)
	}
}

func TestRunFollowsTheDirectory(t *testing.T) {
	s := newMemoryStore()
	c, _ := newComponent(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	ready := make(chan struct{})
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx, func() { close(ready) }) }()
	<-ready

	expect := func(want string) {
		t.Helper()
		select {
		case got := <-s.imported:
			if got != want {
				t.Fatalf("imported %q, want %q", got, want)
			}
		case err := <-ended:
			t.Fatalf("ended: %v", err)
		case <-time.After(20 * time.Second):
			t.Fatalf("%q not imported", want)
		}
	}
	// Written in two pieces: the first must not be imported alone.
	f, err := os.Create(filepath.Join(c.Data.Images(), "late.tar"))
	if err != nil {
		t.Fatal(err)
	}
	for _, piece := range []string{"image ", "late"} {
		if _, err := f.WriteString(piece); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	expect("late")
	c.write(t, "late.tar", []byte("image later"))
	expect("later")

	if err := os.Rename(c.Data.Images(), c.Data.Images()+".old"); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		if _, err := os.Stat(c.Data.Images()); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatal("the directory was not made again")
		}
	}
	// The new directory is watched by the time a later write is seen.
	deadline = time.Now().Add(20 * time.Second)
	for seen := false; !seen; {
		c.write(t, "again.tar", []byte("image again"))
		select {
		case got := <-s.imported:
			if got != "again" {
				t.Fatalf("imported %q", got)
			}
			seen = true
		case <-time.After(2 * settleTime):
			if time.Now().After(deadline) {
				t.Fatal("the new directory is not watched")
			}
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestFullName(t *testing.T) {
	for in, want := range map[string]string{
		"3.10":                      "",
		"busybox:1":                 "docker.io/library/busybox:1",
		"registry.local/pause:3.10": "registry.local/pause:3.10",
		"bad name:1":                "",
	} {
		if got := fullName(in); got != want {
			t.Errorf("fullName(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzDecompress(f *testing.F) {
	f.Add([]byte("image a"))
	f.Add([]byte{0x1f, 0x8b, 8, 0})
	f.Add([]byte{0x28, 0xb5, 0x2f, 0xfd, 0})
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := decompress(bytes.NewReader(in))
		if err != nil {
			return
		}
		_, _ = io.CopyN(io.Discard, r, 1<<20)
		_ = r.Close()
	})
}
