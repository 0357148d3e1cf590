package configcmd

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/core/config"
)

// TestMigrateAgent takes over an agent that says all it can in every place.
func TestMigrateAgent(t *testing.T) {
	k := newK3s(t)
	k.write("rancher/config.yaml", `node-label: [disk=ssd]
kubelet-arg: [--max-pods=200]
bind-address: 192.0.2.7
no-flannel: true
cluster-cidr: 10.44.0.0/16
datastore-endpoint: postgres://k:hunter2@db/k3s
`)
	k.write("rancher/registries.yaml", "mirrors: {docker.io: {endpoint: ['https://mirror.example.org']}}\n")
	k.write("systemd/k3s-agent.service", "[Service]\nEnvironmentFile=-"+filepath.Join(k.dir, "systemd", "%N.service.env")+"\nExecStart=/usr/local/bin/k3s \\\n    agent \\\n    '--lb-server-port' 7444 --node-taint a=b:NoSchedule\n")
	k.write("systemd/k3s-agent.service.env", "K3S_TOKEN='K10abc::node:hunter3'\nK3S_URL='https://k8s.example.org:6443'\nK3S_NODE_NAME=n7\n")

	stdout, _, err := k.migrate()
	if err != nil || strings.Contains(stdout, "hunter") {
		t.Fatalf("%v\n%s", err, stdout)
	}
	for _, want := range []string{
		"# For `cleat agent`. `cleat config migrate --from-k3s` made it from the configuration of an agent of k3s (" + filepath.Join(k.dir, "systemd/k3s-agent.service") + ").\n",
		"\nserver: https://k8s.example.org:6443\n",
		"# the part before the password is left out\n# an agent joins with it if the servers of cleat have the same; else copy node-token from one of them\n",
		"# token: [redacted]\n",
		"# left out: bind-address is an option of `cleat server` only\n# bind-address: 192.0.2.7\n",
		"# left out: cni is an option of `cleat server` only\n# no-flannel: true\n",
		"# k3s has it for servers only, and an agent of k3s leaves it alone\n# cluster-cidr: 10.44.0.0/16\n",
		"\n# datastore-endpoint: [redacted]\n",
	} {
		if !strings.Contains(stdout, want) {
			t.Errorf("%q is missing in\n%s", want, stdout)
		}
	}

	out := filepath.Join(k.dir, "new", "config.yaml")
	said, stderr, err := k.migrate("--output", out)
	if err != nil || stderr != "" || !strings.HasPrefix(said, out+" is for `cleat agent`: this machine is an agent of k3s (") {
		t.Fatalf("%v, said %q, wrote %q", err, stderr, said)
	}
	c := loadBy(t, config.LoadAgent, out)
	if c.Server != "https://k8s.example.org:6443" || c.Token != "hunter3" || c.NodeName != "n7" || c.LBServerPort != 7444 ||
		strings.Join(c.KubeletArg, " ") != "max-pods=200" || c.PrivateRegistry != filepath.Join(k.dir, "new", "registries.yaml") || len(c.Foreign()) > 0 {
		t.Errorf("an agent would have %v and leave alone %q", c, c.Foreign())
	}
}

