package config

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/core/internal/version"
)

// write makes a file below a directory and returns its path.
func write(t *testing.T, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func flags(kv ...string) map[string][]string {
	m := make(map[string][]string)
	for i := 0; i < len(kv); i += 2 {
		m[kv[i]] = append(m[kv[i]], kv[i+1])
	}
	return m
}

// noFile names a config file that exists and is empty, so that the tests do
// not read the machine's.
func noFile(t *testing.T) string { return write(t, t.TempDir(), "config.yaml", "") }

func TestDefaults(t *testing.T) {
	c, err := Load(flags("config", noFile(t)), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range Table() {
		if o.Name == "config" || o.Commands&Server == 0 {
			continue
		}
		got := strings.Join(o.Values(&c.Options), ",")
		want := o.Default
		if o.Default == "" && o.Kind() == Toggle {
			want = "false"
		}
		if got != want {
			t.Errorf("%s = %q, want %q", o.Name, got, want)
		}
		if wantOrigin := map[bool]string{true: "default", false: ""}[o.Default != ""]; c.Origin(o.Name) != wantOrigin {
			t.Errorf("origin of %s = %q", o.Name, c.Origin(o.Name))
		}
	}
	if c.DataDir != "/var/lib/cleat" || c.PauseImage != version.PauseImage || c.WriteKubeconfigMode != "0600" {
		t.Errorf("defaults: %v", c)
	}
}

func TestPrecedence(t *testing.T) {
	dir := t.TempDir()
	file := write(t, dir, "config.yaml", "node-name: file\ncluster-domain: file\nsnapshotter: file\ntoken: file\ntls-san: [a, b]\ndisable: coredns\n")
	write(t, dir, "config.yaml.d/20.yaml", "node-name: drop20\ncluster-domain: drop20\ndisable+: [metrics, local]\n")
	write(t, dir, "config.yaml.d/10.yaml", "node-name: drop10\nsnapshotter: drop10\ndisable+: ingress\n")
	write(t, dir, "config.yaml.d/ignored.txt", "}{")
	write(t, dir, "config.yaml.d/.hidden.yaml", "}{")

	c, err := Load(flags("config", file, "node-name", "flag", "tls-san", "c", "tls-san", "d,e"),
		[]string{"CLEAT_NODE_NAME=env", "CLEAT_CLUSTER_DOMAIN=env", "CLEAT_SNAPSHOTTER=", "UNRELATED=1"})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct{ got, want, name, origin string }{
		{c.NodeName, "flag", "node-name", "--node-name"},
		{c.ClusterDomain, "env", "cluster-domain", "CLEAT_CLUSTER_DOMAIN"},
		{c.Snapshotter, "drop10", "snapshotter", filepath.Join(dir, "config.yaml.d/10.yaml") + ":2"},
		{c.Token, "file", "token", file + ":4"},
		{strings.Join(c.TLSSAN, " "), "c d e", "tls-san", "--tls-san"},
		{strings.Join(c.Disable, " "), "coredns ingress metrics local", "disable",
			file + ":6, " + filepath.Join(dir, "config.yaml.d/10.yaml") + ":3, " + filepath.Join(dir, "config.yaml.d/20.yaml") + ":3"},
		{c.LogFormat, "auto", "log-format", "default"},
	} {
		if x.got != x.want || c.Origin(x.name) != x.origin {
			t.Errorf("%s = %q from %q, want %q from %q", x.name, x.got, c.Origin(x.name), x.want, x.origin)
		}
	}
}

func TestConfigFileByVariable(t *testing.T) {
	file := write(t, t.TempDir(), "c.yaml", "node-name: n1\n")
	c, err := Load(nil, []string{"CLEAT_CONFIG=" + file})
	if err != nil {
		t.Fatal(err)
	}
	if c.NodeName != "n1" || c.ConfigFile != file {
		t.Errorf("node-name %q, config %q", c.NodeName, c.ConfigFile)
	}
}

func TestDropInsWithoutConfigFile(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "config.yaml.d/a.yml", "node-name: n1\n")
	files, err := readFiles(filepath.Join(dir, "config.yaml"), false)
	if err != nil || len(files) != 1 {
		t.Fatalf("files %v, error %v", files, err)
	}
}

func TestValuesAsWritten(t *testing.T) {
	file := write(t, t.TempDir(), "config.yaml", `
write-kubeconfig-mode: 0644
https-listen-port: "7443"
debug: true
disable-agent: "true"
cluster-cidr: 10.1.0.0/16,fd00:1::/56
kubelet-arg:
- max-pods=200
- "eviction-hard=memory.available<5%,nodefs.available<5%"
node-label: &l [a=b, c=d]
node-taint: *l
`)
	c, err := Load(flags("config", file, "data-dir", "relative"), []string{"CLEAT_KUBE_PROXY_ARG=proxy-mode=iptables\nv=2"})
	if err != nil {
		t.Fatal(err)
	}
	if c.WriteKubeconfigMode != "0644" || c.HTTPSListenPort != 7443 || !c.Debug || !c.DisableAgent {
		t.Errorf("scalars: %v", c)
	}
	for _, x := range []struct{ got, want []string }{
		{c.ClusterCIDR, []string{"10.1.0.0/16", "fd00:1::/56"}},
		{c.KubeletArg, []string{"max-pods=200", "eviction-hard=memory.available<5%,nodefs.available<5%"}},
		{c.KubeProxyArg, []string{"proxy-mode=iptables", "v=2"}},
		{c.NodeTaint, []string{"a=b", "c=d"}},
	} {
		if !slices.Equal(x.got, x.want) {
			t.Errorf("list %q, want %q", x.got, x.want)
		}
	}
	if !filepath.IsAbs(c.DataDir) {
		t.Errorf("data-dir %q is not absolute", c.DataDir)
	}
}

func TestLoadErrors(t *testing.T) {
	long := strings.Repeat("#", maxFileSize+1)
	for _, c := range []struct{ name, yaml, want string }{
		{"unknown key", "x: 1\ntls-sans: a", `config.yaml:2: unknown key "tls-sans"; did you mean "tls-san"?`},
		{"key with dashes", "--node-name: a", `did you mean "node-name"?`},
		{"far away", "zzzzzzzz: a", "`cleat server --help` lists the options"},
		{"not yet here", "cluster-init: true", `config.yaml:1: unknown key "cluster-init": k3s has it, cleat does not yet: there is no embedded etcd; use --datastore-endpoint with`},
		{"never here", "helm-job-image: a", "k3s has it, cleat will not: charts are rendered in the server, by no job; leave it out"},
		{"another name", "cluster-secret: a", `k3s takes it for "token"; write "token"`},
		{"append to scalar", "token+: a", `"token" takes one value, so there is nothing to append to`},
		{"list for scalar", "token: [a]", `"token" takes one value, not a list`},
		{"null", "token:", `"token" has no value`},
		{"mapping", "kubelet-arg: {a: b}", `"kubelet-arg": a mapping where`},
		{"nested list", "tls-san: [[a]]", "an item of the list is not a plain value"},
		{"twice", "token: a\ntoken: b", `config.yaml:2: "token" was already given on line 1`},
		{"no mapping", "- a", "config.yaml:1: not a mapping"},
		{"two documents", "token: a\n---\ntoken: b", "more than one YAML document"},
		{"not YAML", "a: [", "config.yaml: yaml:"},
		{"config in config", "config: /x", `"config" cannot be set in a config file`},
		{"number", "https-listen-port: many", `--https-listen-port "many" (`},
		{"bool", "debug: maybe", "write true or false"},
		{"control character", "node-name: \"a\\u0007\"", "holds a control character"},
		{"two lines", "node-name: \"a\\nb\"", "is more than one line"},
		{"too large", long, "is larger than 256 KiB"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Load(flags("config", write(t, t.TempDir(), "config.yaml", c.yaml)), nil)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want it to say %q", err, c.want)
			}
		})
	}
}

