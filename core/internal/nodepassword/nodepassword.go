// Package nodepassword is what the datastore keeps of a node's password. The
// first machine that comes with a node's name and a password of its own has the
// name; the record proves it the next time.
package nodepassword

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"golang.org/x/crypto/scrypt"
)

// Prefix is where the records are in the datastore, by the node's name.
const Prefix = "/nodepasswords/"

const (
	version                   = 1
	scryptN, scryptR, scryptP = 1 << 14, 8, 1
	saltLen, hashLen          = 16, 32
	maxRecord                 = 4 << 10
)

// Record is one node's. The costs are fixed by Version, so that a hostile record
// cannot choose them.
type Record struct {
	Version int    `json:"version"` // 1: scrypt N=16384 r=8 p=1
	Salt    []byte `json:"salt"`
	Hash    []byte `json:"hash"`
	// Created is when the name was taken, Seen when its machine came last. Both are
	// a server's clock; records of the first version of cleat have neither.
	Created time.Time `json:"created,omitzero"`
	Seen    time.Time `json:"seen,omitzero"`
}

// New makes the record of a password.
func New(password string, now time.Time) (Record, error) {
	now = now.UTC().Truncate(time.Second)
	r := Record{Version: version, Salt: make([]byte, saltLen), Created: now, Seen: now}
	rand.Read(r.Salt) // never fails: crypto/rand ends the process instead
	var err error
	if r.Hash, err = r.derive(password); err != nil {
		return Record{}, fmt.Errorf("hash a node password: %w", err)
	}
	return r, nil
}

// Parse reads a record and checks what it can without the password.
func Parse(text []byte) (Record, error) {
	if len(text) > maxRecord {
		return Record{}, fmt.Errorf("%d bytes, want at most %d", len(text), maxRecord)
	}
	var r Record
	if err := json.Unmarshal(text, &r); err != nil {
		return Record{}, err
	}
	if r.Version != version || len(r.Salt) != saltLen || len(r.Hash) != hashLen {
		return Record{}, fmt.Errorf("version %d with %d bytes of salt and %d of hash is not known", r.Version, len(r.Salt), len(r.Hash))
	}
	return r, nil
}

// Marshal is the record as it is stored.
func (r Record) Marshal() ([]byte, error) { return json.Marshal(r) }

// Matches reports whether password is the node's. It is slow on purpose.
func (r Record) Matches(password string) (bool, error) {
	got, err := r.derive(password)
	return err == nil && subtle.ConstantTimeCompare(got, r.Hash) == 1, err
}

// Digest stands for a password that matched this record, so that it need not be
// derived again. It tells neither.
func (r Record) Digest(password string) [sha256.Size]byte {
	inner := sha256.Sum256(slices.Concat(r.Salt, r.Hash))
	return sha256.Sum256(append(inner[:], password...))
}

func (r Record) derive(password string) ([]byte, error) {
	return scrypt.Key([]byte(password), r.Salt, scryptN, scryptR, scryptP, hashLen)
}
