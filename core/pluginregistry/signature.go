package pluginregistry

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/sigstore/sigstore/pkg/signature/payload"
)

// Bounds of signatures.
const (
	maxSignatures = 32 // of one plugin
	maxPayload    = 16 << 10
	maxSignature  = 4 << 10
)

// Signature is one signature of a plugin, as cosign makes them: over a text that
// names the digest of the manifest.
type Signature struct {
	Payload   []byte `json:"payload"`
	Signature []byte `json:"signature"`
}

// ErrNotSigned is why VerifySignature and VerifyBlob fail: no signature by any
// of the keys.
var ErrNotSigned = errors.New("no signature by a trusted key")

// Sign signs the manifest that the reference pins.
func (s *Signer) Sign(ref Reference) (Signature, error) {
	image, err := name.NewDigest(ref.Registry + "/" + ref.Repository + "@" + ref.Digest)
	if err != nil {
		return Signature{}, fmt.Errorf("sign %s: %w", ref, err)
	}
	text, err := json.Marshal(payload.Cosign{Image: image})
	if err != nil {
		return Signature{}, err
	}
	signature, err := s.signer.SignMessage(bytes.NewReader(text))
	if err != nil {
		return Signature{}, fmt.Errorf("sign %s: %w", ref, err)
	}
	return Signature{Payload: text, Signature: signature}, nil
}

// VerifySignature returns the fingerprint of the first key of which there is a
// valid signature of the manifest with that digest ("sha256:…"). The repository
// that a signature names is not compared, so that mirrors can serve it.
func VerifySignature(manifestDigest string, signatures []Signature, keys []PublicKey) (fingerprint string, err error) {
	if !isDigest(manifestDigest) {
		return "", fmt.Errorf("verify a signature: %q is no digest of a manifest", clip(manifestDigest))
	}
	var about error
	switch {
	case len(keys) == 0:
		about = errors.New("no public key was given")
	case len(signatures) == 0:
		about = errors.New("it is not signed at all")
	default:
		about = fmt.Errorf("it has %d signatures, by other keys", len(signatures))
	}
	for _, key := range keys {
		for _, s := range signatures {
			if len(s.Payload) > maxPayload || len(s.Signature) > maxSignature ||
				key.verifier.VerifySignature(bytes.NewReader(s.Signature), bytes.NewReader(s.Payload)) != nil {
				continue
			}
			if err := checkPayload(s.Payload, manifestDigest); err != nil {
				about = fmt.Errorf("key %s signed something else: %w", key.Fingerprint, err)
				continue
			}
			return key.Fingerprint, nil
		}
	}
	return "", fmt.Errorf("%s: %w: %w", manifestDigest, ErrNotSigned, about)
}

// checkPayload reads a text whose signature is valid.
func checkPayload(text []byte, manifestDigest string) error {
	var p payload.SimpleContainerImage
	if err := json.Unmarshal(text, &p); err != nil {
		return errors.New("the signed text is no JSON")
	}
	if p.Critical.Type != payload.CosignSignatureType {
		return fmt.Errorf("the signed text is of type %q", clip(p.Critical.Type))
	}
	if got := p.Critical.Image.DockerManifestDigest; got != manifestDigest {
		return fmt.Errorf("the signed text names %s", clip(got))
	}
	return nil
}

// SignBlob signs bytes that are in no registry: a file. The result is the text of
// a .sig file, as `cosign sign-blob` writes it.
func (s *Signer) SignBlob(data io.Reader) ([]byte, error) {
	signature, err := s.signer.SignMessage(data)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return []byte(base64.StdEncoding.EncodeToString(signature)), nil
}

// VerifyBlob returns the fingerprint of the key that made the .sig file of data,
// which is read once for each key.
func VerifyBlob(data io.ReadSeeker, sig []byte, keys []PublicKey) (fingerprint string, err error) {
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(sig)))
	if err != nil || len(raw) > maxSignature {
		return "", fmt.Errorf("%w: the signature is no base64", ErrNotSigned)
	}
	for _, key := range keys {
		if _, err := data.Seek(0, io.SeekStart); err != nil {
			return "", err
		}
		if key.verifier.VerifySignature(bytes.NewReader(raw), data) == nil {
			return key.Fingerprint, nil
		}
	}
	return "", fmt.Errorf("%w: tried %d keys", ErrNotSigned, len(keys))
}

// MergeSignatures joins two lists, each signature once, in a fixed order.
func MergeSignatures(a, b []Signature) []Signature {
	all := append(slices.Clone(a), b...)
	slices.SortFunc(all, func(x, y Signature) int {
		if c := bytes.Compare(x.Payload, y.Payload); c != 0 {
			return c
		}
		return bytes.Compare(x.Signature, y.Signature)
	})
	return slices.CompactFunc(all, func(x, y Signature) bool {
		return bytes.Equal(x.Payload, y.Payload) && bytes.Equal(x.Signature, y.Signature)
	})
}
