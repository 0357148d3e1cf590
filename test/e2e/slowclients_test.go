//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// slowVariable makes this program the attacker of TestSupervisorUnderAttack; its
// value is the address to attack.
const slowVariable = "CLEAT_TEST_SLOW_CLIENTS"

// slowClients holds slowConnections for slowFor. A connection that the server
// ends is opened again.
func slowClients(target string) {
	ctx, cancel := context.WithTimeout(context.Background(), slowFor)
	defer cancel()
	kinds := []struct {
		what  string
		plain bool
		begin string
	}{
		{"no handshake", true, ""},
		{"half a handshake", true, "\x16\x03\x01\x02\x00\x01\x00"},
		{"a header", false, "GET /api/v1/nodes HTTP/1.1\r\nHost: h\r\nX: "},
		{"a body", false, "POST /v1-cleat/client-kubelet.crt HTTP/1.1\r\nHost: h\r\nContent-Length: 10000\r\n\r\n"},
		{"a body for the API server", false, "POST /api/v1/namespaces HTTP/1.1\r\nHost: h\r\nContent-Length: 10000\r\n\r\n"},
		{"HTTP/2 frames", false, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"},
	}
	counts := make([]struct{ begun, over atomic.Int64 }, len(kinds))
	var open, most atomic.Int64
	var wg sync.WaitGroup
	for i := range slowConnections {
		kind := i % len(kinds)
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := slowClient(ctx, target, kinds[kind].plain, kinds[kind].begin, func() {
					counts[kind].begun.Add(1)
					now := open.Add(1)
					for m := most.Load(); now > m && !most.CompareAndSwap(m, now); m = most.Load() {
					}
				}); err == nil {
					open.Add(-1)
					counts[kind].over.Add(1)
				}
				select { // not faster than a real one, which has many machines
				case <-ctx.Done():
				case <-time.After(time.Second):
				}
			}
		})
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			if most.Load() > 100 {
				fmt.Printf("under way: %d open\n", open.Load())
			}
		}
	}
	wg.Wait()
	fmt.Printf("at most %d open at once\n", most.Load())
	for i, k := range kinds {
		fmt.Printf("%s: %d begun, %d ended by the server or the clock\n", k.what, counts[i].begun.Load(), counts[i].over.Load())
	}
}

// slowClient says begin, then a byte every three seconds, until the server has
// enough. The error is that of a connection that did not come about.
func slowClient(ctx context.Context, target string, plain bool, begin string, begun func()) error {
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", target)
	if err != nil {
		return err
	}
	defer raw.Close()
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	defer stop()
	conn := raw
	if !plain {
		protocols := []string{"http/1.1"}
		if begin[0] == 'P' && begin[1] == 'R' {
			protocols = []string{"h2"}
		}
		secure := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, NextProtos: protocols}) // it sends nothing secret
		if err := secure.HandshakeContext(ctx); err != nil {
			return err
		}
		conn = secure
	}
	if _, err := io.WriteString(conn, begin); err != nil {
		return err
	}
	begun()
	go func() { // the server's end shows at once
		_, _ = io.Copy(io.Discard, conn)
		raw.Close()
	}()
	tick := time.NewTicker(3 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if _, err := io.WriteString(conn, "x"); err != nil {
				return nil
			}
		}
	}
}
