package supervisor

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/core/internal/joinapi"
)

// Guessing is slow, and for those who guess alone.
func TestWrongTokensAreSlowed(t *testing.T) {
	h := start(t)
	now := time.Now()
	a, err := h.routes(h.id, h.store)
	if err != nil {
		t.Fatal(err)
	}
	a.guesses.now = func() time.Time { return now }
	get := func(from, password string, cert *tls.Certificate) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://h"+joinapi.PathConfig, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.RemoteAddr = netip.AddrPortFrom(netip.MustParseAddr(from), 1).String()
		if password != "" {
			r.SetBasicAuth("node", password)
		}
		r.TLS = &tls.ConnectionState{}
		if cert != nil {
			r.TLS.PeerCertificates = append(r.TLS.PeerCertificates, cert.Leaf)
		}
		w := &answer{header: http.Header{}}
		a.ServeHTTP(w, r)
		return max(w.status, http.StatusOK)
	}
	const nat, elsewhere = "203.0.113.5", "203.0.113.6"
	member := h.clientCert(h.id.Client, "system:node:n1", "system:nodes")
	// Right ones and those without a token cost nothing, however many.
	for range 1000 {
		if s := get(nat, clusterPassword, nil); s != http.StatusOK {
			t.Fatalf("the right token: %d", s)
		}
		if s := get(nat, "", nil); s != http.StatusUnauthorized {
			t.Fatalf("no token: %d", s)
		}
	}
	for i := range h.limits.guesses {
		if s := get(nat, wrongPassword, nil); s != http.StatusUnauthorized {
			t.Fatalf("guess %d: %d", i+1, s)
		}
	}
	for _, c := range []struct {
		who, from, password string
		cert                *tls.Certificate
		want                int
	}{
		{"one guess too many", nat, wrongPassword, nil, 429},
		{"the right token looks like a guess", nat, clusterPassword, nil, 429},
		{"a member behind the same address", nat, clusterPassword, member, 200},
		{"a member with a wrong token", nat, wrongPassword, member, 401},
		{"a member without a token", nat, "", member, 200},
		{"somebody else", elsewhere, clusterPassword, nil, 200},
		{"this machine", here, clusterPassword, nil, 200},
	} {
		if got := get(c.from, c.password, c.cert); got != c.want {
			t.Errorf("%s: %d, want %d", c.who, got, c.want)
		}
	}
	now = now.Add(h.limits.guessEvery)
	if s := get(nat, clusterPassword, nil); s != http.StatusOK {
		t.Errorf("a new node after the wait: %d", s)
	}
	// A network of IPv6 counts as one.
	for i := range h.limits.guesses + 1 {
		if s := get(fmt.Sprintf("2001:db8::%x", i+1), wrongPassword, nil); (s == 429) != (i == h.limits.guesses) {
			t.Errorf("guess %d of a network: %d", i+1, s)
		}
	}
	// What is remembered has an end.
	for i := range 2 * h.limits.sources {
		get(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}).String(), wrongPassword, nil)
	}
	if n := len(a.guesses.paid); n > h.limits.sources {
		t.Errorf("%d sources are remembered", n)
	}
}

// Many guesses at once are no way around the count.
func TestGuessesAtOnce(t *testing.T) {
	l := standard()
	th := newThrottle(l, func() time.Time { return time.Time{}.AddDate(2000, 0, 0) })
	from := netip.MustParseAddr("203.0.113.5")
	var wg sync.WaitGroup
	allowed := make(chan struct{}, 1000)
	for range 1000 {
		wg.Go(func() {
			if th.take(from) {
				allowed <- struct{}{}
			}
		})
	}
	wg.Wait()
	if n := len(allowed); n != l.guesses {
		t.Errorf("%d guesses were allowed, want %d", n, l.guesses)
	}
}

func TestSources(t *testing.T) {
	for in, want := range map[string]string{
		"203.0.113.5": "203.0.113.5", "::ffff:203.0.113.5": "203.0.113.5", "2001:db8:1:2:3::4": "2001:db8:1:2::", "fe80::1%eth0": "fe80::",
	} {
		if got := sourceOf(netip.MustParseAddr(in)); got != netip.MustParseAddr(want) {
			t.Errorf("%s counts as %s, want %s", in, got, want)
		}
	}
	for _, c := range []struct {
		remote, asked string
		local         bool
	}{
		{"127.0.0.1", "127.0.0.1", true}, {"127.0.0.2", "127.0.0.1", true}, {"::1", "::1", true},
		{"10.0.0.1", "10.0.0.1", true}, {"10.0.0.1", "10.0.0.2", false},
	} {
		if got := sameMachine(netip.MustParseAddr(c.remote), netip.MustParseAddr(c.asked)); got != c.local {
			t.Errorf("%s at %s: local %v", c.remote, c.asked, got)
		}
	}
}
