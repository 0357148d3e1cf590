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
	fromAgentFlag = "--agent-token"
)

const maxTokenFile = 4096

type secret struct {
	token token.Token
	from  string
}

// findToken decides on the token: the configuration's, the one of the last start, or a
// new random one, in this order. It writes nothing.
func (b *Bootstrap) findToken() (*secret, error) {
	var text, from string
	switch {
	case b.Config.Token != "":
		text, from = b.Config.Token, fromFlag
		if b.Config.TokenFile != "" { // which the configuration was read from
			from = fromFile
		}
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

// findAgentToken is the second secret, with which nodes join, the zero Token if
// there is none. It has no CA hash yet unless it was given with one.
func (b *Bootstrap) findAgentToken() (token.Token, error) {
	if b.Config.AgentToken == "" {
		return token.Token{}, nil
	}
	tok, err := token.Parse(b.Config.AgentToken)
	if err != nil {
		return token.Token{}, fmt.Errorf("token from %s: %w", fromAgentFlag, err)
	}
	if tok.Bootstrap {
		return token.Token{}, fmt.Errorf("token from %s: this is the form of a bootstrap token (<6>.<16>): choose another password, or make bootstrap tokens with `cleat token create`", fromAgentFlag)
	}
	return tok, nil
}

// fullAgentToken is the second secret with the cluster's hash, the zero Token if
// there is none.
func (b *Bootstrap) fullAgentToken(id *pki.Identity) (token.Token, error) {
	tok, err := b.findAgentToken()
	if err != nil || tok == (token.Token{}) {
		return token.Token{}, err
	}
	return (&secret{tok, fromAgentFlag}).fullFor(token.UserNode, id)
}

// full is the token that joins nodes to the cluster of id. It is an error if
// the token was another cluster's.
func (s *secret) full(id *pki.Identity) (token.Token, error) { return s.fullFor(token.UserServer, id) }

func (s *secret) fullFor(user string, id *pki.Identity) (token.Token, error) {
	if err := s.token.CheckCA(id.Server.CertPEM()); err != nil {
		return token.Token{}, fmt.Errorf("token from %s: %w: copy the token from this cluster's servers", s.from, err)
	}
	hash, err := token.HashCA(id.Server.CertPEM())
	if err != nil {
		return token.Token{}, err
	}
	return token.Token{CAHash: hash, Username: user, Password: s.token.Password}, nil
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
