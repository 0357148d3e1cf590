//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/test/e2e/lab"
)

// postgres is a real PostgreSQL on a machine of its own.
type postgres struct {
	*lab.Machine
	bin string
}

// asPostgres is the command that runs another one as the user that Debian's package made.
func asPostgres(args ...string) []string {
	return append([]string{"setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"}, args...)
}

func startPostgres(t *testing.T, l *lab.Lab) *postgres {
	t.Helper()
	bins, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(bins) == 0 {
		t.Fatal("PostgreSQL is not installed: apt-get install postgresql")
	}
	db := &postgres{Machine: l.Machine("db"), bin: filepath.Dir(bins[len(bins)-1])}
	db.Must(t, "sh", "-c", `mkdir -p /srv/postgres && chown postgres /srv/postgres && echo secret-of-postgres >/srv/password && chown postgres /srv/password`)
	db.Must(t, asPostgres(db.bin+"/initdb", "-D", "/srv/postgres", "-A", "scram-sha-256", "--pwfile=/srv/password")...)
	db.Must(t, "sh", "-c", `echo "host all all 10.99.0.0/24 scram-sha-256" >>/srv/postgres/pg_hba.conf`)
	db.Start(t, "postgres", asPostgres(db.bin+"/postgres", "-D", "/srv/postgres", "-c", "listen_addresses=*",
		"-c", "unix_socket_directories=/tmp", "-c", "fsync=off")...)
	lab.Eventually(t, podPatience, "PostgreSQL answers", func() error {
		_, err := db.query("postgres", "select 1")
		return err
	})
	return db
}

func (db *postgres) query(database, sql string) (string, error) {
	out, err := db.Feed(sql, "env", "PGPASSWORD=secret-of-postgres", db.bin+"/psql", "-h", "127.0.0.1", "-U", "postgres",
		"-d", database, "-v", "ON_ERROR_STOP=1", "-At", "-f", "-")
	return strings.TrimSpace(out), err
}

// newDatabaseNode makes a node with its configuration in the file where a user
// would have it, because it holds two secrets.
func newDatabaseNode(t *testing.T, l *lab.Lab, db *postgres, name, token string) *node {
	t.Helper()
	n := newNode(t, l, name)
	n.WriteFile(t, "/etc/cleat/config.yaml", fmt.Sprintf(
		"datastore-endpoint: postgres://postgres:secret-of-postgres@%s:5432/cleat?sslmode=disable\ntoken: %s\n", db.Addr, token))
	return n
}

