package pluginregistry_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/core/pluginregistry"
)

func TestArtifactIsReproducible(t *testing.T) {
	a, b := artifact(t, "1.0.0"), artifact(t, "1.0.0")
	if a.Digest != b.Digest || !bytes.Equal(a.Manifest, b.Manifest) || !bytes.Equal(a.Config, b.Config) {
		t.Error("two packings of one module differ")
	}
	if c := artifact(t, "1.0.1"); c.Digest == a.Digest {
		t.Error("another module has the same digest")
	}
}

func TestArtifactLayout(t *testing.T) {
	a := artifact(t, "1.0.0")
	var m struct {
		SchemaVersion int
		MediaType     string
		Config        struct{ MediaType string }
		Layers        []struct {
			MediaType, Digest string
			Size              int
			Annotations       map[string]string
		}
		Annotations map[string]string
	}
	if err := json.Unmarshal(a.Manifest, &m); err != nil {
		t.Fatal(err)
	}
	if m.SchemaVersion != 2 || m.MediaType != imageManifest || m.Config.MediaType != "application/vnd.wasm.config.v0+json" ||
		len(m.Layers) != 1 || m.Layers[0].MediaType != "application/wasm" || m.Layers[0].Digest != "sha256:"+a.SHA256() || m.Layers[0].Size != len(a.Wasm) {
		t.Errorf("manifest %s", a.Manifest)
	}
	for key, want := range map[string]string{"title": "store", "version": "1.0.0", "description": "a guest for tests"} {
		if got := m.Annotations["org.opencontainers.image."+key]; got != want {
			t.Errorf("annotation %s is %q, want %q", key, got, want)
		}
	}
	want := `{"created":"1970-01-01T00:00:00Z","architecture":"wasm","os":"wasip1","layerDigests":["sha256:` + a.SHA256() + `"]}`
	if string(a.Config) != want {
		t.Errorf("config %s, want %s", a.Config, want)
	}
	_, err := pluginregistry.NewArtifact([]byte("\x00asm\x01\x00\x00\x00"))
	wantError(t, err, "the module is no plugin")
	_, err = pluginregistry.NewArtifact([]byte("MZ"))
	wantError(t, err, "the module cannot be read")
}

func TestReadArtifactRefusesComponents(t *testing.T) {
	a := artifact(t, "1.0.0")
	for _, change := range [][2]string{{"wasip1", "wasip2"}, {`"wasm"`, `"arm"`}, {a.SHA256()[:8], "00000000"}} {
		config := bytes.Replace(a.Config, []byte(change[0]), []byte(change[1]), 1)
		_, err := pluginregistry.ReadArtifact(a.Digest, a.Manifest, config, a.Wasm)
		wantError(t, err, "the config has")
	}
}

func TestParseReference(t *testing.T) {
	digest := "@sha256:" + strings.Repeat("a", 64)
	for _, good := range []string{"h.example/r:1", "h.example:5000/a/b_c-d.e:V1.0_x-y", "localhost/r" + digest, "127.0.0.1:1/r:t" + digest, "h.example/r"} {
		for _, scheme := range []string{"", "oci:", "oci://"} {
			if r := ref(t, scheme+good); r.String() != good || r.Source() != "oci:"+good {
				t.Errorf("%s%s became %s", scheme, good, r)
			}
		}
	}
	for bad, want := range map[string]string{
		"":                      "no repository",
		"store:1":               "no repository",
		"library/store:1":       "it needs a domain or a port",
		"h.example/":            "is no repository",
		"h.example/Up:1":        "is no repository",
		"h.example/../x:1":      "is no repository",
		"h.example/r:":          "is no tag",
		"h.example/r:a/b":       "is no tag",
		"h.example/r@sha256:aa": "the digest is not",
		"h.example/r@sha512:" + strings.Repeat("a", 128): "the digest is not",
		"u:p@h.example/r":                       "the digest is not",
		"https://h.example/r":                   "port",
		"[::1]:5000/r:1":                        "not given as an IPv6 address",
		"h.example:0/r":                         "port",
		"h.example/" + strings.Repeat("r", 300): "longer than 256",
	} {
		_, err := pluginregistry.ParseReference(bad)
		wantError(t, err, want)
	}
}

