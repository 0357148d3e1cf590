// Package loadbalancer stands between a node and the servers of its cluster: the
// node's programs connect to a port of their own machine, and from there to
// whichever server is healthy. It moves bytes; TLS is between the two ends.
//
//	kubelet, kube-proxy, network ── 127.0.0.1:6444 ──┬── server in use
//	                                                 ├── other servers, checked
//	                                                 └── --server, the last resort
//
// A server is healthy while its supervisor says that its API server answers. When
// the one in use is not, all its connections are closed at once, so that their
// clients connect again, to another.
package loadbalancer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/joinapi"
	"github.com/cleat-dev/cleat/core/internal/paths"
	"github.com/cleat-dev/cleat/core/kernel"
)

const (
	// maxConns bounds the connections; any program of the machine may open some.
	// Those of a node are a dozen, and one for each kubectl exec.
	maxConns = 4096
	// quietFor is the backstop of the checks: how long a server's machine may leave
	// a connection without a sign of life.
	quietFor = 15 * time.Second
	// acceptPause is the wait after an accept that failed, for want of files.
	acceptPause = 100 * time.Millisecond
)

// Options are what the unit needs from its surroundings.
type Options struct {
	Config *config.Config
	Data   paths.Data
	Server string // https://host:port, the server that the operator named
	// Authority, and the certificate and key that the list of servers is asked for
	// with, as join writes them; the files may not be there yet.
	Authority, Cert, Key string
	Log                  *slog.Logger
}

// Component is the unit. Make it with New. All methods may be called at any time,
// from any goroutine.
type Component struct {
	Options
	wrong   error  // with Server
	host    string // of the port, an address of this machine
	caFile  string
	file    string // the servers of the last start
	pool    *pool
	metrics *metrics
	limit   int // of connections
	learn   func(ctx context.Context) ([]string, error)
}

// New makes the unit. The port is --lb-server-port.
func New(o Options) *Component {
	fallback, err := addressOf(o.Server)
	c := &Component{
		Options: o, host: loopback(o.Config.NodeIP), caFile: o.Authority, file: o.Data.LoadBalancer(),
		pool: newPool(fallback, o.Log), limit: maxConns,
	}
	if err == nil && fallback == c.address() {
		err = errors.New("it is this machine's own --lb-server-port: name a server of the cluster")
	}
	if err != nil {
		c.wrong = fmt.Errorf("--server %q: %w", o.Server, err)
	}
	c.metrics = newMetrics(c.pool)
	return c
}

// Prepare says what is wrong with the server that the operator named.
func (c *Component) Prepare(context.Context) error { return c.wrong }

// addressOf is the host:port of a server's URL.
func addressOf(server string) (string, error) {
	u, err := url.Parse(server)
	if err != nil {
		return "", err
	}
	if u.Scheme != "https" || u.Hostname() == "" {
		return "", errors.New("want https://host:port")
	}
	port := u.Port()
	if port == "" {
		port = "443"
	}
	return net.JoinHostPort(u.Hostname(), port), nil
}

// loopback is where programs of the machine connect to: ::1 where the node has no
// IPv4 address.
func loopback(nodeIPs []string) string {
	for _, text := range nodeIPs {
		if ip, err := netip.ParseAddr(text); err == nil && ip.Unmap().Is4() {
			return "127.0.0.1"
		}
	}
	if len(nodeIPs) > 0 {
		return "::1"
	}
	return "127.0.0.1"
}

func (c *Component) address() string {
	return net.JoinHostPort(c.host, strconv.Itoa(c.Config.LBServerPort))
}

// URL is what the node's programs take for the API server.
func (c *Component) URL() string { return "https://" + c.address() }

// Best is the URL of the server to talk to without the balancer: one that is
// healthy, else one that may be.
func (c *Component) Best() string { return "https://" + c.pool.best() }

// Servers are the cluster's servers, host:port, sorted; before the first list came
// that is the one that the operator named. The channel closes when they change.
func (c *Component) Servers() (servers []string, changed <-chan struct{}) { return c.pool.snapshot() }

// Check says why no server can be used.
func (c *Component) Check(context.Context) error { return c.pool.err() }

