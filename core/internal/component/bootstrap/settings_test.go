package bootstrap

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/core/config"
)

// server is one of several in a cluster.
func server(t *testing.T, store Store, name, address string) *machine {
	m := newMachine(t, store, "s3cret")
	m.opts.NodeName, m.opts.AdvertiseAddress = name, address
	m.opts.ClusterCIDR, m.opts.ServiceCIDR = []string{"10.42.0.0/16"}, []string{"10.43.0.0/16"}
	m.opts.ClusterDomain, m.opts.FlannelBackend = "cluster.local", "vxlan"
	return m
}

// runs makes the datastore say that the API server at address is up.
func runs(t *testing.T, store *memory, address string) {
	t.Helper()
	if _, err := store.Create(t.Context(), leasesPrefix+address, []byte("lease")); err != nil {
		t.Fatal(err)
	}
}

// age makes the settings look as if they had been written long ago.
func age(t *testing.T, store *memory) {
	t.Helper()
	text, rev, err := store.Get(t.Context(), settingsKey)
	if err != nil {
		t.Fatal(err)
	}
	s, err := parseSettings(text)
	if err != nil {
		t.Fatal(err)
	}
	s.At = s.At.Add(-2 * claimFor)
	if text, err = json.Marshal(s); err != nil {
		t.Fatal(err)
	}
	if ok, err := store.Update(t.Context(), settingsKey, text, rev); !ok || err != nil {
		t.Fatal(ok, err)
	}
}

func stored(t *testing.T, store *memory) map[string]string {
	t.Helper()
	text, _, err := store.Get(t.Context(), settingsKey)
	if err != nil {
		t.Fatal(err)
	}
	s, err := parseSettings(text)
	if err != nil {
		t.Fatal(err)
	}
	return s.Values
}

// A second server with other settings is refused, by name of the option, and
// changes nothing; with the same it is let in.
func TestServersAgree(t *testing.T) {
	store := newMemory()
	first := server(t, store, "one", "10.0.0.1")
	first.must()
	runs(t, store, "10.0.0.1")
	age(t, store)

	second := server(t, store, "two", "10.0.0.2")
	for want, change := range map[string]func(*config.Options){
		"--cluster-cidr":             func(o *config.Options) { o.ClusterCIDR = []string{"10.44.0.0/16"} },
		"--service-cidr":             func(o *config.Options) { o.ServiceCIDR = []string{"10.44.0.0/16"} },
		"--cluster-dns":              func(o *config.Options) { o.ClusterDNS = []string{"10.43.0.99"} },
		"--cluster-domain":           func(o *config.Options) { o.ClusterDomain = "other.local" },
		"--flannel-backend":          func(o *config.Options) { o.FlannelBackend = "host-gw" },
		"--cni":                      func(o *config.Options) { o.CNI = "cni-bridge" },
		"--disable ":                 func(o *config.Options) { o.Disable = []string{"coredns"} },
		"--disable-cloud-controller": func(o *config.Options) { o.DisableCloudController = true },
		"--disable-kube-proxy":       func(o *config.Options) { o.DisableKubeProxy = true },
		"--service-node-port-range":  func(o *config.Options) { o.ServiceNodePortRange = "1-2" },
	} {
		other := second.opts
		change(&second.opts)
		second.refused(want, "give that value")
		second.opts = other
	}
	second.opts.FlannelBackend = "host-gw"
	second.refused(`--flannel-backend "host-gw"`, "10.0.0.1", `"vxlan"`, "stop all servers")
	second.opts.FlannelBackend = "vxlan"
	before := store.copy()
	second.must()
	if after := store.copy(); after[settingsKey] != before[settingsKey] {
		t.Error("a server with the same settings wrote them")
	}
	// What is said of a refusal reaches the operator before anything is written.
	second.opts.ClusterDomain = "other.local"
	b := New(Options{
		Config: &config.Config{Options: second.opts}, Data: second.data, Log: slog.New(slog.DiscardHandler),
		Store: func() (Store, error) { return struct{ Store }{store}, nil },
	})
	if err := b.MayWrite(t.Context()); err == nil || !strings.Contains(err.Error(), "--cluster-domain") {
		t.Errorf("before the first write: %v", err)
	}
}

// A server that is alone may change what the cluster does not stand or fall with.
func TestAloneAServerDecides(t *testing.T) {
	store := newMemory()
	one := server(t, store, "one", "10.0.0.1")
	one.must()
	runs(t, store, "10.0.0.1") // its own, from before a crash
	one.opts.FlannelBackend = "host-gw"
	one.must()
	if got := stored(t, store)["flannel-backend"]; got != "host-gw" {
		t.Errorf("stored is %q", got)
	}
	one.opts.ClusterCIDR = []string{"10.44.0.0/16"}
	one.refused("--cluster-cidr", `"10.42.0.0/16"`, "cannot be changed")
	one.opts.ClusterCIDR = []string{"10.42.0.0/16"}

	// Another server that starts a moment later, before the first has an API
	// server, does not change it back.
	delete(store.keys, leasesPrefix+"10.0.0.1") // it has run out
	two := server(t, store, "two", "10.0.0.2")
	two.refused("--flannel-backend", "(one)")
	age(t, store)
	two.must()
	if got := stored(t, store)["flannel-backend"]; got != "vxlan" {
		t.Errorf("stored is %q", got)
	}
}

