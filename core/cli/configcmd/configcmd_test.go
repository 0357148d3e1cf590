package configcmd

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/core/config"
)

//go:generate go test -run ^TestGuide$ -update

var update = flag.Bool("update", false, "write the guide's output")

// k3s is a host's files in a directory of the test.
type k3s struct {
	t   *testing.T
	dir string
}

func newK3s(t *testing.T) k3s {
	k := k3s{t, t.TempDir()}
	for _, d := range []string{"rancher/config.yaml.d", "systemd/k3s.service.d"} {
		if err := os.MkdirAll(filepath.Join(k.dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return k
}

func (k k3s) write(name, text string) string {
	k.t.Helper()
	path := filepath.Join(k.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		k.t.Fatal(err)
	}
	return path
}

func (k k3s) migrate(args ...string) (stdout, stderr string, err error) {
	var out, errOut strings.Builder
	cmd := Migrate()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetOut(&out)
	cmd.SetErr(&errOut)
	cmd.SetArgs(append([]string{"--from-k3s", "--k3s-dir", filepath.Join(k.dir, "rancher"), "--systemd-dir", filepath.Join(k.dir, "systemd")}, args...))
	err = cmd.Execute()
	return out.String(), errOut.String(), err
}

// load is the written config file as a server takes it.
func load(t *testing.T, file string) *config.Config {
	t.Helper()
	return loadBy(t, config.Load, file)
}

func loadBy(t *testing.T, loader func(map[string][]string, []string) (*config.Config, error), file string) *config.Config {
	t.Helper()
	c, err := loader(map[string][]string{"config": {file}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	return c
}

func fullHost(t *testing.T) k3s {
	k := newK3s(t)
	k.write("rancher/config.yaml", `write-kubeconfig-mode: "0644"
tls-san: [k8s.example.org]
node-label: disk=ssd
kubelet-arg: ["max-pods=200", --v=2]
kube-apiserver-arg: [profiling]
data-dir: /srv/k3s
debug: yes
token: K10abc::server:hunter2
t: hunter3
cluster-init: true
etcd-s3-secret-key: hunter4
frobnicate: hunter5
snapshotter: stargz
`)
	k.write("rancher/config.yaml.d/10.yaml", "node-label+: [zone=a]\nflannel-backend: none\n")
	k.write("rancher/config.yaml.d/ignored.txt", "}{")
	k.write("rancher/registries.yaml", "mirrors: {docker.io: {endpoint: ['https://mirror.example.org']}}\n")
	k.write("systemd/k3s.service", `[Service]
Type=notify
EnvironmentFile=-`+filepath.Join(k.dir, "%N.env")+`
ExecStart=/usr/local/bin/k3s \
    server \
	'--disable-cloud-controller' \
	'--tls-san' "a.example.org" -tls-san=b.example.org \
	# a comment between
	'--datastore-endpoint=postgres://k:hunter6@db/k3s' --node-taint a=b:NoSchedule \

`)
	k.write("systemd/k3s.service.d/more.conf", "[Service]\nEnvironment=K3S_NODE_NAME=n1 'K3S_RESOLV_CONF=/etc/resolv.k3s' K3S_NODE_NAME=n2\n")
	k.write("k3s.env", "K3S_TOKEN='hunter7'\nHTTPS_PROXY=http://u:hunter8@p\nK3S_URL=\n")
	return k
}

func TestMigrate(t *testing.T) {
	k := fullHost(t)
	out := filepath.Join(k.dir, "new", "config.yaml")
	stdout, stderr, err := k.migrate("--output", out)
	if err != nil || stderr != "" || !strings.HasPrefix(stdout, out+" is for `cleat server`: this machine is a server of k3s (") {
		t.Fatalf("%v, said %q, wrote %q", err, stderr, stdout)
	}
	c := load(t, out)
	for _, x := range []struct{ name, want string }{
		{"write-kubeconfig-mode", "0644"},
		{"tls-san", "a.example.org b.example.org"},
		{"node-label", "disk=ssd zone=a"},
		{"kubelet-arg", "max-pods=200 v=2"},
		{"kube-apiserver-arg", "profiling=true"},
		{"data-dir", "/var/lib/cleat"},
		{"debug", "true"},
		{"cni", "cni-none"},
		{"disable-cloud-controller", "true"},
		{"node-taint", "a=b:NoSchedule"},
		{"node-name", "n2"},
		{"resolv-conf", "/etc/resolv.k3s"},
		{"snapshotter", "overlayfs"},
		{"private-registry", filepath.Join(k.dir, "new", "registries.yaml")},
		{"datastore-endpoint", "postgres://k:hunter6@db/k3s"},
		{"token", "hunter3"}, // by its letter, and the last
	} {
		for _, o := range config.Table() {
			if got := strings.Join(o.Values(&c.Options), " "); o.Name == x.name && got != x.want {
				t.Errorf("%s is %q, want %q", x.name, got, x.want)
			}
		}
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"# cluster-init: true", "cleat does not yet: there is no embedded etcd", "# etcd-s3-secret-key: [redacted]", "# frobnicate: [redacted]", "# data-dir: /srv/k3s",
		"# snapshotter: stargz", `# "--v=2" is written "v=2"`, "HTTPS_PROXY is set for the service of k3s", "k3s uses it instead of " + filepath.Join(k.dir, "rancher/config.yaml:2"),
		filepath.Join(k.dir, "rancher/config.yaml:8") + ", " + filepath.Join(k.dir, "rancher/config.yaml:9"),
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	for _, secret := range []string{"hunter4", "hunter5", "hunter8"} {
		if strings.Contains(string(text), secret) {
			t.Errorf("%s is in\n%s", secret, text)
		}
	}
	for _, file := range []string{out, filepath.Join(k.dir, "new", "registries.yaml")} {
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", file, info.Mode(), err)
		}
	}
}

func TestConvert(t *testing.T) {
	for _, c := range []struct{ name, value, want string }{
		{"token", "K10abc::server:pass:word", "pass:word"},
		{"token", "K10abc::abcdef.0123456789abcdef", "abcdef.0123456789abcdef"},
		{"token", "plain::word", "plain::word"},
		{"flannel-backend", "host-gw", "host-gw"},
		{"flannel-backend", "wireguard-native", ""},
		{"no-flannel", "true", "cni-none"},
		{"no-flannel", "false", ""},
		{"snapshotter", "native", "native"},
		{"disable-agent", "on", "true"},
		{"kube-scheduler-arg", "--profiling", "profiling=true"},
		{"kube-controller-arg", "v=2", "v=2"},
		{"o", "/root/k", "/root/k"},
		{"data-dir", "/srv", ""},
		{"rootless", "true", ""},
	} {
		e := convert([]found{{name: c.name, values: []string{c.value}}}, config.Server)[0]
		if got := strings.Join(e.values, " "); got != c.want || (c.want == "") != (e.option == nil) {
			t.Errorf("%s %s became %q (%v)", c.name, c.value, got, e.notes)
		}
	}
	both := convert([]found{{name: "flannel-backend", values: []string{"none"}}, {name: "no-flannel", values: []string{"true"}}, {name: "token"}}, config.Server)
	if both[0].option == nil || both[1].option != nil || both[2].option != nil {
		t.Errorf("said twice, or with nothing: %+v", both)
	}
}

// TestNoKeyIsLost wants every flag of k3s, one by one, to be a key or a comment,
// and no key that the command would not take.
func TestNoKeyIsLost(t *testing.T) {
	for _, role := range []config.Command{config.Server, config.Agent} {
		t.Run(role.String(), func(t *testing.T) { testNoKeyIsLost(t, role) })
	}
}

func testNoKeyIsLost(t *testing.T, role config.Command) {
	for _, f := range config.K3sFlags() {
		for _, name := range append([]string{f.Name}, f.Aliases...) {
			if f.Name == "config" {
				continue // it names the file that is read
			}
			entries := convert([]found{{name: name, values: []string{"x"}, origin: "o"}}, role)
			if o := entries[0].option; o != nil && o.Commands&role == 0 {
				t.Errorf("%s is a key, %s", name, o.Name)
			}
			text, err := render(entries, &host{}, nil, true)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(text, "# "+name+", from o") {
				t.Errorf("%s is not mentioned:\n%s", name, text)
			}
			kept := strings.Contains(text, "\n"+f.Name+":")
			if e := entries[0]; e.option != nil && e.option.Name == f.Name && !kept || e.option == nil && len(e.notes) == 0 {
				t.Errorf("%s has neither a line nor a reason:\n%s", name, text)
			}
		}
	}
}

func TestNamedConfigFile(t *testing.T) {
	k := newK3s(t)
	byFlag, byVariable := k.write("flag.yaml", "node-name: flag\n"), k.write("variable.yaml", "node-name: variable\n")
	k.write("rancher/config.yaml", "node-name: default\n")
	for _, c := range []struct{ unit, want string }{
		{"ExecStart=/k3s server\n", "default"},
		{"ExecStart=/k3s server -c " + byFlag + "\n", "flag"},
		{"ExecStart=/k3s server --config=" + byFlag + "\nEnvironment=K3S_CONFIG_FILE=" + byVariable + "\n", "variable"},
	} {
		k.write("systemd/k3s.service", c.unit)
		if stdout, _, err := k.migrate(); err != nil || !strings.Contains(stdout, "\nnode-name: "+c.want+"\n") {
			t.Errorf("%s%v\n%s", c.unit, err, stdout)
		}
	}
}

func TestPrintingShowsNoSecret(t *testing.T) {
	stdout, _, err := fullHost(t).migrate()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(stdout, "hunter") {
		t.Errorf("a secret is in\n%s", stdout)
	}
	for _, want := range []string{"# token: [redacted]", "# datastore-endpoint: postgres://[redacted]@db/k3s", "--output copies it"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("%q is missing in\n%s", want, stdout)
		}
	}
}

func TestRefusalsAreTold(t *testing.T) {
	k := newK3s(t)
	k.write("rancher/config.yaml", "https-listen-port: many\ncluster-cidr: 10.42.0.0/30\nnode-name: n1\n")
	stdout, stderr, err := k.migrate()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`--https-listen-port "many"`, `--cluster-cidr "10.42.0.0/30"`} {
		if !strings.Contains(stdout, "# cleat refuses this: "+want) || !strings.Contains(stderr, "cleat refuses this: "+want) {
			t.Errorf("%q is missing in\n%s%s", want, stdout, stderr)
		}
	}
}

func TestNothingIsOverwritten(t *testing.T) {
	for _, there := range []string{"config.yaml", "registries.yaml"} {
		k := fullHost(t)
		path := k.write(there, "mine")
		out := filepath.Join(k.dir, "config.yaml")
		if _, _, err := k.migrate("--output", out); err == nil || !strings.Contains(err.Error(), path+" exists") {
			t.Errorf("%s: %v", there, err)
		}
		if text, err := os.ReadFile(path); err != nil || string(text) != "mine" {
			t.Errorf("%s holds %q, %v", there, text, err)
		}
		files, err := filepath.Glob(filepath.Join(k.dir, "*.yaml"))
		if err != nil || len(files) != 1 {
			t.Errorf("files %q, %v", files, err)
		}
		if _, _, err := k.migrate("--output", out, "--force"); err != nil {
			t.Errorf("with --force: %v", err)
		}
		if load(t, out).NodeName != "n2" {
			t.Error("--force did not replace it")
		}
	}
}

func TestMigrateErrors(t *testing.T) {
	for name, c := range map[string]struct {
		file, text, want string
	}{
		"nothing":     {"rancher/else", "", "no k3s here"},
		"bad YAML":    {"rancher/config.yaml", "a: [", "config.yaml: yaml:"},
		"other":       {"systemd/k3s.service", "ExecStart=/k3s etcd-snapshot --token hunter2\n", "starts `k3s etcd-snapshot`, neither a server nor an agent"},
		"words":       {"systemd/k3s.service", "ExecStart=/k3s server --debug hunter2\n", "word 4 is neither a flag nor the value of one"},
		"quotes":      {"systemd/k3s.service", "ExecStart=/k3s server '--token hunter2\n", "a quotation does not end"},
		"environment": {"systemd/k3s.service.env", "hunter2\n", "a line is not NAME=value"},
	} {
		k := newK3s(t)
		if name == "environment" {
			k.write("systemd/k3s.service", "ExecStart=/k3s server\n")
		}
		k.write(c.file, c.text)
		_, _, err := k.migrate()
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: error %v, want it to say %q", name, err, c.want)
		}
	}
	cmd := Migrate()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs([]string{})
	if err := cmd.Execute(); err == nil || !strings.Contains(err.Error(), "--from-k3s") {
		t.Errorf("without a source: %v", err)
	}
}

func TestSplitWords(t *testing.T) {
	for in, want := range map[string][]string{
		`a  b	c`:           {"a", "b", "c"},
		`'a b' "c d"e`:     {"a b", "c de"},
		`a\ b '\n' "\""`:   {"a b", `\n`, `"`},
		`''`:               {""},
		``:                 nil,
		`--x='a,b' "it's"`: {"--x=a,b", "it's"},
	} {
		if got, err := splitWords(in); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s became %q, %v, want %q", in, got, err, want)
		}
	}
}

func FuzzUnit(f *testing.F) {
	f.Add("[Service]\nExecStart=/k3s server --debug \\\n '--token' x\nEnvironment=A=b\n")
	f.Add("ExecStart=\nExecStart=-/k3s 'a\\")
	f.Add("EnvironmentFile=/dev/null\nExecStart=/k3s --=x -")
	f.Fuzz(func(t *testing.T, text string) {
		for _, line := range logicalLines(text) {
			words, err := splitWords(line)
			if err != nil {
				continue
			}
			all, err := flagsOf(&service{args: words, argsAt: "u"})
			if err != nil {
				continue
			}
			for _, role := range []config.Command{config.Server, config.Agent} {
				h := host{role: role}
				for _, one := range all {
					h.add(one)
				}
				entries := convert(h.found, role)
				out, err := render(entries, &h, refusals(entries, role), true)
				if err != nil {
					t.Fatal(err)
				}
				file := filepath.Join(t.TempDir(), "config.yaml")
				if err := os.WriteFile(file, []byte(out), 0o600); err != nil {
					t.Fatal(err)
				}
				given, err := config.ReadGiven(file)
				if err != nil {
					t.Fatalf("%v:\n%s", err, out)
				}
				for _, g := range given {
					if f, ok := config.FindK3sFlag(g.Key); g.Key != "cni" && (!ok || f.Name != g.Key) {
						t.Errorf("key %q:\n%s", g.Key, out)
					}
				}
			}
		}
	})
}

const guideFile = "../../../docs/guides/move-from-k3s.md"

// TestGuide runs the sample of the guide: what it says is printed is, and a
// server takes it.
func TestGuide(t *testing.T) {
	text, err := os.ReadFile(guideFile)
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(text), "```") // every second is a block
	k := newK3s(t)
	k.write("rancher/config.yaml", strings.TrimPrefix(blocks[1], "yaml\n"))
	k.write("systemd/k3s.service", strings.TrimPrefix(blocks[3], "ini\n"))
	guidePrints(t, k, blocks, 5)
	agent := newK3s(t)
	agent.write("systemd/k3s-agent.service", strings.TrimPrefix(blocks[7], "ini\n"))
	agent.write("systemd/k3s-agent.service.env", strings.TrimPrefix(blocks[9], "ini\n"))
	guidePrints(t, agent, blocks, 11)
	out := filepath.Join(k.dir, "config.yaml")
	if _, _, err := k.migrate("--output", out); err != nil {
		t.Fatal(err)
	}
	c := load(t, out)
	if c.Token != "correct-horse" || c.CNI != "cni-none" || !slices.Equal(c.KubeletArg, []string{"max-pods=200"}) ||
		!slices.Equal(c.NodeLabel, []string{"disk=ssd"}) || c.WriteKubeconfigMode != "0640" {
		t.Errorf("a server would have %v", c)
	}
	line := strings.TrimPrefix(c.Origin("write-kubeconfig-mode"), out)
	if want := `write-kubeconfig-mode: "0640" # /etc/cleat/config.yaml` + line + "\n"; !strings.Contains(string(text), want) {
		t.Errorf("the guide does not show %q", want)
	}

	out = filepath.Join(agent.dir, "config.yaml")
	if _, _, err := agent.migrate("--output", out); err != nil {
		t.Fatal(err)
	}
	c = loadBy(t, config.LoadAgent, out)
	if c.Token != "correct-horse" || c.Server != "https://k8s.example.org:6443" || !slices.Equal(c.NodeLabel, []string{"disk=hdd"}) {
		t.Errorf("an agent would have %v", c)
	}
}

// guidePrints compares what is printed of the host with a block of the guide.
func guidePrints(t *testing.T, k k3s, blocks []string, at int) {
	t.Helper()
	got, stderr, err := k.migrate()
	if err != nil || stderr != "" {
		t.Fatalf("%v, said %q", err, stderr)
	}
	got = strings.NewReplacer(filepath.Join(k.dir, "rancher"), "/etc/rancher/k3s", filepath.Join(k.dir, "systemd"), "/etc/systemd/system").Replace(got)
	if *update {
		blocks[at] = "yaml\n" + got
		if err := os.WriteFile(guideFile, []byte(strings.Join(blocks, "```")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := strings.TrimPrefix(blocks[at], "yaml\n"); got != want {
		t.Errorf("the guide says\n%swhat is printed is\n%s", want, got)
	}
}
