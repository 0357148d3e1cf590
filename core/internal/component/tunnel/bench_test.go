package tunnel

import (
	"io"
	"net"
	"sync"
	"testing"
)

// BenchmarkStream is one stream through a tunnel on loopback.
func BenchmarkStream(b *testing.B) {
	const size = 32 << 20
	for _, way := range []string{"there", "back", "both"} {
		b.Run(way, func(b *testing.B) {
			g := newTarget(b)
			c, peer := g.open()
			b.SetBytes(size)
			if way == "both" {
				b.SetBytes(2 * size)
			}
			write := func(c net.Conn) {
				if _, err := io.CopyN(struct{ io.Writer }{c}, zeros{}, size); err != nil {
					b.Error(err)
				}
			}
			read := func(c net.Conn) {
				if _, err := io.CopyN(io.Discard, c, size); err != nil {
					b.Error(err)
				}
			}
			for b.Loop() {
				var all sync.WaitGroup
				if way != "back" {
					all.Go(func() { write(c) })
					all.Go(func() { read(peer) })
				}
				if way != "there" {
					all.Go(func() { write(peer) })
					all.Go(func() { read(c) })
				}
				all.Wait()
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
