package node

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/core/config"
)

// serverConfig is the configuration of a server with the defaults and flags, in
// a data directory of the test.
func serverConfig(t *testing.T, flags map[string][]string) *config.Config {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	given := map[string][]string{
		"config": {file}, "data-dir": {filepath.Join(dir, "data")}, "node-name": {"n1"}, "node-ip": {"192.0.2.7"},
	}
	for name, values := range flags {
		given[name] = values
	}
	cfg, err := config.Load(given, nil)
	if err == nil {
		err = cfg.Validate()
	}
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// graphOf is what each unit needs, directly or through others.
func graphOf(t *testing.T, flags map[string][]string) map[string][]string {
	t.Helper()
	return needsOf(t, serverConfig(t, flags))
}

func needsOf(t *testing.T, cfg *config.Config) map[string][]string {
	t.Helper()
	graph, err := Graph(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(cfg.DataDir); !os.IsNotExist(err) {
		t.Errorf("looking at the graph touched the data directory (%v)", err)
	}
	needs := map[string][]string{}
	for _, u := range graph.Units {
		for _, n := range u.Needs {
			needs[u.Unit] = append(append(needs[u.Unit], n), needs[n]...)
		}
		needs[u.Unit] = slices.Compact(slices.Sorted(slices.Values(needs[u.Unit])))
	}
	return needs
}

func units(needs map[string][]string) []string {
	var names []string
	for name := range needs {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func TestBootOrder(t *testing.T) {
	needs := graphOf(t, nil)
	for _, tt := range []struct{ unit, need, why string }{
		{"datastore", "plugins", "a plugin decides what it is"},
		{"bootstrap", "datastore", "the identity is kept there"},
		{"pki", "bootstrap", "the authorities sign"},
		{"supervisor", "pki", "it serves TLS"},
		{"apiserver", "supervisor", "its requests come through that port"},
		{"apiserver", "tunnel", "it dials nodes through it"},
		{"apiserver", "datastore", "its objects are there"},
		{"apiserver", "plugins", "no request passes unasked"},
		{"scheduler", "apiserver", ""},
		{"controllermanager", "apiserver", ""},
		{"cloudcontroller", "apiserver", ""},
		{"deployer", "apiserver", ""},
		{"deployer", "plugins", "a plugin renders"},
		{"images", "containerd", "it imports them"},
		{"join", "supervisor", "it asks there, and nobody else"},
		{"kubelet", "join", "it has its identity from there"},
		{"kubelet", "containerd", ""},
		{"kubelet", "images", "the first pod needs the pause image"},
		{"network", "join", "it may read the Node from then on"},
		{"network", "plugins", "a plugin decides what it is"},
		{"kubeproxy", "join", ""},
		{"peers", "join", "it shows the node's certificate"},
		{"peers", "apiserver", "that tells which servers there are"},
	} {
		if !slices.Contains(needs[tt.unit], tt.need) {
			t.Errorf("%s does not wait for %s: %s", tt.unit, tt.need, tt.why)
		}
	}
	// These take long and need nobody, so they must not wait.
	for unit, not := range map[string]string{"containerd": "plugins", "plugins": "datastore", "images": "apiserver"} {
		if slices.Contains(needs[unit], not) {
			t.Errorf("%s waits for %s", unit, not)
		}
	}
}

func TestBootOrderOfAnAgent(t *testing.T) {
	cfg, err := config.LoadAgent(map[string][]string{
		"config": {os.DevNull}, "data-dir": {filepath.Join(t.TempDir(), "data")}, "node-name": {"n2"}, "node-ip": {"192.0.2.8"},
		"server": {"https://192.0.2.7:6443"}, "token": {"secret"},
	}, nil)
	if err == nil {
		err = cfg.Validate()
	}
	if err != nil {
		t.Fatal(err)
	}
	needs := needsOf(t, cfg)
	want := []string{"containerd", "images", "join", "kubelet", "kubeproxy", "loadbalancer", "network", "nodefacts", "plugins", "tunnel"}
	if got := units(needs); !slices.Equal(got, want) {
		t.Errorf("units %v, want %v", got, want)
	}
	for _, tt := range []struct{ unit, need, why string }{
		{"join", "loadbalancer", "it asks the server that lives, and the kubeconfigs name the balancer"},
		{"plugins", "join", "they come from the server"},
		{"network", "plugins", "a plugin decides what it is"},
		{"kubelet", "join", "it has its identity from there"},
		{"kubelet", "images", "the first pod needs the pause image"},
		{"kubeproxy", "kubelet", ""},
		{"nodefacts", "kubelet", "it writes on the Node"},
	} {
		if !slices.Contains(needs[tt.unit], tt.need) {
			t.Errorf("%s does not wait for %s: %s", tt.unit, tt.need, tt.why)
		}
	}
	if len(needs["containerd"]) > 0 {
		t.Errorf("containerd waits for %v", needs["containerd"])
	}
}

func TestDisabledUnits(t *testing.T) {
	all := units(graphOf(t, nil))
	for flag, without := range map[string][]string{
		"disable-agent":            {"containerd", "images", "join", "kubelet", "kubeproxy", "network", "nodefacts", "noderole", "peers"},
		"disable-scheduler":        {"scheduler"},
		"disable-cloud-controller": {"cloudcontroller"},
		"disable-kube-proxy":       {"kubeproxy"},

		"egress-selector-mode=disabled": {"peers", "tunnel"},
	} {
		flag, value, ok := strings.Cut(flag, "=")
		if !ok {
			value = "true"
		}
		var want []string
		for _, unit := range all {
			if !slices.Contains(without, unit) {
				want = append(want, unit)
			}
		}
		if len(want)+len(without) != len(all) {
			t.Fatalf("the default server has not all of %v: %v", without, all)
		}
		if got := units(graphOf(t, map[string][]string{flag: {value}})); !slices.Equal(got, want) {
			t.Errorf("--%s: units %v, want %v", flag, got, want)
		}
	}
}

// TestTokenOfAnAgent: a token that cannot be one is refused before anything starts.
func TestTokenOfAnAgent(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	cfg, err := config.LoadAgent(map[string][]string{
		"config": {os.DevNull}, "data-dir": {data}, "server": {"https://192.0.2.7:6443"}, "token": {"K10abc::server:s3cret"},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = RunAgent(t.Context(), cfg, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "token from --token: token: the CA hash has 3 characters") || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(data); !os.IsNotExist(err) {
		t.Errorf("the data directory was touched (%v)", err)
	}
}

func TestBadArgumentsAreRefused(t *testing.T) {
	for _, tt := range []struct{ option, value, want string }{
		{"kube-apiserver-arg", "no-such-flag=1", "no-such-flag"},
		{"kube-apiserver-arg", "secure-port=1", "--https-listen-port"},
		{"kube-scheduler-arg", "no-such-flag=1", "no-such-flag"},
		{"kube-controller-manager-arg", "no-such-flag=1", "no-such-flag"},
		{"kubelet-arg", "no-such-flag=1", "no-such-flag"},
		{"kube-proxy-arg", "no-such-flag=1", "no-such-flag"},
	} {
		cfg := serverConfig(t, map[string][]string{tt.option: {tt.value}})
		graph, err := Graph(cfg)
		if err == nil || !strings.Contains(err.Error(), "--"+tt.option) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("--%s %s: got %v, want an error that names the option and %s", tt.option, tt.value, err, tt.want)
		}
		if len(graph.Units) != 0 {
			t.Errorf("--%s %s: a graph %v all the same", tt.option, tt.value, graph)
		}
		if _, err := os.Stat(cfg.DataDir); !os.IsNotExist(err) {
			t.Errorf("--%s %s: the data directory was touched (%v)", tt.option, tt.value, err)
		}
	}
}
