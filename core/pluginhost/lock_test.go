package pluginhost

import (
	"bytes"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/core/pluginhost/guesttest"
	"github.com/cleat-dev/cleat/hostabi"
	"github.com/google/go-cmp/cmp"
)

func sampleLock(t testing.TB) *Lock {
	t.Helper()
	b := lockOf(t, hook("first", guesttest.I32(0)).Wasm(), hook("second", guesttest.I32(0)).Wasm())
	p := &b.lock.Plugins[1]
	p.Config = map[string]any{"text": "a\"b\\c\nd", "number": int64(7), "ratio": 0.5, "on": true,
		"list": []any{"x", int64(1)}, "map": map[string]any{"k": "v", "dotted.key": "w"}}
	config, err := p.CanonicalConfig()
	if err != nil {
		t.Fatal(err)
	}
	p.ConfigSHA256 = Digest(config)
	return &b.lock
}

func TestLockRoundTrip(t *testing.T) {
	lock := sampleLock(t)
	text, err := lock.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseLock(text)
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	if diff := cmp.Diff(lock, got); diff != "" {
		t.Errorf("lock (-want +got):\n%s", diff)
	}
	for range 20 {
		again, err := got.Marshal()
		if err != nil || !bytes.Equal(text, again) {
			t.Fatalf("a second write differs: %v\n%s\n%s", err, text, again)
		}
	}
}

// TestLockErrors changes one thing in a good lock; the error names plugin,
// field and value.
func TestLockErrors(t *testing.T) {
	text, err := sampleLock(t).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	good := string(text)
	digest := sampleLock(t).Plugins[0].SHA256
	tests := []struct{ old, new, want string }{
		{"version = 1\n", "version = 2\n", "version is 2, this build reads version 1"},
		{"name = 'first'", "name = 'First'", `plugin First: name "First" must be lower-case`},
		{"name = 'first'", "name = ''", "plugin number 1: name"},
		{"name = 'second'", "name = 'first'", "plugin first: is named twice"},
		{"order = 20", "order = 10", "plugin second: order 10 does not come after 10 of first"},
		{"embedded:first.wasm", "embedded:../first.wasm", "must be embedded:<name>.wasm"},
		{"embedded:first.wasm", "file:../first.wasm", "relative to the plugins directory and inside it"},
		{"embedded:first.wasm", "file:/etc/passwd", "relative to the plugins directory and inside it"},
		{"embedded:first.wasm", "oci:registry/first:1", "must be oci:<reference>@sha256:"},
		{"embedded:first.wasm", "https://example.com/first.wasm", "is neither embedded:, file: nor oci: something"},
		{digest, strings.ToUpper(digest), "must be 64 lower-case hex digits"},
		{"abi = '1.0'", "abi = '01.0'", `abi "01.0" must look like`},
		{"points = ['admission']", "points = []", "points is empty"},
		{"points = ['admission']", "points = ['admission', 'storage']", `points names "storage"; this build knows [datastore cni admission deployer]`},
		{"'cleat_core_v1', ", "'cleat_core_v1', 'cleat_core_v1', ", `capabilities names "cleat_core_v1" twice`},
		{"'metadata.labels'", "'metadata..labels'", `read_paths: field path "metadata..labels": at byte 9`},
		{"memory_pages = 16", "memory_pages = 0", "limits.memory_pages is 0, must be 1 to 16384"},
		{"deadline_ms = 10000", "deadline_ms = 100000", "limits.deadline_ms is 100000, must be 1 to 60000"},
		{"pool_max = 4", "pool_max = 65", "limits.pool_max is 65"},
		{"failure_policy = 'fail'", "failure_policy = 'maybe'", `failure_policy is "maybe", must be "fail" or "ignore"`},
		{"signer = ''", "signer = 'me'", "must be empty or key: and the SHA-256"},
		{"conformance_sha256 = ''", "conformance_sha256 = 'x'", "conformance_sha256"},
		{"ratio = 0.5", "ratio = 0.25", "config_sha256 is locked as"},
		{"ratio = 0.5", "ratio = nan", "config.ratio: NaN is not a number"},
		{"ratio = 0.5", "ratio = 2026-01-01", "config.ratio: a value of kind toml.LocalDate has no JSON form"},
		{"trusted = false", "trusted = false\ntrust = true", `unknown key "plugin.trust"`},
		{"order = 10", "order = 'ten'", "line "},
		{"version = 1\n", "version = 1\nversion = 1\n", "line "},
	}
	for _, test := range tests {
		bad := strings.Replace(good, test.old, test.new, 1)
		if bad == good {
			t.Errorf("%q is not in the lock", test.old)
			continue
		}
		_, err := ParseLock([]byte(bad))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q for %q: got %v, want %q in it", test.new, test.old, err, test.want)
		}
	}
	if _, err := ParseLock(make([]byte, MaxLockBytes+1)); err == nil {
		t.Error("a lock over the limit is read")
	}
	if _, err := ParseLock(nil); err == nil {
		t.Error("an empty lock is read")
	}
	if lock, err := ParseEditedLock([]byte(strings.Replace(good, "ratio = 0.5", "ratio = 0.25", 1))); err != nil || lock.Plugins[1].Config["ratio"] != 0.25 {
		t.Errorf("an edited config: %v", err)
	}
}

// FuzzParseLock reads arbitrary text; what is accepted is written and read back
// alike.
func FuzzParseLock(f *testing.F) {
	text, err := sampleLock(f).Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte("version = 1\n[[plugin]]\nname='a'\n[plugin.config]\na.b.c=1"))
	f.Add([]byte("version = 1"))
	f.Fuzz(func(t *testing.T, text []byte) {
		lock, err := ParseLock(text)
		if err != nil {
			return
		}
		first, err := lock.Marshal()
		if err != nil {
			t.Fatalf("write: %v", err)
		}
		again, err := ParseLock(first)
		if err != nil {
			t.Fatalf("read back: %v\n%s", err, first)
		}
		second, err := again.Marshal()
		if err != nil || !bytes.Equal(first, second) {
			t.Fatalf("%v\n%s\n%s", err, first, second)
		}
	})
}

func TestCompare(t *testing.T) {
	old := LockedPlugin{Version: "1.0.0", Points: []hostabi.Point{"cni"}, Capabilities: []string{"a", "b"}, ReadPaths: []string{"x"}, SHA256: "1"}
	next := LockedPlugin{Version: "1.1.0", Points: []hostabi.Point{"cni"}, Capabilities: []string{"b"}, ReadPaths: []string{"x", "y"}, SHA256: "2"}
	want := []Change{
		{Field: "capabilities", Gained: []string{}, Lost: []string{"a"}},
		{Field: "read_paths", Gained: []string{"y"}, Lost: []string{}, Power: true},
		{Field: "version", Gained: []string{"1.1.0"}, Lost: []string{"1.0.0"}},
		{Field: "sha256", Gained: []string{"2"}, Lost: []string{"1"}},
	}
	if diff := cmp.Diff(want, Compare(old, next)); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	if got := Compare(old, old); got != nil {
		t.Errorf("no change gives %v", got)
	}
}
