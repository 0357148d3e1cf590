package registriesfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const wholeFile = `
mirrors:
  docker.io:
    endpoint: ["https://mirror.example:5000", "http://10.0.0.9/proxy"]
    rewrite: {"^(.*)$": "cache/hub/$1"}
  "*":
    endpoint: [cache.example]
configs:
  mirror.example:5000:
    auth: {username: u, password: "p\"w"}
    tls: {ca_file: /etc/ca.pem, cert_file: /etc/c.pem, key_file: /etc/k.pem}
  cache.example:
    auth: {auth: "dTpwOnE="}
  "*":
    tls: {insecure_skip_verify: true}
`

func TestParse(t *testing.T) {
	f, err := Parse([]byte(wholeFile))
	if err != nil {
		t.Fatal(err)
	}
	for registry, want := range map[string][]Endpoint{
		"docker.io": {
			{Host: "mirror.example:5000", Root: "/v2", Prefix: "cache/hub/"},
			{Host: "10.0.0.9", Plain: true, Root: "/proxy", Prefix: "cache/hub/"},
		},
		"quay.example": {{Host: "cache.example", Root: "/v2"}},
	} {
		got, err := f.Endpoints(registry)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", registry, err, diff)
		}
	}
	all, err := f.Endpoints("docker.io")
	if err != nil || all[0].URL() != "https://mirror.example:5000/v2/cache/hub" || all[1].URL() != "http://10.0.0.9/proxy/cache/hub" {
		t.Errorf("addresses of %v, %v", all, err)
	}
	if s := f.TLS("mirror.example:5000"); s == nil || s.CAFile != "/etc/ca.pem" {
		t.Errorf("TLS %+v", s)
	}
	if s := f.TLS("cache.example"); s == nil || !s.InsecureSkipVerify {
		t.Errorf("TLS of the wildcard %+v", s)
	}
	if user, password := f.Auth("cache.example").UserPassword(); user != "u" || password != "p:q" {
		t.Errorf("credential %s, %s", user, password)
	}
	if user, password := f.Auth("mirror.example:5000").UserPassword(); user != "u" || password != `p"w` {
		t.Errorf("credential %s, %s", user, password)
	}
	if a := f.Auth("other.example"); a != nil {
		t.Errorf("credential %v", a)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{
		{"unknown key", "mirror: {}", `unknown field "mirror"`},
		{"wrong type", "mirrors: {docker.io: {endpoint: x}}", "endpoint"},
		{"scheme in name", "mirrors: {\"https://docker.io\": {}}", "without scheme"},
		{"path in name", "configs: {../../etc: {}}", "no registry"},
		{"port", "mirrors: {\"a:99999\": {}}", `port "99999"`},
		{"endpoint scheme", "mirrors: {a: {endpoint: [\"ftp://b\"]}}", `endpoint[0]: "ftp://b" is no http`},
		{"endpoint password", "mirrors: {a: {endpoint: [\"https://u:secret@b\"]}}", "put it under configs"},
		{"endpoint climbs", "mirrors: {a: {endpoint: [\"https://b/../c\"]}}", "path may hold"},
		{"endpoint twice", "mirrors: {a: {endpoint: [b, \"https://b\"]}}", "listed twice"},
		{"real rewrite", "mirrors: {a: {rewrite: {\"^x/(.*)\": \"y/$1\"}}}", "only a prefix is supported"},
		{"rewrite drops", "mirrors: {a: {rewrite: {\"(.*)\": \"fixed\"}}}", "only a prefix is supported"},
		{"two rewrites", "mirrors: {a: {rewrite: {\"(.*)\": \"b/$1\", \"(.+)\": \"c/$1\"}}}", "2 patterns"},
		{"credential for all", "configs: {\"*\": {auth: {username: u}}}", "name the registry"},
		{"password alone", "configs: {a: {auth: {password: secret}}}", "without username"},
		{"two credentials", "configs: {a: {auth: {username: u, auth: eDp5}}}", "only one of them"},
		{"bad base64", "configs: {a: {auth: {auth: \"secret!\"}}}", "base64"},
		{"relative file", "configs: {a: {tls: {ca_file: ca.pem}}}", `tls.ca_file: "ca.pem" is not an absolute path`},
		{"key alone", "configs: {a: {tls: {key_file: /k}}}", "without cert_file"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Parse([]byte(tc.in))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("error %v, want one with %q", err, tc.want)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("error holds a secret: %v", err)
			}
		})
	}
}

func TestRead(t *testing.T) {
	for _, path := range []string{"", filepath.Join(t.TempDir(), "absent")} {
		if f, err := Read(path); err != nil || len(f.Mirrors)+len(f.Configs) > 0 {
			t.Errorf("%q: %+v, %v", path, f, err)
		}
	}
	dir := t.TempDir()
	path, cert := filepath.Join(dir, "registries.yaml"), filepath.Join(dir, "both.pem")
	if err := os.WriteFile(path, []byte("configs: {a.example: {tls: {cert_file: "+cert+"}}}"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Read(path)
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path+`: configs."a.example".tls.cert_file: `) {
		t.Errorf("a certificate that is not there: %v", err)
	}
	if err := os.WriteFile(cert, []byte("both"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	ca, public, key, err := f.TLS("a.example").ReadCertificates()
	if err != nil || ca != nil || string(public) != "both" || string(key) != "both" {
		t.Errorf("%s, %s, %s, %v", ca, public, key, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(wholeFile))
	f.Add([]byte(`mirrors: {"[::1]:5000": {endpoint: ["http://[::1]:5000/v2/"]}}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		file, err := Parse(in)
		if err != nil {
			return
		}
		for name := range file.Mirrors {
			all, err := file.Endpoints(name)
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			for _, e := range all {
				if CheckHost(e.Host) != nil || !strings.HasPrefix(e.Root, "/") {
					t.Errorf("%s: endpoint %+v", name, e)
				}
			}
		}
	})
}
