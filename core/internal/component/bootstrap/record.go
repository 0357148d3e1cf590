package bootstrap

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/cleat-dev/cleat/core/internal/pki"
)

const (
	recordPrefix = "/bootstrap/"
	// recordKey is one key for every token. A key made from the token's hash,
	// as others use, would let two servers with different tokens both make a
	// cluster in one datastore, and would hand a fast oracle for guessing the
	// token to whoever reads the datastore.
	recordKey = recordPrefix + "cleat"
	// objectsPrefix is written by the first API server and never empty after.
	objectsPrefix = "/registry/namespaces/"

	recordVersion = 1
	kdfPBKDF2     = "pbkdf2-hmac-sha256"
	kdfRounds     = 600_000    // for a token that somebody chose
	minRounds     = 100_000    // for a random one, which cannot be guessed in any case
	maxRounds     = 10_000_000 // bounds what a hostile record makes us compute
	saltLen       = 16
	keyLen        = 32
	maxRecord     = 1 << 20
)

// envelope is the record as stored: JSON, so that a later version can say what
// it is without being opened. All but Data is authenticated as the cipher's
// additional data.
type envelope struct {
	Version int    `json:"version"`
	KDF     string `json:"kdf"`
	Rounds  int    `json:"rounds"`
	Salt    []byte `json:"salt"`
	Cipher  string `json:"cipher"`
	Nonce   []byte `json:"nonce"`
	Data    []byte `json:"data,omitempty"`
}

const cipherAESGCM = "aes-256-gcm"

// content is what is inside: the identity's files by name.
type content struct {
	Files map[string][]byte `json:"files"`
}

// errSealed says that the password does not open the record.
var errSealed = errors.New("the record was sealed with another token, or was changed")

// seal encrypts an identity with the token's password.
func seal(id *pki.Identity, password string, rounds int) ([]byte, error) {
	plain, err := json.Marshal(content{Files: id.Files()})
	if err != nil {
		return nil, fmt.Errorf("bootstrap record: %w", err)
	}
	env := envelope{
		Version: recordVersion, KDF: kdfPBKDF2, Rounds: rounds, Cipher: cipherAESGCM,
		Salt: make([]byte, saltLen),
	}
	rand.Read(env.Salt) // never fails: crypto/rand ends the process instead
	gcm, err := env.aead(password)
	if err != nil {
		return nil, err
	}
	env.Nonce = make([]byte, gcm.NonceSize())
	rand.Read(env.Nonce)
	header, err := json.Marshal(env)
	if err != nil {
		return nil, fmt.Errorf("bootstrap record: %w", err)
	}
	env.Data = gcm.Seal(nil, env.Nonce, plain, header)
	return json.Marshal(env)
}

// open is the opposite of seal. It returns errSealed for a wrong password.
func open(record []byte, password string) (*pki.Identity, error) {
	env, err := parseEnvelope(record)
	if err != nil {
		return nil, fmt.Errorf("bootstrap record: %w", err)
	}
	gcm, err := env.aead(password)
	if err != nil {
		return nil, err
	}
	data := env.Data
	env.Data = nil
	header, err := json.Marshal(env)
	if err != nil {
		return nil, fmt.Errorf("bootstrap record: %w", err)
	}
	plain, err := gcm.Open(nil, env.Nonce, data, header)
	if err != nil {
		return nil, errSealed
	}
	var c content
	if err := json.Unmarshal(plain, &c); err != nil {
		return nil, fmt.Errorf("bootstrap record: %w", err)
	}
	id, err := pki.ParseIdentity(c.Files)
	if err != nil {
		return nil, fmt.Errorf("bootstrap record: %w", err)
	}
	return id, nil
}

func parseEnvelope(record []byte) (envelope, error) {
	var env envelope
	if len(record) > maxRecord {
		return env, fmt.Errorf("%d bytes, want at most %d", len(record), maxRecord)
	}
	dec := json.NewDecoder(bytes.NewReader(record))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&env); err != nil {
		return env, fmt.Errorf("not a record of cleat's: %w", err)
	}
	switch {
	case env.Version != recordVersion:
		return env, fmt.Errorf("version %d, this cleat knows %d: start the version that wrote it", env.Version, recordVersion)
	case env.KDF != kdfPBKDF2 || env.Rounds < minRounds || env.Rounds > maxRounds || len(env.Salt) != saltLen:
		return env, fmt.Errorf("key derivation %q with %d rounds and %d bytes of salt is not known", env.KDF, env.Rounds, len(env.Salt))
	case env.Cipher != cipherAESGCM || len(env.Nonce) != 12 || len(env.Data) == 0:
		return env, fmt.Errorf("cipher %q with a nonce of %d bytes is not known", env.Cipher, len(env.Nonce))
	}
	return env, nil
}

func (e envelope) aead(password string) (cipher.AEAD, error) {
	key, err := pbkdf2.Key(sha256.New, password, e.Salt, e.Rounds, keyLen)
	if err != nil {
		return nil, fmt.Errorf("bootstrap record: derive its key: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("bootstrap record: %w", err)
	}
	return cipher.NewGCM(block)
}

// readRecord reads the datastore's record, nil if there is none. A record of
// another program is an error.
func readRecord(ctx context.Context, store Store) ([]byte, error) {
	record, rev, err := store.Get(ctx, recordKey)
	if err != nil {
		return nil, fmt.Errorf("read the bootstrap record: %w", err)
	}
	keys, err := store.List(ctx, recordPrefix, 2)
	if err != nil {
		return nil, fmt.Errorf("read the bootstrap record: %w", err)
	}
	if i := slices.IndexFunc(keys, func(k string) bool { return k != recordKey }); i >= 0 {
		return nil, fmt.Errorf("the datastore already belongs to another cluster: it holds %q, which no cleat wrote: name another datastore with --datastore-endpoint", keys[i])
	}
	if rev != 0 && len(record) == 0 {
		return nil, errors.New("bootstrap record: it is empty: restore the datastore")
	}
	return record, nil
}

// open opens a record with the token, or says whose it is.
func (b *Bootstrap) open(record []byte, secret *secret) (*pki.Identity, error) {
	id, err := open(record, secret.token.Password)
	if errors.Is(err, errSealed) {
		what := "a cluster with another token than the one from " + secret.from
		if secret.from == fromGenerator {
			what = "a cluster and no token was given"
		}
		return nil, fmt.Errorf("the datastore already belongs to %s: give that cluster's token with --token, --token-file or CLEAT_TOKEN (its servers keep it in %s): %w",
			what, b.Data.Token(), err)
	}
	return id, err
}
