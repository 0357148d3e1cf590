//go:build bench

package pluginhost

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// bundleOptions are those of a server that runs the bundle as built, with ten of
// its plugins.
func bundleOptions(b *testing.B) Options {
	b.Helper()
	text, err := os.ReadFile("../../plugins.lock")
	if err != nil {
		b.Fatal(err)
	}
	lock, err := ParseLock(text)
	if err != nil {
		b.Fatal(err)
	}
	lock.Plugins = lock.Plugins[len(lock.Plugins)-10:]
	for i := range lock.Plugins {
		lock.Plugins[i].Disabled = false
	}
	if text, err = lock.Marshal(); err != nil {
		b.Fatal(err)
	}
	// A test binary does not know the version of wazero, so the embedded cache is
	// not for it.
	const plugins = "../internal/embed/payload/files/plugins"
	var all [][]byte
	for _, p := range lock.Plugins {
		wasm, err := os.ReadFile(filepath.Join(plugins, p.Name+".wasm"))
		if err != nil {
			b.Fatalf("%v; run make build first", err)
		}
		all = append(all, wasm)
	}
	seed := b.TempDir()
	if err := Precompile(b.Context(), seed, all...); err != nil {
		b.Fatal(err)
	}
	return Options{Lock: text, EmbeddedLock: text, Embedded: os.DirFS(plugins), CacheSeed: os.DirFS(seed), CacheDir: filepath.Join(b.TempDir(), "cache")}
}

// BenchmarkStart opens ten plugins of the bundle: first with an empty cache beside
// the embedded one, as the first start of a server does, then as every other. asked
// is when each has been asked to start, so that the code of all is loaded.
func BenchmarkStart(b *testing.B) {
	o := bundleOptions(b)
	for _, start := range []string{"first", "later"} {
		b.Run(start, func(b *testing.B) {
			var asked time.Duration
			for b.Loop() {
				b.StopTimer()
				if start == "first" {
					if err := os.RemoveAll(o.CacheDir); err != nil {
						b.Fatal(err)
					}
				}
				runtime.GC()
				begin := time.Now()
				b.StartTimer()
				h, err := Open(b.Context(), o)
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := h.Probe(b.Context()); err != nil {
					b.Fatal(err)
				}
				asked += time.Since(begin)
				if err := h.Close(b.Context()); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			b.ReportMetric(float64(asked.Milliseconds())/float64(b.N), "asked-ms/op")
		})
	}
}
