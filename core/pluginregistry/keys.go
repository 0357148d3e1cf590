package pluginregistry

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
)

// SignerPrefix begins the signer of a lock entry that is a key; its fingerprint
// follows.
const SignerPrefix = "key:"

const (
	maxKeyFile = 64 << 10
	maxKeys    = 256 // in one directory
	minRSA     = 2048
)

// PublicKey is a key that signatures are checked with: ECDSA on a NIST curve,
// Ed25519 or RSA.
type PublicKey struct {
	// Fingerprint is the SHA-256 of the key as DER (SubjectPublicKeyInfo), in
	// lower-case hex.
	Fingerprint string
	Path        string // where it was read, for messages

	verifier signature.Verifier
}

// Signer is how a lock entry names the key.
func (k PublicKey) Signer() string { return SignerPrefix + k.Fingerprint }

// ParsePublicKey reads a key in PEM ("PUBLIC KEY").
func ParsePublicKey(text []byte) (PublicKey, error) {
	key, err := cryptoutils.UnmarshalPEMToPublicKey(text)
	if err != nil {
		return PublicKey{}, fmt.Errorf("not a public key in PEM: %w", err)
	}
	return newPublicKey(key)
}

func newPublicKey(key crypto.PublicKey) (PublicKey, error) {
	if k, ok := key.(*rsa.PublicKey); ok && k.N.BitLen() < minRSA {
		return PublicKey{}, fmt.Errorf("an RSA key of %d bits is too short, at least %d are needed", k.N.BitLen(), minRSA)
	}
	verifier, err := signature.LoadVerifier(key, crypto.SHA256)
	if err != nil {
		return PublicKey{}, fmt.Errorf("a key of type %T cannot be used; use ECDSA, Ed25519 or RSA", key)
	}
	der, err := cryptoutils.MarshalPublicKeyToDER(key)
	if err != nil {
		return PublicKey{}, err
	}
	sum := sha256.Sum256(der)
	return PublicKey{Fingerprint: hex.EncodeToString(sum[:]), verifier: verifier}, nil
}

// ReadPublicKey reads the key in the file at path.
func ReadPublicKey(path string) (PublicKey, error) {
	text, err := readFile(path, maxKeyFile)
	if err != nil {
		return PublicKey{}, err
	}
	key, err := ParsePublicKey(text)
	if err != nil {
		return PublicKey{}, fmt.Errorf("%s: %w", path, err)
	}
	key.Path = path
	return key, nil
}

// ReadPublicKeys reads every *.pub of a directory. No directory is no keys.
func ReadPublicKeys(dir string) ([]PublicKey, error) {
	files, err := filepath.Glob(filepath.Join(escapeGlob(dir), "*.pub"))
	if err != nil {
		return nil, err
	}
	if len(files) > maxKeys {
		return nil, fmt.Errorf("%s has %d keys, at most %d are read", dir, len(files), maxKeys)
	}
	var keys []PublicKey
	for _, f := range files {
		key, err := ReadPublicKey(f)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// Signer signs with a private key.
type Signer struct {
	Public PublicKey
	signer signature.Signer
}

// ParseSigner reads a private key in PEM: as cosign writes it, PKCS #8, or the
// older forms of one kind of key. password is asked only if the key is encrypted.
func ParseSigner(text []byte, password func() ([]byte, error)) (*Signer, error) {
	key, err := cryptoutils.UnmarshalPEMToPrivateKey(text, func(bool) ([]byte, error) { return password() })
	if err != nil {
		// The text of the error holds nothing of the key.
		return nil, fmt.Errorf("the private key cannot be read (a wrong password?): %w", err)
	}
	switch key.(type) {
	case *ecdsa.PrivateKey, ed25519.PrivateKey, *rsa.PrivateKey:
	default:
		return nil, fmt.Errorf("a key of type %T cannot sign; use ECDSA, Ed25519 or RSA", key)
	}
	signer, err := signature.LoadSigner(key, crypto.SHA256)
	if err != nil {
		return nil, err
	}
	public, err := signer.PublicKey()
	if err != nil {
		return nil, err
	}
	s := &Signer{signer: signer}
	if s.Public, err = newPublicKey(public); err != nil {
		return nil, err
	}
	return s, nil
}

// ReadSigner reads the private key in the file at path.
func ReadSigner(path string, password func() ([]byte, error)) (*Signer, error) {
	text, err := readFile(path, maxKeyFile)
	if err != nil {
		return nil, err
	}
	s, err := ParseSigner(text, password)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	s.Public.Path = path
	return s, nil
}

// GenerateKey makes an ECDSA key on P-256, both halves in PEM. The private half
// is encrypted as cosign does it, even with an empty password.
func GenerateKey(password []byte) (private, public []byte, err error) {
	if password == nil {
		password = []byte{}
	}
	return cryptoutils.GeneratePEMEncodedECDSAKeyPair(elliptic.P256(), cryptoutils.StaticPasswordFunc(password))
}

// readFile reads a regular file of at most limit bytes.
func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return readOpen(f, limit)
}

func readOpen(f fs.File, limit int64) (_ []byte, err error) {
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", info.Name())
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s is larger than the %d bytes allowed", info.Name(), limit)
	}
	return data, err
}

func escapeGlob(path string) string {
	escaped := make([]rune, 0, len(path))
	for _, r := range path {
		if r == '*' || r == '?' || r == '[' || r == '\\' {
			escaped = append(escaped, '\\')
		}
		escaped = append(escaped, r)
	}
	return string(escaped)
}
