package extract

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// member is one entry of an archive made by a test.
type member struct {
	name string
	kind byte // 0 = a regular file
	body string
	link string
	mode int64
	size int64 // when it is to differ from the body's
}

func makeArchive(t testing.TB, members ...member) []byte {
	t.Helper()
	var plain bytes.Buffer
	tw := tar.NewWriter(&plain)
	for _, m := range members {
		h := &tar.Header{Name: m.name, Typeflag: m.kind, Linkname: m.link, Mode: m.mode, Size: max(m.size, int64(len(m.body)))}
		if m.kind == 0 {
			h.Typeflag = tar.TypeReg
		}
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(tw, m.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Flush(); err == nil { // Flush complains when a body is shorter than it said
		if err := tw.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return compress(t, plain.Bytes())
}

func compress(t testing.TB, plain []byte) []byte {
	t.Helper()
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	return z.EncodeAll(plain, nil)
}

func sumOf(archive []byte) string {
	sum := sha256.Sum256(archive)
	return hex.EncodeToString(sum[:])
}

func opener(archive []byte) Open {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive)), nil }
}

func programArchive(t testing.TB, version string) []byte {
	return makeArchive(t,
		member{name: "bin/", kind: tar.TypeDir},
		member{name: "bin/runc", body: "runc " + version},
		member{name: "bin/bridge", body: "bridge " + version, mode: 0o4777})
}
