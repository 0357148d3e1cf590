package bootstrap

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cleat-dev/cleat/core/internal/atomicfile"
	"github.com/cleat-dev/cleat/core/internal/pki"
	"github.com/cleat-dev/cleat/core/internal/token"
)

// Where a token came from, in words for messages.
const (
	fromFlag      = "--token"
	fromFile      = "--token-file"
	fromDisk      = "the data directory"
	fromGenerator = "a random choice"
)

const maxTokenFile = 4096

type secret struct {
	token token.Token
	from  string
}

// findToken decides on the token: flag, file, the one of the last start, or a
// new random one, in this order. It writes nothing.
func (b *Bootstrap) findToken() (*secret, error) {
	var text, from string
	switch {
	case b.Config.Token != "" && b.Config.TokenFile != "":
		return nil, errors.New("--token and --token-file are both given: give one")
	case b.Config.Token != "":
		text, from = b.Config.Token, fromFlag
	case b.Config.TokenFile != "":
		var err error
		if text, err = readSmall(b.Config.TokenFile); err != nil {
			return nil, fmt.Errorf("%s: %w", fromFile, err)
		}
		from = fromFile
	default:
		var err error
		text, err = readSmall(b.Data.Token())
		if errors.Is(err, fs.ErrNotExist) {
			return &secret{token.Token{Password: token.NewPassword()}, fromGenerator}, nil
		}
		if err != nil {
			return nil, err
		}
		from = fromDisk
	}
	tok, err := token.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("token from %s: %w", from, err)
	}
	if tok.Bootstrap {
		return nil, fmt.Errorf("token from %s: a bootstrap token (<6>.<16>) can join nodes, but a server needs the cluster's own token", from)
	}
	return &secret{tok, from}, nil
}

// readSmall reads a file of at most maxTokenFile bytes.
func readSmall(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if info.Size() > maxTokenFile {
		return "", fmt.Errorf("%s: %d bytes, want at most %d", path, info.Size(), maxTokenFile)
	}
	text, err := os.ReadFile(path)
	return string(text), err
}

// forget drops the CA hash of a token that a first start left behind before it
// got to making the CA.
func (s *secret) forget() {
	if s.from == fromDisk {
		s.token.CAHash = ""
	}
}

// full is the token that joins nodes to the cluster of id. It is an error if
// the token was another cluster's.
func (s *secret) full(id *pki.Identity) (token.Token, error) {
	if err := s.token.CheckCA(id.Server.CertPEM()); err != nil {
		return token.Token{}, fmt.Errorf("token from %s: %w: copy the token from this cluster's servers", s.from, err)
	}
	hash, err := token.HashCA(id.Server.CertPEM())
	if err != nil {
		return token.Token{}, err
	}
	return token.Token{CAHash: hash, Username: token.UserServer, Password: s.token.Password}, nil
}

// keepGenerated writes a made-up token to disk; undo takes it away again.
func (b *Bootstrap) keepGenerated(s *secret, id *pki.Identity) (undo func() error, err error) {
	if s.from != fromGenerator {
		return func() error { return nil }, nil
	}
	full, err := s.full(id)
	if err != nil {
		return nil, err
	}
	if err := writeToken(b.Data.Token(), full); err != nil {
		return nil, err
	}
	return func() error { return os.Remove(b.Data.Token()) }, nil
}

func writeToken(path string, full token.Token) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	_, err := atomicfile.WriteIfChanged(path, []byte(full.Format()+"\n"), 0o600)
	return err
}