// A cluster from before there were settings gets those of its next start, and
// what a newer version stored stays.
func TestSettingsOfOtherVersions(t *testing.T) {
	store := newMemory()
	one := server(t, store, "one", "10.0.0.1")
	one.must()
	delete(store.keys, settingsKey)
	one.must()
	values := stored(t, store)
	delete(values, "cni")
	values["of-the-future"] = "x"
	text, err := json.Marshal(settings{Version: settingsVersion, By: "one", Values: values})
	if err != nil {
		t.Fatal(err)
	}
	store.put(settingsKey, text)
	runs(t, store, "10.0.0.9")
	one.opts.CNI = "cni-bridge"
	one.must()
	if got := stored(t, store); got["cni"] != "cni-bridge" || got["of-the-future"] != "x" || got["cluster-domain"] != "cluster.local" {
		t.Errorf("stored are %v", got)
	}
	for text, want := range map[string]string{
		"{":                                 "not settings",
		`{"version":2}`:                     "version 2",
		strings.Repeat(" ", maxSettings+1):  "bytes",
		`{"version":1,"values":{"cni":[]}}`: "not settings",
	} {
		store.put(settingsKey, []byte(text))
		one.refused("the cluster's settings", want)
	}
}

// Of a secret the datastore has nothing to try guesses on, and no message shows it.
func TestSecretSettings(t *testing.T) {
	store := newMemory()
	one := server(t, store, "one", "10.0.0.1")
	id := one.must().Identity
	runs(t, store, "10.0.0.1")
	secondWith := func(endpoint string) *Bootstrap {
		b := New(Options{Config: &config.Config{Options: one.opts}, Log: slog.New(slog.DiscardHandler)})
		b.Config.DatastoreEndpoint, b.Config.NodeName, b.Config.AdvertiseAddress = endpoint, "two", "10.0.0.2"
		for i := range b.table {
			if b.table[i].Name == "datastore-endpoint" { // a secret option
				b.table[i].Agree = config.Common
			}
		}
		return b
	}
	if err := secondWith("postgres://hunter2").settleSettings(t.Context(), store, id); err != nil {
		t.Fatal(err)
	}
	age(t, store)
	text, _, err := store.Get(t.Context(), settingsKey)
	if err != nil || bytes.Contains(text, []byte("hunter2")) || len(stored(t, store)["datastore-endpoint"]) != 64 {
		t.Errorf("stored is %s, %v", text, err)
	}
	if _, err := secondWith("postgres://hunter2").agree(t.Context(), store, id); err != nil {
		t.Errorf("the same secret: %v", err)
	}
	_, err = secondWith("postgres://swordfish").agree(t.Context(), store, id)
	if err == nil || !strings.Contains(err.Error(), "--datastore-endpoint") || strings.Contains(err.Error(), "swordfish") ||
		strings.Contains(err.Error(), stored(t, store)["datastore-endpoint"]) {
		t.Errorf("another secret: %v", err)
	}
}

// Of two servers that change the settings at one moment one is refused.
func TestSettingsRace(t *testing.T) {
	store := newMemory()
	one := server(t, store, "one", "10.0.0.1")
	id := one.must().Identity
	age(t, store)
	b := New(Options{Config: &config.Config{Options: one.opts}, Log: slog.New(slog.DiscardHandler)})
	b.Config.NodeName, b.Config.FlannelBackend = "two", "host-gw"
	racing := &overtaken{memory: store, by: func() {
		one.opts.FlannelBackend = "wireguard"
		one.must()
	}}
	if err := b.settleSettings(t.Context(), racing, id); err == nil || !strings.Contains(err.Error(), "--flannel-backend") {
		t.Errorf("got %v", err)
	}
	if got := stored(t, store)["flannel-backend"]; got != "wireguard" {
		t.Errorf("stored is %q", got)
	}
}

// overtaken lets somebody else write before the first update.
type overtaken struct {
	*memory
	by func()
}

func (o *overtaken) Update(ctx context.Context, key string, value []byte, rev int64) (bool, error) {
	if by := o.by; by != nil {
		o.by = nil
		by()
	}
	return o.memory.Update(ctx, key, value, rev)
}

func FuzzParseSettings(f *testing.F) {
	f.Add([]byte(`{"version":1,"by":"one","at":"2026-01-02T03:04:05Z","values":{"cni":"cni-flannel"}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if s, err := parseSettings(text); err == nil && (s.Version != settingsVersion || len(text) > maxSettings) {
			t.Fatalf("accepted %+v", s)
		}
	})
}