func FuzzParseReference(f *testing.F) {
	f.Add("oci://h.example:5000/a/b:1@sha256:" + strings.Repeat("0", 64))
	f.Add("oci:localhost/x")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := pluginregistry.ParseReference(text)
		if err != nil {
			return
		}
		if again, err := pluginregistry.ParseReference(r.Source()); err != nil || again != r {
			t.Errorf("%q became %+v, then %+v, %v", text, r, again, err)
		}
		name, _, _ := strings.Cut(r.String(), "@")
		if strings.ContainsFunc(name, func(c rune) bool {
			return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("._:/-", c))
		}) || len(name) > 256 {
			t.Errorf("a lock refuses %q", r.Source())
		}
		if filepath.IsLocal(r.Repository) == false {
			t.Errorf("repository %q climbs", r.Repository)
		}
	})
}

func FuzzReadArtifact(f *testing.F) {
	a, err := pluginregistry.NewArtifact(guest("1.0.0"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(a.Manifest, a.Config, a.Wasm)
	f.Fuzz(func(t *testing.T, manifest, config, wasm []byte) {
		got, err := pluginregistry.ReadArtifact(digestOf(manifest), manifest, config, wasm)
		if err == nil && (got.Plugin.Name == "" || got.SHA256() != strings.TrimPrefix(digestOf(wasm), "sha256:")) {
			t.Errorf("accepted %+v", got)
		}
	})
}

func TestStore(t *testing.T) {
	store := pluginregistry.StoreIn(t.TempDir())
	a := artifact(t, "1.0.0")
	sig := pluginregistry.Signature{Payload: []byte("p"), Signature: []byte("s")}
	path, err := store.Put(a, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(store.Dir, "sha256-"+a.Digest[7:]); path != want {
		t.Errorf("kept in %s, want %s", path, want)
	}
	// What comes later is added, once.
	for range 2 {
		if _, err := store.Put(a, []pluginregistry.Signature{sig}, [][]byte{[]byte("report")}); err != nil {
			t.Fatal(err)
		}
	}
	signatures, err := store.Signatures(a.Digest)
	reports, err2 := store.Reports(a.Digest)
	if err != nil || err2 != nil || len(signatures) != 1 || len(reports) != 1 {
		t.Errorf("%v, %v, %v, %v", signatures, reports, err, err2)
	}
	if all, err := store.Digests(); err != nil || len(all) != 1 || all[0] != a.Digest {
		t.Errorf("digests %v, %v", all, err)
	}
	for _, name := range []string{"manifest.json", "config.json", "plugin.wasm"} {
		file := filepath.Join(path, name)
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, broken := range [][]byte{text[:len(text)-1], append([]byte{text[0] ^ 1}, text[1:]...), nil} {
			if err := os.WriteFile(file, broken, 0o644); err != nil {
				t.Fatal(err)
			}
			if _, err := store.Read(a.Digest); err == nil {
				t.Errorf("%s with %d changed bytes is read", name, len(broken))
			}
		}
		// Pulling again repairs it.
		if _, err := store.Put(a, nil, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := store.Read(a.Digest); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if left, err := filepath.Glob(filepath.Join(store.Dir, ".new-*")); err != nil || left != nil {
		t.Errorf("left behind: %v, %v", left, err)
	}
	// A link out of the store is not followed.
	outside := filepath.Join(t.TempDir(), "x")
	if err := os.Rename(filepath.Join(path, "plugin.wasm"), outside); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(path, "plugin.wasm")); err != nil {
		t.Fatal(err)
	}
	_, err = store.Read(a.Digest)
	wantError(t, err, "escapes")
}
