package containerd

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pelletier/go-toml/v2"

	"github.com/cleat-dev/cleat/core/pluginregistry/registriesfile"
)

const wholeFile = `
mirrors:
  docker.io:
    endpoint: ["https://mirror.example:5000", "http://10.0.0.9/proxy"]
    rewrite: {"^(.*)$": "cache/hub/$1"}
  "*":
    endpoint: [cache.example]
  registry.example:8443: {}
configs:
  mirror.example:5000:
    auth: {username: u, password: "p\"w"}
    tls: {ca_file: /etc/ca.pem, cert_file: /etc/c.pem, key_file: /etc/k.pem}
  cache.example:
    auth: {identity_token: tok}
    tls: {insecure_skip_verify: true}
  lonely.example:
    tls: {cert_file: /etc/both.pem}
`

func TestRenderHosts(t *testing.T) {
	regs, err := registriesfile.Parse([]byte(wholeFile))
	if err != nil {
		t.Fatal(err)
	}
	files, err := renderHosts(regs, false)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for name, content := range files {
		got[name] = strings.TrimPrefix(string(content), hostsHeader)
	}
	want := map[string]string{
		"docker.io": `
[host."https://mirror.example:5000/v2/cache/hub"]
  capabilities = ["pull", "resolve"]
  override_path = true
  ca = "/etc/ca.pem"
  client = [["/etc/c.pem", "/etc/k.pem"]]

[host."http://10.0.0.9/proxy/cache/hub"]
  capabilities = ["pull", "resolve"]
  override_path = true
`,
		"_default": `
[host."https://cache.example/v2"]
  capabilities = ["pull", "resolve"]
  skip_verify = true
`,
		"registry.example_8443_": "",
		"mirror.example_5000_": `ca = "/etc/ca.pem"
client = [["/etc/c.pem", "/etc/k.pem"]]

[host."https://cache.example/v2"]
  capabilities = ["pull", "resolve"]
  skip_verify = true
`,
		"cache.example": `skip_verify = true

[host."https://cache.example/v2"]
  capabilities = ["pull", "resolve"]
  skip_verify = true
`,
		"lonely.example": `client = "/etc/both.pem"

[host."https://cache.example/v2"]
  capabilities = ["pull", "resolve"]
  skip_verify = true
`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// With mirrors only, the last of them stands where containerd falls back to.
func TestRenderHostsOfMirrorsOnly(t *testing.T) {
	regs, err := registriesfile.Parse([]byte(wholeFile))
	if err != nil {
		t.Fatal(err)
	}
	files, err := renderHosts(regs, true)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"docker.io": `server = "http://10.0.0.9/proxy/cache/hub"
capabilities = ["pull", "resolve"]
override_path = true

[host."https://mirror.example:5000/v2/cache/hub"]
  capabilities = ["pull", "resolve"]
  override_path = true
  ca = "/etc/ca.pem"
  client = [["/etc/c.pem", "/etc/k.pem"]]
`,
		"_default": `server = "https://cache.example/v2"
capabilities = ["pull", "resolve"]
skip_verify = true
`,
		"lonely.example": `server = "https://cache.example/v2"
capabilities = ["pull", "resolve"]
skip_verify = true
`, // the wildcard's mirror is its own
		"registry.example_8443_": "", // has none, so it is asked
	} {
		if got := strings.TrimPrefix(string(files[name]), hostsHeader); got != want {
			t.Errorf("%s:\n%swant\n%s", name, got, want)
		}
	}
}

func TestWriteHostsKeepsWhatIsNotOurs(t *testing.T) {
	dir, log := t.TempDir(), slog.New(slog.NewTextHandler(io.Discard, nil))
	write := func(rel, content string) string {
		path := filepath.Join(dir, rel)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	foreign := write("quay.io/hosts.toml", "# by hand\n")
	stale := write("old.example/hosts.toml", hostsHeader)
	certs := write("withcerts.example/hosts.toml", hostsHeader)
	kept := write("withcerts.example/ca.crt", "x")

	err := writeHosts(log, dir, map[string][]byte{"quay.io": []byte(hostsHeader + "a=1"), "docker.io": []byte(hostsHeader)})
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(foreign); string(got) != "# by hand\n" {
		t.Errorf("the operator's file was changed: %q", got)
	}
	for _, gone := range []string{stale, filepath.Dir(stale), certs} {
		if _, err := os.Stat(gone); err == nil {
			t.Errorf("%s is still there", gone)
		}
	}
	for _, there := range []string{kept, filepath.Join(dir, "docker.io", "hosts.toml")} {
		if _, err := os.Stat(there); err != nil {
			t.Error(err)
		}
	}
}

func FuzzRenderHosts(f *testing.F) {
	f.Add([]byte(wholeFile))
	f.Add([]byte(`mirrors: {"[::1]:5000": {endpoint: ["http://[::1]:5000/v2/"]}}`))
	f.Add([]byte(`configs: {"a": null}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		regs, err := registriesfile.Parse(in)
		if err != nil {
			return
		}
		files, err := renderHosts(regs, false)
		if err != nil {
			t.Fatalf("accepted, then refused: %v", err)
		}
		for name, content := range files {
			if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
				t.Errorf("directory name %q", name)
			}
			var parsed map[string]any
			if err := toml.Unmarshal(content, &parsed); err != nil {
				t.Errorf("%s is no TOML: %v\n%s", name, err, content)
			}
		}
		if _, err := render(templateData{Auths: auths(regs), DefaultRuntime: "runc"}, "/nonexistent/config.toml.tmpl"); err != nil {
			t.Errorf("credentials break the configuration: %v", err)
		}
	})
}
