package plugincmd

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/core/pluginhost"
	"github.com/cleat-dev/cleat/core/pluginhost/guesttest"
	"github.com/cleat-dev/cleat/hostabi"
)

// serveReloads is a server's socket that tells the lock as each reload found it.
func (b *bench) serveReloads(refuse string) (reloads chan *pluginhost.Lock) {
	b.t.Helper()
	b.deps.Socket = filepath.Join(b.t.TempDir(), "s")
	listener, err := net.Listen("unix", b.deps.Socket)
	if err != nil {
		b.t.Fatal(err)
	}
	reloads = make(chan *pluginhost.Lock, 8)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.Method+r.URL.Path != "POST/plugins/reload" || refuse != "" {
			w.WriteHeader(http.StatusConflict)
			fmt.Fprintf(w, `{"error":%q}`, refuse)
			return
		}
		text, err := os.ReadFile(b.lock)
		if err != nil {
			b.t.Error(err)
		}
		lock, err := pluginhost.ParseLock(text)
		if err != nil {
			b.t.Error(err)
		}
		reloads <- lock
		_, _ = io.WriteString(w, `{"generation":7,"opened":["policy 2.0.0"],"closed":[]}`)
	})}
	go func() { _ = server.Serve(listener) }()
	b.t.Cleanup(func() { _ = server.Close() })
	return reloads
}

// versionOf changes the version of a guest.
func versionOf(version string) func(*guesttest.Guest) {
	return func(g *guesttest.Guest) { g.Manifest.Version = version }
}

// withShadow locks policy 1.0.0, store and policy 2.0.0 as a shadow.
func withShadow(t *testing.T) *bench {
	b := newBench(t)
	b.deps.Socket = filepath.Join(t.TempDir(), "none.sock")
	b.must("lock", b.put("policy.wasm", policy()), b.put("store.wasm", store()))
	b.must("lock", "--shadow", "--accept", b.put("next.wasm", policy(versionOf("2.0.0"))))
	return b
}

func titles(lock *pluginhost.Lock) string {
	var all []string
	for i := range lock.Plugins {
		all = append(all, title(&lock.Plugins[i]))
	}
	return strings.Join(all, ", ")
}

func TestRemove(t *testing.T) {
	b := withShadow(t)
	b.wantError([]string{"remove", "nobody"}, b.lock, `has no plugin "nobody"`, "it has policy, store")
	b.wantError([]string{"disable", "nobody"}, "it has policy, store")
	b.wantError([]string{"remove", "store", "--shadow"}, "has no shadow of store", "it has shadows of policy")
	b.wantError([]string{"remove"}, "accepts 1 arg")

	// The shadow alone.
	wantWords(t, b.must("remove", "policy", "--shadow"), "policy 2.0.0 (shadow) removed from "+b.lock, "no server runs here")
	if got := titles(b.readLock()); got != "policy 1.0.0, store 1.0.0" {
		t.Errorf("the lock has %s", got)
	}

	// Both, and the server follows.
	b.must("lock", "--shadow", "--accept", filepath.Join(b.dir, "next.wasm"))
	reloads := b.serveReloads("")
	wantWords(t, b.must("remove", "policy"), "policy 1.0.0 removed from "+b.lock, "policy 2.0.0 (shadow) removed from "+b.lock, "generation 7 decides")
	if got := titles(<-reloads); got != "store 1.0.0" {
		t.Errorf("the server saw %s", got)
	}
	if _, err := os.Stat(filepath.Join(b.dir, "policy.wasm")); err != nil {
		t.Error(err)
	}

	b.must("remove", "store")
	b.wantError([]string{"remove", "store"}, `has no plugin "store"; it has none`)
}

func TestEditWithoutLockFile(t *testing.T) {
	b := withShadow(t)
	text, err := os.ReadFile(b.lock)
	if err != nil {
		t.Fatal(err)
	}
	b.deps.Lock, b.lock = text, ""
	for _, verb := range []string{"remove", "promote", "enable", "disable"} {
		b.wantError([]string{verb, "policy"}, "the embedded lock cannot be changed", "--plugins-lock")
	}
}

func TestServerThatDoesNotFollow(t *testing.T) {
	b := withShadow(t)
	b.serveReloads("plugin policy does not pass")
	out := b.wantError([]string{"promote", "policy"}, b.lock+" is changed, but the server does not follow it", "plugin policy does not pass")
	wantWords(t, out, "policy 2.0.0 takes the place of 1.0.0")
	if strings.Contains(out, "no server runs here") {
		t.Errorf("says that no server runs:\n%s", out)
	}
}

