package supervisor

import (
	"net/http"
	"net/netip"
	"syscall"
	"time"
)

// limits is what a client may take of the port. RATIONALE.md ("A port that
// strangers can reach") says why each number is what it is.
type limits struct {
	headerBytes  int // of one request, its path included
	headerFields int
	streams      int // of one HTTP/2 connection
	inFlight     int // requests to the own routes, from other machines

	// Connections from other machines. fresh ones have not sent a request yet.
	conns          int
	connsPerSource int
	fresh          int
	stuckAfter     time.Duration // a write that takes longer makes a connection the first to go

	header time.Duration // the handshake, and again the header
	idle   time.Duration
	body   time.Duration // reading the body of an own route, or what the API server left of one
	answer time.Duration // from the header of an own request to the end of its answer
	lookUp time.Duration // asking the API server for a bootstrap token

	// Wrong tokens of one source: this many at once, then one each period.
	guesses    int
	guessEvery time.Duration
	sources    int // of wrong tokens that are remembered
}

// standard are the limits of a real server.
func standard() limits {
	l := limits{
		headerBytes:  256 << 10,
		headerFields: 1000,
		streams:      100,
		inFlight:     256,

		conns:          8192,
		connsPerSource: 4096,
		fresh:          512,
		stuckAfter:     30 * time.Second,

		header: 10 * time.Second,
		idle:   90 * time.Second,
		body:   10 * time.Second,
		answer: 30 * time.Second,
		lookUp: 5 * time.Second,

		guesses:    50,
		guessEvery: 200 * time.Millisecond,
		sources:    4096,
	}
	// The datastore, containerd and the kubelet need files too.
	var files syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files) == nil && files.Cur/2 < uint64(l.conns) {
		l.conns = int(files.Cur / 2)
		l.connsPerSource, l.fresh = min(l.connsPerSource, l.conns), min(l.fresh, l.conns/2)
	}
	return l
}

// sourceOf is the one that is counted: an address, or for IPv6 the network that
// one customer gets.
func sourceOf(addr netip.Addr) netip.Addr {
	addr = addr.Unmap().WithZone("")
	if addr.Is4() {
		return addr
	}
	p, err := addr.Prefix(64)
	if err != nil {
		return addr
	}
	return p.Addr()
}

// fieldsOf counts header lines, for fields that are given more than once too.
func fieldsOf(h http.Header) (n int) {
	for _, values := range h {
		n += len(values)
	}
	return n
}