// Two machines that share a PostgreSQL and a token are servers of one cluster; a
// third with another token is refused and changes nothing.
func TestPostgreSQL(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	db := startPostgres(t, l)
	if _, err := db.query("postgres", "create database cleat"); err != nil {
		t.Fatal(err)
	}
	one, two := newDatabaseNode(t, l, db, "one", "the-right-token"), newDatabaseNode(t, l, db, "two", "the-right-token")
	one.args = []string{"--egress-selector-mode", "pod"}
	two.args = one.args
	t.Logf("on PostgreSQL: Ready after %.1f s", one.serve(t))
	one.kubectl(t, "create", "configmap", "from-one", "--from-literal=value=kept")
	one.stop(t)
	if lines := append(one.said(t, "no tunnel"), one.said(t, "tunnel")...); len(lines) > 0 {
		t.Errorf("a server that is alone looks for others: %v", lines)
	}

	rows := func() string {
		t.Helper()
		out, err := db.query("cleat", "select count(*), max(id), sum(length(value)) from kine")
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	t.Run("wrong token", func(t *testing.T) {
		before := rows()
		three := newDatabaseNode(t, l, db, "three", "another-token")
		three.start(t)
		if err := three.server.Wait(t, bootPatience); err == nil {
			t.Error("the server ended well")
		}
		log := three.server.Log()
		if !strings.Contains(log, "--token") || !strings.Contains(log, "another cluster") && !strings.Contains(log, "already belongs") {
			t.Error("the log does not say that the token is wrong and what to do")
		}
		if strings.Contains(log, "another-token") || strings.Contains(log, "secret-of-postgres") {
			t.Error("a secret is in the log")
		}
		if after := rows(); after != before {
			t.Errorf("the datastore: %s rows, last, bytes before and %s after", before, after)
		}
		keys, err := filepath.Glob(three.Path("/var/lib/cleat/server/tls/*"))
		if err != nil || len(keys) > 0 {
			t.Errorf("the refused server made %v", keys)
		}
		if _, err := os.Stat(three.Path("/etc/cleat/cleat.yaml")); err == nil {
			t.Error("the refused server wrote a kubeconfig")
		}
	})
	t.Run("second machine", func(t *testing.T) {
		t.Logf("second server: Ready after %.1f s", two.serve(t))
		for _, f := range []string{"server-ca.crt", "client-ca.crt", "request-header-ca.crt", "service.key"} {
			a, errA := os.ReadFile(one.Path("/var/lib/cleat/server/tls/" + f))
			b, errB := os.ReadFile(two.Path("/var/lib/cleat/server/tls/" + f))
			if errA != nil || errB != nil || string(a) != string(b) {
				t.Errorf("%s differs between the machines, %v, %v", f, errA, errB)
			}
		}
		if got := two.kubectl(t, "get", "configmap", "from-one", "-o", "jsonpath={.data.value}"); got != "kept" {
			t.Errorf("an object of the first server: %q", got)
		}
		two.kubectl(t, "create", "configmap", "from-two", "--from-literal=value=shared")
		t.Logf("first server again: Ready after %.1f s", one.serve(t))
		eventuallyPrints(t, one.Machine, time.Minute, "shared", "kubectl", "get", "configmap", "from-two", "-o", "jsonpath={.data.value}")
		// One gives Services their nodes, the other stands by.
		eventuallyPrints(t, one.Machine, time.Minute, "two", "kubectl", "get", "lease", "cleat-servicelb", "-n", "kube-system", "-o", "jsonpath={.spec.holderIdentity}")
		eventuallyPrints(t, one.Machine, time.Minute, "servicelb:ready", "sh", "-c", `cleat status | sed -n 's/^servicelb  *\([a-z]*\) .*/servicelb:\1/p'`)
	})
	t.Run("tunnels between servers", func(t *testing.T) { testPeers(t, one, two) })
}

// A plugin that differs from the lock in anything is refused before anything runs,
// with the name of the field and the way out.
func TestTamperedLock(t *testing.T) {
	committed, err := os.ReadFile(artefact(t, "CLEAT_PLUGINS_LOCK", "plugins.lock"))
	if err != nil {
		t.Fatal(err)
	}
	l := newLab(t)
	n := newNode(t, l, "n1", "--plugins-lock", "/etc/cleat/plugins.lock")
	for _, tc := range []struct {
		name  string
		alter func(line string) string // gets each line of the first plugin
		field string
	}{
		{"digest", func(s string) string {
			if value, ok := strings.CutPrefix(s, "sha256 = "); ok {
				return "sha256 = " + value[:1] + strings.Repeat("0", 64) + value[len(value)-1:]
			}
			return s
		}, "sha256"},
		{"version", func(s string) string {
			if strings.HasPrefix(s, "version = ") {
				return `version = "99.0.0"`
			}
			return s
		}, "version"},
		{"fewer powers", func(s string) string {
			if strings.HasPrefix(s, "capabilities = ") {
				return `capabilities = []`
			}
			return s
		}, "capabilities"},
		{"misspelt key", func(s string) string { return strings.Replace(s, "trusted = ", "trustd = ", 1) }, "trustd"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			all := strings.Split(string(committed), "\n")
			plugin := 0
			for i, line := range all {
				if strings.TrimSpace(line) == "[[plugin]]" {
					plugin++
				}
				if plugin == 1 {
					all[i] = tc.alter(line)
				}
			}
			n.WriteFile(t, "/etc/cleat/plugins.lock", strings.Join(all, "\n"))
			if err := os.Remove(n.Path("/var/lib/cleat/server/tls")); err == nil {
				t.Error("an earlier attempt made certificates")
			}
			before := len(n.serverLog())
			n.start(t)
			if err := n.server.Wait(t, time.Minute); err == nil {
				t.Error("the server ended well")
			}
			log := n.serverLog()[before:]
			if !strings.Contains(log, tc.field) || !strings.Contains(log, "plugins.lock") && !strings.Contains(log, "cleat plugin lock") {
				t.Errorf("the refusal names neither %s nor the lock:\n%s", tc.field, log)
			}
			if _, err := os.Stat(n.Path("/var/lib/cleat/server/db")); err == nil {
				t.Error("the datastore was started")
			}
		})
	}
}

// serverLog is what all servers on the node wrote so far.
func (n *node) serverLog() string {
	if n.server == nil {
		return ""
	}
	return n.server.Log()
}
