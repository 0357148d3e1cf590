package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

func write(t *testing.T, name, body string, mode os.FileMode) string {
	t.Helper()
	if err := os.WriteFile(name, []byte(body), mode); err != nil {
		t.Fatal(err)
	}
	return name
}

func pack(t *testing.T, args ...string) {
	t.Helper()
	if err := run(args, io.Discard); err != nil {
		t.Fatal(err)
	}
}

// unpack returns the entries of a .tar or .tar.zst by name.
func unpack(t *testing.T, body []byte, packed bool) (map[string]*tar.Header, map[string][]byte) {
	t.Helper()
	var r io.Reader = bytes.NewReader(body)
	if packed {
		z, err := zstd.NewReader(r)
		if err != nil {
			t.Fatal(err)
		}
		defer z.Close()
		r = z
	}
	headers, bodies := map[string]*tar.Header{}, map[string][]byte{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return headers, bodies
		}
		if err != nil {
			t.Fatal(err)
		}
		if headers[h.Name] = h; h.ModTime.Unix() != 0 || h.Uid != 0 || h.Gid != 0 {
			t.Errorf("%s: time %v, owner %d:%d", h.Name, h.ModTime, h.Uid, h.Gid)
		}
		if bodies[h.Name], err = io.ReadAll(tr); err != nil {
			t.Fatal(err)
		}
	}
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	body, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func TestFilesDependOnlyOnNamesAndBytes(t *testing.T) {
	one, two := t.TempDir(), t.TempDir()
	a := write(t, filepath.Join(one, "a"), "alpha", 0o700)
	b := write(t, filepath.Join(one, "b"), "beta", 0o755)
	a2 := write(t, filepath.Join(two, "a"), "alpha", 0o644)
	b2 := write(t, filepath.Join(two, "b"), "beta", 0o600)
	if err := os.Chtimes(a2, time.Unix(99, 0), time.Unix(99, 0)); err != nil {
		t.Fatal(err)
	}
	first, second := filepath.Join(one, "out.tar.zst"), filepath.Join(two, "out.tar.zst")
	pack(t, "files", "-o", first, a, b)
	pack(t, "files", "-o", second, b2, a2)
	if !bytes.Equal(read(t, first), read(t, second)) {
		t.Error("the same files in another order, with other modes and times, gave another archive")
	}
	if sum := strings.TrimSpace(string(read(t, first+".sha256"))); "sha256:"+sum != digestOf(read(t, first)) {
		t.Errorf("digest file says %s, the archive has %s", sum, digestOf(read(t, first)))
	}
	headers, bodies := unpack(t, read(t, first), true)
	if len(headers) != 3 || headers["bin/a"].Mode != 0o755 || string(bodies["bin/b"]) != "beta" {
		t.Errorf("unexpected entries: %v", headers)
	}
}

const toolSpec = `{"ref": "example.test/tool:1", "config": {"User": "1:1", "Cmd": ["/bin/tool"]},
	"dirs": [{"path": "/tmp", "mode": "1777"}],
	"files": [{"path": "/bin/tool", "mode": "0755", "from": "tool"}, {"path": "/etc/motd", "mode": "0644", "text": "hi\n"}],
	"links": [{"path": "/bin", "to": "tool", "names": ["x", "y"]}]}`

// blobOf returns a blob of a layout, checked against its descriptor.
func blobOf(t *testing.T, blobs map[string][]byte, d descriptor) []byte {
	t.Helper()
	body := blobs["blobs/sha256/"+strings.TrimPrefix(d.Digest, "sha256:")]
	if digestOf(body) != d.Digest || int64(len(body)) != d.Size {
		t.Fatalf("blob %s has %d bytes and digest %s", d.Digest, len(body), digestOf(body))
	}
	return body
}

func decode(t *testing.T, body []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(body, v); err != nil {
		t.Fatal(err)
	}
}

func TestImageLayout(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "tool"), "#!", 0o600)
	spec := write(t, filepath.Join(dir, "tool.json"), toolSpec, 0o644)
	out := filepath.Join(dir, "images.tar")
	pack(t, "images", "-o", out, "-from", dir, spec)
	_, blobs := unpack(t, read(t, out), false)

	blob := func(d descriptor) []byte { return blobOf(t, blobs, d) }
	var list index
	decode(t, blobs["index.json"], &list)
	if len(list.Manifests) != 1 || list.Manifests[0].Annotations["io.containerd.image.name"] != "example.test/tool:1" {
		t.Fatalf("index: %+v", list)
	}
	var m manifest
	decode(t, blob(list.Manifests[0]), &m)
	var c imageConfig
	decode(t, blob(m.Config), &c)
	if c.Config.User != "1:1" || c.OS != "linux" || len(m.Layers) != 1 || len(c.RootFS.DiffIDs) != 1 {
		t.Errorf("manifest %+v, config %+v", m, c)
	}
	headers, files := unpack(t, blob(m.Layers[0]), true)
	if headers["tmp/"].Mode != 0o1777 || headers["bin/tool"].Mode != 0o755 || headers["bin/y"].Linkname != "tool" || string(files["etc/motd"]) != "hi\n" {
		t.Errorf("layer: %v", headers)
	}
}

