//go:build e2e

package conformance

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/test/e2e/lab"
)

// mirror serves the images of an OCI layout to specs that pull always.
type mirror struct {
	blobs     map[string]*io.SectionReader // by digest, in the archive
	manifests map[string]descriptor        // by host/name:tag
}

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Annotations map[string]string `json:"annotations"`
}

const mirrorPort = 5000

// openMirror indexes an archive that pack wrote.
func openMirror(t *testing.T, archive string) *mirror {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() }) // only read
	m := &mirror{blobs: map[string]*io.SectionReader{}, manifests: map[string]descriptor{}}
	for files := tar.NewReader(f); ; {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%s: %v", archive, err)
		}
		if digest, ok := strings.CutPrefix(h.Name, "blobs/sha256/"); ok {
			at, err := f.Seek(0, io.SeekCurrent)
			if err != nil {
				t.Fatal(err)
			}
			m.blobs["sha256:"+digest] = io.NewSectionReader(f, at, h.Size)
		}
		if h.Name == "index.json" {
			var index struct{ Manifests []descriptor }
			if err := json.NewDecoder(files).Decode(&index); err != nil {
				t.Fatalf("%s: %s: %v", archive, h.Name, err)
			}
			for _, d := range index.Manifests {
				m.manifests[d.Annotations["org.opencontainers.image.ref.name"]] = d
			}
		}
	}
	if len(m.manifests) == 0 {
		t.Fatalf("%s: no image in index.json", archive)
	}
	return m
}

func (m *mirror) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/v2/")
	if path == "" {
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	_, digest, ok := strings.Cut(path, "/blobs/")
	if !ok {
		name, reference, _ := strings.Cut(path, "/manifests/")
		for ref, d := range m.manifests {
			if _, inRegistry, _ := strings.Cut(ref, "/"); inRegistry == name+":"+reference || d.Digest == reference {
				digest = d.Digest
				w.Header().Set("Content-Type", d.MediaType)
			}
		}
	}
	content, ok := m.blobs[digest]
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Docker-Content-Digest", digest)
	http.ServeContent(w, r, "", time.Time{}, io.NewSectionReader(content, 0, content.Size()))
}

// serve answers on a machine until the test ends, and returns the registries.yaml
// that makes cleat ask there.
func (m *mirror) serve(t *testing.T, on *lab.Machine) string {
	t.Helper()
	server := &http.Server{Handler: m, ReadHeaderTimeout: time.Minute}
	l := on.Listen(t, mirrorPort)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("the mirror: %v", err)
		}
	})
	return fmt.Sprintf("mirrors:\n  registry.k8s.io: {endpoint: [\"http://%s:%d\"]}\n", on.Addr, mirrorPort)
}
