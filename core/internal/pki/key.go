// Package pki makes and reads the keys and certificates of a cluster: three
// certificate authorities, the leaves they sign and the service-account key.
// Everything is ECDSA P-256 when made here; what an operator put on disk may be
// any key the TLS stack accepts. All text is PEM.
package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

const (
	// maxPEM bounds what is parsed: a bundle of a dozen large certificates.
	maxPEM = 256 << 10

	blockCertificate = "CERTIFICATE"
	blockRequest     = "CERTIFICATE REQUEST"
	blockECKey       = "EC PRIVATE KEY"
	blockRSAKey      = "RSA PRIVATE KEY"
	blockPKCS8       = "PRIVATE KEY"
	blockECParams    = "EC PARAMETERS"

	minRSABits = 2048
	maxRSABits = 8192 // verifying costs grow with the square of it
)

// NewKey returns a fresh ECDSA P-256 private key in PEM.
func NewKey() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate a private key: %w", err)
	}
	return encodeKey(key)
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode a private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: blockECKey, Bytes: der}), nil
}

// ParseKey reads one PEM private key (EC, PKCS #1 or PKCS #8) and refuses
// anything beside it and keys too weak or too large to sign with.
func ParseKey(text []byte) (crypto.Signer, error) {
	blocks, err := decode(text)
	if err != nil {
		return nil, err
	}
	// openssl writes the curve's name in a block of its own before the key.
	if len(blocks) == 2 && blocks[0].Type == blockECParams {
		blocks = blocks[1:]
	}
	if len(blocks) != 1 {
		return nil, fmt.Errorf("%d PEM blocks, want one private key", len(blocks))
	}
	key, err := parseKeyBlock(blocks[0])
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a %T cannot sign", key)
	}
	if err := checkPublicKey(signer.Public()); err != nil {
		return nil, err
	}
	return signer, nil
}

func parseKeyBlock(b *pem.Block) (any, error) {
	var key any
	var err error
	switch b.Type {
	case blockECKey:
		key, err = x509.ParseECPrivateKey(b.Bytes)
	case blockRSAKey:
		key, err = x509.ParsePKCS1PrivateKey(b.Bytes)
	case blockPKCS8:
		key, err = x509.ParsePKCS8PrivateKey(b.Bytes)
	default:
		return nil, fmt.Errorf("PEM block %q, want a private key (EC, RSA or PKCS #8, not encrypted)", clip(b.Type))
	}
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	return key, nil
}

func checkPublicKey(pub crypto.PublicKey) error {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256(), elliptic.P384(), elliptic.P521():
			return nil
		}
		return errors.New("ECDSA key on a curve other than P-256, P-384 and P-521")
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < minRSABits || n > maxRSABits {
			return fmt.Errorf("RSA key of %d bits, want %d to %d", n, minRSABits, maxRSABits)
		}
		return nil
	case ed25519.PublicKey:
		return nil
	}
	return fmt.Errorf("a public key of type %T is not supported", pub)
}

// decode splits text into PEM blocks. Remarks around them are common and
// allowed; a damaged block is an error and not a shorter list.
func decode(text []byte) ([]*pem.Block, error) {
	if len(text) > maxPEM {
		return nil, fmt.Errorf("%d bytes of PEM, want at most %d", len(text), maxPEM)
	}
	var blocks []*pem.Block
	for b, rest := pem.Decode(text); b != nil; b, rest = pem.Decode(rest) {
		blocks = append(blocks, b)
	}
	begun := bytes.Count(text, []byte("-----BEGIN "))
	if begun == 0 {
		return nil, errors.New("no PEM block found")
	}
	if begun != len(blocks) {
		return nil, fmt.Errorf("%d PEM blocks begin and %d can be read: the text is damaged", begun, len(blocks))
	}
	return blocks, nil
}

func clip(s string) string {
	if len(s) > 64 {
		return s[:64] + "…"
	}
	return s
}

func samePublicKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}
