package cli

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/core/internal/paths"
	"github.com/cleat-dev/cleat/core/internal/pki"
)

func TestCertificateCheck(t *testing.T) {
	began := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	dir := t.TempDir()
	config := filepath.Join(dir, "config.yaml")
	data := paths.Data(filepath.Join(dir, "data"))
	if err := os.WriteFile(config, []byte("data-dir: "+string(data)+"\ncertificate-lifetime: 720h\nserver: https://a:6443\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ca, err := pki.NewAuthority("ca", began)
	if err != nil {
		t.Fatal(err)
	}
	for file, life := range map[string]time.Duration{data.TLS("a"): 0, data.AgentTLS("b"): time.Hour} {
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if _, err := ca.EnsureLeaf(file+".crt", file+".key", pki.Leaf{CommonName: "x", Client: true, Life: life}, began); err != nil {
			t.Fatal(err)
		}
	}
	a := testApp()
	for after, want := range map[time.Duration]struct {
		code        int
		table, said string
	}{
		time.Minute:          {0, "b.crt   ok       2026-01-02  0          CN=x", ""},
		2 * time.Hour:        {1, "b.crt   expired  2026-01-02  0          CN=x", "1 of 2 certificates need a look"},
		400 * 24 * time.Hour: {1, "a.crt  expired", "2 of 2 certificates"},
	} {
		a.now = func() time.Time { return began.Add(after) }
		code, stdout, stderr := call(a, "certificate", "check", "--config", config)
		squeeze := func(s string) string { return strings.Join(strings.Fields(s), " ") }
		if code != want.code || !strings.Contains(squeeze(stdout), squeeze(want.table)) || !strings.Contains(stderr, want.said) {
			t.Errorf("after %v: exit code %d, printed\n%ssaid %q", after, code, stdout, stderr)
		}
		code, stdout, _ = call(a, "certificate", "check", "--data-dir", string(data), "-o", "json")
		var all []struct{ File, State string }
		if err := json.Unmarshal([]byte(stdout), &all); err != nil || len(all) != 2 || code != want.code {
			t.Errorf("after %v: exit code %d, printed %s, %v", after, code, stdout, err)
		}
	}
	if code, _, stderr := call(a, "certificate", "check", "--data-dir", dir); code != 1 || !strings.Contains(stderr, "no certificates in "+dir) {
		t.Errorf("another directory: exit code %d, said %q", code, stderr)
	}
}

func TestCertificateRotate(t *testing.T) {
	refuse := ""
	socket, stop := localServer(t, "POST /certificates/rotate", func(w http.ResponseWriter, _ *http.Request) {
		if refuse != "" {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusConflict)
		}
		_ = json.NewEncoder(w).Encode(map[string]string{"error": refuse})
	})
	if code, stdout, stderr := call(testApp(), "certificate", "rotate", "--socket", socket); code != 0 || !strings.Contains(stdout, "issued anew") {
		t.Errorf("exit code %d, printed %q, said %q", code, stdout, stderr)
	}
	refuse = "the disk is full"
	if code, stdout, stderr := call(testApp(), "certificate", "rotate", "--socket", socket); code != 1 || stdout != "" || !strings.Contains(stderr, refuse) {
		t.Errorf("exit code %d, printed %q, said %q", code, stdout, stderr)
	}
	stop()
	if code, _, stderr := call(testApp(), "certificate", "rotate", "--socket", socket); code != 1 || !strings.Contains(stderr, "is cleat running?") {
		t.Errorf("without a server: exit code %d, said %q", code, stderr)
	}
}
