package loadbalancer

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/core/kernel/kerneltest"
)

// Many connections at once carry, end by halves, and end together.
func TestThousandConnections(t *testing.T) {
	kerneltest.NoLeaks(t)
	c := newCluster(t)
	one, two := c.server("one"), c.server("two")
	b := c.balancer(one.address)
	kerneltest.Run(t, b)
	b.take([]string{one.address, two.address})
	eventually(t, b, "both are healthy", func() bool { return len(states(b, Healthy)) == 2 })
	const many = 1000
	conns := make([]*net.TCPConn, many)
	var all sync.WaitGroup
	for i := range conns {
		conns[i] = dial(t, b)
	}
	for _, conn := range conns[:many/2] {
		all.Go(func() {
			if err := conn.CloseWrite(); err != nil {
				t.Error(err)
			}
			if rest, err := io.ReadAll(conn); string(rest) != farewell || err != nil {
				t.Errorf("after the last byte came %q, %v", rest, err)
			}
		})
	}
	all.Wait()
	one.kill()
	for _, conn := range conns[many/2:] {
		all.Go(func() {
			if err := closed(conn); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	eventually(t, b, "no connection is counted any more", func() bool {
		n := 0
		for _, s := range b.pool.look() {
			n += s.conns
		}
		return n == 0
	})
}

// One connection too many is refused, and its place is free again after another's end.
func TestConnectionsAreBounded(t *testing.T) {
	kerneltest.NoLeaks(t)
	c := newCluster(t)
	b := c.balancer(c.server("one").address)
	b.limit = 2
	kerneltest.Run(t, b)
	first := dial(t, b)
	dial(t, b)
	third, err := net.DialTimeout("tcp", b.address(), patience)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(third.SetDeadline(time.Now().Add(patience)), closed(third), third.Close()); err != nil {
		t.Errorf("one too many: %v", err)
	}
	first.Close()
	eventually(t, b, "there is room again", func() bool {
		conn, err := net.DialTimeout("tcp", b.address(), patience)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.SetDeadline(time.Now().Add(patience)) == nil && echo(conn, string(raw)) == nil
	})
}
