package main

import (
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/pluginsdk/plugintest"
)

const manifest = "manifest.json"

func TestReadme(t *testing.T) { plugintest.Readme(t, "README.md", manifest) }

func request(endpoint string) hostabi.DatastoreRequest {
	return hostabi.DatastoreRequest{Endpoint: endpoint, DBDir: "/var/lib/cleat/server/db", NodeName: "node-1"}
}

func TestPlans(t *testing.T) {
	for name, tt := range map[string]struct {
		endpoint string
		config   map[string]any
	}{
		"one":      {"http://127.0.0.1:2379", nil},
		"three":    {"https://a:2379,https://b:2379,https://c:2379", nil},
		"spelling": {" HTTPS://A.example.org:2379/ , https://[2001:DB8::1]:2379", nil},
		"tls": {"https://a:2379", map[string]any{
			"ca_file": "/etc/cleat/etcd/ca.crt", "cert_file": "/etc/cleat/etcd/client.crt", "key_file": "/etc/cleat/etcd/client.key",
		}},
		"authority": {"https://a:2379", map[string]any{"ca_file": "/etc/cleat/etcd/ca.crt"}},
	} {
		t.Run(name, func(t *testing.T) {
			plan, claimed, err := plugintest.New(t, manifest, tt.config).Datastore(request(tt.endpoint))
			if err != nil || !claimed {
				t.Fatalf("claimed %v, %v", claimed, err)
			}
			plugintest.Golden(t, name, plan)
		})
	}
}

func TestLeavesOthers(t *testing.T) {
	p := plugintest.New(t, manifest, nil)
	for _, endpoint := range []string{"", "sqlite://", "postgres://u:secret@h/d", "mysql://u:secret@tcp(h)/d", "nats://h", "h:2379", "httpx://h:1"} {
		if _, claimed, err := p.Datastore(request(endpoint)); claimed || err != nil {
			t.Errorf("%s: claimed %v, %v", endpoint, claimed, err)
		}
	}
}

func TestRefuses(t *testing.T) {
	p := plugintest.New(t, manifest, nil)
	for _, tt := range []struct{ endpoint, why string }{
		{"https://a:2379,", "URL 2: is empty"},
		{"https://a:2379,b:2379", "URL 2: does not begin with http:// or https://"},
		{"https://a:2379,http://b:2379", "URL 2 begins with http://, the first with https://"},
		{"https://a:2379,https://A:2379", "a:2379 is there twice"},
		{"https://root:secret@a:2379", "URL 1: holds a user"},
		{"https://a:2379/secret", "has a path or a query"},
		{"https://a:2379?secret", "has a path or a query"},
		{"https://a", "has no host and port"},
		{"https://:2379", "has no host and port"},
		{"https://[::1:2379", "has no host and port"},
		{"https://a b:2379", "has no host and port"},
		{"https://a:secret", "has no host and port"},
		{"https://a:0", "has no port between"},
		{"https://a:70000", "has no port between"},
		{"https://", "has no host and port"},
		{strings.Repeat("https://secret:1,", 5000), "is there twice"},
	} {
		_, claimed, err := p.Datastore(request(tt.endpoint))
		if err == nil || claimed || !strings.Contains(err.Error(), tt.why) {
			t.Errorf("%.40s: got %v, want %q", tt.endpoint, err, tt.why)
		}
		if err != nil && strings.Contains(err.Error(), "secret") && !strings.HasPrefix(tt.endpoint, "https://secret") {
			t.Errorf("%.40s: the error tells more than it should: %v", tt.endpoint, err)
		}
	}
	var many []string
	for i := range 40 {
		many = append(many, "https://a"+strings.Repeat("x", i)+":1")
	}
	if _, _, err := p.Datastore(request(strings.Join(many, ","))); err == nil || !strings.Contains(err.Error(), "more than 32") {
		t.Errorf("40 members: %v", err)
	}
	p = plugintest.New(t, manifest, map[string]any{"ca_file": "/a"})
	if _, _, err := p.Datastore(request("http://a:2379")); err == nil || !strings.Contains(err.Error(), "write https://") {
		t.Errorf("files for http: %v", err)
	}
}

func TestWarnsOfPlainNetworks(t *testing.T) {
	for endpoint, warns := range map[string]bool{
		"http://127.0.0.1:2379,http://localhost:2380,http://[::1]:1": false,
		"https://a:2379": false, "http://127.0.0.1:2379,http://a:2379": true,
	} {
		p := plugintest.New(t, manifest, nil)
		if _, _, err := p.Datastore(request(endpoint)); err != nil {
			t.Error(err)
		}
		if got := len(p.Logs) > 0; got != warns {
			t.Errorf("%s: logs %q", endpoint, p.Logs)
		}
	}
}

func TestConfig(t *testing.T) {
	for _, tt := range []struct {
		config map[string]any
		why    string
	}{
		{map[string]any{"ca_file": "ca.crt"}, `config ca_file: "ca.crt" is not absolute`},
		{map[string]any{"cert_file": "/a"}, "config key_file: missing"},
		{map[string]any{"key_file": "/a"}, "config cert_file: missing"},
		{map[string]any{"ca": "/a"}, `"ca" is unknown`},
	} {
		if _, err := plugintest.Start(manifest, tt.config); err == nil || !strings.Contains(err.Error(), tt.why) {
			t.Errorf("%v: got %v, want %q", tt.config, err, tt.why)
		}
	}
}

// What is planned can be read again and is the same then.
func FuzzParseEndpoints(f *testing.F) {
	for _, text := range []string{"http://a:1", "https://a:1,https://[::1]:2/", "HTTPS://A:1 , https://b:65535", "http://u:p@a:1"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		e, err := parseEndpoints(text)
		if err != nil {
			return
		}
		again, err := parseEndpoints(e.String())
		if err != nil || again.String() != e.String() || !mine(text) {
			t.Errorf("%q is %s, which is %s, %v", text, e, again, err)
		}
	})
}
