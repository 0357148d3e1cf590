package pluginregistry

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/hostabi/wasmfile"
)

// Media types of a plugin in a registry.
const (
	MediaTypeConfig = "application/vnd.wasm.config.v0+json"
	MediaTypeWasm   = "application/wasm"
)

// Bounds of what a registry may send.
const (
	maxManifest = 256 << 10
	maxConfig   = 64 << 10
)

// wasmConfig is the config of the artifact.
type wasmConfig struct {
	// Created is always the epoch: the time of a build would give every build
	// another digest, and readers of this layout insist on one.
	Created      string   `json:"created,omitempty"`
	Author       string   `json:"author,omitempty"`
	Architecture string   `json:"architecture"`
	OS           string   `json:"os"`
	LayerDigests []string `json:"layerDigests"`
}

const (
	epoch      = "1970-01-01T00:00:00Z"
	configArch = "wasm"
	configOS   = "wasip1" // a core module; wasip2 is a component
)

// Artifact is a plugin as a registry holds it: three texts that fit together.
type Artifact struct {
	Digest   string // of Manifest, "sha256:…"
	Manifest []byte
	Config   []byte
	Wasm     []byte
	Plugin   hostabi.Manifest // what the module says about itself
}

// NewArtifact packs a plugin. Equal plugins give equal artifacts.
func NewArtifact(wasm []byte) (*Artifact, error) {
	plugin, err := readPlugin(wasm)
	if err != nil {
		return nil, err
	}
	layer := describe(MediaTypeWasm, wasm)
	layer.Annotations = map[string]string{v1.AnnotationTitle: plugin.Name + ".wasm"}
	config, err := json.Marshal(wasmConfig{Created: epoch, Architecture: configArch, OS: configOS, LayerDigests: []string{layer.Digest.String()}})
	if err != nil {
		return nil, err
	}
	annotations := map[string]string{v1.AnnotationTitle: plugin.Name, v1.AnnotationVersion: plugin.Version}
	if plugin.Description != "" {
		annotations[v1.AnnotationDescription] = plugin.Description
	}
	manifest, err := json.Marshal(v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest,
		Config: describe(MediaTypeConfig, config), Layers: []v1.Descriptor{layer}, Annotations: annotations,
	})
	if err != nil {
		return nil, err
	}
	return ReadArtifact(digest.FromBytes(manifest).String(), manifest, config, wasm)
}

// ReadArtifact checks that the texts are what the digest of the manifest names,
// and a plugin.
func ReadArtifact(manifestDigest string, manifest, config, wasm []byte) (*Artifact, error) {
	if err := checkDigest("the manifest", manifest, manifestDigest); err != nil {
		return nil, err
	}
	m, err := parseManifest(manifest)
	if err != nil {
		return nil, err
	}
	if err := checkContent("the config", config, m.Config); err != nil {
		return nil, err
	}
	if err := checkConfig(config, m.Layers[0].Digest.String()); err != nil {
		return nil, err
	}
	if err := checkContent("the module", wasm, m.Layers[0]); err != nil {
		return nil, err
	}
	plugin, err := readPlugin(wasm)
	if err != nil {
		return nil, err
	}
	return &Artifact{Digest: manifestDigest, Manifest: manifest, Config: config, Wasm: wasm, Plugin: plugin}, nil
}

// SHA256 is the digest of the module, as a lock spells it.
func (a *Artifact) SHA256() string { return digest.FromBytes(a.Wasm).Encoded() }

func (a *Artifact) descriptor() v1.Descriptor { return describe(v1.MediaTypeImageManifest, a.Manifest) }

func readPlugin(wasm []byte) (hostabi.Manifest, error) {
	file, err := wasmfile.Parse(wasm)
	if err != nil {
		return hostabi.Manifest{}, fmt.Errorf("the module cannot be read: %w", err)
	}
	m, err := file.Manifest()
	if err != nil {
		return hostabi.Manifest{}, fmt.Errorf("the module is no plugin: %w", err)
	}
	return m, nil
}

