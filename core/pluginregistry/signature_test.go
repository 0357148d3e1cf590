package pluginregistry_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/cleat-dev/cleat/core/pluginregistry"
	"github.com/cleat-dev/cleat/core/pluginregistry/registrytest"
)

func digestOf(data []byte) string { return digest.FromBytes(data).String() }

func noPassword() ([]byte, error) { return nil, errors.New("no password was to be asked for") }

func generated(t *testing.T) (*pluginregistry.Signer, []byte) {
	t.Helper()
	private, public, err := pluginregistry.GenerateKey([]byte("pw"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := pluginregistry.ParseSigner(private, func() ([]byte, error) { return []byte("pw"), nil })
	if err != nil {
		t.Fatal(err)
	}
	return s, public
}

func get(t *testing.T, url, accept string) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", accept)
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Body.Close() }()
	body, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v, %s", url, r.Status, err, body)
	}
	return body
}

// What is in the registry is verified here by hand, as the specification of
// cosign's signatures has it, with nothing but the standard library.
func TestSignatureIsCosigns(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	c := client(t, registrytest.Mirrors(reg), nil)
	pushed := push(t, c, reg.Host+"/plugins/store:1.0.0", "1.0.0")
	signer, public := generated(t)
	signed, added, err := c.Sign(t.Context(), ref(t, reg.Host+"/plugins/store:1.0.0"), signer)
	if err != nil || !added || signed != pushed {
		t.Fatalf("signed %v, %t, %v", signed, added, err)
	}

	base := reg.URL + "/v2/plugins/store"
	var image struct {
		Config struct{ MediaType, Digest string }
		Layers []struct {
			MediaType, Digest string
			Annotations       map[string]string
		}
	}
	tag := "sha256-" + strings.TrimPrefix(pushed.Digest, "sha256:") + ".sig"
	if err := json.Unmarshal(get(t, base+"/manifests/"+tag, imageManifest), &image); err != nil {
		t.Fatal(err)
	}
	if len(image.Layers) != 1 || image.Layers[0].MediaType != "application/vnd.dev.cosign.simplesigning.v1+json" ||
		image.Config.MediaType != "application/vnd.oci.image.config.v1+json" {
		t.Fatalf("image of signatures %+v", image)
	}
	payload := get(t, base+"/blobs/"+image.Layers[0].Digest, "")
	var simple struct {
		Critical struct {
			Identity struct {
				Reference string `json:"docker-reference"`
			}
			Image struct {
				Digest string `json:"docker-manifest-digest"`
			}
			Type string
		}
	}
	if err := json.Unmarshal(payload, &simple); err != nil {
		t.Fatal(err)
	}
	if c := simple.Critical; c.Type != "cosign container image signature" || c.Image.Digest != pushed.Digest || c.Identity.Reference != reg.Host+"/plugins/store" {
		t.Errorf("payload %s", payload)
	}
	raw, err := base64.StdEncoding.DecodeString(image.Layers[0].Annotations["dev.cosignproject.cosign/signature"])
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(public)
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	hash := sha256.Sum256(payload)
	if !ecdsa.VerifyASN1(key.(*ecdsa.PublicKey), hash[:], raw) {
		t.Error("the signature does not verify over the payload")
	}
	spki := sha256.Sum256(block.Bytes)
	if want := "key:" + hex.EncodeToString(spki[:]); signer.Public.Signer() != want {
		t.Errorf("signer %s, want %s", signer.Public.Signer(), want)
	}
	// cosign reads no private key that is not in this form.
	private, _, err := pluginregistry.GenerateKey(nil)
	if err != nil || !bytes.HasPrefix(private, []byte("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----")) {
		t.Errorf("private key %s, %v", private, err)
	}
}

