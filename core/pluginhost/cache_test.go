package pluginhost

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/cleat-dev/cleat/core/pluginhost/guesttest"
)

func bundleContext() context.Context { return context.Background() }

func (b *bundle) wasm() [][]byte {
	var all [][]byte
	for _, p := range b.lock.Plugins {
		all = append(all, b.files[p.Name+".wasm"].Data)
	}
	return all
}

// openCached opens and closes the bundle and reports what came from the cache.
func openCached(t *testing.T, b *bundle, cache string, seed fs.FS, log *logs) []bool {
	t.Helper()
	o := b.options(t)
	o.CacheDir, o.CacheSeed = cache, seed
	log.option(&o)
	h, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	var hits []bool
	for _, s := range h.Stats() {
		hits = append(hits, s.CacheHit)
	}
	if err := h.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	return hits
}

func TestCache(t *testing.T) {
	b := lockOf(t, hook("one", guesttest.I32(0)).Wasm(), hook("two", guesttest.Code(guesttest.I32(0), guesttest.Drop(), guesttest.I32(0))).Wasm())
	dir := t.TempDir()
	seed := filepath.Join(dir, "seed")
	if err := Precompile(t.Context(), seed, b.wasm()...); err != nil {
		t.Fatal(err)
	}
	again := filepath.Join(dir, "again")
	if err := Precompile(t.Context(), again, b.wasm()...); err != nil {
		t.Fatal(err)
	}
	entries := files(t, seed)
	if len(entries) != 4 { // code and records
		t.Fatalf("the seed has %d files", len(entries))
	}
	for name, data := range files(t, again) {
		if entries[name] != data {
			t.Errorf("a second precompilation gives another %s", name)
		}
	}
	check := func(what string, got []bool, want bool) {
		t.Helper()
		for i, hit := range got {
			if hit != want {
				t.Errorf("%s: plugin %d: hit %t, want %t", what, i, hit, want)
			}
		}
	}
	var log logs
	cache := filepath.Join(dir, "cache")
	check("no seed", openCached(t, b, cache, nil, &log), false)
	check("second start", openCached(t, b, cache, nil, &log), true)
	seeded := filepath.Join(dir, "seeded")
	check("seed", openCached(t, b, seeded, os.DirFS(seed), &log), true)
	if info, err := os.Stat(seeded); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("cache directory: %v, %v", info.Mode(), err)
	}

	// A trusted plugin has other machine code, so the seed is no use to it.
	trusted := lockOf(t, b.wasm()...)
	trusted.lock.Plugins[0].Trusted = true
	got := openCached(t, trusted, filepath.Join(dir, "trusted"), os.DirFS(seed), &log)
	if got[0] || !got[1] {
		t.Errorf("trusted: hits %v, want false and true", got)
	}

	// A seed for another version is passed over and told about.
	other := fstest.MapFS{"wazero-v0.0.1-amd64-linux/" + strings.Repeat("a", 64) + ".zst": &fstest.MapFile{Data: []byte("x")}}
	check("other version", openCached(t, b, filepath.Join(dir, "other"), other, &log), false)
	if !strings.Contains(log.String(), "made for another version") || !strings.Contains(log.String(), "plugin compiled") {
		t.Errorf("log does not tell:\n%s", log.String())
	}

	// Entries of another version are removed.
	stale := filepath.Join(cache, "wazero-v0.0.1-amd64-linux")
	if err := os.Mkdir(stale, 0o700); err != nil {
		t.Fatal(err)
	}
	check("after an upgrade", openCached(t, b, cache, nil, &log), true)
	if _, err := os.Stat(stale); !os.IsNotExist(err) {
		t.Errorf("the entries of another version are still there: %v", err)
	}
}

func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(filepath.Join(dir, path))
		all[path] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestDamagedCache cuts and corrupts entries: the host compiles again.
func TestDamagedCache(t *testing.T) {
	b := lockOf(t, hook("one", guesttest.I32(0)).Wasm())
	for name, damage := range map[string]func([]byte) []byte{
		"cut":     func(d []byte) []byte { return d[:len(d)/2] },
		"empty":   func([]byte) []byte { return nil },
		"flipped": func(d []byte) []byte { d[len(d)/2] ^= 1; return d },
		"magic":   func(d []byte) []byte { d[0] = 'X'; return d },
	} {
		t.Run(name, func(t *testing.T) {
			cache := filepath.Join(t.TempDir(), "cache")
			var log logs
			openCached(t, b, cache, nil, &log)
			for path, data := range files(t, cache) {
				if err := os.WriteFile(filepath.Join(cache, path), damage([]byte(data)), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if hits := openCached(t, b, cache, nil, &log); hits[0] {
				t.Error("a damaged entry counts as a hit")
			}
			if hits := openCached(t, b, cache, nil, &log); !hits[0] {
				t.Error("the entry was not written anew")
			}
			if !strings.Contains(log.String(), "an entry is damaged and was removed") {
				t.Errorf("log does not tell:\n%s", log.String())
			}
		})
	}
}

// TestCacheOthersCanWrite finds machine code that anybody may have put there.
func TestCacheOthersCanWrite(t *testing.T) {
	b := lockOf(t, hook("one", guesttest.I32(0)).Wasm())
	cache := filepath.Join(t.TempDir(), "cache")
	var log logs
	openCached(t, b, cache, nil, &log)
	if err := os.Chmod(cache, 0o777); err != nil {
		t.Fatal(err)
	}
	if hits := openCached(t, b, cache, nil, &log); hits[0] {
		t.Error("an entry others could have written was used")
	}
	info, err := os.Stat(cache)
	if err != nil || info.Mode().Perm() != 0o700 || !strings.Contains(log.String(), "could be written by other users") {
		t.Errorf("mode %v, %v, log:\n%s", info.Mode(), err, log.String())
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(cache, link); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, link} {
		o := b.options(t)
		o.CacheDir = dir
		if _, err := Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "not a directory") {
			t.Errorf("%s: %v", dir, err)
		}
	}
}
