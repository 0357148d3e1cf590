package pluginhost

import (
	"slices"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/core/pluginhost/guesttest"
	"github.com/cleat-dev/cleat/hostabi"
)

// networker is a plugin of the cni point.
func networker(name, version string) []byte {
	g := guesttest.Guest{Manifest: guesttest.Cold(name, hostabi.PointCNI), Hooks: map[string][]byte{hostabi.ExportCNIPlan: guesttest.I32(0)}}
	g.Manifest.Version = version
	return g.Wasm()
}

// A node without a server gets the plugin of its network, and nothing else.
func TestWhatNodesGet(t *testing.T) {
	chosen, other, admission := networker("net-a", "1.0.0"), networker("net-b", "1.0.0"), denier("1.0.0", 401).Wasm()
	b := lockOf(t, admission, chosen, other)
	h := b.open(t)
	text, err := h.NetworkLock("net-a")
	if err != nil {
		t.Fatal(err)
	}
	lock, err := ParseLock(text)
	if err != nil {
		t.Fatal(err)
	}
	if len(lock.Plugins) != 1 || lock.Plugins[0].Name != "net-a" || lock.Plugins[0].SHA256 != Digest(chosen) {
		t.Errorf("nodes are told of %+v", lock.Plugins)
	}
	for _, name := range []string{"denier", "net-c", ""} {
		if text, err := h.NetworkLock(name); err == nil || !strings.Contains(err.Error(), "net-a, net-b") {
			t.Errorf("%q: %s, %v, want an error that names those there are", name, text, err)
		}
	}
	if wasm, err := h.NetworkPlugin(t.Context(), Digest(chosen)); err != nil || !slices.Equal(wasm, chosen) {
		t.Errorf("%d bytes, %v", len(wasm), err)
	}
	for _, digest := range []string{Digest(admission), Digest(nil), "../plugins.lock", ""} {
		if wasm, err := h.NetworkPlugin(t.Context(), digest); err == nil {
			t.Errorf("%q: %d bytes, want an error", digest, len(wasm))
		}
	}
	b.files["net-a.wasm"].Data = other
	_, err = h.NetworkPlugin(t.Context(), Digest(chosen))
	for _, part := range []string{"net-a", Digest(chosen), Digest(other), "cleat plugin lock"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("a damaged file: %v, want %q", err, part)
		}
	}
}

// A plugin that was replaced is in use as long as it may come back.
func TestInUse(t *testing.T) {
	first, second := networker("net-a", "1.0.0"), networker("net-a", "2.0.0")
	b := lockOf(t, first)
	h := b.open(t)
	if got := h.InUse(); !slices.Equal(got, []string{Digest(first)}) {
		t.Errorf("%v", got)
	}
	if _, err := h.Reload(t.Context(), b.with(t, lockOf(t, second), "new-")); err != nil {
		t.Fatal(err)
	}
	if got := h.InUse(); !slices.Equal(got, []string{Digest(first), Digest(second)}) {
		t.Errorf("on trial: %v", got)
	}
	h.endTrial(h.current.Load())
	eventually(t, "the first to be given up", func() bool { return slices.Equal(h.InUse(), []string{Digest(second)}) })
}
