package pluginregistry_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/cleat-dev/cleat/core/pluginregistry"
	"github.com/cleat-dev/cleat/core/pluginregistry/registriesfile"
	"github.com/cleat-dev/cleat/core/pluginregistry/registrytest"
)

// liar is a registry that serves what a test says, by the last part of the path.
type liar map[string]http.HandlerFunc

func (l liar) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h, ok := l[r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]]; ok {
		h(w, r)
		return
	}
	w.WriteHeader(http.StatusNotFound)
}

func serve(contentType string, body []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		_, _ = w.Write(body)
	}
}

// endless sends until nobody listens.
func endless(contentType string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", contentType)
		if r.Method == http.MethodHead {
			return
		}
		block := make([]byte, 64<<10)
		for r.Context().Err() == nil {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	}
}

const imageManifest = "application/vnd.oci.image.manifest.v1+json"

// edited is the artifact's manifest with a change, in a registry.
func edited(t *testing.T, a *pluginregistry.Artifact, change func(m map[string]any)) liar {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(a.Manifest, &m); err != nil {
		t.Fatal(err)
	}
	change(m)
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return liar{
		"1":                                 serve(imageManifest, text),
		digest.FromBytes(a.Config).String(): serve("application/octet-stream", a.Config),
		digest.FromBytes(a.Wasm).String():   serve("application/octet-stream", a.Wasm),
	}
}

func layer(m map[string]any) map[string]any {
	return m["layers"].([]any)[0].(map[string]any)
}

func TestHostileRegistries(t *testing.T) {
	a := artifact(t, "1.0.0")
	wasm, config := digest.FromBytes(a.Wasm).String(), digest.FromBytes(a.Config).String()
	with := func(path string, h http.HandlerFunc) liar {
		l := edited(t, a, func(map[string]any) {})
		l[path] = h
		return l
	}
	redirects := 0
	for _, tc := range []struct {
		name     string
		registry liar
		want     string
	}{
		{"honest", edited(t, a, func(map[string]any) {}), ""},
		{"another manifest than its digest says", with("1", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Docker-Content-Digest", "sha256:"+strings.Repeat("0", 64))
			serve(imageManifest, a.Manifest)(w, r)
		}), "the manifest has the digest " + a.Digest + ", not sha256:0000"},
		{"module changed", with(wasm, serve("", append([]byte("x"), a.Wasm[1:]...))), "the module has another digest than " + wasm},
		{"module cut", with(wasm, func(w http.ResponseWriter, _ *http.Request) {
			w.(http.Flusher).Flush() // no length
			_, _ = w.Write(a.Wasm[:10])
		}), "the module ends before its"},
		{"module too long", with(wasm, serve("", append(a.Wasm, 0))), "Content-Length"},
		{"module without end", with(wasm, endless("")), "the module has more than the"},
		{"config without end", with(config, endless("")), "the config has more than the"},
		{"manifest without end", with("1", endless(imageManifest)), ""},
		{"manifest said to be huge", with("1", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1000000000")
			w.Header().Set("Content-Type", imageManifest)
			w.Header().Set("Docker-Content-Digest", a.Digest)
			_, _ = w.Write(a.Manifest)
		}), "the manifest is said to have 1000000000 bytes"},
		{"layer said to be huge", edited(t, a, func(m map[string]any) { layer(m)["size"] = int64(1) << 40 }), "the module is said to have 1099511627776 bytes, at most 67108864"},
		{"layer of negative size", edited(t, a, func(m map[string]any) { layer(m)["size"] = -1 }), "said to have -1 bytes"},
		{"layer of another size", edited(t, a, func(m map[string]any) { layer(m)["size"] = 9 }), "Content-Length"},
		{"layer with a strange digest", edited(t, a, func(m map[string]any) { layer(m)["digest"] = "md5:../../x" }), `the module has the digest "md5:../../x"`},
		{"layer of another type", edited(t, a, func(m map[string]any) { layer(m)["mediaType"] = "application/zip\x1b[2J" }), `the layer is of type "application/zip?[2J"`},
		{"two layers", edited(t, a, func(m map[string]any) { m["layers"] = append(m["layers"].([]any), m["layers"].([]any)...) }), "the artifact has 2 layers"},
		{"no layers", edited(t, a, func(m map[string]any) { m["layers"] = nil }), "the artifact has 0 layers"},
		{"config of another type", edited(t, a, func(m map[string]any) {
			m["config"].(map[string]any)["mediaType"] = "application/vnd.oci.image.config.v1+json"
		}),
			"this is another kind of artifact"},
		{"an index", with("1", serve("application/vnd.oci.image.index.v1+json", []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json"}`))), "an index of several images"},
		{"another manifest type", edited(t, a, func(m map[string]any) { m["mediaType"] = "text/html" }), `the manifest is of type "text/html"`},
		{"schema version", edited(t, a, func(m map[string]any) { m["schemaVersion"] = 1 }), "schema version 1"},
		{"no JSON", with("1", serve(imageManifest, []byte("<html>"))), "the manifest is no JSON"},
		{"redirects to itself", with("1", func(w http.ResponseWriter, r *http.Request) {
			redirects++
			http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
		}), "redirects more than 5 times"},
		{"errors with colours", with("1", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusTeapot)
			fmt.Fprintf(w, `{"errors":[{"code":"X","message":"\u001b[31m%s"}]}`, strings.Repeat("y", 5000))
		}), "answered 418"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			reg := registrytest.Serve(t, registrytest.Options{}, tc.registry)
			_, err := client(t, registrytest.Mirrors(reg), nil).Pull(t.Context(), ref(t, reg.Host+"/store:1"))
			if tc.name == "honest" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			wantError(t, err, "registry "+reg.Host, tc.want)
			if err != nil && (strings.ContainsAny(err.Error(), "\x1b\n") || len(err.Error()) > 1000) {
				t.Errorf("the error is not for a terminal: %q", err)
			}
		})
	}
	if redirects == 0 || redirects > 10 {
		t.Errorf("followed %d redirects", redirects)
	}
}