// parseManifest reads the manifest of a plugin and bounds what it points to.
func parseManifest(data []byte) (v1.Manifest, error) {
	m, err := decodeManifest(data)
	if err != nil {
		return m, err
	}
	switch {
	case m.Config.MediaType != MediaTypeConfig:
		return m, fmt.Errorf("the config is of type %q, that of a plugin is %s: this is another kind of artifact", clip(m.Config.MediaType), MediaTypeConfig)
	case len(m.Layers) != 1:
		return m, fmt.Errorf("the artifact has %d layers, a plugin has exactly one", len(m.Layers))
	case m.Layers[0].MediaType != MediaTypeWasm:
		return m, fmt.Errorf("the layer is of type %q, that of a plugin is %s", clip(m.Layers[0].MediaType), MediaTypeWasm)
	}
	if err := checkDescriptor("the config", m.Config, maxConfig); err != nil {
		return m, err
	}
	return m, checkDescriptor("the module", m.Layers[0], wasmfile.MaxBytes)
}

// decodeManifest reads an image manifest of any kind.
func decodeManifest(data []byte) (v1.Manifest, error) {
	var m v1.Manifest
	if len(data) > maxManifest {
		return m, fmt.Errorf("the manifest is larger than %d bytes", maxManifest)
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return m, fmt.Errorf("the manifest is no JSON: %w", err)
	}
	switch m.MediaType {
	case v1.MediaTypeImageManifest:
	case v1.MediaTypeImageIndex, "application/vnd.docker.distribution.manifest.list.v2+json":
		return m, errors.New("the reference names an index of several images, a plugin is a single manifest")
	default:
		return m, fmt.Errorf("the manifest is of type %q, that of a plugin is %s", clip(m.MediaType), v1.MediaTypeImageManifest)
	}
	if m.SchemaVersion != 2 {
		return m, fmt.Errorf("the manifest has schema version %d, want 2", m.SchemaVersion)
	}
	return m, nil
}

func checkConfig(data []byte, layer string) error {
	var c wasmConfig
	if err := json.Unmarshal(data, &c); err != nil {
		return fmt.Errorf("the config is no JSON: %w", err)
	}
	switch {
	case c.Architecture != configArch:
		return fmt.Errorf("the config says architecture %q, that of a plugin is %s", clip(c.Architecture), configArch)
	case c.OS != configOS:
		return fmt.Errorf("the config says os %q, that of a plugin is %s: a core module, not a component", clip(c.OS), configOS)
	case len(c.LayerDigests) != 1 || c.LayerDigests[0] != layer:
		return errors.New("layerDigests of the config does not name the one layer")
	}
	return nil
}

// checkDescriptor refuses what must not even be fetched.
func checkDescriptor(what string, d v1.Descriptor, most int64) error {
	switch {
	case !isDigest(d.Digest.String()):
		return fmt.Errorf("%s has the digest %q, want sha256: and 64 hex digits", what, clip(d.Digest.String()))
	case d.Size <= 0 || d.Size > most:
		return fmt.Errorf("%s is said to have %d bytes, at most %d are read", what, d.Size, most)
	}
	return nil
}

func checkContent(what string, data []byte, d v1.Descriptor) error {
	if int64(len(data)) != d.Size {
		return fmt.Errorf("%s has %d bytes, its manifest says %d", what, len(data), d.Size)
	}
	return checkDigest(what, data, d.Digest.String())
}

func checkDigest(what string, data []byte, want string) error {
	if got := digest.FromBytes(data).String(); got != want {
		return fmt.Errorf("%s has the digest %s, not %s: it was changed on its way or on disk", what, got, clip(want))
	}
	return nil
}

func describe(mediaType string, data []byte) v1.Descriptor {
	return v1.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
}
