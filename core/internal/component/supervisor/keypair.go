package supervisor

import (
	"crypto/tls"
	"log/slog"
	"os"
	"sync"
	"time"
)

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