// TestRole: the files tell what the machine is; where they do not, the operator
// is asked.
func TestRole(t *testing.T) {
	const server, agent = "ExecStart=/k3s server\n", "ExecStart=/k3s agent --server https://a:6443 --token x\n"
	for name, c := range map[string]struct {
		files map[string]string
		args  []string
		want  string // in the output or the error
	}{
		"server":         {map[string]string{"systemd/k3s.service": server}, nil, "# For `cleat server`."},
		"agent":          {map[string]string{"systemd/k3s-agent.service": agent}, nil, "# For `cleat agent`."},
		"by ExecStart":   {map[string]string{"systemd/k3s.service": agent}, nil, "# For `cleat agent`."},
		"by the name":    {map[string]string{"systemd/k3s-agent.service": "ExecStart=/k3s --token x -s https://a:6443\n"}, nil, "# For `cleat agent`."},
		"both":           {map[string]string{"systemd/k3s.service": server, "systemd/k3s-agent.service": agent}, nil, "has both "},
		"both, an agent": {map[string]string{"systemd/k3s.service": server, "systemd/k3s-agent.service": agent}, []string{"--agent"}, "# For `cleat agent`."},
		"both, a server": {map[string]string{"systemd/k3s.service": server, "systemd/k3s-agent.service": agent}, []string{"--agent=false"}, "# For `cleat server`."},
		"not an agent":   {map[string]string{"systemd/k3s.service": server}, []string{"--agent"}, "k3s.service is that of a server of k3s; leave out --agent"},
		"not a server":   {map[string]string{"systemd/k3s-agent.service": agent}, []string{"--agent=false"}, "k3s-agent.service is that of an agent of k3s; leave out --agent"},
		"file joins":     {map[string]string{"rancher/config.yaml": "server: https://a:6443\ntoken: x\n"}, nil, "# For `cleat agent`."},
		"file alone":     {map[string]string{"rancher/config.yaml": "debug: true\n"}, nil, "# For `cleat server`."},
		"file of both":   {map[string]string{"rancher/config.yaml": "server: https://a:6443\ntls-san: a\n"}, nil, "config.yaml has tls-san, as only servers do; --agent takes it for an agent's"},
		"file, told":     {map[string]string{"rancher/config.yaml": "server: https://a:6443\ntoken: x\n"}, []string{"--agent=false"}, "of a server of k3s (--agent=false)."},
	} {
		t.Run(name, func(t *testing.T) {
			k := newK3s(t)
			for file, text := range c.files {
				k.write(file, text)
			}
			stdout, _, err := k.migrate(c.args...)
			if err != nil {
				stdout = err.Error()
			}
			if !strings.Contains(stdout, c.want) {
				t.Errorf("want %q in\n%s", c.want, stdout)
			}
			if name == "both" && (!strings.Contains(stdout, "k3s.service and ") || !strings.Contains(stdout, "k3s-agent.service: say")) {
				t.Errorf("the units are not named: %s", stdout)
			}
		})
	}
}

// TestServerThatJoins: cleat's servers do not join one another.
func TestServerThatJoins(t *testing.T) {
	k := newK3s(t)
	k.write("systemd/k3s.service", "ExecStart=/k3s server --server https://a:6443 --token x\n")
	stdout, stderr, err := k.migrate()
	if err != nil || stderr != "" || !strings.Contains(stdout, "# left out: server is an option of `cleat agent` only\n# server: https://a:6443\n") ||
		!strings.Contains(stdout, "servers with one --datastore-endpoint and one --token are one cluster") {
		t.Errorf("%v, said %q, wrote\n%s", err, stderr, stdout)
	}
}

// TestTokenFiles: a token of k3s's own making would be refused by cleat later.
func TestTokenFiles(t *testing.T) {
	k := newK3s(t)
	token := filepath.Join(k.dir, "token")
	k.write("systemd/k3s-agent.service", "ExecStart=/k3s agent --server https://a:6443 --token-file "+token+"\n")
	for text, want := range map[string]string{
		"hunter2\n":              "",
		"K10abc::node:hunter2\n": "--token-file \"" + token + "\": the token in it begins with K10",
		"":                       "no such file",
	} {
		if err := os.WriteFile(token, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if text == "" {
			if err := os.Remove(token); err != nil {
				t.Fatal(err)
			}
		}
		stdout, stderr, err := k.migrate()
		if err != nil || !strings.Contains(stdout, "\ntoken-file: "+token+"\n") {
			t.Fatalf("%v\n%s", err, stdout)
		}
		for _, said := range []string{stdout, stderr} {
			if strings.Contains(said, "cleat refuses this: ") != (want != "") || !strings.Contains(said, want) || strings.Contains(said, "hunter") {
				t.Errorf("%q: want %q in\n%s", text, want, said)
			}
		}
	}
}
