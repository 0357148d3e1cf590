//go:build bench

package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/cleat-dev/cleat/test/e2e/lab"
)

// authority makes the certificates of upstream's cluster, before its time is taken.
// It signs everything, with keys of the kind that cleat makes.
type authority struct {
	t      *testing.T
	m      *lab.Machine
	dir    string // in the machine
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	pem    []byte
	server string // URL of the API server
	serial int64
}

func newAuthority(t *testing.T, m *lab.Machine, dir, server string) *authority {
	t.Helper()
	a := &authority{t: t, m: m, dir: dir, server: server}
	a.cert = &x509.Certificate{
		Subject: pkix.Name{CommonName: "bench-ca"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	var key []byte
	a.pem, key = a.sign(a.cert)
	a.write("ca.crt", a.pem)
	a.write("ca.key", key)
	return a
}

// file is the path, in the machine, of one of the authority's files.
func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

func (a *authority) write(name string, content []byte) {
	a.t.Helper()
	a.m.WriteFile(a.t, a.file(name), string(content))
}

// sign makes a key and its certificate; the first signs itself and then the rest.
func (a *authority) sign(template *x509.Certificate) (cert, key []byte) {
	a.t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	if a.key == nil {
		a.key = private
	}
	a.serial++
	template.SerialNumber = big.NewInt(a.serial)
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &private.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	if template == a.cert {
		if a.cert, err = x509.ParseCertificate(der); err != nil {
			a.t.Fatal(err)
		}
	}
	keyDER, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		a.t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
}

// serving writes NAME.crt and NAME.key of a server that has the names and addresses.
func (a *authority) serving(name string, names []string, addresses ...net.IP) {
	a.t.Helper()
	cert, key := a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, DNSNames: names, IPAddresses: addresses,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	a.write(name+".crt", cert)
	a.write(name+".key", key)
}

// client writes NAME.crt, NAME.key and NAME.kubeconfig of a user and its groups.
func (a *authority) client(name, user string, groups ...string) {
	a.t.Helper()
	cert, key := a.sign(&x509.Certificate{
		Subject:  pkix.Name{CommonName: user, Organization: groups},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	a.write(name+".crt", cert)
	a.write(name+".key", key)
	config := api.NewConfig()
	config.Clusters[name] = &api.Cluster{Server: a.server, CertificateAuthorityData: a.pem}
	config.AuthInfos[name] = &api.AuthInfo{ClientCertificateData: cert, ClientKeyData: key}
	config.Contexts[name] = &api.Context{Cluster: name, AuthInfo: name}
	config.CurrentContext = name
	text, err := clientcmd.Write(*config)
	if err != nil {
		a.t.Fatal(fmt.Errorf("kubeconfig %s: %w", name, err))
	}
	a.write(name+".kubeconfig", text)
}
