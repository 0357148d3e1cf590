package extract

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Set in the environment of a copy of this test binary that unpacks half an
// archive and then waits to be killed.
const (
	victimDir     = "EXTRACT_TEST_DIR"
	victimArchive = "EXTRACT_TEST_ARCHIVE"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(victimDir); dir != "" {
		if err := stall(dir, os.Getenv(victimArchive)); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// stall extracts from a reader that never gives the archive's last byte.
func stall(dir, encoded string) error {
	archive, err := hex.DecodeString(encoded)
	if err != nil {
		return err
	}
	_, err = Extract(context.Background(), dir, sumOf(archive), func() (io.ReadCloser, error) {
		return &stalled{rest: bytes.NewReader(archive[:len(archive)-1])}, nil
	})
	return err
}

type stalled struct{ rest *bytes.Reader }

func (s *stalled) Read(p []byte) (int, error) {
	if s.rest.Len() == 0 {
		fmt.Println("stalled")
		select {} // until the kill
	}
	return s.rest.Read(p[:min(len(p), 64)])
}

func (s *stalled) Close() error { return nil }

func TestKillWhileUnpacking(t *testing.T) {
	dir, archive := t.TempDir(), programArchive(t, "1")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	victim := exec.CommandContext(t.Context(), self)
	victim.Env = append(os.Environ(), victimDir+"="+dir, victimArchive+"="+hex.EncodeToString(archive))
	victim.Stderr = os.Stderr
	out, err := victim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "stalled\n" {
		t.Fatalf("the victim said %q, %v", line, err)
	}
	if err := victim.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := victim.Wait(); err == nil {
		t.Fatal("the victim ended by itself")
	}

	left, err := filepath.Glob(filepath.Join(dir, tempPrefix+"*"))
	if err != nil || len(left) != 1 {
		t.Fatalf("the kill should have left one half-made directory, not %v, %v", left, err)
	}
	bin := mustExtract(t, dir, archive)
	wantFile(t, filepath.Join(bin, "runc"), "runc 1", 0o755)
	wantNoLeftovers(t, dir)
}
