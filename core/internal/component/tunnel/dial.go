package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net"
)

// Dial dials for the API server: through the tunnel of the node that has address,
// or else directly, as without tunnels.
func (s *Server) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	node := ""
	if p := s.places.Load(); p != nil {
		node = p.node(address)
	}
	if node == "" || node == s.own {
		return s.direct(ctx, network, address)
	}
	var over *session
	for {
		if own, _ := s.tunnelOf(node, over); own != nil {
			c, err := own.dial(ctx, network, address)
			if err == nil {
				return c, nil
			}
			if !errors.Is(err, errEnded) {
				return nil, fmt.Errorf("node %s: %w", node, err)
			}
			over = own
		}
		if c, err := s.dialUntilTunnel(ctx, node, over, network, address); !errors.Is(err, errOpened) {
			return c, err
		}
	}
}

// tunnelOf returns the tunnel of a node, nil if it has none but one that is over, and
// what is closed when any node opens one.
func (s *Server) tunnelOf(node string, over *session) (*session, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	own := s.sessions[node]
	if own == over {
		own = nil
	}
	return own, s.opened
}

var errOpened = errors.New("the node opened a tunnel meanwhile")

// dialUntilTunnel dials directly until the node opens a tunnel. One whose tunnel is
// about to come back may have a closed door, at which a dial waits for half a minute.
func (s *Server) dialUntilTunnel(ctx context.Context, node string, over *session, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for ctx.Err() == nil {
			own, opened := s.tunnelOf(node, over)
			if own != nil {
				cancel(errOpened)
				return
			}
			select {
			case <-opened:
			case <-ctx.Done():
			}
		}
	}()
	c, err := s.direct(ctx, network, address)
	if err != nil && errors.Is(context.Cause(ctx), errOpened) {
		err = errOpened
	}
	cancel(nil)
	<-watched
	return c, err
}
