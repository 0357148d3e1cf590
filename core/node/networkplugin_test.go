package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/core/internal/joinapi"
	"github.com/cleat-dev/cleat/core/pluginhost"
	"github.com/cleat-dev/cleat/hostabi"
)

func TestNetworkPluginIsFetchedOnce(t *testing.T) {
	s, wasm := newPluginServer(t), netOf("1.0.0")
	s.names(t, wasm)
	a := s.agent(t)
	stop := a.start()
	a.runs(wasm)
	a.wantKept(wasm)
	if got := s.takeAsked(); !slices.Equal(got, []string{pluginhost.Digest(wasm)}) {
		t.Errorf("the agent asked for %v", got)
	}
	for path, mode := range map[string]fs.FileMode{a.dir: 0o700, filepath.Join(a.dir, pluginhost.Digest(wasm)+wasmExt): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}
	stop()
	a.start()
	a.runs(wasm)
	if got := s.takeAsked(); len(got) > 0 {
		t.Errorf("at its second start the agent asked for %v", got)
	}
}

func TestDamagedNetworkPluginIsFetchedAgain(t *testing.T) {
	s, wasm := newPluginServer(t), netOf("1.0.0")
	s.names(t, wasm)
	for name, damage := range map[string]func(path string) error{
		"a flipped byte": func(path string) error {
			text := slices.Clone(wasm)
			text[len(text)/2] ^= 1
			return os.WriteFile(path, text, 0o600)
		},
		"cut off":   func(path string) error { return os.Truncate(path, 7) },
		"too large": func(path string) error { return os.Truncate(path, 1<<30) },
		// Good in itself, but not what the lock names.
		"another plugin": func(path string) error { return os.WriteFile(path, netOf("6.6.6"), 0o600) },
		"a link to nowhere": func(path string) error {
			return errors.Join(os.Remove(path), os.Symlink("/proc/self/nothing/there", path))
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := s.agent(t)
			a.start()()
			s.takeAsked()
			path := filepath.Join(a.dir, pluginhost.Digest(wasm)+wasmExt)
			if err := damage(path); err != nil {
				t.Fatal(err)
			}
			a.start()
			a.runs(wasm)
			if got := s.takeAsked(); !slices.Equal(got, []string{pluginhost.Digest(wasm)}) {
				t.Errorf("the agent asked for %v", got)
			}
			if text, err := os.ReadFile(path); err != nil || !bytes.Equal(text, wasm) {
				t.Errorf("its file has %d bytes, %v", len(text), err)
			}
			// Of a link to nowhere there is no file that could be damaged.
			if said := a.lines("is damaged and is fetched again"); said != 1 && name != "a link to nowhere" {
				t.Errorf("said %d times:\n%s", said, a.logs.String())
			}
		})
	}
}

func TestForeignNetworkPluginIsRefused(t *testing.T) {
	s, wasm, other := newPluginServer(t), netOf("1.0.0"), netOf("6.6.6")
	s.names(t, wasm)
	s.set(func() { s.wasm[pluginhost.Digest(wasm)] = other })
	a := s.agent(t)
	a.refuses(pluginhost.Digest(wasm), pluginhost.Digest(other), "on the server", "cleat plugin lock")
	a.wantKept()

	s.set(func() { delete(s.wasm, pluginhost.Digest(wasm)) })
	a.refuses("404", "no such plugin")
	s.names(t, wasm)
	a.start()
	a.runs(wasm)
}

