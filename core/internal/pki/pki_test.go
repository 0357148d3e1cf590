package pki

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var (
	epoch = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	web   = Leaf{CommonName: "web", Server: true, DNSNames: []string{"b", "a"}, IPs: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("::1")}}
	admin = Leaf{CommonName: "admin", Organization: []string{"system:masters"}, Client: true}
)

func authority(t testing.TB, name string) *Authority {
	t.Helper()
	a, err := NewAuthority(name, epoch)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func keyPair(t testing.TB) (keyPEM []byte, pub any) {
	t.Helper()
	keyPEM, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	key, err := ParseKey(keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	return keyPEM, key.Public()
}

func sign(t testing.TB, a *Authority, pub any, leaf Leaf, now time.Time) *x509.Certificate {
	t.Helper()
	text, err := a.Sign(pub, leaf, now)
	if err != nil {
		t.Fatal(err)
	}
	certs, err := ParseCertificates(text)
	if err != nil {
		t.Fatal(err)
	}
	return certs[0]
}

func TestLeavesVerifyForTheirUseOnly(t *testing.T) {
	ca := authority(t, "ca")
	_, pub := keyPair(t)
	for _, c := range []struct {
		leaf   Leaf
		use    x509.ExtKeyUsage
		name   string
		at     time.Duration
		accept bool
	}{
		{web, x509.ExtKeyUsageServerAuth, "a", 0, true},
		{web, x509.ExtKeyUsageServerAuth, "10.0.0.1", 0, true},
		{web, x509.ExtKeyUsageServerAuth, "::1", 0, true},
		{web, x509.ExtKeyUsageServerAuth, "c", 0, false},
		{web, x509.ExtKeyUsageClientAuth, "", 0, false},
		{admin, x509.ExtKeyUsageClientAuth, "", 0, true},
		{admin, x509.ExtKeyUsageServerAuth, "", 0, false},
		{admin, x509.ExtKeyUsageClientAuth, "", LeafLife - time.Second, true},
		{admin, x509.ExtKeyUsageClientAuth, "", LeafLife + time.Second, false},
		{admin, x509.ExtKeyUsageClientAuth, "", -30 * time.Minute, true},
		{admin, x509.ExtKeyUsageClientAuth, "", -2 * time.Hour, false},
	} {
		cert := sign(t, ca, pub, c.leaf, epoch)
		_, err := cert.Verify(x509.VerifyOptions{
			Roots: ca.Pool(), KeyUsages: []x509.ExtKeyUsage{c.use}, DNSName: c.name, CurrentTime: epoch.Add(c.at),
		})
		if (err == nil) != c.accept {
			t.Errorf("%s as %v for %q at %v: %v, want accepted %v", c.leaf.CommonName, c.use, c.name, c.at, err, c.accept)
		}
	}
}

func TestLeafEndsWithItsAuthority(t *testing.T) {
	ca := authority(t, "ca")
	_, pub := keyPair(t)
	cert := sign(t, ca, pub, admin, ca.NotAfter().Add(-time.Hour))
	if !cert.NotAfter.Equal(ca.NotAfter()) {
		t.Errorf("leaf ends %v, authority %v", cert.NotAfter, ca.NotAfter())
	}
	for _, at := range []time.Time{ca.NotAfter().Add(time.Second), epoch.Add(-2 * time.Hour)} {
		if _, err := ca.Sign(pub, admin, at); err == nil || !strings.Contains(err.Error(), "CN=ca") {
			t.Errorf("signing at %v: %v, want an error that names the authority", at, err)
		}
	}
}

func TestSignRefusesUselessLeaves(t *testing.T) {
	ca := authority(t, "ca")
	_, pub := keyPair(t)
	for want, leaf := range map[string]Leaf{
		"common name":          {Client: true},
		"server's or a client": {CommonName: "x"},
		"DNS name or an IP":    {CommonName: "x", Server: true},
	} {
		if _, err := ca.Sign(pub, leaf, epoch); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", leaf, err, want)
		}
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ca.Sign(weak.Public(), admin, epoch); err == nil || !strings.Contains(err.Error(), "1024 bits") {
		t.Errorf("a weak key: %v", err)
	}
}

func TestStale(t *testing.T) {
	ca, other := authority(t, "ca"), authority(t, "ca")
	_, pub := keyPair(t)
	_, pub2 := keyPair(t)
	cert := sign(t, ca, pub, web, epoch)
	change := func(f func(*Leaf)) Leaf { l := web; f(&l); return l }
	for _, c := range []struct {
		name string
		pub  any
		leaf Leaf
		ca   *Authority
		at   time.Time
		want string
	}{
		{"same", pub, web, ca, epoch, ""},
		{"order", pub, change(func(l *Leaf) { l.DNSNames = []string{"a", "b", "a"} }), ca, epoch, ""},
		{"moment of renewal", pub, web, ca, RenewAt(cert), ""},
		{"renewal", pub, web, ca, RenewAt(cert).Add(1), "it ends at"},
		{"expired", pub, web, ca, epoch.Add(LeafLife + time.Second), "expired"},
		{"early", pub, web, ca, epoch.Add(-2 * time.Hour), "not valid yet"},
		{"key", pub2, web, ca, epoch, "another key"},
		{"authority of the same name", pub, web, other, epoch, "another authority"},
		{"name", pub, change(func(l *Leaf) { l.CommonName = "x" }), ca, epoch, "somebody else"},
		{"group", pub, change(func(l *Leaf) { l.Organization = []string{"g"} }), ca, epoch, "somebody else"},
		{"use", pub, change(func(l *Leaf) { l.Client = true }), ca, epoch, "its use"},
		{"san", pub, change(func(l *Leaf) { l.DNSNames = []string{"a"} }), ca, epoch, "names or addresses"},
		{"ip", pub, change(func(l *Leaf) { l.IPs = l.IPs[:1] }), ca, epoch, "names or addresses"},
	} {
		got := Stale(cert, c.pub, c.leaf, []*x509.Certificate{c.ca.cert}, c.at)
		if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestEnsureLeafRenewsAndKeepsTheKey(t *testing.T) {
	dir := t.TempDir()
	crt, key := filepath.Join(dir, "x.crt"), filepath.Join(dir, "x.key")
	ca := authority(t, "ca")
	ensure := func(a *Authority, leaf Leaf, at time.Time) string {
		t.Helper()
		why, err := a.EnsureLeaf(crt, key, leaf, at)
		if err != nil {
			t.Fatal(err)
		}
		return why
	}
	if why := ensure(ca, web, epoch); why == "" {
		t.Fatal("nothing was issued")
	}
	first, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(key)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("key mode %v, %v", info.Mode(), err)
	}
	if why := ensure(ca, web, epoch.Add(time.Hour)); why != "" {
		t.Fatalf("issued again: %s", why)
	}
	if why := ensure(ca, web, epoch.Add(LeafLife*2/3)); !strings.Contains(why, "it ends") {
		t.Fatalf("renewal: %q", why)
	}
	if why, err := ca.ReissueLeaf(crt, key, web, epoch.Add(LeafLife*2/3)); why != Asked || err != nil {
		t.Fatalf("a good certificate, asked for: %q, %v", why, err)
	}
	if why := ensure(authority(t, "new"), web, epoch); !strings.Contains(why, "another authority") {
		t.Fatalf("new authority: %q", why)
	}
	if now, _ := os.ReadFile(key); !bytes.Equal(first, now) {
		t.Fatal("renewal changed the key")
	}

	for _, file := range []string{crt, key} {
		keep, _ := os.ReadFile(file)
		if err := os.WriteFile(file, keep[:len(keep)/2], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ca.EnsureLeaf(crt, key, web, epoch); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("damaged %s: %v", file, err)
		}
		if err := os.WriteFile(file, keep, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRequestRoundTrip(t *testing.T) {
	keyPEM, pub := keyPair(t)
	text, err := NewRequest(keyPEM, web)
	if err != nil {
		t.Fatal(err)
	}
	req, err := ParseRequest(text)
	if err != nil || !samePublicKey(req.PublicKey, pub) || len(req.IPAddresses) != 2 || len(req.DNSNames) != 2 {
		t.Fatalf("%+v, %v", req, err)
	}
	block, _ := pem.Decode(text)
	block.Bytes[len(block.Bytes)-1] ^= 1
	if _, err := ParseRequest(pem.EncodeToMemory(block)); err == nil {
		t.Fatal("a request with a broken signature was accepted")
	}
	if _, err := ParseRequest(append(text, text...)); err == nil {
		t.Fatal("two requests were accepted")
	}
}

func TestParseKeyForms(t *testing.T) {
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(edKey)
	if err != nil {
		t.Fatal(err)
	}
	ec, _ := keyPair(t)
	params := pem.EncodeToMemory(&pem.Block{Type: blockECParams, Bytes: []byte{6, 0}})
	for name, c := range map[string]struct {
		text []byte
		want string
	}{
		"pkcs8":     {pem.EncodeToMemory(&pem.Block{Type: blockPKCS8, Bytes: pkcs8}), ""},
		"ec":        {ec, ""},
		"openssl":   {append(params, ec...), ""},
		"two":       {append(bytes.Clone(ec), ec...), "2 PEM blocks"},
		"encrypted": {pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte{1}}), "not encrypted"},
		"empty":     {nil, "no PEM"},
		"damaged":   {bytes.Replace(ec, []byte("\n"), []byte("\n!"), 1), "damaged"},
		"large":     {bytes.Repeat([]byte("x"), maxPEM+1), "at most"},
	} {
		_, err := ParseKey(c.text)
		if (c.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestIdentity(t *testing.T) {
	id, err := NewIdentity(epoch)
	if err != nil {
		t.Fatal(err)
	}
	files := id.Files()
	if len(files) != len(IdentityFiles()) {
		t.Fatalf("%d files, %d names", len(files), len(IdentityFiles()))
	}
	again, err := ParseIdentity(files)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range again.Files() {
		if !bytes.Equal(text, files[name]) {
			t.Errorf("%s changed on the way", name)
		}
	}
	if err := id.Valid(epoch); err != nil {
		t.Error(err)
	}
	if err := id.Valid(epoch.Add(AuthorityLife + time.Second)); err == nil || strings.Count(err.Error(), "expired") != 3 {
		t.Errorf("after ten years: %v", err)
	}
	leafCert, err := id.Client.Sign(mustPublic(t, files[ServiceAccountKey]), admin, epoch)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(map[string][]byte){
		ServerCACert:                  func(f map[string][]byte) { delete(f, ServerCACert) },
		"not a certificate authority": func(f map[string][]byte) { f[ClientCACert] = leafCert },
		"does not belong":             func(f map[string][]byte) { f[ClientCAKey] = f[ServerCAKey] },
		"the same authority": func(f map[string][]byte) {
			f[RequestHeaderCACert], f[RequestHeaderCAKey] = f[ClientCACert], f[ClientCAKey]
		},
		"want the 7":      func(f map[string][]byte) { f["more"] = []byte("x") },
		ServiceAccountKey: func(f map[string][]byte) { f[ServiceAccountKey] = []byte("x") },
	} {
		bad := id.Files()
		change(bad)
		if _, err := ParseIdentity(bad); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("want an error with %q, got %v", name, err)
		}
	}
}

func mustPublic(t *testing.T, keyPEM []byte) any {
	t.Helper()
	key, err := ParseKey(keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	return key.Public()
}

// An operator's own intermediate signs; peers get what leads to the root.
func TestIntermediateAuthority(t *testing.T) {
	root := authority(t, "root")
	keyPEM, pub := keyPair(t)
	template := &x509.Certificate{
		Subject: authority(t, "middle").cert.Subject, NotBefore: epoch, NotAfter: epoch.Add(AuthorityLife),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	rootTemplate := *root.cert
	rootTemplate.MaxPathLenZero, rootTemplate.MaxPathLen = false, 1
	rootDER, err := x509.CreateCertificate(rand.Reader, &rootTemplate, &rootTemplate, root.signer.Public(), root.signer)
	if err != nil {
		t.Fatal(err)
	}
	rootCert, err := x509.ParseCertificate(rootDER)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, rootCert, pub, root.signer)
	if err != nil {
		t.Fatal(err)
	}
	rootPEM := pem.EncodeToMemory(&pem.Block{Type: blockCertificate, Bytes: rootDER})
	bundle := append(pem.EncodeToMemory(&pem.Block{Type: blockCertificate, Bytes: der}), rootPEM...)
	middle, err := ParseAuthority(bundle, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	_, leafPub := keyPair(t)
	text, err := middle.Sign(leafPub, web, epoch)
	if err != nil {
		t.Fatal(err)
	}
	certs, err := ParseCertificates(text)
	if err != nil || len(certs) != 2 {
		t.Fatalf("%d certificates, %v; want the leaf and its intermediate", len(certs), err)
	}
	pool, err := ParsePool(rootPEM)
	if err != nil {
		t.Fatal(err)
	}
	between := x509.NewCertPool()
	between.AddCert(certs[1])
	if _, err := certs[0].Verify(x509.VerifyOptions{Roots: pool, Intermediates: between, DNSName: "a", CurrentTime: epoch}); err != nil {
		t.Error(err)
	}
	all, err := ParseCertificates(bundle)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Root(all); err != nil || !got.Equal(rootCert) {
		t.Errorf("root %v, %v", got, err)
	}
	if _, err := Root(all[:1]); err == nil {
		t.Error("a chain without a root has one")
	}
	if _, err := ParseAuthority(append(bytes.Clone(bundle[:len(bundle)-len(rootPEM)]), authority(t, "stranger").CertPEM()...), keyPEM); err == nil {
		t.Error("a chain that does not chain was accepted")
	}
}

func FuzzParseRequest(f *testing.F) {
	keyPEM, _ := keyPair(f)
	good, err := NewRequest(keyPEM, web)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte("-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		req, err := ParseRequest(text)
		if err == nil && checkPublicKey(req.PublicKey) != nil {
			t.Fatal("a request for an unacceptable key was accepted")
		}
	})
}

func FuzzParseAuthority(f *testing.F) {
	ca := authority(f, "ca")
	f.Add(ca.CertPEM(), ca.KeyPEM())
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"), ca.KeyPEM())
	_, pub := keyPair(f)
	f.Fuzz(func(t *testing.T, cert, key []byte) {
		a, err := ParseAuthority(cert, key)
		if err != nil {
			return
		}
		// Whatever is accepted can sign and is trusted by its own pool.
		now := a.cert.NotBefore
		text, err := a.Sign(pub, admin, now)
		if err != nil {
			return
		}
		if _, err := ParseCertificates(text); err != nil {
			t.Fatalf("an accepted authority signs what cannot be read: %v", err)
		}
	})
}