// Run opens the port, calls ready when it is known which servers are healthy, be
// it none, and serves until ctx ends.
func (c *Component) Run(ctx context.Context, ready func()) error {
	servers, err := c.remember()
	if err != nil {
		c.Log.Warn("the servers of the last start are forgotten", "error", err)
	}
	if len(servers) > 0 {
		c.pool.list(servers)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.address())
	if err != nil {
		return fmt.Errorf("listen on %s (--lb-server-port): %w", c.address(), err)
	}
	if c.learn == nil {
		l := &learner{url: c.URL() + joinapi.PathServers, caFile: c.caFile, certFile: c.Cert, keyFile: c.Key}
		defer l.close()
		c.learn = l.learn
	}
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	// All of it ends with Run, which also fails when the port does.
	defer all.Wait()
	defer cancel()
	all.Go(func() { c.watchAll(ctx, &all) })
	all.Go(func() { c.follow(ctx) })
	all.Go(func() { c.awaitSettled(ctx, ready) })
	stop := context.AfterFunc(ctx, func() { listener.Close() })
	defer stop()
	return c.serve(ctx, listener, &all)
}

// watchAll has each server checked as long as it is one.
func (c *Component) watchAll(ctx context.Context, all *sync.WaitGroup) {
	watched := map[*server]bool{}
	for {
		servers, changed := c.pool.all()
		now := map[*server]bool{}
		for _, s := range servers {
			now[s] = true
			if !watched[s] {
				all.Go(func() { c.watch(ctx, s) })
			}
		}
		watched = now
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

func (c *Component) awaitSettled(ctx context.Context, ready func()) {
	for {
		_, changed := c.pool.all()
		if c.pool.settled() {
			kernel.Waiting(ctx, nil)
			ready()
			return
		}
		kernel.Waiting(ctx, c.pool.err())
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// serve accepts until ctx ends.
func (c *Component) serve(ctx context.Context, listener net.Listener, all *sync.WaitGroup) error {
	free := make(chan struct{}, c.limit)
	for {
		accepted, err := listener.Accept()
		if ctx.Err() != nil {
			if err == nil {
				accepted.Close()
			}
			return nil
		}
		if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ECONNABORTED) {
			pause := time.NewTimer(acceptPause)
			select {
			case <-ctx.Done():
			case <-pause.C:
			}
			pause.Stop()
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", c.address(), err)
		}
		client, ok := accepted.(*net.TCPConn)
		if !ok {
			return errors.Join(fmt.Errorf("%s gave a %T", c.address(), accepted), accepted.Close())
		}
		select {
		case free <- struct{}{}:
			all.Go(func() {
				defer func() { <-free }()
				c.handle(ctx, client)
			})
		default:
			c.Log.Warn("too many connections, one is refused", "limit", c.limit, "from", client.RemoteAddr())
			client.Close()
		}
	}
}

// handle carries one client's connection.
func (c *Component) handle(ctx context.Context, client *net.TCPConn) {
	s, err := c.connect(ctx, client)
	if err != nil {
		c.Log.Debug("connection refused", "from", client.RemoteAddr(), "error", err)
		client.Close()
		return
	}
	defer c.pool.detach(s)
	stop := context.AfterFunc(ctx, s.close)
	defer stop()
	s.carry()
}

// connect finds a server for a client: the one in use, else the next that takes
// the connection.
func (c *Component) connect(ctx context.Context, client *net.TCPConn) (*session, error) {
	dialer := &net.Dialer{
		Timeout:         dialTimeout,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: quietFor / 3, Interval: quietFor / 6, Count: 4},
		Control:         func(_, _ string, raw syscall.RawConn) error { return userTimeout(raw, quietFor) },
	}
	var errs []error
	tried := map[*server]bool{}
	for {
		to := next(c.pool.order(), tried)
		if to == nil {
			return nil, errors.Join(errs...)
		}
		tried[to] = true
		begun := time.Now()
		conn, err := dialer.DialContext(ctx, "tcp", to.address)
		if ctx.Err() == nil {
			c.metrics.dialed(err, time.Since(begun))
		}
		if err == nil {
			backend, ok := conn.(*net.TCPConn)
			if !ok {
				return nil, errors.Join(fmt.Errorf("a %T", conn), conn.Close())
			}
			s := &session{client: client, backend: backend}
			if err = c.pool.attach(to, s); err == nil {
				return s, nil
			}
			backend.Close()
		} else if ctx.Err() == nil && theirs(err) {
			c.pool.set(to, err)
		}
		errs = append(errs, fmt.Errorf("%s: %w", to.address, err))
	}
}

// next is the first of all that was not tried.
func next(all []*server, tried map[*server]bool) *server {
	for _, s := range all {
		if !tried[s] {
			return s
		}
	}
	return nil
}

// theirs reports whether a dial failed for a reason on the way or at its end, not
// for want of something here.
func theirs(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH) || timedOut(err)
}