func TestPromote(t *testing.T) {
	b := withShadow(t)
	b.wantError([]string{"promote", "store"}, b.lock+" has no shadow of store", "cleat plugin lock --shadow")
	b.wantError([]string{"promote", "nobody"}, `has no plugin "nobody"`, "it has policy, store")

	lock := b.readLock()
	old, shadow := lock.Find("policy"), lock.FindShadow("policy")
	old.Order, old.FailurePolicy, old.Trusted = 7, hostabi.FailurePolicyIgnore, true
	old.Limits = pluginhost.LockedLimits{MemoryPages: 100, DeadlineMS: 777, PoolMax: 33}
	shadow.Limits = pluginhost.LockedLimits{MemoryPages: 600, DeadlineMS: 50, PoolMax: 2}
	shadow.FailurePolicy = hostabi.FailurePolicyFail
	shadow.Capabilities = append(shadow.Capabilities, "cleat_lookup_v1")
	shadow.Config = map[string]any{"token": "secret"}
	shadow.ConfigSHA256 = pluginhost.Digest([]byte(`{"token":"secret"}`))
	shadow.ConformanceSHA256 = strings.Repeat("a", 64)
	want := *shadow
	b.write(lock)

	reloads := b.serveReloads("")
	out := b.must("promote", "policy")
	wantWords(t, out, "policy 2.0.0 takes the place of 1.0.0 in "+b.lock, "+ version: 2.0.0", "+ capabilities: cleat_lookup_v1",
		"+ limits.memory_pages: 600", "- limits.memory_pages: 100", "- trusted: true", "it sets token; the one before set nothing", "generation 7 decides")
	if strings.Contains(out, "secret") {
		t.Errorf("shows a value of the config:\n%s", out)
	}
	lock = <-reloads
	if got := titles(lock); got != "policy 2.0.0, store 1.0.0" {
		t.Fatalf("the server saw %s", got)
	}
	want.Shadow, want.Order, want.FailurePolicy = false, 7, hostabi.FailurePolicyIgnore
	want.Limits = pluginhost.LockedLimits{MemoryPages: 600, DeadlineMS: 777, PoolMax: 33}
	if got := lock.Plugins[0]; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("entry %+v\nwant  %+v", got, want)
	}
	b.wantError([]string{"promote", "policy"}, "has no shadow of policy")
}

// Locking again keeps what a shadow's entry says of its report, for the promotion.
func TestShadowKeepsItsReport(t *testing.T) {
	b := withShadow(t)
	lock := b.readLock()
	lock.FindShadow("policy").ConformanceSHA256 = strings.Repeat("a", 64)
	b.write(lock)
	wantWords(t, b.must("lock"), "is up to date")
	b.must("promote", "policy")
	if got := b.readLock().Find("policy").ConformanceSHA256; got != strings.Repeat("a", 64) {
		t.Errorf("conformance_sha256 is %q", got)
	}
}

// What must be signed is not replaced by what need not be.
func TestPromoteKeepsTheSigner(t *testing.T) {
	b := withShadow(t)
	signer := func(c string) string { return pluginhost.SignerKey + strings.Repeat(c, 64) }
	lock := b.readLock()
	lock.Find("policy").Signer = signer("a")
	b.write(lock)
	b.wantError([]string{"promote", "policy"}, "must be signed by "+signer("a"), "its shadow names no signer", "--signer")
	if got := titles(b.readLock()); !strings.HasSuffix(got, "(shadow)") {
		t.Errorf("the lock was written: %s", got)
	}
	lock = b.readLock()
	lock.FindShadow("policy").Signer = signer("b")
	b.write(lock)
	wantWords(t, b.must("promote", "policy"), "+ signer: "+signer("b"), "- signer: "+signer("a"))
}

// A promotion changes the version, not whether it is asked.
func TestPromoteOfDisabledPlugin(t *testing.T) {
	b := withShadow(t)
	b.must("disable", "policy")
	wantWords(t, b.must("promote", "policy"), "it stays disabled", "cleat plugin enable")
	if p := b.readLock().Find("policy"); !p.Disabled || p.Version != "2.0.0" {
		t.Errorf("entry %+v", p)
	}
}

func TestNamesAreBounded(t *testing.T) {
	lock := &pluginhost.Lock{}
	for i := range maxNames + 3 {
		lock.Plugins = append(lock.Plugins, pluginhost.LockedPlugin{Name: fmt.Sprintf("p%d", i)})
	}
	if got := names(lock, false); !strings.HasPrefix(got, "p0, p1, ") || !strings.HasSuffix(got, "p19 and 3 more (`cleat plugin list`)") {
		t.Errorf("got %s", got)
	}
}
