package loadbalancer

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
)

// State is what is known of a server.
type State string

// The states of a server.
const (
	Unchecked State = "unchecked" // not asked yet
	Healthy   State = "healthy"   // its API server answers
	Failed    State = "failed"    // it does not, or the server cannot be reached
)

// server is one place to connect to. The pool's lock guards it.
type server struct {
	address  string // host:port
	listed   bool   // the cluster says that it has it
	fallback bool   // --server names it
	state    State
	reason   error // why it is Failed
	conns    map[*session]struct{}
	checked  chan struct{} // closed when it is no longer to be checked
}

// pool is the servers there are, which of them is in use, and who is connected
// to which. It knows no network.
type pool struct {
	log *slog.Logger

	mu      sync.Mutex
	servers map[string]*server
	current *server       // where new connections go; nil while none is healthy
	moved   chan struct{} // closed and replaced when a state or the list changes
	listing chan struct{} // closed and replaced when what Servers returns changes
}

func newPool(fallback string, log *slog.Logger) *pool {
	p := &pool{log: log, servers: map[string]*server{}, moved: make(chan struct{}), listing: make(chan struct{})}
	p.servers[fallback] = p.newServer(fallback)
	p.servers[fallback].fallback = true
	return p
}

func (p *pool) newServer(address string) *server {
	return &server{address: address, state: Unchecked, conns: map[*session]struct{}{}, checked: make(chan struct{})}
}

// list makes the listed servers those at addresses, and reports whether that is
// another set than before. A server that left the list stays as long as no other
// is healthy.
func (p *pool) list(addresses []string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.addresses()
	for _, a := range addresses {
		if p.servers[a] == nil {
			p.servers[a] = p.newServer(a)
		}
	}
	for a, s := range p.servers {
		s.listed = slices.Contains(addresses, a)
	}
	p.adopt()
	p.changed()
	if slices.Equal(before, p.addresses()) {
		return false
	}
	close(p.listing)
	p.listing = make(chan struct{})
	return true
}

// adopt counts connections by way of --server, which may be a name, with the
// listed server that they ended at.
func (p *pool) adopt() {
	for _, s := range p.servers {
		if !s.fallback || s.listed {
			continue
		}
		for c := range s.conns {
			if to := p.servers[c.remote()]; to != nil && to.listed {
				delete(s.conns, c)
				to.conns[c] = struct{}{}
			}
		}
	}
}

// addresses are the listed servers, or --server while nothing else is known.
func (p *pool) addresses() []string {
	var all []string
	for a, s := range p.servers {
		if s.listed {
			all = append(all, a)
		}
	}
	if len(all) == 0 {
		for a, s := range p.servers {
			if s.fallback {
				all = append(all, a)
			}
		}
	}
	slices.Sort(all)
	return all
}

// snapshot is addresses, and a channel that closes when they are no longer true.
func (p *pool) snapshot() ([]string, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.addresses(), p.listing
}

// all are the servers that are to be checked now, and a channel that closes when
// there may be others.
func (p *pool) all() ([]*server, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]*server, 0, len(p.servers))
	for _, s := range p.servers {
		all = append(all, s)
	}
	return all, p.moved
}

// set records what a check or a dial found: nil is healthy.
func (p *pool) set(s *server, reason error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	state := Healthy
	if reason != nil {
		state = Failed
	}
	s.reason = reason
	if s.state == state || p.servers[s.address] != s {
		return
	}
	before := s.state
	s.state = state
	switch {
	case state == Failed:
		p.log.Warn("server failed", "server", s.address, "connections", len(s.conns), "error", reason)
	case before == Failed:
		p.log.Info("server is healthy again", "server", s.address)
	}
	p.changed()
}

