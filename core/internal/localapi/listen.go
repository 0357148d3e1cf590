package localapi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Limits of the server's end. Only root gets to it, so they are there for
// mistakes: a script that forgets its connections must not use up the files.
const (
	maxConns      = 64
	maxHeader     = 16 << 10
	maxBody       = 1 << 20
	readTimeout   = 10 * time.Second // of a whole request
	idleTimeout   = time.Minute
	socketMode    = 0o600
	directoryMode = 0o700
)

// Listen opens the socket at path for root alone and removes what an earlier
// run left there. A new socket has the mode that the umask gives it until it is
// changed, so the kernel is asked as well who is at the other end.
func Listen(ctx context.Context, path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), directoryMode); err != nil {
		return nil, fmt.Errorf("status socket: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("status socket of an earlier run: %w", err)
	}
	inner, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("status socket: %w", err)
	}
	if err := os.Chmod(path, socketMode); err != nil {
		return nil, errors.Join(fmt.Errorf("status socket: %w", err), inner.Close())
	}
	return &listener{Listener: inner, allowed: []uint32{0, uint32(os.Geteuid())}, slots: make(chan struct{}, maxConns)}, nil
}

// NewServer is a server for what Listen opened. Answers may take as long as
// they need: a reload of plugins does.
func NewServer(handler http.Handler) *http.Server {
	return &http.Server{
		Handler:     http.MaxBytesHandler(handler, maxBody),
		ReadTimeout: readTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
	}
}

// listener lets in those users that are allowed, so many at a time.
type listener struct {
	net.Listener
	allowed []uint32
	slots   chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if !l.mayTalk(c) {
			_ = c.Close() // it was never talked to
			continue
		}
		select {
		case l.slots <- struct{}{}:
			return &conn{Conn: c, leave: sync.OnceFunc(func() { <-l.slots })}, nil
		default:
			_ = c.Close()
		}
	}
}

func (l *listener) mayTalk(c net.Conn) bool {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return false
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return false
	}
	var peer *syscall.Ucred
	var asked error
	err = raw.Control(func(fd uintptr) {
		peer, asked = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err != nil || asked != nil {
		return false
	}
	return slices.Contains(l.allowed, peer.Uid)
}

type conn struct {
	net.Conn
	leave func()
}

func (c *conn) Close() error {
	c.leave()
	return c.Conn.Close()
}
