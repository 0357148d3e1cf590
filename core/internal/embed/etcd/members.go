package etcd

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/cleat-dev/cleat/hostabi"
)

// members are the members of one etcd.
type members struct {
	list []*member
	log  *slog.Logger
	pace pace

	mu   sync.Mutex
	next int // where the next connection begins to look
}

// health is what is known of a member; a lower one is the better choice.
type health int

const (
	up health = iota
	unknown
	down
)

// member is one member of the etcd.
type member struct {
	host string            // with its port
	name string            // without, as certificates have it
	tls  *hostabi.TLSFiles // nil = without TLS

	mu     sync.Mutex
	health health
	conns  map[*func()]struct{} // each closes one connection
}

func newMembers(plan hostabi.DatastorePlan, log *slog.Logger) (*members, error) {
	m := &members{log: log, pace: normalPace()}
	for text := range strings.SplitSeq(plan.Endpoint, ",") {
		one, err := newMember(text, plan.TLS)
		if err != nil {
			return nil, err
		}
		m.list = append(m.list, one)
	}
	// Many servers should not all begin with the same one.
	m.next = rand.IntN(len(m.list))
	return m, nil
}

func newMember(text string, files hostabi.TLSFiles) (*member, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Port() == "" || u.Hostname() == "" ||
		u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		// What it is instead may hold a password.
		return nil, fmt.Errorf("the datastore plan's endpoint is no list of URLs of etcd; --datastore-endpoint takes https://host:2379,https://host:2379")
	}
	one := &member{host: u.Host, name: u.Hostname(), health: unknown, conns: map[*func()]struct{}{}}
	if u.Scheme == "https" {
		one.tls = &files
		// Files that are wrong now will not mend by waiting.
		if _, err := one.config(); err != nil {
			return nil, err
		}
	}
	return one, nil
}

// config reads the files anew, so that certificates can be renewed at any time.
func (o *member) config() (*tls.Config, error) {
	config := &tls.Config{ServerName: o.name, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2"}}
	if o.tls.CAFile != "" {
		text, err := os.ReadFile(o.tls.CAFile)
		if err != nil {
			return nil, fmt.Errorf("authorities of etcd: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("authorities of etcd: %s holds no certificate in PEM form", o.tls.CAFile)
		}
	}
	if o.tls.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(o.tls.CertFile, o.tls.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("certificate for etcd: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// dial connects to the member.
func (o *member) dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if o.tls == nil {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", o.host)
	}
	config, err := o.config()
	if err != nil {
		return nil, err
	}
	d := tls.Dialer{Config: config}
	return d.DialContext(ctx, "tcp", o.host)
}

// order returns the members as a new connection tries them: the healthier
// first, and each time beginning with another.
func (m *members) order() []*member {
	m.mu.Lock()
	first := m.next
	m.next = (m.next + 1) % len(m.list)
	m.mu.Unlock()
	list := slices.Concat(m.list[first:], m.list[:first])
	states := make(map[*member]health, len(list))
	for _, one := range list {
		states[one] = one.state()
	}
	slices.SortStableFunc(list, func(a, b *member) int { return cmp.Compare(states[a], states[b]) })
	return list
}

func (o *member) state() health {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.health
}

// add notes a connection by how to close it; leave forgets it.
func (o *member) add(hangUp func()) (leave func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	key := &hangUp
	o.conns[key] = struct{}{}
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		delete(o.conns, key)
	}
}

// hangUp closes the member's connections and returns how many there were.
func (o *member) hangUp() int {
	o.mu.Lock()
	conns := o.conns
	o.conns = map[*func()]struct{}{}
	o.mu.Unlock()
	for hangUp := range conns {
		(*hangUp)()
	}
	return len(conns)
}

// set notes the health of a member. Once a member is up, those that are down
// lose their connections; without one that is up they may keep them.
func (m *members) set(one *member, h health, err error) {
	one.mu.Lock()
	before := one.health
	one.health = h
	one.mu.Unlock()
	if before != h {
		switch h {
		case down:
			m.log.Warn("etcd member does not answer", "member", one.host, "error", err)
		case up:
			m.log.Info("etcd member answers", "member", one.host)
		}
	}
	if !slices.ContainsFunc(m.list, func(o *member) bool { return o.state() == up }) {
		return
	}
	for _, o := range m.list {
		if o.state() != down {
			continue
		}
		if n := o.hangUp(); n > 0 {
			m.log.Warn("connections to etcd move to other members", "from", o.host, "connections", n)
		}
	}
}