// changed settles what follows from a state or the list: which server is in use,
// whose connections end, and which servers go. Connections of a failed server end
// only where another one can take them: with none, waiting is the better chance.
func (p *pool) changed() {
	before := p.current
	if p.current != nil && !p.stays(p.current) {
		p.current = nil
	}
	if p.current == nil {
		p.current = p.choose()
	}
	if p.current != nil {
		if before != nil && before != p.current {
			p.log.Info("connections go to another server", "from", before.address, "to", p.current.address)
		}
		for a, s := range p.servers {
			gone := !s.listed && !s.fallback
			if s.state == Failed || gone {
				s.end()
			}
			if gone {
				close(s.checked)
				delete(p.servers, a)
			}
		}
	}
	close(p.moved)
	p.moved = make(chan struct{})
}

// stays reports whether the server in use is kept: it is healthy, and no mere
// fallback while a listed server is healthy.
func (p *pool) stays(s *server) bool {
	if s.state != Healthy || !s.listed && !s.fallback {
		return false
	}
	return s.listed || !slices.ContainsFunc(p.ranked(), func(o *server) bool { return o.listed && o.state == Healthy })
}

// choose is any of the best healthy servers, nil if there is none. By chance, so
// that the nodes of a dead server spread over the others.
func (p *pool) choose() *server {
	if all := p.ranked(); len(all) > 0 && all[0].state == Healthy && (all[0].listed || all[0].fallback) {
		return all[0]
	}
	return nil
}

// ranked are all servers in the order in which to try them, alike ones by chance.
func (p *pool) ranked() []*server {
	var all []*server
	for _, s := range p.servers {
		all = append(all, s)
	}
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	slices.SortStableFunc(all, func(a, b *server) int { return p.rank(a) - p.rank(b) })
	return all
}

func (p *pool) rank(s *server) int {
	rank := map[State]int{Healthy: 0, Unchecked: 4, Failed: 8}[s.state]
	switch {
	case s == p.current:
		return rank
	case s.listed:
		return rank + 1
	case s.fallback:
		return rank + 2
	}
	return rank + 3 // on its way out
}

// order is ranked, for a dial.
func (p *pool) order() []*server {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ranked()
}

// best is the address of the server to talk to.
func (p *pool) best() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ranked()[0].address
}

// errMoved says that a server was given up between a dial and its end.
var errMoved = errors.New("given up meanwhile")

// attach counts a connection with its server, or refuses it.
func (p *pool) attach(s *server, c *session) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.servers[s.address] != s || s.state == Failed && p.current != nil {
		return errMoved
	}
	if s.fallback && !s.listed {
		if to := p.servers[c.remote()]; to != nil && to.listed && to.state != Failed {
			s = to
		}
	}
	s.conns[c] = struct{}{}
	return nil
}

func (p *pool) detach(c *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.servers {
		delete(s.conns, c)
	}
}

// end closes every connection to the server.
func (s *server) end() {
	for c := range s.conns {
		c.close()
		delete(s.conns, c)
	}
}

// inUse reports whether new connections go to the server.
func (p *pool) inUse(s *server) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.current == s
}

// settled reports whether it is known where to go: to a healthy server, or that
// there is none.
func (p *pool) settled() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.servers {
		if s.state == Unchecked && p.current == nil {
			return false
		}
	}
	return true
}

// err says why no server can be used, nil if one can.
func (p *pool) err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current != nil {
		return nil
	}
	var reasons []string
	for a, s := range p.servers {
		if s.reason != nil {
			reasons = append(reasons, a+": "+s.reason.Error())
		}
	}
	if len(reasons) == 0 {
		return errors.New("no server has answered yet")
	}
	slices.Sort(reasons)
	return errors.New("no server answers: " + strings.Join(reasons, "; "))
}

// seen is a server as the metrics tell of it.
type seen struct {
	address string
	state   State
	conns   int
}

func (p *pool) look() []seen {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]seen, 0, len(p.servers))
	for _, s := range p.servers {
		all = append(all, seen{s.address, s.state, len(s.conns)})
	}
	return all
}
