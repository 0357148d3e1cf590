package pki

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// Identity is what makes a cluster itself: whoever holds it is its control
// plane.
type Identity struct {
	Server         *Authority // signs what serves TLS: the API server, kubelets
	Client         *Authority // signs Kubernetes users
	RequestHeader  *Authority // signs only the aggregator's proxy
	ServiceAccount []byte     // PEM private key of the service-account issuer
}

// The names of the identity's files, the same on disk and in the datastore.
const (
	ServerCACert        = "server-ca.crt"
	ServerCAKey         = "server-ca.key"
	ClientCACert        = "client-ca.crt"
	ClientCAKey         = "client-ca.key"
	RequestHeaderCACert = "request-header-ca.crt"
	RequestHeaderCAKey  = "request-header-ca.key"
	ServiceAccountKey   = "service.key"
)

// IdentityFiles lists every name that Files returns, certificates before keys.
func IdentityFiles() []string {
	return []string{
		ServerCACert, ClientCACert, RequestHeaderCACert,
		ServerCAKey, ClientCAKey, RequestHeaderCAKey, ServiceAccountKey,
	}
}

// NewIdentity makes the identity of a new cluster.
func NewIdentity(now time.Time) (*Identity, error) {
	// The second of birth is in the names: two clusters' authorities are told
	// apart by whoever reads a certificate.
	born := strconv.FormatInt(now.Unix(), 10)
	var id Identity
	var errs [4]error
	id.Server, errs[0] = NewAuthority("cleat-server-ca@"+born, now)
	id.Client, errs[1] = NewAuthority("cleat-client-ca@"+born, now)
	id.RequestHeader, errs[2] = NewAuthority("cleat-request-header-ca@"+born, now)
	id.ServiceAccount, errs[3] = NewKey()
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	return &id, nil
}

// ParseIdentity is the opposite of Files. Each error names the file.
func ParseIdentity(files map[string][]byte) (*Identity, error) {
	known := IdentityFiles()
	for _, name := range known {
		if len(files[name]) == 0 {
			return nil, fmt.Errorf("%s is missing", name)
		}
	}
	if len(files) != len(known) {
		return nil, fmt.Errorf("%d files, want the %d this version knows: %v", len(files), len(known), known)
	}
	var id Identity
	for _, a := range []struct {
		to        **Authority
		cert, key string
	}{
		{&id.Server, ServerCACert, ServerCAKey},
		{&id.Client, ClientCACert, ClientCAKey},
		{&id.RequestHeader, RequestHeaderCACert, RequestHeaderCAKey},
	} {
		authority, err := ParseAuthority(files[a.cert], files[a.key])
		if err != nil {
			return nil, fmt.Errorf("%s with %s: %w", a.cert, a.key, err)
		}
		*a.to = authority
	}
	// With one authority for both, any node could pass for the aggregator and
	// so for any user.
	if bytes.Equal(id.Client.cert.RawSubjectPublicKeyInfo, id.RequestHeader.cert.RawSubjectPublicKeyInfo) {
		return nil, fmt.Errorf("%s and %s are the same authority, they must differ", ClientCACert, RequestHeaderCACert)
	}
	switch key, err := ParseKey(files[ServiceAccountKey]); key.(type) {
	case nil:
		return nil, fmt.Errorf("%s: %w", ServiceAccountKey, err)
	case ed25519.PrivateKey:
		return nil, fmt.Errorf("%s: an Ed25519 key, the API server signs with ECDSA and RSA keys only", ServiceAccountKey)
	}
	id.ServiceAccount = bytes.Clone(files[ServiceAccountKey])
	return &id, nil
}

// Files is the identity as PEM, by the names of IdentityFiles.
func (id *Identity) Files() map[string][]byte {
	return map[string][]byte{
		ServerCACert: id.Server.certPEM, ServerCAKey: id.Server.keyPEM,
		ClientCACert: id.Client.certPEM, ClientCAKey: id.Client.keyPEM,
		RequestHeaderCACert: id.RequestHeader.certPEM, RequestHeaderCAKey: id.RequestHeader.keyPEM,
		ServiceAccountKey: id.ServiceAccount,
	}
}

// Valid says which authority cannot sign now, nil if all can.
func (id *Identity) Valid(now time.Time) error {
	return errors.Join(id.Server.Valid(now), id.Client.Valid(now), id.RequestHeader.Valid(now))
}