// A mirror that lies is passed over.
func TestLyingMirrorIsPassedOver(t *testing.T) {
	a := artifact(t, "1.0.0")
	origin := registrytest.Start(t, registrytest.Options{})
	pushed := push(t, client(t, registrytest.Mirrors(origin), nil), origin.Host+"/store:1", "1.0.0")
	lies := liar{a.Digest: serve(imageManifest, []byte("{}")), digest.FromBytes(a.Wasm).String(): serve("", []byte("x"))}
	mirror := registrytest.Serve(t, registrytest.Options{}, lies)
	c := client(t, `mirrors: {"`+origin.Host+`": {endpoint: ["`+mirror.URL+`", "`+origin.URL+`"]}}`, nil)
	if p, err := c.Pull(t.Context(), pushed); err != nil || p.Artifact.Digest != a.Digest {
		t.Errorf("%v, %v", p, err)
	}
}

// A registry that answers nothing costs no more than the time that is allowed.
func TestHangingRegistry(t *testing.T) {
	reg := registrytest.Serve(t, registrytest.Options{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", imageManifest)
		w.Header().Set("Content-Length", "100")
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
	f, err := registriesfile.Parse([]byte(registrytest.Mirrors(reg)))
	if err != nil {
		t.Fatal(err)
	}
	c := pluginregistry.NewClient(pluginregistry.Options{Registries: f, Timeout: 100 * time.Millisecond})
	defer c.Close()
	_, err = c.Pull(t.Context(), ref(t, reg.Host+"/store:1"))
	wantError(t, err, "no end after 100ms")
}

// Passwords stay with the host they are for.
func TestRedirectGetsNoPassword(t *testing.T) {
	a := artifact(t, "1.0.0")
	seen := make(chan string, 10)
	other := registrytest.Serve(t, registrytest.Options{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header.Get("Authorization")
		_, _ = w.Write(a.Wasm)
	}))
	l := edited(t, a, func(map[string]any) {})
	l[digest.FromBytes(a.Wasm).String()] = func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL+"/storage", http.StatusTemporaryRedirect)
	}
	reg := registrytest.Serve(t, registrytest.Options{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, _, ok := r.BasicAuth(); !ok {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		l.ServeHTTP(w, r)
	}))
	c := client(t, registrytest.Mirrors(reg)+"configs: {\""+reg.Host+"\": {auth: {username: u, password: p}}}", nil)
	if _, err := c.Pull(t.Context(), ref(t, reg.Host+"/store:1")); err != nil {
		t.Fatal(err)
	}
	if got := <-seen; got != "" {
		t.Errorf("the other host was sent %q", got)
	}
}

