package pluginregistry_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/core/pluginhost/guesttest"
	"github.com/cleat-dev/cleat/core/pluginregistry"
	"github.com/cleat-dev/cleat/core/pluginregistry/registriesfile"
	"github.com/cleat-dev/cleat/core/pluginregistry/registrytest"
	"github.com/cleat-dev/cleat/hostabi"
)

func guest(version string) []byte {
	g := guesttest.Guest{Manifest: guesttest.Cold("store", hostabi.PointDatastore), Hooks: map[string][]byte{hostabi.ExportDatastorePlan: guesttest.I32(1)}}
	g.Manifest.Version = version
	return g.Wasm()
}

func artifact(t *testing.T, version string) *pluginregistry.Artifact {
	t.Helper()
	a, err := pluginregistry.NewArtifact(guest(version))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// client is a client with that registries.yaml; what it logs goes to log.
func client(t *testing.T, registries string, log *bytes.Buffer) *pluginregistry.Client {
	t.Helper()
	f, err := registriesfile.Parse([]byte(registries))
	if err != nil {
		t.Fatal(err)
	}
	o := pluginregistry.Options{Registries: f}
	if log != nil {
		o.Logger = slog.New(slog.NewTextHandler(log, nil))
	}
	c := pluginregistry.NewClient(o)
	t.Cleanup(c.Close)
	return c
}

func ref(t *testing.T, text string) pluginregistry.Reference {
	t.Helper()
	r, err := pluginregistry.ParseReference(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func wantError(t *testing.T, err error, words ...string) {
	t.Helper()
	for _, w := range words {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("error %v, want one with %q", err, w)
		}
	}
}

func push(t *testing.T, c *pluginregistry.Client, text, version string) pluginregistry.Reference {
	t.Helper()
	r, err := c.Push(t.Context(), ref(t, text), artifact(t, version))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestPushPull(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	c := client(t, registrytest.Mirrors(reg), nil)
	pushed := push(t, c, "oci://"+reg.Host+"/plugins/store:1.0.0", "1.0.0")

	p, err := c.Pull(t.Context(), ref(t, reg.Host+"/plugins/store:1.0.0"))
	if err != nil {
		t.Fatal(err)
	}
	if p.Reference != pushed || p.Artifact.Plugin.Name != "store" || !bytes.Equal(p.Artifact.Wasm, guest("1.0.0")) {
		t.Errorf("pulled %+v, pushed %+v", p.Reference, pushed)
	}
	if p.Incomplete != nil || p.Signatures != nil || p.Reports != nil {
		t.Errorf("beside it: %v, %v, %v", p.Signatures, p.Reports, p.Incomplete)
	}
	// The tag moves, the digest does not.
	push(t, c, reg.Host+"/plugins/store:1.0.0", "1.0.1")
	byDigest := pushed
	byDigest.Tag = ""
	if p, err = c.Pull(t.Context(), byDigest); err != nil || p.Artifact.Plugin.Version != "1.0.0" {
		t.Errorf("by digest: %v, %v", p, err)
	}
	if p, err = c.Pull(t.Context(), ref(t, reg.Host+"/plugins/store:1.0.0")); err != nil || p.Artifact.Plugin.Version != "1.0.1" {
		t.Errorf("by tag: %v, %v", p, err)
	}
	_, err = c.Pull(t.Context(), ref(t, reg.Host+"/plugins/store:2.0.0"))
	wantError(t, err, "there is no "+reg.Host+"/plugins/store:2.0.0; check name and tag")
	if !errors.Is(err, pluginregistry.ErrNotFound) {
		t.Errorf("%v is not ErrNotFound", err)
	}
	_, err = c.Pull(t.Context(), ref(t, reg.Host+"/plugins/store"))
	wantError(t, err, "neither a tag nor a digest")
	_, err = c.Push(t.Context(), pushed, artifact(t, "3.0.0"))
	wantError(t, err, "leave the digest out")
}

func TestReports(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	c := client(t, registrytest.Mirrors(reg), nil)
	a := artifact(t, "1.0.0")
	pushed := push(t, c, reg.Host+"/store:1", "1.0.0")
	for _, text := range []string{"one: 1\n", "two: 2\n", "two: 2\n"} {
		if _, err := c.PushReport(t.Context(), pushed, a, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	p, err := c.Pull(t.Context(), pushed)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Reports) != 2 || string(p.Reports[0]) != "one: 1\n" || string(p.Reports[1]) != "two: 2\n" || p.Incomplete != nil {
		t.Errorf("reports %q, %v", p.Reports, p.Incomplete)
	}
	_, err = c.PushReport(t.Context(), pushed, a, nil)
	wantError(t, err, "it has 0 bytes")
}

func TestPasswords(t *testing.T) {
	for _, token := range []bool{false, true} {
		reg := registrytest.Start(t, registrytest.Options{User: "ann", Password: "open sesame", Token: token})
		base := registrytest.Mirrors(reg) + "configs:\n  \"" + reg.Host + "\": "
		good := client(t, base+`{auth: {username: ann, password: open sesame}}`, nil)
		pushed := push(t, good, reg.Host+"/plugins/store:1.0.0", "1.0.0")
		if _, err := good.Pull(t.Context(), pushed); err != nil {
			t.Errorf("token %t: %v", token, err)
		}
		encoded := client(t, base+`{auth: {auth: YW5uOm9wZW4gc2VzYW1l}}`, nil)
		if _, err := encoded.Pull(t.Context(), pushed); err != nil {
			t.Errorf("token %t: %v", token, err)
		}
		_, err := client(t, base+`{auth: {username: ann, password: wrong secret}}`, nil).Pull(t.Context(), pushed)
		wantError(t, err, "registry "+reg.Host+": refused the credentials", "check configs.")
		if strings.Contains(err.Error(), "secret") {
			t.Errorf("the error holds a password: %v", err)
		}
		_, err = client(t, registrytest.Mirrors(reg), nil).Pull(t.Context(), pushed)
		if token {
			wantError(t, err, "refused the credentials")
		} else {
			wantError(t, err, "asks for a user and password; set configs.")
		}
	}
}

func TestDockerCredential(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{User: "ann", Password: "open sesame"})
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	file := filepath.Join(os.Getenv("DOCKER_CONFIG"), "config.json")
	if err := os.WriteFile(file, []byte(`{"auths":{"`+reg.Host+`":{"auth":"YW5uOm9wZW4gc2VzYW1l"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := registriesfile.Parse([]byte(registrytest.Mirrors(reg)))
	if err != nil {
		t.Fatal(err)
	}
	c := pluginregistry.NewClient(pluginregistry.Options{Registries: f, Credential: pluginregistry.DockerCredential})
	defer c.Close()
	push(t, c, reg.Host+"/store:1", "1.0.0")
}

func TestTLS(t *testing.T) {
	authority := registrytest.NewAuthority(t)
	reg := registrytest.Start(t, registrytest.Options{Authority: authority})
	config := func(tls string) string { return "configs:\n  \"" + reg.Host + "\": {tls: {" + tls + "}}\n" }
	c := client(t, config("ca_file: "+authority.CAFile), nil)
	pushed := push(t, c, reg.Host+"/plugins/store:1.0.0", "1.0.0")

	_, err := client(t, "", nil).Pull(t.Context(), pushed)
	wantError(t, err, "from an authority that this machine does not know", "tls.ca_file in registries.yaml")

	var log bytes.Buffer
	if _, err := client(t, config("insecure_skip_verify: true"), &log).Pull(t.Context(), pushed); err != nil {
		t.Error(err)
	}
	if n := strings.Count(log.String(), "level=WARN"); n != 1 || !strings.Contains(log.String(), reg.Host) {
		t.Errorf("%d warnings:\n%s", n, &log)
	}

	plain := registrytest.Start(t, registrytest.Options{})
	_, err = client(t, "", nil).Pull(t.Context(), ref(t, plain.Host+"/store:1"))
	wantError(t, err, "speaks http, not https", "list http://"+plain.Host)

	mutual := registrytest.Start(t, registrytest.Options{Authority: authority, ClientCert: true})
	cert, key := authority.ClientFiles(t)
	reg = mutual
	c = client(t, config("ca_file: "+authority.CAFile+", cert_file: "+cert+", key_file: "+key), nil)
	push(t, c, mutual.Host+"/store:1", "1.0.0")
	_, err = client(t, config("ca_file: "+authority.CAFile), nil).Pull(t.Context(), ref(t, mutual.Host+"/store:1"))
	wantError(t, err, "certificate")
}

func TestMirrors(t *testing.T) {
	asked := make(chan string, 100)
	mirror := registrytest.Start(t, registrytest.Options{Wrap: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				asked <- r.URL.Path + "?" + r.URL.RawQuery
			}
			next.ServeHTTP(w, r)
		})
	}})
	down := registrytest.Start(t, registrytest.Options{})
	down.Stop()
	origin := registrytest.Start(t, registrytest.Options{})

	// The mirror has it below a prefix; the registry itself is not there at all.
	pushed := push(t, client(t, registrytest.Mirrors(mirror), nil), mirror.Host+"/cache/plugins/store:1.0.0", "1.0.0")
	c := client(t, `mirrors: {"*": {endpoint: ["`+down.URL+`", "`+mirror.URL+`"], rewrite: {"(.*)": "cache/$1"}}}`, nil)
	p, err := c.Pull(t.Context(), ref(t, "registry.invalid/plugins/store:1.0.0"))
	if err != nil {
		t.Fatal(err)
	}
	if want := "oci:registry.invalid/plugins/store:1.0.0@" + pushed.Digest; p.Reference.Source() != want {
		t.Errorf("source %s, want %s", p.Reference.Source(), want)
	}
	if got := <-asked; got != "/v2/cache/plugins/store/manifests/1.0.0?ns=registry.invalid" {
		t.Errorf("the mirror was asked for %s", got)
	}
	wantError(t, p.Incomplete, "no machine is called registry.invalid")

	// What the mirror lacks comes from the registry, and pushes go there.
	both := `mirrors: {"` + origin.Host + `": {endpoint: ["` + mirror.URL + `", "` + origin.URL + `"]}}`
	c = client(t, both, nil)
	pushed = push(t, c, origin.Host+"/other:1", "1.0.0")
	if p, err = c.Pull(t.Context(), pushed); err != nil || p.Incomplete != nil {
		t.Errorf("%v, %v", err, p)
	}
	if _, err = client(t, registrytest.Mirrors(mirror), nil).Pull(t.Context(), ref(t, mirror.Host+"/other:1")); !errors.Is(err, pluginregistry.ErrNotFound) {
		t.Errorf("the push went to the mirror: %v", err)
	}

	_, err = client(t, `mirrors: {"`+origin.Host+`": {endpoint: ["`+down.URL+`", "`+origin.URL+`"]}}`, nil).Pull(t.Context(), ref(t, origin.Host+"/absent:1"))
	wantError(t, err, "mirror "+down.Host+" of "+origin.Host+": refused the connection", "registry "+origin.Host+": not found")
}

// A mirror whose API is not at /v2.
func TestMirrorRoot(t *testing.T) {
	mirror := registrytest.Start(t, registrytest.Options{Wrap: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			rest, ok := strings.CutPrefix(r.URL.Path, "/proxy/api/")
			if ok {
				r.URL.Path = "/v2/" + rest
			}
			next.ServeHTTP(w, r)
		})
	}})
	push(t, client(t, registrytest.Mirrors(mirror), nil), mirror.Host+"/store:1", "1.0.0")
	c := client(t, `mirrors: {registry.invalid: {endpoint: ["`+mirror.URL+`/proxy/api"]}}`, nil)
	if _, err := c.Pull(t.Context(), ref(t, "registry.invalid/store:1")); err != nil {
		t.Error(err)
	}
}

func TestNobodyThere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = client(t, "", nil).Pull(t.Context(), ref(t, host+"/store:1"))
	wantError(t, err, "pull "+host+"/store:1: registry "+host+": refused the connection")
	_, err = client(t, "", nil).Pull(t.Context(), ref(t, "registry.invalid/store:1"))
	wantError(t, err, "no machine is called registry.invalid")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = client(t, "", nil).Pull(ctx, ref(t, "registry.invalid/store:1"))
	wantError(t, err, "interrupted")
}

func TestSourceReadsStoreThenRegistry(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	c := client(t, registrytest.Mirrors(reg), nil)
	pushed := push(t, c, reg.Host+"/store:1", "1.0.0")
	reference := strings.TrimPrefix(pushed.Source(), pluginregistry.SourcePrefix)
	dir := t.TempDir()
	offline := &pluginregistry.Source{Store: pluginregistry.StoreIn(dir)}
	_, err := offline.Read(t.Context(), reference)
	wantError(t, err, "it is not in the store "+filepath.Join(dir, "oci"), "cleat plugin pull oci://"+reference)

	online := &pluginregistry.Source{Store: pluginregistry.StoreIn(dir), Client: c}
	if wasm, err := online.Read(t.Context(), reference); err != nil || !bytes.Equal(wasm, guest("1.0.0")) {
		t.Fatalf("%d bytes, %v", len(wasm), err)
	}
	reg.Stop()
	if wasm, err := offline.Read(t.Context(), reference); err != nil || !bytes.Equal(wasm, guest("1.0.0")) {
		t.Errorf("from the store: %d bytes, %v", len(wasm), err)
	}
	_, err = offline.Read(t.Context(), "host.example/store:1")
	wantError(t, err, "has no digest")
	if _, err := offline.Store.Read(strings.Repeat("x", 10)); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a digest that is none: %v", err)
	}
}
