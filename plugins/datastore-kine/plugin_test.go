package main

import (
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/pluginsdk/plugintest"
)

const manifest = "manifest.json"

func request(endpoint string) hostabi.DatastoreRequest {
	return hostabi.DatastoreRequest{Endpoint: endpoint, DBDir: "/var/lib/cleat/server/db", NodeName: "node-1"}
}

func TestPlans(t *testing.T) {
	p := plugintest.New(t, manifest, nil)
	for name, endpoint := range map[string]string{
		"sqlite-default":    "",
		"sqlite-scheme":     "sqlite://",
		"sqlite-path":       "sqlite:///srv/state.db",
		"sqlite-settings":   "sqlite:///srv/state.db?_journal=DELETE&_timeout=5&x=y",
		"postgres":          "postgres://cleat:secret@db.example.org:5432/cluster?sslmode=require",
		"postgres-unix":     "postgres:///cluster?host=/run/postgresql",
		"postgresql-hosts":  "PostgreSQL://cleat:secret@a:5432,b:5433/cluster",
		"postgres-odd-word": "postgres://cleat:12/secret@db.example.org/cluster",
		"mysql":             "mysql://cleat:s@cret/word@tcp(db.example.org:3306)/cluster",
		"mysql-unix":        "mysql://cleat:secret@unix(/run/mysqld/mysqld.sock)/cluster",
		"mysql-no-address":  "mysql://cleat:secret",
		"nats":              "nats://cleat:secret@a:4222,b:4222?bucket=kine&noEmbed",
		"nats-v6":           "nats://[2001:db8::1]:4222",
	} {
		t.Run(name, func(t *testing.T) {
			plan, claimed, err := p.Datastore(request(endpoint))
			if err != nil || !claimed {
				t.Fatalf("claimed %v, %v", claimed, err)
			}
			for _, word := range []string{"secret", "cret", "word", "cleat:"} {
				if strings.Contains(plan.Description, word) {
					t.Errorf("description %q tells %q", plan.Description, word)
				}
			}
			plugintest.Golden(t, name, plan)
		})
	}
}

func TestRefuses(t *testing.T) {
	p := plugintest.New(t, manifest, nil)
	for _, tt := range []struct{ endpoint, dir, why string }{
		{"oracle://u:secret@h/d", "/d", `scheme "oracle" is unknown; use sqlite://, postgres://, postgresql://, mysql:// or nats://`},
		{"user:secret@tcp(h)/d", "/d", "datastore-endpoint has no scheme"},
		{"sqlite://state.db", "/d", `"state.db" is not absolute; write sqlite:///path/state.db`},
		{"", "db", `db_dir "db" is not absolute`},
		{"", "/d?x", "holds '?', '#' or '%'"},
		{"sqlite:///a%20b", "/d", "holds '?', '#' or '%'"},
		{strings.Repeat("x", 5000) + "://", "/d", "is unknown"},
	} {
		_, claimed, err := p.Datastore(hostabi.DatastoreRequest{Endpoint: tt.endpoint, DBDir: tt.dir})
		if err == nil || claimed || !strings.Contains(err.Error(), tt.why) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%.40s: got %v, want %q", tt.endpoint, err, tt.why)
		}
	}
}

func TestLeavesEtcdToOthers(t *testing.T) {
	p := plugintest.New(t, manifest, nil)
	for _, endpoint := range []string{"http://127.0.0.1:2379", "https://a:2379,https://b:2379"} {
		if _, claimed, err := p.Datastore(request(endpoint)); claimed || err != nil {
			t.Errorf("%s: claimed %v, %v", endpoint, claimed, err)
		}
	}
}

func TestConfig(t *testing.T) {
	p := plugintest.New(t, manifest, map[string]any{
		"compact_interval_seconds": 0, "compact_timeout_seconds": 1, "compact_min_retain": 2, "compact_batch_size": 3,
		"pool_max_open": 4, "pool_max_idle": 5, "pool_conn_max_lifetime_seconds": 6,
	})
	plan, _, err := p.Datastore(request(""))
	if err != nil {
		t.Fatal(err)
	}
	plugintest.Golden(t, "configured", plan)

	_, err = plugintest.Start(manifest, map[string]any{"pool_max_open": 1})
	if err == nil || !strings.Contains(err.Error(), "config pool_max_open: 1 is too few") {
		t.Errorf("one connection: %v", err)
	}
	_, err = plugintest.Start(manifest, map[string]any{"pool_max_open": -1})
	if err == nil || !strings.Contains(err.Error(), "config pool_max_open: -1 is negative") {
		t.Errorf("got %v", err)
	}
}

// The description goes to the log, so it must not tell any part of a password.
func FuzzDescriptionKeepsThePassword(f *testing.F) {
	f.Add("postgres://", "a/b", "@host:5432/db")
	f.Add("postgres://", "a?b", "@host/db?x=y")
	f.Add("mysql://", "a@b", "@tcp(host:3306)/db")
	f.Add("nats://", "a#b", "@host:4222")
	f.Fuzz(func(t *testing.T, scheme, word, rest string) {
		const mark = "Zq7"
		address := urlAddress
		if strings.HasPrefix(scheme, "mysql") {
			address = mysqlAddress
		}
		if strings.Contains(rest, mark) || !strings.Contains(rest, "@") {
			return
		}
		if got := address("user:" + word + mark + word + rest); strings.Contains(got, mark) {
			t.Errorf("password %q, rest %q: the address is %q", word+mark+word, rest, got)
		}
	})
}
