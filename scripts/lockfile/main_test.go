package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/core/pluginhost"
)

func TestCompare(t *testing.T) {
	dir := t.TempDir()
	file := func(name, body string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	lock := &pluginhost.Lock{Plugins: []pluginhost.LockedPlugin{
		{Name: "one", Source: "embedded:one.wasm", SHA256: pluginhost.Digest([]byte("1"))},
		{Name: "mine", Source: "file:mine.wasm", SHA256: "not built here"},
	}}
	one, two, stray := file("one.wasm", "1"), file("two.wasm", "2"), file("stray.wasm", "3")
	if err := compare(lock, []string{one}); err != nil {
		t.Errorf("equal: %v", err)
	}
	lock.Plugins[0].SHA256 = pluginhost.Digest([]byte("0"))
	lock.Plugins = append(lock.Plugins, pluginhost.LockedPlugin{Name: "three", Source: "embedded:three.wasm"})
	err := compare(lock, []string{one, two, stray})
	for _, want := range []string{"one: sha256: plugins.lock has " + lock.Plugins[0].SHA256, "three: plugins.lock wants three.wasm", "two.wasm: built", "stray.wasm: built", "make lock"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
}
