//go:build bench

package pluginhost

import (
	"os"
	"path/filepath"
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
	const payload = "../internal/embed/payload/files/"
	return Options{Lock: text, EmbeddedLock: text, Embedded: os.DirFS(payload + "plugins"), CacheSeed: os.DirFS(payload + "plugincache"), CacheDir: filepath.Join(b.TempDir(), "cache")}
}

// BenchmarkStart opens ten plugins of the bundle: cold with an empty cache beside
// the embedded one, as the first start of a server does, warm as every other.
func BenchmarkStart(b *testing.B) {
	for _, warm := range []bool{false, true} {
		b.Run(map[bool]string{false: "cold", true: "warm"}[warm], func(b *testing.B) {
			o := bundleOptions(b)
			open := func() *Host {
				h, err := Open(b.Context(), o)
				if err != nil {
					b.Fatal(err)
				}
				return h
			}
			closing := func(h *Host) {
				if err := h.Close(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			if warm {
				closing(open())
			}
			for b.Loop() {
				b.StopTimer()
				if !warm {
					if err := os.RemoveAll(o.CacheDir); err != nil {
						b.Fatal(err)
					}
				}
				b.StartTimer()
				begin := time.Now()
				h := open()
				b.StopTimer()
				b.ReportMetric(float64(time.Since(begin).Milliseconds()), "last-ms")
				closing(h)
				b.StartTimer()
			}
		})
	}
}
