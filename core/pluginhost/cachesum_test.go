package pluginhost

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cleat-dev/cleat/core/pluginhost/guesttest"
)

// cachedOne is a directory in which one plugin was compiled, with the path of
// its entry.
func cachedOne(t *testing.T, b *bundle) (dir, entry string) {
	t.Helper()
	var log logs
	dir = filepath.Join(t.TempDir(), "cache")
	openCached(t, b, dir, nil, &log)
	found := 0
	for name := range files(t, dir) {
		if isDigest(filepath.Base(name)) {
			entry = filepath.Join(dir, name)
			found++
		}
	}
	if found != 1 {
		t.Fatalf("%d entries", found)
	}
	return dir, entry
}

// TestCacheHead flips every bit of what wazero believes without looking: how many
// functions there are, and where they begin.
func TestCacheHead(t *testing.T) {
	b := lockOf(t, hook("one", guesttest.I32(0)).Wasm())
	dir, entry := cachedOne(t, b)
	whole, err := os.ReadFile(entry)
	if err != nil {
		t.Fatal(err)
	}
	sum, err := os.ReadFile(entry + sumSuffix)
	if err != nil {
		t.Fatal(err)
	}
	if name, want := CacheSum(filepath.Base(entry), whole); name != filepath.Base(entry)+sumSuffix || !bytes.Equal(sum, want) {
		t.Errorf("beside the entry is %s, want %s in %s", sum, want, name)
	}
	const head = 100
	for bit := 0; bit < head*8; bit += 7 {
		damaged := bytes.Clone(whole)
		damaged[bit/8] ^= 1 << (bit % 8)
		for path, data := range map[string][]byte{entry: damaged, entry + sumSuffix: sum} {
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cache, err := openCache(dir, nil, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if n, err := cache.size(); n != 0 || err != nil {
			t.Errorf("bit %d: %d entries, %v", bit, n, err)
		}
		if err := cache.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCacheSums damages what lies beside an entry.
func TestCacheSums(t *testing.T) {
	b := lockOf(t, hook("one", guesttest.I32(0)).Wasm())
	for name, damage := range map[string]func(entry string) error{
		"no checksum":         func(e string) error { return os.Remove(e + sumSuffix) },
		"empty checksum":      func(e string) error { return os.Truncate(e+sumSuffix, 0) },
		"large checksum":      func(e string) error { return os.Truncate(e+sumSuffix, 1<<30) },
		"checksum of nothing": os.Remove,
		"a longer entry": func(e string) error {
			info, err := os.Stat(e)
			if err != nil {
				return err
			}
			return os.Truncate(e, info.Size()+1)
		},
	} {
		dir, entry := cachedOne(t, b)
		if err := damage(entry); err != nil {
			t.Fatal(err)
		}
		var log logs
		if hits := openCached(t, b, dir, nil, &log); hits[0] {
			t.Errorf("%s: the entry was used", name)
		}
		if hits := openCached(t, b, dir, nil, &log); !hits[0] {
			t.Errorf("%s: the entry was not written anew", name)
		}
	}
}

// TestCacheDamagedWhileRunning damages the entry of a plugin that is loaded again
// only for its next call.
func TestCacheDamagedWhileRunning(t *testing.T) {
	b := lockOf(t, planner("p", `{"driver":"kine","endpoint":"sqlite://x"}`, 0).Wasm())
	dir, entry := cachedOne(t, b)
	var log logs
	o := b.options(t)
	o.CacheDir = dir
	log.option(&o)
	synctest.Test(t, func(t *testing.T) {
		h, err := Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(entry)
		if err != nil {
			t.Fatal(err)
		}
		data[18] ^= 1
		if err := os.WriteFile(entry, data, 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour) // of the bubble
		if err := h.Probe(t.Context()); err != nil {
			t.Error(err)
		}
		if n, err := h.cache.size(); n != 1 || err != nil {
			t.Errorf("%d entries, %v", n, err)
		}
		if err := h.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
	if got := log.String(); !strings.Contains(got, "an entry is damaged and was removed") {
		t.Errorf("the log does not tell:\n%s", got)
	}
}

// TestCacheChecksOnce does not read again what it has just read.
func TestCacheChecksOnce(t *testing.T) {
	b := lockOf(t, hook("one", guesttest.I32(0)).Wasm())
	dir, entry := cachedOne(t, b)
	synctest.Test(t, func(t *testing.T) {
		cache, err := openCache(dir, nil, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		first := cache.intact[filepath.Base(entry)].checked
		for _, wait := range []time.Duration{sumValid / 2, sumValid} {
			time.Sleep(wait)
			if err := cache.check(); err != nil {
				t.Fatal(err)
			}
			again := cache.intact[filepath.Base(entry)].checked
			if renewed := !again.Equal(first); renewed != (wait == sumValid) {
				t.Errorf("after %s: checked anew %t", wait, renewed)
			}
		}
		if err := cache.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}
