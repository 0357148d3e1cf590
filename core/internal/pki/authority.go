package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

const (
	// AuthorityLife is how long a new certificate authority is valid. It is
	// not renewed by itself: everyone who pinned it would have to be told.
	AuthorityLife = 10 * 365 * 24 * time.Hour

	// backdate makes a new certificate acceptable to machines whose clock is
	// a little behind.
	backdate = time.Hour
)

// Authority is a certificate authority with its key.
type Authority struct {
	cert    *x509.Certificate
	chain   []*x509.Certificate // cert, then the authorities above it, if any
	signer  crypto.Signer
	certPEM []byte
	keyPEM  []byte
}

// NewAuthority makes a self-signed authority called commonName.
func NewAuthority(commonName string, now time.Time) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate the key of %s: %w", commonName, err)
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: commonName},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(AuthorityLife),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign the certificate of %s: %w", commonName, err)
	}
	return ParseAuthority(pem.EncodeToMemory(&pem.Block{Type: blockCertificate, Bytes: der}), keyPEM)
}

// ParseAuthority reads an authority's certificate and key. certPEM may go on
// with the certificates of the authorities above it, up to the root.
func ParseAuthority(certPEM, keyPEM []byte) (*Authority, error) {
	chain, err := ParseCertificates(certPEM)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	for i, c := range chain {
		if !c.BasicConstraintsValid || !c.IsCA {
			return nil, fmt.Errorf("certificate %q is not a certificate authority's", c.Subject)
		}
		if c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0 {
			return nil, fmt.Errorf("certificate %q may not sign certificates", c.Subject)
		}
		if i > 0 {
			if err := chain[i-1].CheckSignatureFrom(c); err != nil {
				return nil, fmt.Errorf("certificate %q is not signed by the next one, %q: %w", chain[i-1].Subject, c.Subject, err)
			}
		}
	}
	signer, err := ParseKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	if !samePublicKey(chain[0].PublicKey, signer.Public()) {
		return nil, fmt.Errorf("the key does not belong to certificate %q", chain[0].Subject)
	}
	return &Authority{
		cert: chain[0], chain: chain, signer: signer,
		certPEM: bytes.Clone(certPEM), keyPEM: bytes.Clone(keyPEM),
	}, nil
}

// CertPEM is the certificate, as made or as read; do not write to it.
func (a *Authority) CertPEM() []byte { return a.certPEM }

// KeyPEM is the private key; do not write to it and do not log it.
func (a *Authority) KeyPEM() []byte { return a.keyPEM }

// Name is the authority's subject.
func (a *Authority) Name() string { return a.cert.Subject.String() }

// NotAfter is when the authority expires.
func (a *Authority) NotAfter() time.Time { return a.cert.NotAfter }

// Valid says why the authority cannot sign now, nil if it can.
func (a *Authority) Valid(now time.Time) error {
	if now.Before(a.cert.NotBefore) {
		return fmt.Errorf("%s is valid from %s and the clock says %s: set the clock", a.Name(), stamp(a.cert.NotBefore), stamp(now))
	}
	if now.After(a.cert.NotAfter) {
		return fmt.Errorf("%s expired at %s: replace the authority and join every node again", a.Name(), stamp(a.cert.NotAfter))
	}
	return nil
}

// Pool is a fresh pool that trusts this authority.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	for _, c := range a.chain {
		pool.AddCert(c)
	}
	return pool
}

// Sign issues a certificate for pub. The text that comes back is the leaf and
// then whatever a peer needs between it and the root.
func (a *Authority) Sign(pub crypto.PublicKey, leaf Leaf, now time.Time) ([]byte, error) {
	if err := checkPublicKey(pub); err != nil {
		return nil, fmt.Errorf("sign %s: %w", leaf.CommonName, err)
	}
	if err := a.Valid(now); err != nil {
		return nil, fmt.Errorf("sign %s: %w", leaf.CommonName, err)
	}
	template, err := leaf.template(now, a.cert.NotAfter)
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", leaf.CommonName, err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, pub, a.signer)
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", leaf.CommonName, err)
	}
	out := pem.EncodeToMemory(&pem.Block{Type: blockCertificate, Bytes: der})
	for _, c := range a.chain {
		if isSelfSigned(c) {
			break
		}
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: blockCertificate, Bytes: c.Raw})...)
	}
	return out, nil
}

// ParseCertificates reads one or more PEM certificates and nothing else.
func ParseCertificates(text []byte) ([]*x509.Certificate, error) {
	blocks, err := decode(text)
	if err != nil {
		return nil, err
	}
	certs := make([]*x509.Certificate, 0, len(blocks))
	for _, b := range blocks {
		if b.Type != blockCertificate {
			return nil, fmt.Errorf("PEM block %q, want only %q", clip(b.Type), blockCertificate)
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, err
		}
		certs = append(certs, c)
	}
	return certs, nil
}

// ParsePool reads the certificates that a client is to trust.
func ParsePool(text []byte) (*x509.CertPool, error) {
	certs, err := ParseCertificates(text)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	for _, c := range certs {
		if !c.IsCA {
			return nil, fmt.Errorf("certificate %q is not a certificate authority's", c.Subject)
		}
		pool.AddCert(c)
	}
	return pool, nil
}

// Root is the self-signed certificate at the end of the chain that begins with
// the first of certs.
func Root(certs []*x509.Certificate) (*x509.Certificate, error) {
	if len(certs) == 0 {
		return nil, errors.New("no certificate")
	}
	at := certs[0]
	for range certs {
		if isSelfSigned(at) {
			return at, nil
		}
		next := issuer(at, certs)
		if next == nil {
			return nil, fmt.Errorf("certificate %q: its issuer %q is not among the certificates", at.Subject, at.Issuer)
		}
		at = next
	}
	return nil, fmt.Errorf("certificate %q: no root among the certificates", certs[0].Subject)
}

func issuer(c *x509.Certificate, among []*x509.Certificate) *x509.Certificate {
	for _, up := range among {
		if up != c && c.CheckSignatureFrom(up) == nil {
			return up
		}
	}
	return nil
}

func isSelfSigned(c *x509.Certificate) bool {
	return bytes.Equal(c.RawSubject, c.RawIssuer) && c.CheckSignatureFrom(c) == nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
