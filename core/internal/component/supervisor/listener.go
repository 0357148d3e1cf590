package supervisor

import (
	"crypto/tls"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"
)

// listener knows its open connections, because http.Server forgets those that
// a handler has taken over.
type listener struct {
	net.Listener
	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	closed bool
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	t := &conn{Conn: c, list: l}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		_ = c.Close() // nobody waits for an answer on it yet
		return nil, net.ErrClosed
	}
	l.conns[t] = struct{}{}
	return t, nil
}

func (l *listener) closeConns() {
	l.mu.Lock()
	l.closed = true
	open := l.conns
	l.conns = map[net.Conn]struct{}{}
	l.mu.Unlock()
	for c := range open {
		_ = c.Close() // it is being thrown away
	}
}

type conn struct {
	net.Conn
	list *listener
}

func (c *conn) Close() error {
	c.list.mu.Lock()
	delete(c.list.conns, c)
	c.list.mu.Unlock()
	return c.Conn.Close()
}

// keyPair is a certificate that follows its files.
type keyPair struct {
	certFile, keyFile string
	log               *slog.Logger

	mu       sync.Mutex
	current  *tls.Certificate
	cert     os.FileInfo
	key      os.FileInfo
	lastFail string
}

func newKeyPair(certFile, keyFile string, log *slog.Logger) (*keyPair, error) {
	k := &keyPair{certFile: certFile, keyFile: keyFile, log: log}
	return k, k.reload()
}

// get is called for every handshake; it costs two stat calls when nothing
// changed. Files that do not fit together, as in the middle of a renewal,
// leave the old certificate in use.
func (k *keyPair) get() *tls.Certificate {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.reload(); err != nil && err.Error() != k.lastFail {
		k.lastFail = err.Error()
		k.log.Warn("keeping the old serving certificate", "error", err)
	}
	return k.current
}

func (k *keyPair) reload() error {
	cert, err := os.Stat(k.certFile)
	if err != nil {
		return err
	}
	key, err := os.Stat(k.keyFile)
	if err != nil {
		return err
	}
	if unchanged(k.cert, cert) && unchanged(k.key, key) {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(k.certFile, k.keyFile)
	if err != nil {
		return err
	}
	if k.current != nil {
		k.log.Info("serving certificate changed", "ends", pair.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	k.current, k.cert, k.key, k.lastFail = &pair, cert, key, ""
	return nil
}

func unchanged(old, now os.FileInfo) bool {
	return old != nil && os.SameFile(old, now) && old.ModTime().Equal(now.ModTime()) && old.Size() == now.Size()
}
