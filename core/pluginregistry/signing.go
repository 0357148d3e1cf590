package pluginregistry

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote"
)

// How cosign keeps signatures: an image under a tag made from the digest it is
// about, one layer a signature.
const (
	mediaTypeSigned     = "application/vnd.dev.cosign.simplesigning.v1+json"
	annotationSignature = "dev.cosignproject.cosign/signature"
)

func signatureTag(manifestDigest string) string {
	return strings.Replace(manifestDigest, ":", "-", 1) + ".sig"
}

// Sign signs a plugin in the registry itself and adds the signature to those
// that are there. The plugin is fetched and checked first, so that what is signed
// is a plugin. added is false if the key has signed it before.
func (c *Client) Sign(ctx context.Context, ref Reference, signer *Signer) (signed Reference, added bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	wanted, err := ref.wanted()
	if err != nil {
		return ref, false, err
	}
	err = c.atOrigin(ctx, ref, "sign", func(repo *remote.Repository) error {
		a, err := fetchFrom(ctx, repo, wanted)
		if err != nil {
			return err
		}
		signed = ref.Pinned(a.Digest)
		layers, list, err := readSignatures(ctx, repo, signed.Digest)
		if err != nil && !errors.Is(err, errNone) {
			return err
		}
		if _, err := VerifySignature(signed.Digest, list, []PublicKey{signer.Public}); err == nil {
			return nil
		}
		if len(layers) >= maxSignatures {
			return fmt.Errorf("it has %d signatures already, at most %d are read", len(layers), maxSignatures)
		}
		s, err := signer.Sign(signed)
		if err != nil {
			return err
		}
		added = true
		return pushSignature(ctx, repo, signed.Digest, layers, s)
	})
	return signed, added, err
}

// fetchFrom returns the artifact from one repository.
func fetchFrom(ctx context.Context, repo *remote.Repository, wanted string) (*Artifact, error) {
	text, digest, err := fetchManifest(ctx, repo, wanted)
	if err != nil {
		return nil, err
	}
	m, err := parseManifest(text)
	if err != nil {
		return nil, err
	}
	config, err := fetchBlob(ctx, repo, "the config", m.Config)
	if err != nil {
		return nil, err
	}
	wasm, err := fetchBlob(ctx, repo, "the module", m.Layers[0])
	if err != nil {
		return nil, err
	}
	return ReadArtifact(digest, text, config, wasm)
}

func pushSignature(ctx context.Context, repo *remote.Repository, manifestDigest string, layers []v1.Descriptor, s Signature) error {
	layer := describe(mediaTypeSigned, s.Payload)
	layer.Annotations = map[string]string{annotationSignature: base64.StdEncoding.EncodeToString(s.Signature)}
	layers = append(layers, layer)
	config, err := signatureConfig(layers)
	if err != nil {
		return err
	}
	manifest, err := json.Marshal(v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest,
		Config: describe(v1.MediaTypeImageConfig, config), Layers: layers,
	})
	if err != nil {
		return err
	}
	if err := pushBlob(ctx, repo, layer, s.Payload); err != nil {
		return err
	}
	if err := pushBlob(ctx, repo, describe(v1.MediaTypeImageConfig, config), config); err != nil {
		return err
	}
	return repo.Manifests().PushReference(ctx, describe(v1.MediaTypeImageManifest, manifest), bytes.NewReader(manifest), signatureTag(manifestDigest))
}

// signatureConfig is the config of the image of signatures, which readers of
// images expect to name its layers.
func signatureConfig(layers []v1.Descriptor) ([]byte, error) {
	image := v1.Image{RootFS: v1.RootFS{Type: "layers"}}
	for _, l := range layers {
		image.RootFS.DiffIDs = append(image.RootFS.DiffIDs, l.Digest)
	}
	return json.Marshal(image)
}

// fetchSignatures returns the signatures from a mirror or the registry.
func (c *Client) fetchSignatures(ctx context.Context, ref Reference) (list []Signature, err error) {
	err = c.each(ctx, ref, func(repo *remote.Repository) error {
		_, list, err = readSignatures(ctx, repo, ref.Digest)
		return err
	})
	return list, ignoreNone(err)
}

// readSignatures returns the layers of the image of signatures, and those that
// are signatures of the kind that is verified here.
func readSignatures(ctx context.Context, repo *remote.Repository, manifestDigest string) ([]v1.Descriptor, []Signature, error) {
	text, _, err := fetchManifest(ctx, repo, signatureTag(manifestDigest))
	if errors.Is(err, errdef.ErrNotFound) {
		return nil, nil, fmt.Errorf("signature of %s: %w", manifestDigest, errNone)
	}
	if err != nil {
		return nil, nil, err
	}
	m, err := decodeManifest(text)
	if err != nil {
		return nil, nil, fmt.Errorf("the signatures: %w", err)
	}
	var list []Signature
	for _, l := range m.Layers {
		encoded, ok := l.Annotations[annotationSignature]
		if !ok || l.MediaType != mediaTypeSigned || len(list) == maxSignatures {
			continue
		}
		if err := checkDescriptor("a signed text", l, maxPayload); err != nil {
			return nil, nil, err
		}
		signature, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil || len(signature) == 0 || len(signature) > maxSignature {
			continue // by somebody else, in some other form: no signature that counts
		}
		payload, err := fetchBlob(ctx, repo, "a signed text", l)
		if err != nil {
			return nil, nil, err
		}
		list = append(list, Signature{Payload: payload, Signature: signature})
	}
	return m.Layers, list, nil
}