// An image on a base has the base's layers below its own, whichever comes first
// among the arguments, and they are stored once.
func TestLayersOfABaseAreShared(t *testing.T) {
	dir := t.TempDir()
	var rootfs bytes.Buffer
	tw := tar.NewWriter(&rootfs)
	for _, h := range []tar.Header{
		{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "./bin/", Typeflag: tar.TypeDir, Mode: 0o711, Uid: 7, ModTime: time.Unix(99, 0)},
		{Name: "./bin/su", Typeflag: tar.TypeReg, Mode: 0o4755, Size: 2},
		{Name: "./bin/sudo", Typeflag: tar.TypeLink, Linkname: "./bin/su"},
		{Name: "./sbin", Typeflag: tar.TypeSymlink, Linkname: "bin"},
	} {
		if err := tw.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write(make([]byte, h.Size)); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "root.tar"), rootfs.String(), 0o644)
	upper := write(t, filepath.Join(dir, "a.json"), `{"ref": "a.b/upper:1", "base": "a.b/lower:1", "files": [{"path": "/x", "mode": "0644", "text": "x"}]}`, 0o644)
	lower := write(t, filepath.Join(dir, "b.json"), `{"ref": "a.b/lower:1", "config": {"Cmd": ["su"]}, "tars": ["root.tar"]}`, 0o644)
	out := filepath.Join(dir, "images.tar")
	pack(t, "images", "-quick", "-o", out, "-from", dir, upper, lower)

	_, blobs := unpack(t, read(t, out), false)
	var list index
	decode(t, blobs["index.json"], &list)
	if len(list.Manifests) != 2 {
		t.Fatalf("index: %+v", list)
	}
	var up, low manifest
	decode(t, blobOf(t, blobs, list.Manifests[0]), &up)
	decode(t, blobOf(t, blobs, list.Manifests[1]), &low)
	if len(low.Layers) != 1 || len(up.Layers) != 2 || up.Layers[0].Digest != low.Layers[0].Digest {
		t.Fatalf("layers of the upper image %+v, of its base %+v", up.Layers, low.Layers)
	}
	var c imageConfig
	decode(t, blobOf(t, blobs, up.Config), &c)
	if len(c.RootFS.DiffIDs) != 2 || len(c.Config.Cmd) != 0 {
		t.Errorf("configuration of the upper image: %+v", c)
	}
	headers, files := unpack(t, blobOf(t, blobs, low.Layers[0]), true)
	if headers["bin/"].Mode != 0o711 || headers["bin/su"].Mode != 0o4755 || headers["bin/sudo"].Mode != 0o4755 ||
		len(files["bin/sudo"]) != 2 || headers["sbin"].Linkname != "bin" {
		t.Errorf("layer of the base: %v", headers)
	}
	if headers, _ = unpack(t, blobOf(t, blobs, up.Layers[1]), true); len(headers) != 1 || headers["x"] == nil {
		t.Errorf("layer of the upper image: %v", headers)
	}
}

func TestSpecErrorsNameTheField(t *testing.T) {
	for name, tc := range map[string]struct{ spec, want string }{
		"unknown field":  {`{"ref": "a.b/c:1", "entrypoint": []}`, "entrypoint"},
		"no tag":         {`{"ref": "a.b/c"}`, "a.b/c"},
		"bad mode":       {`{"ref": "a.b/c:1", "dirs": [{"path": "/d", "mode": "rwx"}]}`, "rwx"},
		"escape":         {`{"ref": "a.b/c:1", "files": [{"path": "/../d", "mode": "0644"}]}`, "../d"},
		"twice":          {`{"ref": "a.b/c:1", "files": [{"path": "/d", "mode": "0644"}, {"path": "/d", "mode": "0644"}]}`, "named twice"},
		"below a file":   {`{"ref": "a.b/c:1", "files": [{"path": "/d", "mode": "0644"}, {"path": "/d/e", "mode": "0644"}]}`, "not a directory"},
		"no such base":   {`{"ref": "a.b/c:1", "base": "a.b/d:1"}`, "a.b/d:1"},
		"base in a ring": {`{"ref": "a.b/c:1", "base": "a.b/c:1"}`, "a.b/c:1 on a.b/c:1"},
		"absent archive": {`{"ref": "a.b/c:1", "tars": ["nowhere.tar"]}`, "nowhere.tar"},
		"absent":         {`{"ref": "a.b/c:1", "files": [{"path": "/d", "mode": "0644", "from": "nowhere"}]}`, "nowhere"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			spec := write(t, filepath.Join(dir, "s.json"), tc.spec, 0o644)
			out := filepath.Join(dir, "o.tar")
			err := run([]string{"images", "-o", out, "-from", dir, spec}, io.Discard)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an error that names %q", err, tc.want)
			}
			if _, err := os.Stat(out); err == nil {
				t.Error("an output was left behind")
			}
		})
	}
}
