package kubeconfig

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/tools/clientcmd"
)

// The reader that matters is client-go's.
func TestClientGoReadsIt(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "odd: #\" name")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	file := func(name string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []Config{
		{Server: "https://127.0.0.1:6443", CA: []byte("ca"), Cert: []byte("cert"), Key: []byte("key")},
		{Server: "https://[::1]:6443", CAFile: file("ca"), CertFile: file("cert"), KeyFile: file("key"), Name: "kubelet"},
	} {
		text, err := c.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		got, err := clientcmd.RESTConfigFromKubeConfig(text)
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		if got.Host != c.Server || !bytes.Equal(got.CAData, c.CA) || !bytes.Equal(got.CertData, c.Cert) || !bytes.Equal(got.KeyData, c.Key) ||
			got.CAFile != c.CAFile || got.CertFile != c.CertFile || got.KeyFile != c.KeyFile {
			t.Errorf("read back %+v from\n%s", got, text)
		}
	}
}

func TestMarshalRefuses(t *testing.T) {
	good := Config{Server: "https://h:1", CA: []byte("a"), Cert: []byte("b"), Key: []byte("c")}
	for want, change := range map[string]func(*Config){
		"https://host:port":    func(c *Config) { c.Server = "http://h:1" },
		"server \"https://h\t": func(c *Config) { c.Server = "https://h\t" },
		"key: want":            func(c *Config) { c.Key = nil },
		"certificate: want":    func(c *Config) { c.CertFile = "/x" },
		"CA: path \"x\"":       func(c *Config) { c.CA, c.CAFile = nil, "x" },
	} {
		c := good
		change(&c)
		want = strings.ReplaceAll(want, "\t", `\t`)
		if _, err := c.Marshal(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want an error with %q", err, want)
		}
	}
}
