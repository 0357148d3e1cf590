package pki

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/cleat-dev/cleat/core/internal/atomicfile"
)

// Why a certificate is issued beside what Stale says.
const (
	FirstIssue = "there was none"
	Asked      = "it was asked for"
)

// EnsureKey reads the private key at file, or makes one there (0600) if the
// file does not exist. A file that is no key is an error, never overwritten.
func EnsureKey(file string) (keyPEM []byte, err error) {
	keyPEM, err = readBounded(file)
	if errors.Is(err, fs.ErrNotExist) {
		if keyPEM, err = NewKey(); err != nil {
			return nil, err
		}
		return keyPEM, atomicfile.WriteFile(file, keyPEM, 0o600)
	}
	if err != nil {
		return nil, err
	}
	if _, err := ParseKey(keyPEM); err != nil {
		return nil, fmt.Errorf("%s: %w: remove the file to have a new key made", file, err)
	}
	return keyPEM, nil
}

// EnsureLeaf makes certFile (0644) and keyFile (0600) hold a good certificate
// for leaf, issuing one when there is none or the one there is Stale; the key
// is kept. why says what was wrong with the old certificate, "" if nothing was
// written.
func (a *Authority) EnsureLeaf(certFile, keyFile string, leaf Leaf, now time.Time) (why string, err error) {
	return a.ensureLeaf(certFile, keyFile, leaf, now, "")
}

// ReissueLeaf is EnsureLeaf that replaces a good certificate too.
func (a *Authority) ReissueLeaf(certFile, keyFile string, leaf Leaf, now time.Time) (why string, err error) {
	return a.ensureLeaf(certFile, keyFile, leaf, now, Asked)
}

func (a *Authority) ensureLeaf(certFile, keyFile string, leaf Leaf, now time.Time, because string) (why string, err error) {
	keyPEM, err := EnsureKey(keyFile)
	if err != nil {
		return "", err
	}
	key, err := ParseKey(keyPEM)
	if err != nil {
		return "", fmt.Errorf("%s: %w", keyFile, err)
	}
	cert, err := ReadLeaf(certFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		why = FirstIssue
	case err != nil:
		return "", err
	default:
		// Only the authority that signs counts; the ones above it do not sign leaves.
		why = Stale(cert, key.Public(), leaf, a.chain[:1], now)
	}
	why = cmp.Or(why, because)
	if why == "" {
		return "", nil
	}
	certPEM, err := a.Sign(key.Public(), leaf, now)
	if err != nil {
		return "", fmt.Errorf("%s: %w", certFile, err)
	}
	return why, atomicfile.WriteFile(certFile, certPEM, 0o644)
}

// ReadLeaf reads the first certificate of a file.
func ReadLeaf(file string) (leaf *x509.Certificate, err error) {
	text, err := readBounded(file)
	if err != nil {
		return nil, err
	}
	certs, err := ParseCertificates(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: remove the file to have a new certificate issued", file, err)
	}
	return certs[0], nil
}

func readBounded(file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxPEM {
		return nil, fmt.Errorf("%s: a %v of %d bytes, want a file of at most %d", file, info.Mode().Type(), info.Size(), maxPEM)
	}
	return os.ReadFile(file)
}