func TestSignTwice(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	c := client(t, registrytest.Mirrors(reg), nil)
	pushed := push(t, c, reg.Host+"/store:1", "1.0.0")
	one, _ := generated(t)
	two, _ := generated(t)
	three, _ := generated(t)
	for i, s := range []struct {
		signer *pluginregistry.Signer
		added  bool
	}{{one, true}, {one, false}, {two, true}, {one, false}} {
		if _, added, err := c.Sign(t.Context(), pushed, s.signer); err != nil || added != s.added {
			t.Errorf("signature %d: %t, %v", i, added, err)
		}
	}
	p, err := c.Pull(t.Context(), pushed)
	if err != nil || len(p.Signatures) != 2 || p.Incomplete != nil {
		t.Fatalf("%d signatures, %v", len(p.Signatures), err)
	}
	for _, s := range []*pluginregistry.Signer{one, two} {
		got, err := pluginregistry.VerifySignature(pushed.Digest, p.Signatures, []pluginregistry.PublicKey{three.Public, s.Public})
		if err != nil || got != s.Public.Fingerprint {
			t.Errorf("verified %s, %v", got, err)
		}
	}
	_, err = pluginregistry.VerifySignature(pushed.Digest, p.Signatures, []pluginregistry.PublicKey{three.Public})
	wantError(t, err, "no signature by a trusted key", "2 signatures, by other keys")
	_, _, err = c.Sign(t.Context(), ref(t, reg.Host+"/absent:1"), one)
	wantError(t, err, "sign "+reg.Host+"/absent:1: registry", "there is no")
}