func TestAllLoadErrorsAreReported(t *testing.T) {
	file := write(t, t.TempDir(), "config.yaml", "nope: 1\ndebug: maybe\ntoken:\n")
	write(t, filepath.Dir(file), "config.yaml.d/bad.yaml", "a: [")
	_, err := Load(flags("config", file, "https-listen-port", "x", "data-dri", "/d"), nil)
	for _, want := range []string{"nope", "debug", `"token" has no value`, "bad.yaml: yaml:", "https-listen-port", `unknown flag --data-dri; did you mean "--data-dir"?`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in: %v", want, err)
		}
	}
}

func TestMissingConfigFile(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "config.yaml")
	if _, err := Load(flags("config", missing), nil); err == nil || !strings.Contains(err.Error(), missing) {
		t.Errorf("a named file that is missing: %v", err)
	}
	if _, err := readFiles(missing, false); err != nil {
		t.Errorf("the default file is missing: %v", err)
	}
	if _, err := Load(flags("config", t.TempDir()), nil); err == nil {
		t.Error("a directory passes for a config file")
	}
}

func TestUnknownEnv(t *testing.T) {
	got := UnknownEnv([]string{"CLEAT_TOKNE=x", "CLEAT_TOKEN=x", "CLEAT_E2E_KEEP_THE_NODES=1", "PATH=/"})
	if len(got) != 2 || got["CLEAT_TOKNE"] != "CLEAT_TOKEN" || got["CLEAT_E2E_KEEP_THE_NODES"] != "" {
		t.Errorf("got %v", got)
	}
}

