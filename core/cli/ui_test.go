package cli

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/core/internal/serverstatus"
)

func TestUI(t *testing.T) {
	link := serverstatus.Link{Host: "fd00::1", Port: 6443, Path: "/v1-cleat/ui/#secret", ValidForS: 300, Fingerprint: "AB12"}
	socket, _ := localServer(t, "POST /ui/link", func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(link) })
	for address, want := range map[string]string{
		"":               "https://[fd00::1]:6443",
		"node.example":   "https://node.example:6443",
		"127.0.0.1:8443": "https://127.0.0.1:8443",
		"::1":            "https://[::1]:6443",
		"[::1]":          "https://[::1]:6443",
		"[::1]:8443":     "https://[::1]:8443",
	} {
		code, stdout, stderr := call(testApp(), "ui", "--socket", socket, "--address", address)
		if code != 0 || stdout != want+"/v1-cleat/ui/#secret\n" {
			t.Errorf("--address %q: exit code %d, printed %q, said %q", address, code, stdout, stderr)
		}
		if !strings.Contains(stderr, "once, within 5m0s") || !strings.Contains(stderr, "AB12") || strings.Contains(stderr, "secret") {
			t.Errorf("said %q", stderr)
		}
	}
	for _, address := range []string{"a b", "evil.example/x", "a@b", "x:0", "x:70000", "x:y", "[", ":8443", "a?b", "a#b", "::1::2", "a%b", "a\\b"} {
		if code, stdout, stderr := call(testApp(), "ui", "--socket", socket, "--address", address); code != 1 || stdout != "" || !strings.Contains(stderr, "--address") {
			t.Errorf("--address %q: exit code %d, printed %q, said %q", address, code, stdout, stderr)
		}
	}
	for _, path := range []string{"", "//x\x1b[31m", "no-slash", "/a\nb"} {
		link.Path = path
		if code, stdout, stderr := call(testApp(), "ui", "--socket", socket); code != 1 || stdout != "" || !strings.Contains(stderr, "not a link") {
			t.Errorf("path %q: exit code %d, printed %q, said %q", path, code, stdout, stderr)
		}
	}
	if code, _, stderr := call(testApp(), "ui", "--socket", socket+"x"); code != 1 || !strings.Contains(stderr, "is cleat running?") {
		t.Errorf("without a server: exit code %d, said %q", code, stderr)
	}
}
