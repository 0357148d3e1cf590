package main

import (
	"strings"
	"testing"
)

const (
	hex64  = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	digest = "sha256:" + hex64
)

func TestParseImage(t *testing.T) {
	for text, want := range map[string]string{
		"nginx":                                "docker.io library/nginx",
		"nginx:1.27":                           "docker.io library/nginx :1.27",
		"docker.io/nginx":                      "docker.io library/nginx",
		"index.docker.io/nginx":                "docker.io library/nginx",
		"docker.io/library/nginx":              "docker.io library/nginx",
		"grafana/loki":                         "docker.io grafana/loki",
		"a/b/c":                                "docker.io a/b/c",
		"localhost/a":                          "localhost a",
		"localhost:5000/a:5000":                "localhost:5000 a :5000",
		"registry.example/a/b:t@" + digest:     "registry.example a/b :t@" + digest + " pinned",
		"Registry.Example:443/a":               "registry.example:443 a",
		"TEAM/a":                               "team a",
		"Docker.io/nginx":                      "docker.io nginx", // no runtime takes it for the hub
		"[2001:db8::1]:5000/a":                 "[2001:db8::1]:5000 a",
		"a.b-c/x_y__z:T.1-_":                   "a.b-c x_y__z :T.1-_",
		"a.b-c__d/x":                           "", // a registry by its dot, but no host name
		"nginx@" + digest:                      "docker.io library/nginx @" + digest + " pinned",
		"a@sha512:" + strings.Repeat("0", 128): "docker.io library/a @sha512:" + strings.Repeat("0", 128) + " pinned",
		"sha256:1.0":                           "",
		digest:                                 "",
		hex64:                                  "",
		"example.org/" + hex64:                 "example.org " + hex64,
		"":                                     "",
		":":                                    "",
		"nginx:":                               "",
		"nginx@":                               "",
		"nginx@sha256:0123":                    "",
		"nginx@md5:0123456789abcdef0123456789": "",
		"nginx@" + strings.ToUpper(digest):     "",
		"nginx:" + strings.Repeat("x", 129):    "",
		"nginx:-a":                             "",
		"Nginx":                                "",
		"a//b":                                 "",
		"/a":                                   "",
		"a/":                                   "",
		"a.b/":                                 "",
		"a b":                                  "",
		"a\nb":                                 "",
		"a..b/c":                               "",
		".a/b":                                 "",
		"a./b":                                 "",
		"-a.b/c":                               "",
		"a.b:/c":                               "",
		"a.b:x/c":                              "",
		"a.b/c..d":                             "",
		"a.b/c._d":                             "",
		"a.b/c___d":                            "",
		"a.b/-c":                               "",
		"a.b/c-":                               "",
		"[::1/c":                               "",
		"http://a.b/c":                         "",
		"a.b/" + strings.Repeat("x", 300):      "",
	} {
		img, ok := parseImage([]byte(text))
		got := ""
		if ok {
			got = img.registry() + " " + img.repository()
			if len(img.rest) > 0 {
				got += " " + string(img.rest)
			}
			if img.digest {
				got += " pinned"
			}
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestCovers(t *testing.T) {
	for _, tt := range []struct {
		prefix, image string
		want          bool
	}{
		{"docker.io", "nginx", true},
		{"docker.io", "grafana/loki", true},
		{"docker.io", "DOCKER.IO/a", true},
		{"docker.io", "other.example/a", false},
		{"docker.io", "docker.io:443/a", false},
		{"docker.io", "docker.io.example.org/a", false},
		{"docker.io/library", "nginx", true},
		{"docker.io/library", "docker.io/library/nginx", true},
		{"docker.io/library", "library/nginx/x", true},
		{"docker.io/library", "librarything/nginx", false},
		{"docker.io/library", "Docker.io/evil", false},
		{"docker.io/library/nginx", "nginx:1", true},
		{"docker.io/library/nginx", "nginx-evil", false},
		{"docker.io/library/nginx", "docker.io/library/nginx/x", true},
		{"docker.io/grafana", "grafana/loki", true},
		{"docker.io/grafana", "grafana", false},
		{"other.example/team", "other.example/team", true},
		{"other.example/team", "other.example/team/a", true},
		{"other.example/team", "other.example/teams", false},
		{"OTHER.example/team", "other.EXAMPLE/team", true},
		{"*.example.org", "a.example.org/x", true},
		{"*.example.org", "b.a.EXAMPLE.org/x", true},
		{"*.example.org", "example.org/x", false},
		{"*.example.org", "a.example.org:5000/x", false},
		{"*.example.org:5000", "a.example.org:5000/x", true},
		{"*.example.org/team", "a.example.org/team/x", true},
		{"*.example.org/team", "a.example.org/x", false},
		{"localhost:5000", "localhost:5000/x", true},
		{"localhost:5000", "localhost/x", false},
	} {
		p, err := parsePrefix(tt.prefix, true)
		if err != nil {
			t.Errorf("%s: %v", tt.prefix, err)
			continue
		}
		img, ok := parseImage([]byte(tt.image))
		if got := ok && p.covers(img); got != tt.want {
			t.Errorf("%s covers %s: %v, want %v", tt.prefix, tt.image, got, tt.want)
		}
	}
}

// What is read can be put together again, and means the same then.
func FuzzParseImage(f *testing.F) {
	for _, text := range []string{"nginx", "a/b:1", "localhost:5000/a@" + digest, "[::1]/a", "A.b/c:d", "index.docker.io/x", digest} {
		f.Add(text)
	}
	hubPrefix, err := parsePrefix(hub, false)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		img, ok := parseImage([]byte(text))
		if !ok {
			return
		}
		whole := img.registry() + "/" + img.repository() + string(img.rest)
		again, ok := parseImage([]byte(whole))
		if !ok || again.repository() != img.repository() && img.domain == nil || again.digest != img.digest {
			t.Errorf("%q is %q, which is %+v, %v", text, whole, again, ok)
		}
		if img.registry() == hub && !hubPrefix.covers(img) {
			t.Errorf("%q is not of %s", text, hub)
		}
		if p, err := parsePrefix(img.registry()+"/"+img.repository(), false); err == nil && img.domain == nil && !p.covers(img) {
			t.Errorf("%q is not covered by its own name %s", text, p.text)
		}
	})
}

func TestNothingIsAllocated(t *testing.T) {
	p := &plugin{requireDigest: true}
	for _, text := range []string{"docker.io/grafana", "*.example.org", "docker.io/library"} {
		allowed, err := parsePrefix(text, true)
		if err != nil {
			t.Fatal(err)
		}
		p.allowed = append(p.allowed, allowed)
	}
	images := [][]byte{[]byte("nginx:1@" + digest), []byte("a.example.org/x@" + digest), []byte("grafana/loki@" + digest)}
	if n := testing.AllocsPerRun(100, func() {
		for _, image := range images {
			if reason := p.reason(image); reason != "" {
				t.Error(reason)
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations for images that are allowed", n)
	}
}
