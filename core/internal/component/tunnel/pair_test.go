package tunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/cleat-dev/cleat/core/kernel/kerneltest"
)

// newPairs are pairs whose targets are pipes, of which dialled gives the other end.
func newPairs(t *testing.T, change func(*limits)) (p *pairs, dialled <-chan net.Conn) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	l := standard()
	change(&l)
	far := make(chan net.Conn, 100)
	dial := func(_ context.Context, network, address string) (net.Conn, error) {
		if network != "tcp" || address == "refused" {
			return nil, fmt.Errorf("%s %s: %w", network, address, errNone)
		}
		a, b := net.Pipe()
		far <- b
		return a, nil
	}
	return &pairs{session: ctx, dial: dial, limits: l, open: map[int64]*pair{}}, far
}

func (p *pairs) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.open)
}

func (p *pairs) there(number int64, address string) (net.Conn, error) {
	return p.connect(p.session, "tcp", thereAddress(number, address))
}

func (p *pairs) back(number int64) (net.Conn, error) {
	return p.connect(p.session, networkBack, backAddress(number))
}

// Either half may come first, and both have the one connection.
func TestHalvesMeet(t *testing.T) {
	kerneltest.NoLeaks(t)
	for _, first := range []string{"there", "back"} {
		p, dialled := newPairs(t, func(*limits) {})
		var there, back net.Conn
		var thereErr, backErr error
		var all sync.WaitGroup
		takeBack := func() { back, backErr = p.back(7) }
		if first == "back" {
			all.Go(takeBack)
			eventually(t, "it waits", func() bool { return p.count() == 1 })
		}
		there, thereErr = p.there(7, "x")
		if first == "there" {
			all.Go(takeBack)
		}
		all.Wait()
		if err := errors.Join(thereErr, backErr); err != nil {
			t.Fatal(err)
		}
		peer := <-dialled
		all.Go(func() {
			if _, err := there.Write([]byte("to the target")); err != nil {
				t.Error(err)
			}
		})
		got := make([]byte, 13)
		if _, err := io.ReadFull(peer, got); err != nil || string(got) != "to the target" {
			t.Errorf("%q, %v", got, err)
		}
		all.Wait()
		var from strings.Builder
		all.Go(func() {
			if _, err := io.Copy(&from, back); err != nil {
				t.Error(err)
			}
		})
		if _, err := peer.Write([]byte("from it")); err != nil {
			t.Error(err)
		}
		peer.Close()
		all.Wait()
		if from.String() != "from it" {
			t.Errorf("%q came back", from.String())
		}
		if _, err := io.Copy(io.Discard, there); err != nil {
			t.Errorf("the half that carries nothing back: %v", err)
		}
		eventually(t, "the pair is forgotten", func() bool { return p.count() == 0 })
	}
}

// Why a dial failed is told to both halves, whichever comes first.
func TestRefusalReachesBothHalves(t *testing.T) {
	kerneltest.NoLeaks(t)
	p, _ := newPairs(t, func(*limits) {})
	const first = 100
	for number := range int64(first) {
		if _, err := p.there(1000+number, "refused"); !errors.Is(err, errNone) {
			t.Errorf("there: %v", err)
		}
	}
	for number := range int64(first) {
		if _, err := p.back(1000 + number); !errors.Is(err, errNone) {
			t.Fatalf("back: %v", err)
		}
	}
	waiting := make(chan error, 1)
	go func() { _, err := p.back(2); waiting <- err }()
	eventually(t, "it waits", func() bool { return p.count() == 1 })
	if _, err := p.there(2, "refused"); !errors.Is(err, errNone) {
		t.Errorf("there: %v", err)
	}
	if err := within(t, "the other half ends", func() error { return <-waiting }); !errors.Is(err, errNone) {
		t.Errorf("back: %v", err)
	}
	eventually(t, "both are forgotten", func() bool { return p.count() == 0 })
}

// A half without another ends, and so does what was dialled for it.
func TestLoneHalves(t *testing.T) {
	kerneltest.NoLeaks(t)
	p, dialled := newPairs(t, func(l *limits) { l.alone = 20 * time.Millisecond })
	if _, err := p.there(1, "x"); err != nil {
		t.Fatal(err)
	}
	target := <-dialled
	if err := within(t, "what was dialled ends", func() error { _, err := target.Read(make([]byte, 1)); return err }); !errors.Is(err, io.EOF) {
		t.Errorf("the target reads %v", err)
	}
	if err := within(t, "the other half ends", func() error { _, err := p.back(2); return err }); !errors.Is(err, errAlone) {
		t.Errorf("back: %v", err)
	}
	if _, err := p.there(3, "refused"); !errors.Is(err, errNone) {
		t.Errorf("there: %v", err)
	}
	eventually(t, "none is kept", func() bool { return p.count() == 0 })
}