func TestSecretsStayHidden(t *testing.T) {
	c, err := Load(flags("config", noFile(t), "token", "hunter2",
		"datastore-endpoint", "postgres://cleat:hunter2@db.example:5432/cleat?password=hunter2"), nil)
	if err != nil {
		t.Fatal(err)
	}
	var logged strings.Builder
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("start", "config", c, "options", c.Options, "wrapped", struct{ C *Config }{c})
	asJSON, err := json.Marshal(map[string]any{"config": c})
	if err != nil {
		t.Fatal(err)
	}
	for form, s := range map[string]string{
		"%v": fmt.Sprintf("%v", c), "%+v": fmt.Sprintf("%+v", *c), "%#v": fmt.Sprintf("%#v", c.Options), "Sprint": fmt.Sprint(c.Options),
		"slog": logged.String(), "json": string(asJSON),
	} {
		if strings.Contains(s, "hunter2") {
			t.Errorf("%s shows a secret: %s", form, s)
		}
		if !strings.Contains(s, "db.example") {
			t.Errorf("%s hides too much: %s", form, s)
		}
	}
}

func TestHideCredentials(t *testing.T) {
	for in, want := range map[string]string{
		"":                              "",
		"sqlite:///var/lib/x.db":        "sqlite:///var/lib/x.db",
		"https://a:2379,https://b:2379": "https://a:2379,https://b:2379",
		"mysql://u:p@tcp(db:3306)/k":    "mysql://[redacted]@tcp(db:3306)/k",
		"u:p@w@tcp(db)/k":               "[redacted]@tcp(db)/k",
		"postgres://u:p?x@db/k":         "postgres://[redacted]",
		"nats://tok@h?password=p@q":     "nats://[redacted]",
		"postgres://db/k?password=p":    "postgres://db/k?[redacted]",
		"nats://token@h:4222":           "nats://[redacted]@h:4222",
	} {
		if got := hideCredentials(in); got != want {
			t.Errorf("hideCredentials(%q) = %q, want %q", in, got, want)
		}
	}
}

// FuzzLoad reads what somebody wrote into the config file, a drop-in and a
// variable. Whatever that is, Load answers; what it takes, it shows without
// secrets and takes again from what it shows.
func FuzzLoad(f *testing.F) {
	f.Add("node-name: n1\ntls-san: [a, b]\n", "tls-san+: c\n", "n2")
	f.Add("kubelet-arg: [\"a=b,c\", d=e]\ndebug: true\n", "kubelet-arg+: |\n  x=y\n  z=w\n", "")
	f.Add("https-listen-port: 07\nwrite-kubeconfig-mode: 0640\n", "write-kubeconfig-mode: 0x1\n", " ")
	f.Add("datastore-endpoint: \"postgres://u:p?x@h/k\"\n", "{}", "a\x00b")
	f.Add("data-dir: \"\"\ncluster-cidr: ,,\n", "a: &x [*x]\n", "ü")
	f.Fuzz(func(t *testing.T, main, dropIn, variable string) {
		dir := t.TempDir()
		file := write(t, dir, "config.yaml", main)
		write(t, dir, "config.yaml.d/10.yaml", dropIn)
		const secret = "s3cr3t-s3cr3t"
		c, err := Load(flags("config", file, "token", secret), []string{"CLEAT_NODE_NAME=" + variable})
		if err != nil {
			if err.Error() == "" {
				t.Error("an error that says nothing")
			}
			return
		}
		wrong := c.Validate()
		if s := fmt.Sprintf("%v %#v %v", c, c.Options, wrong); strings.Contains(s, secret) {
			t.Errorf("shows the token: %s", s)
		}
		again := make(map[string][]string)
		for _, s := range c.Settings() {
			if s.Origin == "" {
				t.Errorf("%s has no origin", s.Option.Name)
			}
			if !s.Option.Secret {
				again[s.Option.Name] = s.Option.Values(&c.Options)
			}
		}
		again["config"] = []string{noFile(t)}
		same, err := Load(again, nil)
		if err != nil {
			t.Fatalf("takes a value and then refuses it: %v", err)
		}
		for _, o := range Table() {
			if _, given := again[o.Name]; given && o.Name != "config" && !slices.Equal(o.Values(&c.Options), o.Values(&same.Options)) {
				t.Errorf("%s was %q and is %q", o.Name, o.Values(&c.Options), o.Values(&same.Options))
			}
		}
	})
}

func FuzzParseYAML(f *testing.F) {
	for _, s := range []string{
		"", "a: b", "tls-san+: [a, b]\n", "a: &x [1]\nb: *x\n", "a: &x {b: *x}", "&a a: *a", "[]", "---\n---\n", "? [a]\n: b", "a: !!binary x", "a: |\n  b\n", "\x00", "<<: {a: b}",
		"a: [*x]", "a: &x [*x]",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, _ := parseYAML("f.yaml", data)
		for _, e := range entries {
			if e.key == "" && !e.append || e.line < 1 || !e.list && len(e.values) != 1 {
				t.Errorf("entry %+v", e)
			}
		}
	})
}

// Who comes from k3s is told how servers find each other.
func TestServerNamesNoServer(t *testing.T) {
	file := write(t, t.TempDir(), "config.yaml", "server: https://192.0.2.1:6443\n")
	if _, err := Load(flags("config", file), nil); err == nil || !strings.Contains(err.Error(), "option of an agent") || !strings.Contains(err.Error(), "--datastore-endpoint") {
		t.Errorf("got %v", err)
	}
}
