// Package etcd brings an etcd that somebody else runs to the datastore's unix
// socket. It hands bytes from connections on the socket to members of the etcd,
// with TLS towards them, and understands none of them: clients and etcd speak
// their own protocol with each other.
//
// Every connection goes to one member. New ones go around, to members that
// answer; a member that no longer answers for etcd loses its connections as
// soon as another can take them, and the clients connect anew. So clients need
// neither know the members nor their certificates.
package etcd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/cleat-dev/cleat/hostabi"
)

// Driver returns the driver: it serves the etcd of the plan on the unix socket
// until ctx is done and every connection is closed. An etcd that does not answer
// is no error, a plan that cannot work is.
func Driver(log *slog.Logger) func(ctx context.Context, socket string, plan hostabi.DatastorePlan) error {
	return func(ctx context.Context, socket string, plan hostabi.DatastorePlan) error {
		m, err := newMembers(plan, log)
		if err != nil {
			return err
		}
		listener, err := listen(ctx, socket)
		if err != nil {
			return err
		}
		return serve(ctx, listener, m)
	}
}

func listen(ctx context.Context, socket string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
		return nil, fmt.Errorf("directory of the datastore socket: %w", err)
	}
	if err := os.Remove(socket); err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("remove the datastore socket of an earlier run: %w", err)
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("datastore socket: %w", err)
	}
	if err := os.Chmod(socket, 0o600); err != nil {
		listener.Close()
		return nil, fmt.Errorf("datastore socket: %w", err)
	}
	return listener, nil
}

// serve connects whoever comes to the listener until ctx is done.
func serve(ctx context.Context, listener net.Listener, m *members) error {
	var running sync.WaitGroup
	defer running.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	closing := context.AfterFunc(ctx, func() { listener.Close() })
	defer closing()
	for _, one := range m.list {
		running.Go(func() { m.watch(ctx, one) })
	}
	for {
		client, err := listener.Accept()
		if ctx.Err() != nil {
			if err == nil {
				client.Close()
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("datastore socket: %w", err)
		}
		running.Go(func() { m.join(ctx, client) })
	}
}

// Bounds of reaching a member.
const (
	dialTimeout  = 3 * time.Second
	dialPatience = 10 * time.Second // with all members, for one connection; clients give up after 20
	dialPause    = 250 * time.Millisecond
)

// join connects the client to a member until one of them, or ctx, ends.
func (m *members) join(ctx context.Context, client net.Conn) {
	defer client.Close()
	one, backend, err := m.connect(ctx)
	if err != nil {
		return // watch says what is wrong with the members
	}
	defer backend.Close()
	hangUp := sync.OnceFunc(func() {
		client.Close()
		backend.Close()
	})
	leave := one.add(hangUp)
	defer leave()
	stopped := context.AfterFunc(ctx, hangUp)
	defer stopped()
	var other sync.WaitGroup
	other.Go(func() {
		_, _ = io.Copy(backend, client) // that one of them is gone is how it ends
		hangUp()
	})
	_, _ = io.Copy(client, backend)
	hangUp()
	other.Wait()
}

// connect returns a connection to a member. It tries for as long as a client
// has patience, because the client's pause after a failure would be longer.
func (m *members) connect(ctx context.Context) (*member, net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialPatience)
	defer cancel()
	var errs []error
	for {
		errs = errs[:0]
		for _, one := range m.order() {
			conn, err := one.dial(ctx)
			if err == nil {
				return one, conn, nil
			}
			errs = append(errs, err)
		}
		timer := time.NewTimer(dialPause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, nil, errors.Join(errs...)
		case <-timer.C:
		}
	}
}