// Nothing but the digest in the lock is asked for or opened, wherever it lies.
func TestOnlyTheLockedNetworkPlugin(t *testing.T) {
	s, wasm, other := newPluginServer(t), netOf("1.0.0"), netOf("2.0.0")
	s.names(t, other)
	s.names(t, wasm)
	a := s.agent(t)
	if err := os.MkdirAll(filepath.Join(a.dir, "not", "empty"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{pluginhost.Digest(other) + wasmExt, "net.wasm", "." + pluginhost.Digest(wasm) + ".wasm.123"} {
		if err := os.WriteFile(filepath.Join(a.dir, name), other, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a.start()
	a.runs(wasm)
	if got := s.takeAsked(); !slices.Equal(got, []string{pluginhost.Digest(wasm)}) {
		t.Errorf("the agent asked for %v", got)
	}
	// What cannot be removed is a line in the log, once.
	if !a.tidy() {
		t.Error("something is still in use")
	}
	if got := a.kept(); !slices.Equal(got, []string{pluginhost.Digest(wasm) + wasmExt, "not"}) && !slices.Equal(got, []string{"not", pluginhost.Digest(wasm) + wasmExt}) {
		t.Errorf("kept are %v", got)
	}
	if got := a.lines("was not removed"); got != 1 {
		t.Errorf("said %d times:\n%s", got, a.logs.String())
	}
}

func TestNetworkLocksThatAreRefused(t *testing.T) {
	s := newPluginServer(t)
	wasm := netOf("1.0.0")
	disabled := strings.Replace(string(lockOf(t, wasm)), "trusted = false", "trusted = false\ndisabled = true", 1)
	for _, c := range []struct {
		name string
		lock []byte
		want []string
	}{
		{"empty", nil, []string{"version is 0"}},
		{"without a plugin", []byte("version = 1\n"), []string{"names 0 plugins", "want net alone"}},
		{"two network plugins", lockOf(t, wasm, guest("net-b", "1.0.0", hostabi.PointCNI)), []string{"names 2 plugins (net, net-b)", "want net alone"}},
		{"one more of another point", lockOf(t, wasm, guest("deploy", "1.0.0", hostabi.PointDeployer)), []string{"(net, deploy)"}},
		{"another point", lockOf(t, guest("net", "1.0.0", hostabi.PointDeployer)), []string{"plugin net", "deployer", "want the point cni"}},
		{"another name", lockOf(t, guest("net-b", "1.0.0", hostabi.PointCNI)), []string{"plugin net-b", "--cni was net", "restart the agent"}},
		{"disabled", []byte(disabled), []string{"plugin net", "disabled", "cleat plugin enable net"}},
		{"no lock", []byte("<html>"), []string{"plugins.lock", "line 1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.names(t, wasm)
			s.set(func() { s.lock = c.lock })
			a := s.agent(t)
			a.refuses(c.want...)
			if got := s.takeAsked(); len(got) > 0 {
				t.Errorf("the agent asked for %v", got)
			}
		})
	}
}

// A lock beyond the bound is not read to its end. Another server may answer the next
// time, so the agent goes on asking.
func TestNetworkLockIsBounded(t *testing.T) {
	s := newPluginServer(t)
	ctx, cancel := context.WithCancel(t.Context())
	asked := 0
	s.set(func() {
		s.lock = bytes.Repeat([]byte("#"), pluginhost.MaxLockBytes+1)
		s.hook = func(http.ResponseWriter, *http.Request) bool {
			if asked++; asked == 2 {
				cancel()
			}
			return false
		}
	})
	_, err := s.agent(t).openHost(ctx, nil)
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("longer than %d bytes", pluginhost.MaxLockBytes)) {
		t.Errorf("%v", err)
	}
	s.set(func() {
		if asked != 2 {
			t.Errorf("the agent asked %d times", asked)
		}
	})
}

// Between join and start the server goes away; another one answers that it is not
// ready, and then is.
func TestNetworkPluginIsWaitedFor(t *testing.T) {
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	s, wasm := newPluginServer(t), netOf("1.0.0")
	s.names(t, wasm)
	unready := 1
	s.hook = func(w http.ResponseWriter, _ *http.Request) bool {
		if unready--; unready < 0 {
			return false
		}
		joinapi.WriteStatus(w, http.StatusServiceUnavailable, 1, "the plugins are not open yet")
		return true
	}
	servers := []string{"https://" + gone.Addr().String()}
	a := newAgentSide(t, s.ca, func() (string, error) {
		servers = append(servers, s.URL)
		defer func() { servers = servers[1:] }()
		return servers[0], nil
	})
	a.start()
	a.runs(wasm)
	s.set(func() {
		if unready >= 0 {
			t.Error("the agent started before the server was ready")
		}
	})

	ctx, cancel := context.WithCancel(t.Context())
	alone := newAgentSide(t, s.ca, func() (string, error) {
		cancel()
		return "https://" + gone.Addr().String(), nil
	})
	if _, err := alone.openHost(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("a stop while it waits: %v", err)
	}
}

// The lock changes after it was asked for: what the server has no more is not held
// against it.
func TestNetworkLockThatChangesDuringTheStart(t *testing.T) {
	s, first, second := newPluginServer(t), netOf("1.0.0"), netOf("2.0.0")
	s.names(t, second)
	after := s.lock
	s.names(t, first)
	s.hook = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == joinapi.PathPlugins {
			return false
		}
		s.lock = after
		delete(s.wasm, pluginhost.Digest(first))
		return false
	}
	delete(s.wasm, pluginhost.Digest(first))
	a := s.agent(t)
	a.start()
	a.runs(second)
}

func TestNetworkPluginFollows(t *testing.T) {
	s, first, second, third := newPluginServer(t), netOf("1.0.0"), netOf("2.0.0"), netOf("3.0.0")
	s.names(t, first)
	a := s.agent(t)
	a.start()
	look := func() {
		t.Helper()
		a.look(t.Context())
		a.settle()
	}
	look()
	a.runs(first)

	s.names(t, second)
	look()
	a.runs(second)
	a.wantKept(second)

	const refused = "was not taken over, the old one stays"
	s.names(t, third)
	s.set(func() { s.wasm[pluginhost.Digest(third)] = first })
	for range 3 {
		look()
		a.runs(second)
	}
	if got := a.lines(refused); got != 1 {
		t.Errorf("said %d times:\n%s", got, a.logs.String())
	}
	if got := a.lines(pluginhost.Digest(third)); got == 0 {
		t.Errorf("no digest in\n%s", a.logs.String())
	}
	// Another fault is said again, and so is the same one after a time without.
	s.set(func() { s.lock = lockOf(t, second, guest("deploy", "1.0.0", hostabi.PointDeployer)) })
	look()
	look()
	if got := a.lines(refused); got != 2 {
		t.Errorf("said %d times:\n%s", got, a.logs.String())
	}
	s.names(t, second)
	look()
	s.set(func() { s.lock = lockOf(t, guest("net-b", "1.0.0", hostabi.PointCNI)) })
	look()
	s.names(t, second)
	look()
	s.set(func() { s.lock = lockOf(t, guest("net-b", "1.0.0", hostabi.PointCNI)) })
	look()
	if got := a.lines(refused); got != 4 {
		t.Errorf("said %d times:\n%s", got, a.logs.String())
	}
	a.runs(second)
	a.wantKept(second)

	s.names(t, third)
	look()
	a.runs(third)
	a.wantKept(third)
	// A server that is gone changes nothing and is no error, once.
	s.Close()
	look()
	look()
	if got := a.lines("was not asked whether"); got != 1 || a.lines("level=ERROR") != 4 {
		t.Errorf("said %d times:\n%s", got, a.logs.String())
	}
	a.runs(third)
}

// The file of a plugin that may be asked once more stays until it cannot.
func TestNetworkPluginInUseIsKept(t *testing.T) {
	s, first, second := newPluginServer(t), netOf("1.0.0"), netOf("2.0.0")
	s.names(t, first)
	a := s.agent(t)
	a.start()()
	onTrial, err := pluginhost.Open(t.Context(), pluginhost.Options{Lock: s.lock, Fetch: a.read, Trial: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	a.host.Store(onTrial)
	s.names(t, second)
	a.look(t.Context())
	a.runs(second)
	if a.tidy() {
		t.Error("nothing is in use any more")
	}
	a.wantKept(first, second)
	if err := onTrial.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !a.tidy() {
		t.Error("something is still in use")
	}
	a.wantKept(second)
}

// What was fetched of a lock that was then refused is kept for the next try, and
// goes when the server names something else.
func TestRefusedNetworkPluginIsKeptWhileItIsNamed(t *testing.T) {
	s, first, second := newPluginServer(t), netOf("1.0.0"), netOf("2.0.0")
	s.names(t, first)
	good := s.lock
	a := s.agent(t)
	a.start()
	s.names(t, second)
	better := s.lock
	bad := bytes.Replace(better, []byte("2.0.0"), []byte("9.9.9"), 1)
	s.takeAsked()
	look := func(lock []byte) {
		s.set(func() { s.lock = lock })
		a.look(t.Context())
		a.settle()
	}
	for range 2 {
		for range 3 {
			look(bad)
			a.runs(first)
			a.wantKept(first, second)
		}
		if got := s.takeAsked(); !slices.Equal(got, []string{pluginhost.Digest(second)}) {
			t.Errorf("the agent asked for %v, want the file once", got)
		}
		look(good)
		a.wantKept(first)
	}
	look(bad)
	look(better)
	a.runs(second)
	a.wantKept(second)
}
