// Package token reads and writes join tokens, the one secret that makes a
// machine a member of a cluster.
//
//	K10<sha256 of the CA, 64 hex digits>::<user>:<password>   the full form
//	K10<sha256 of the CA>::<6 characters>.<16 characters>      a bootstrap token
//	<password>                                                 the short form
//	<6 characters>.<16 characters>                             a short bootstrap token
//
// The hash lets whoever joins check the server before the secret is sent.
package token

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/cleat-dev/cleat/core/internal/pki"
)

// Users of a full token. The server knows what each may do.
const (
	UserServer = "server"
	UserNode   = "node"
)

const (
	prefix    = "K10"
	separator = "::"
	hashLen   = 2 * sha256.Size
	maxLen    = 1024 // of the whole token
)

// Token is a parsed token. Its String and LogValue do not show the secret.
type Token struct {
	CAHash    string // 64 lower-case hex digits, "" when the token has none
	Username  string // "" in the short form; the id of a bootstrap token
	Password  string
	Bootstrap bool // a kubeadm-style <id>.<secret>
}

// Parse reads a token, with spaces and line ends around it cut off. Errors
// never quote the secret.
func Parse(s string) (Token, error) {
	s = strings.TrimSpace(s)
	switch {
	case s == "":
		return Token{}, errors.New("token: it is empty")
	case len(s) > maxLen:
		return Token{}, fmt.Errorf("token: %d characters, want at most %d", len(s), maxLen)
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return Token{}, fmt.Errorf("token: character %d is not printable ASCII", i+1)
		}
	}
	if !strings.HasPrefix(s, prefix) {
		if strings.Contains(s, prefix) && strings.Contains(s, separator) || strings.Contains(s, separator+UserServer+":") || strings.Contains(s, separator+UserNode+":") {
			return Token{}, fmt.Errorf("token: it does not begin with %q but looks like a part of such a token, or like one in quotes: copy it whole, and nothing else", prefix)
		}
		if id, secret, ok := bootstrap(s); ok {
			return Token{Username: id, Password: secret, Bootstrap: true}, nil
		}
		return Token{Password: s}, nil
	}
	hash, rest, ok := strings.Cut(s[len(prefix):], separator)
	if !ok {
		return Token{}, fmt.Errorf("token: it begins with %q but has no %q after the CA hash: copy it whole, or choose a password that begins otherwise", prefix, separator)
	}
	if hash != "" && !isHash(hash) {
		return Token{}, fmt.Errorf("token: the CA hash has %d characters, want %d lower-case hex digits: copy the token whole", len(hash), hashLen)
	}
	if id, secret, ok := bootstrap(rest); ok {
		return Token{CAHash: hash, Username: id, Password: secret, Bootstrap: true}, nil
	}
	user, password, ok := strings.Cut(rest, ":")
	if !ok || user == "" || password == "" {
		return Token{}, fmt.Errorf("token: want <user>:<password> after %q: copy it whole", separator)
	}
	return Token{CAHash: hash, Username: user, Password: password}, nil
}

// Format is the token as text: a secret. It is the short form when there is
// neither hash nor user.
func (t Token) Format() string {
	credentials := t.Username + ":" + t.Password
	if t.Bootstrap {
		credentials = t.Username + "." + t.Password
	}
	switch {
	case t.CAHash == "" && t.Bootstrap:
		return credentials
	case t.CAHash == "" && t.Username == "":
		return t.Password
	}
	return prefix + t.CAHash + separator + credentials
}

// String shows everything but the secret.
func (t Token) String() string {
	t.Password = "…"
	return t.Format()
}

// GoString keeps the secret out of %#v too.
func (t Token) GoString() string { return "token.Token{" + t.String() + "}" }

// LogValue keeps the secret out of logs.
func (t Token) LogValue() slog.Value { return slog.StringValue(t.String()) }

// CheckCA compares the CA certificates a server showed with the token's hash.
// A token without a hash accepts any.
func (t Token) CheckCA(bundle []byte) error {
	hash, err := HashCA(bundle)
	if err != nil {
		return err
	}
	if t.CAHash != "" && !Equal(t.CAHash, hash) {
		return fmt.Errorf("%w: the token says %s, the server's CA is %s", ErrOtherCA, t.CAHash, hash)
	}
	return nil
}

// ErrNew says that a token cannot be the cluster's new one.
var ErrNew = errors.New("the new token")

// ErrOtherCA says that a token and a CA do not belong to one cluster.
var ErrOtherCA = errors.New("the CA hash of the token is another cluster's")

// HashCA is the hash of a full token: for one certificate, SHA-256 of the PEM
// text exactly as served; for more, SHA-256 of the DER of the root of the
// first one's chain.
func HashCA(bundle []byte) (string, error) {
	certs, err := pki.ParseCertificates(bundle)
	if err != nil {
		return "", fmt.Errorf("CA certificates: %w", err)
	}
	sum := sha256.Sum256(bundle)
	if len(certs) > 1 {
		root, err := pki.Root(certs)
		if err != nil {
			return "", fmt.Errorf("CA certificates: %w", err)
		}
		sum = sha256.Sum256(root.Raw)
	}
	return hex.EncodeToString(sum[:]), nil
}

// Equal compares two secrets in a time that depends on neither.
func Equal(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// NewPassword is a random password of 128 bits, 32 hex digits.
func NewPassword() string {
	var b [16]byte
	rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	return hex.EncodeToString(b[:])
}

func isHash(s string) bool {
	return len(s) == hashLen && strings.Trim(s, "0123456789abcdef") == ""
}

func bootstrap(s string) (id, secret string, ok bool) {
	id, secret, ok = strings.Cut(s, ".")
	return id, secret, ok && IsBootstrap(id, secret)
}

// IsBootstrap reports whether the two have the form of a bootstrap token's id and
// secret.
func IsBootstrap(id, secret string) bool {
	const alphabet = "0123456789abcdefghijklmnopqrstuvwxyz"
	return len(id) == 6 && len(secret) == 16 && strings.Trim(id, alphabet) == "" && strings.Trim(secret, alphabet) == ""
}
