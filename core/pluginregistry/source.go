package pluginregistry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Source reads the plugins of a lock that come from registries, and checks who
// signed plugins. The zero value has nothing.
type Source struct {
	Store      Store
	PluginsDir string       // for the .sig of file: sources; "" = none
	Client     *Client      // asked for what the store does not have; nil = nobody
	Keys       []PublicKey  // of the signers that may be trusted
	Logger     *slog.Logger // nil discards
}

// Read returns the module that a reference with a digest names, from the store,
// or else from the registry, which then is kept. It is made to be
// pluginhost.Sources.OCI.
func (s *Source) Read(ctx context.Context, reference string) ([]byte, error) {
	ref, err := pinnedReference(reference)
	if err != nil {
		return nil, err
	}
	a, err := s.Store.Read(ref.Digest)
	if err == nil {
		return a.Wasm, nil
	}
	if s.Client == nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("it is not in the store %s; fetch it with `cleat plugin pull oci://%s`", s.Store.Dir, ref)
		}
		return nil, err
	}
	s.logger().Info("plugin is pulled", "plugin", ref.String(), "reason", err)
	p, err := s.Client.Pull(ctx, ref)
	if err != nil {
		return nil, err
	}
	if _, err := s.Store.Put(p.Artifact, p.Signatures, p.Reports); err != nil {
		// The plugin is here all the same; only the next start needs the registry again.
		s.logger().Warn("pulled plugin was not kept", "plugin", ref.String(), "error", err)
	}
	return p.Artifact.Wasm, nil
}

// VerifySigner checks that the plugin with that source and module was signed by
// signer, as a lock entry has both. No signer is no demand.
func (s *Source) VerifySigner(source, signer string, wasm []byte) error {
	if signer == "" {
		return nil
	}
	key, err := s.key(signer)
	if err != nil {
		return err
	}
	kind, rest, _ := strings.Cut(source, ":")
	switch kind {
	case "oci":
		err = s.verifyOCI(rest, key, wasm)
	case "file":
		err = s.verifyFile(rest, key, wasm)
	default:
		err = fmt.Errorf("source %s cannot be signed on its own; remove signer from the lock", source)
	}
	return err
}

func (s *Source) verifyOCI(reference string, key PublicKey, wasm []byte) error {
	ref, err := pinnedReference(reference)
	if err != nil {
		return err
	}
	a, err := s.Store.Read(ref.Digest)
	if err != nil {
		return err
	}
	if !bytes.Equal(a.Wasm, wasm) {
		return fmt.Errorf("the store holds another module for %s, with SHA-256 %s instead of %s", ref, a.SHA256(), digest.FromBytes(wasm).Encoded())
	}
	signatures, err := s.Store.Signatures(ref.Digest)
	if err != nil {
		return err
	}
	if _, err = VerifySignature(ref.Digest, signatures, []PublicKey{key}); err != nil {
		return fmt.Errorf("%w; after it was signed, pull it again with `cleat plugin pull oci://%s`", err, ref)
	}
	return nil
}

// MaxBlobSignature bounds a .sig file.
const MaxBlobSignature = 8 << 10

func (s *Source) verifyFile(name string, key PublicKey, wasm []byte) error {
	root, err := os.OpenRoot(s.PluginsDir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	sig, err := readBelow(root, name+".sig", MaxBlobSignature)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no %s.sig beside it; make one with `cleat plugin sign`", name)
	}
	if err != nil {
		return err
	}
	if _, err := VerifyBlob(bytes.NewReader(wasm), sig, []PublicKey{key}); err != nil {
		return fmt.Errorf("%s.sig: %w", name, err)
	}
	return nil
}

// key finds the public key of a signer.
func (s *Source) key(signer string) (PublicKey, error) {
	fingerprint, ok := strings.CutPrefix(signer, SignerPrefix)
	if !ok || !isHex(fingerprint) {
		return PublicKey{}, fmt.Errorf("signer %q is not %s and the SHA-256 of a public key", clip(signer), SignerPrefix)
	}
	for _, k := range s.Keys {
		if k.Fingerprint == fingerprint {
			return k, nil
		}
	}
	return PublicKey{}, fmt.Errorf("%w: no public key with the fingerprint %s is known here; put it as a .pub file among the trusted keys (--keys-dir)", ErrNotSigned, fingerprint)
}

func pinnedReference(reference string) (Reference, error) {
	ref, err := ParseReference(reference)
	if err == nil && ref.Digest == "" {
		err = fmt.Errorf("reference %s has no digest; a lock pins one", ref)
	}
	return ref, err
}

func (s *Source) logger() *slog.Logger {
	if s.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Logger
}
