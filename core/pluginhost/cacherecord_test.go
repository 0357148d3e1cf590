package pluginhost

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cleat-dev/cleat/core/pluginhost/guesttest"
	"github.com/tetratelabs/wazero/api"
)

// cachedOne is a directory in which one plugin was compiled, with the paths of its
// entry and of the record of it.
func cachedOne(t *testing.T, b *bundle) (dir, entry, described string) {
	t.Helper()
	var log logs
	dir = filepath.Join(t.TempDir(), "cache")
	openCached(t, b, dir, nil, &log)
	found := 0
	for name := range files(t, dir) {
		if isDigest(filepath.Base(name)) {
			entry = filepath.Join(dir, name)
			found++
		} else {
			described = filepath.Join(dir, name)
		}
	}
	if found != 1 {
		t.Fatalf("%d entries", found)
	}
	return dir, entry, described
}

// TestCacheHead flips every bit of what wazero believes without looking: how many
// functions there are, and where they begin.
func TestCacheHead(t *testing.T) {
	b := lockOf(t, hook("one", guesttest.I32(0)).Wasm())
	dir, entry, described := cachedOne(t, b)
	whole, err := os.ReadFile(entry)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(described)
	if err != nil {
		t.Fatal(err)
	}
	code := strings.TrimSuffix(filepath.Base(described), recordSuffix)
	const head = 100
	for bit := 0; bit < head*8; bit += 7 {
		damaged := bytes.Clone(whole)
		damaged[bit/8] ^= 1 << (bit % 8)
		for path, data := range map[string][]byte{entry: damaged, described: text} {
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cache, err := openCache(dir, nil, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if ready, err := cache.ready(code); ready || err != nil {
			t.Errorf("bit %d: ready %t, %v", bit, ready, err)
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
	for name, damage := range map[string]func(entry, described string) error{
		"no record":    func(_, d string) error { return os.Remove(d) },
		"empty record": func(_, d string) error { return os.Truncate(d, 0) },
		"large record": func(_, d string) error { return os.Truncate(d, 1<<30) },
		"record of another": func(_, d string) error {
			return os.WriteFile(d, codeRecord{Code: strings.Repeat("a", 64)}.text(), 0o600)
		},
		"record of nothing": func(e, _ string) error { return os.Remove(e) },
		"a longer entry": func(e, _ string) error {
			info, err := os.Stat(e)
			if err != nil {
				return err
			}
			return os.Truncate(e, info.Size()+1)
		},
	} {
		dir, entry, described := cachedOne(t, b)
		if err := damage(entry, described); err != nil {
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
	dir, entry, _ := cachedOne(t, b)
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
	dir, _, described := cachedOne(t, b)
	code := strings.TrimSuffix(filepath.Base(described), recordSuffix)
	synctest.Test(t, func(t *testing.T) {
		cache, err := openCache(dir, nil, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		var first time.Time
		for _, wait := range []time.Duration{0, checkValid / 2, checkValid} {
			time.Sleep(wait)
			if ready, err := cache.ready(code); !ready || err != nil {
				t.Fatalf("ready %t, %v", ready, err)
			}
			again := cache.intact[code].checked
			if renewed := !again.Equal(first); renewed != (wait != checkValid/2) {
				t.Errorf("after %s: checked anew %t", wait, renewed)
			}
			first = again
		}
		if err := cache.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

// TestCacheTidies removes what nobody finished and what nobody uses.
func TestCacheTidies(t *testing.T) {
	b := lockOf(t, hook("one", guesttest.I32(0)).Wasm())
	dir, entry, described := cachedOne(t, b)
	left := filepath.Join(filepath.Dir(entry), tempPrefix+"code1")
	if err := os.Mkdir(left, 0o700); err != nil {
		t.Fatal(err)
	}
	var log logs
	if hits := openCached(t, b, dir, nil, &log); !hits[0] {
		t.Error("the entry was not used")
	}
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Errorf("an unfinished entry is still there: %v", err)
	}
	old := time.Now().Add(-keepUnused - time.Hour)
	if err := os.Chtimes(described, old, old); err != nil {
		t.Fatal(err)
	}
	if hits := openCached(t, b, dir, nil, &log); hits[0] {
		t.Error("an entry that was not used for long is still there")
	}
}

// TestFrameIsNotRun takes the code away between the look at it and its use.
func TestFrameIsNotRun(t *testing.T) {
	b := lockOf(t, hook("one", guesttest.I32(0)).Wasm())
	dir, entry, _ := cachedOne(t, b)
	cache, err := openCache(dir, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	locked := b.lock.Plugins[0]
	id := codeID(locked.SHA256, cache.print, false)
	if ready, err := cache.ready(id); !ready || err != nil {
		t.Fatalf("ready %t, %v", ready, err)
	}
	framed, err := frame(b.wasm()[0], false, id)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(entry, 0); err != nil {
		t.Fatal(err)
	}
	spec := compileSpec{cache: cache.CompilationCache, pages: locked.Limits.MemoryPages, features: api.CoreFeaturesV2, granted: locked.Capabilities}
	if _, err := cache.open(t.Context(), spec, framed, filepath.Base(entry)); !errors.Is(err, errEntry) {
		t.Errorf("got %v", err)
	}
	if err := cache.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}