func TestTooManyHalves(t *testing.T) {
	kerneltest.NoLeaks(t)
	p, dialled := newPairs(t, func(l *limits) { l.streams = 2 })
	var open []net.Conn
	for number := range int64(2) {
		there, err := p.there(number+1, "x")
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, there, <-dialled)
	}
	if _, err := p.there(3, "x"); !errors.Is(err, errBusy) {
		t.Errorf("a third pair: %v", err)
	}
	if _, err := p.back(3); !errors.Is(err, errBusy) {
		t.Errorf("its other half: %v", err)
	}
	if _, err := p.there(1, "x"); err == nil || errors.Is(err, errBusy) {
		t.Errorf("a half twice: %v", err)
	}
	if _, err := p.back(1); err != nil {
		t.Errorf("the other half of one that is there: %v", err)
	}
	if _, err := p.back(1); err == nil {
		t.Error("the other half twice")
	}
	open[0].Close()
	eventually(t, "there is a place", func() bool { return p.count() == 1 })
	if _, err := p.there(3, "x"); err != nil {
		t.Errorf("in its place: %v", err)
	}
}

// The halves end with their tunnel, though nobody closes them.
func TestPairsEndWithTheSession(t *testing.T) {
	kerneltest.NoLeaks(t)
	p, dialled := newPairs(t, func(*limits) {})
	session, end := context.WithCancel(t.Context())
	p.session = session
	if _, err := p.there(1, "x"); err != nil {
		t.Fatal(err)
	}
	waiting := make(chan error, 1)
	go func() { _, err := p.back(2); waiting <- err }()
	eventually(t, "both are there", func() bool { return p.count() == 2 })
	end()
	if err := within(t, "the half that waits ends", func() error { return <-waiting }); !errors.Is(err, context.Canceled) {
		t.Errorf("back: %v", err)
	}
	target := <-dialled
	if err := within(t, "what was dialled ends", func() error { _, err := target.Read(make([]byte, 1)); return err }); !errors.Is(err, io.EOF) {
		t.Errorf("the target reads %v", err)
	}
}

// A server that asks for one half, or for two of a kind, takes nothing from the node
// for long.
func TestNodeOutlivesLoneHalves(t *testing.T) {
	kerneltest.NoLeaks(t)
	g := newTarget(t, func(l *limits) { l.alone, l.streams = 200*time.Millisecond, 3 })
	s := g.session("n1")
	connect := func(id int64, network, address string) {
		t.Helper()
		if err := s.ws.WriteMessage(websocket.BinaryMessage, message(1, id, messageConnect, 0, []byte(network+"/"+address))); err != nil {
			t.Fatal(err)
		}
	}
	for i, c := range [][2]string{
		{"tcp", thereAddress(90, g.Addr().String())}, {networkBack, "91"}, {networkBack, "91"}, {networkBack, "92"},
		{networkBack, "93"}, {networkBack, "x"}, {"tcp", g.Addr().String()}, {"tcp", "-1/" + g.Addr().String()}, {"", ""},
	} {
		connect(int64(1000+i), c[0], c[1])
	}
	lone, err := g.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer lone.Close()
	if err := within(t, "the lone half ends", func() error { _, err := lone.Read(make([]byte, 1)); return err }); !errors.Is(err, io.EOF) {
		t.Errorf("the target reads %v", err)
	}
	var mirrors sync.WaitGroup
	mirrors.Go(func() {
		for {
			peer, err := g.Accept()
			if err != nil {
				return
			}
			mirrors.Go(func() { mirror(peer) })
		}
	})
	eventually(t, "there is room for honest ones", func() bool {
		c := g.through(g.Addr().String())
		defer c.Close()
		got, err := exchange(c, 1, 1000, closed())
		return err == nil && got.written == got.read
	})
	if err := errors.Join(g.stop(), g.Close()); err != nil {
		t.Error(err)
	}
	mirrors.Wait()
}

func FuzzHalf(f *testing.F) {
	f.Add("tcp", "1/192.0.2.1:10250")
	f.Add("tcp", "9223372036854775807/[2001:db8::1]:1")
	f.Add(networkBack, "12")
	f.Add(networkBack, "12/")
	f.Add("udp", "+1/x")
	f.Add("", "0//")
	f.Fuzz(func(t *testing.T, network, address string) {
		number, target, back, err := parseHalf(network, address)
		if err != nil {
			if number != 0 || target != "" || back || len(err.Error()) > 500 {
				t.Fatalf("%d, %q, %t with %v", number, target, back, err)
			}
			return
		}
		again := thereAddress(number, target)
		if back {
			again = backAddress(number)
		}
		if number < 1 || back != (network == networkBack) || again != address {
			t.Fatalf("%q %q is %d, %q, %t", network, address, number, target, back)
		}
	})
}