// From https, nothing is fetched over http.
func TestRedirectToPlainHTTP(t *testing.T) {
	a := artifact(t, "1.0.0")
	other := registrytest.Serve(t, registrytest.Options{}, serve(imageManifest, a.Manifest))
	authority := registrytest.NewAuthority(t)
	reg := registrytest.Serve(t, registrytest.Options{Authority: authority}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
	}))
	c := client(t, "configs: {\""+reg.Host+"\": {tls: {ca_file: "+authority.CAFile+"}}}", nil)
	_, err := c.Pull(t.Context(), ref(t, reg.Host+"/store:1"))
	wantError(t, err, "redirects from https to http")
}

// Signatures of a hostile registry cost little and hide no plugin.
func TestHostileSignatures(t *testing.T) {
	a := artifact(t, "1.0.0")
	tag := strings.Replace(a.Digest, ":", "-", 1) + ".sig"
	image := func(layers string) http.HandlerFunc {
		return serve(imageManifest, []byte(`{"schemaVersion":2,"mediaType":"`+imageManifest+`","layers":[`+layers+`]}`))
	}
	const simple = `"mediaType":"application/vnd.dev.cosign.simplesigning.v1+json"`
	for _, tc := range []struct {
		name string
		sig  http.HandlerFunc
		want string // "" = nothing to complain about
	}{
		{"without end", endless(imageManifest), "registry"},
		{"no JSON", serve(imageManifest, []byte("x")), "the signatures: the manifest is no JSON"},
		{"huge payload", image(`{` + simple + `,"digest":"` + a.Digest + `","size":99999999,"annotations":{"dev.cosignproject.cosign/signature":"AA=="}}`),
			"a signed text is said to have 99999999 bytes"},
		{"no signature in it", image(`{` + simple + `,"digest":"` + a.Digest + `","size":9}`), ""},
		{"no base64", image(`{` + simple + `,"digest":"` + a.Digest + `","size":9,"annotations":{"dev.cosignproject.cosign/signature":"?"}}`), ""},
		{"another kind", image(`{"mediaType":"x/y","digest":"` + a.Digest + `","size":9,"annotations":{"dev.cosignproject.cosign/signature":"AA=="}}`), ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := edited(t, a, func(map[string]any) {})
			l["1"], l[tag] = serve(imageManifest, a.Manifest), tc.sig
			reg := registrytest.Serve(t, registrytest.Options{}, l)
			p, err := client(t, registrytest.Mirrors(reg), nil).Pull(t.Context(), ref(t, reg.Host+"/store:1"))
			if err != nil {
				t.Fatal(err)
			}
			if p.Signatures != nil {
				t.Errorf("signatures %v", p.Signatures)
			}
			if tc.want == "" && p.Incomplete != nil {
				t.Error(p.Incomplete)
			}
			if tc.want != "" {
				wantError(t, p.Incomplete, tc.want)
			}
		})
	}
}
