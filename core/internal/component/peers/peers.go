// Package peers is the unit by which a server's own node keeps tunnels open to the
// other servers of the cluster, as an agent does to all.
package peers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"

	"github.com/cleat-dev/cleat/core/internal/joinapi"
	"github.com/cleat-dev/cleat/core/kernel"
)

// Options are what the unit needs from its surroundings. The functions are called
// when the unit runs.
type Options struct {
	// Address is this server's among the cluster's, as --advertise-address.
	Address string
	// Shared reports whether there may be other servers; without, the unit does nothing.
	Shared func() bool
	// Follow calls take with the cluster's servers, each IP:port, or why they are not
	// known, at once and when there are others, until ctx is done.
	Follow func(ctx context.Context, take func(servers []string, err error)) error
	// Tunnel makes what keeps a tunnel open to each of servers, https://host:port; the
	// channel is closed when there are others.
	Tunnel func(servers func() (urls []string, changed <-chan struct{})) (Tunnel, error)
	Log    *slog.Logger
}

// Tunnel is a node's end of its tunnels.
type Tunnel interface {
	kernel.Component
	kernel.Checker
}

// Component is the unit. Make it with New.
type Component struct {
	Options
	tunnel Tunnel

	mu      sync.Mutex
	urls    []string
	changed chan struct{} // closed when urls are others
	refused string        // why the last list was not taken
}

// New makes the unit.
func New(o Options) (*Component, error) {
	c := &Component{Options: o, changed: make(chan struct{})}
	var err error
	c.tunnel, err = o.Tunnel(c.servers)
	return c, err
}

// Run keeps the tunnels until ctx is done. It is ready at once: this server is of use
// whether or not another one lives.
func (c *Component) Run(ctx context.Context, ready func()) error {
	if !c.Shared() {
		ready()
		<-ctx.Done()
		return nil
	}
	own, err := netip.ParseAddr(c.Address)
	if err != nil {
		return fmt.Errorf("--advertise-address %q: %w", c.Address, err)
	}
	ready()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	following := make(chan error, 1)
	go func() {
		defer stop()
		following <- c.Follow(ctx, func(servers []string, err error) { c.take(own.Unmap(), servers, err) })
	}()
	err = c.tunnel.Run(ctx, func() {})
	stop()
	return errors.Join(err, <-following)
}

// Check says which other servers cannot reach this node.
func (c *Component) Check(ctx context.Context) error { return c.tunnel.Check(ctx) }

// take makes servers the list, without this one. That is known by the advertised
// address alone: a lease of an API server has no more, and --tls-san may be all servers'.
func (c *Component) take(own netip.Addr, servers []string, err error) {
	var list []netip.AddrPort
	if err == nil {
		list, err = joinapi.CheckServers(servers)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		if text := err.Error(); text != c.refused {
			c.Log.Warn("the list of servers is not taken", "error", err)
			c.refused = text
		}
		return
	}
	c.refused = ""
	urls := []string{}
	for _, to := range list {
		if to.Addr() != own {
			urls = append(urls, "https://"+to.String())
		}
	}
	if slices.Equal(urls, c.urls) {
		return
	}
	c.Log.Info("the cluster's other servers", "servers", urls)
	c.urls = urls
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *Component) servers() (urls []string, changed <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.urls, c.changed
}