func TestVerifySignatureRefuses(t *testing.T) {
	a := artifact(t, "1.0.0")
	signer, _ := generated(t)
	keys := []pluginregistry.PublicKey{signer.Public}
	good, err := signer.Sign(ref(t, "h.example/store").Pinned(a.Digest))
	if err != nil {
		t.Fatal(err)
	}
	verify := func(s pluginregistry.Signature, want string) {
		t.Helper()
		_, err := pluginregistry.VerifySignature(a.Digest, []pluginregistry.Signature{s}, keys)
		if want == "" {
			if err != nil {
				t.Error(err)
			}
			return
		}
		wantError(t, err, want)
		if !errors.Is(err, pluginregistry.ErrNotSigned) {
			t.Errorf("%v is not ErrNotSigned", err)
		}
	}
	verify(good, "")
	other, err := signer.Sign(ref(t, "h.example/store").Pinned("sha256:" + strings.Repeat("0", 64)))
	if err != nil {
		t.Fatal(err)
	}
	verify(other, "signed something else: the signed text names sha256:0000")
	verify(pluginregistry.Signature{Payload: good.Payload, Signature: other.Signature}, "by other keys")
	verify(pluginregistry.Signature{Payload: bytes.Replace(good.Payload, []byte("store"), []byte("staff"), 1), Signature: good.Signature}, "by other keys")
	for _, text := range []string{"x", `{"critical":{"type":"something"}}`} {
		sig, err := signer.SignBlob(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		raw, err := base64.StdEncoding.DecodeString(string(sig))
		if err != nil {
			t.Fatal(err)
		}
		verify(pluginregistry.Signature{Payload: []byte(text), Signature: raw}, "signed something else")
	}
	_, err = pluginregistry.VerifySignature(a.Digest, nil, keys)
	wantError(t, err, "not signed at all")
	_, err = pluginregistry.VerifySignature(a.Digest, []pluginregistry.Signature{good}, nil)
	wantError(t, err, "no public key was given")
	_, err = pluginregistry.VerifySignature("", nil, keys)
	wantError(t, err, "is no digest")
}

func TestKeysOfEveryKind(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	big, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, key := range map[string]crypto.Signer{"p384": ec, "ed25519": ed, "rsa": big} {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		s, err := pluginregistry.ParseSigner(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), noPassword)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if der, err = x509.MarshalPKIXPublicKey(key.Public()); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, name+".pub")
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o644); err != nil {
			t.Fatal(err)
		}
		public, err := pluginregistry.ReadPublicKey(file)
		if err != nil || public.Fingerprint != s.Public.Fingerprint {
			t.Fatalf("%s: %v, %v", name, public, err)
		}
		sig, err := s.SignBlob(strings.NewReader("blob"))
		if err != nil {
			t.Fatal(err)
		}
		keys := []pluginregistry.PublicKey{public}
		if got, err := pluginregistry.VerifyBlob(strings.NewReader("blob"), append(sig, '\n'), keys); err != nil || got != public.Fingerprint {
			t.Errorf("%s: %s, %v", name, got, err)
		}
		if _, err := pluginregistry.VerifyBlob(strings.NewReader("glob"), sig, keys); !errors.Is(err, pluginregistry.ErrNotSigned) {
			t.Errorf("%s: another blob: %v", name, err)
		}
	}
	if keys, err := pluginregistry.ReadPublicKeys(dir); err != nil || len(keys) != 3 {
		t.Errorf("%d keys, %v", len(keys), err)
	}
	if keys, err := pluginregistry.ReadPublicKeys(filepath.Join(dir, "none")); err != nil || keys != nil {
		t.Errorf("%v, %v", keys, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bad.pub"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = pluginregistry.ReadPublicKeys(dir)
	wantError(t, err, "bad.pub: not a public key in PEM")
}

func TestKeysThatAreRefused(t *testing.T) {
	private, public, err := pluginregistry.GenerateKey([]byte("right"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = pluginregistry.ParseSigner(private, func() ([]byte, error) { return []byte("wrong"), nil })
	wantError(t, err, "a wrong password?")
	_, err = pluginregistry.ParseSigner(public, noPassword)
	wantError(t, err, "cannot be read")
	_, err = pluginregistry.ParsePublicKey(private)
	wantError(t, err, "not a public key")
}

func TestVerifySigner(t *testing.T) {
	dir := t.TempDir()
	signer, _ := generated(t)
	a := artifact(t, "1.0.0")
	pinned := ref(t, "h.example/store:1").Pinned(a.Digest)
	s := &pluginregistry.Source{Store: pluginregistry.StoreIn(dir), PluginsDir: dir, Keys: []pluginregistry.PublicKey{signer.Public}}
	signature, err := signer.Sign(pinned)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Store.Put(a, nil, nil); err != nil {
		t.Fatal(err)
	}
	by := signer.Public.Signer()
	err = s.VerifySigner(pinned.Source(), by, a.Wasm)
	wantError(t, err, "not signed at all", "pull it again")
	if _, err := s.Store.Put(a, []pluginregistry.Signature{signature}, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.VerifySigner(pinned.Source(), by, a.Wasm); err != nil {
		t.Error(err)
	}
	if err := s.VerifySigner(pinned.Source(), "", nil); err != nil {
		t.Error(err)
	}
	err = s.VerifySigner(pinned.Source(), by, []byte("x"))
	wantError(t, err, "the store holds another module")
	err = s.VerifySigner(pinned.Source(), "key:"+strings.Repeat("0", 64), a.Wasm)
	wantError(t, err, "no public key with the fingerprint 0000", "--keys-dir")
	err = s.VerifySigner(pinned.Source(), "ann", a.Wasm)
	wantError(t, err, `signer "ann"`)
	err = s.VerifySigner("embedded:store.wasm", by, a.Wasm)
	wantError(t, err, "cannot be signed on its own")

	err = s.VerifySigner("file:store.wasm", by, a.Wasm)
	wantError(t, err, "there is no store.wasm.sig beside it")
	sig, err := signer.SignBlob(bytes.NewReader(a.Wasm))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "store.wasm.sig"), sig, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := s.VerifySigner("file:store.wasm", by, a.Wasm); err != nil {
		t.Error(err)
	}
	err = s.VerifySigner("file:store.wasm", by, a.Wasm[1:])
	wantError(t, err, "store.wasm.sig: no signature by a trusted key")
}
