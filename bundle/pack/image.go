package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// Media types of the OCI image specification.
const (
	typeIndex    = "application/vnd.oci.image.index.v1+json"
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeConfig   = "application/vnd.oci.image.config.v1+json"
	typeLayer    = "application/vnd.oci.image.layer.v1.tar+zstd"
)

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Platform    *platform         `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
}

type index struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Manifests     []descriptor `json:"manifests"`
}

type manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Config        descriptor   `json:"config"`
	Layers        []descriptor `json:"layers"`
}

type imageConfig struct {
	Created string `json:"created"`
	platform
	Config runConfig `json:"config"`
	RootFS rootFS    `json:"rootfs"`
}

type rootFS struct {
	Type    string   `json:"type"`
	DiffIDs []string `json:"diff_ids"`
}

// images makes images of specs in a tree that becomes an OCI layout.
type images struct {
	tree   *tree
	from   string // directory of the files that specs name
	level  zstd.EncoderLevel
	specs  map[string]spec // by ref
	layers map[string][]layer
}

// layer is a layer as it is stored, and the digest of what is in it.
type layer struct {
	stored descriptor
	diffID string
}

// layout builds the OCI layout that holds the images of all specs.
func layout(from string, level zstd.EncoderLevel, files []string) (*tree, error) {
	made := images{tree: newTree(), from: from, level: level, specs: map[string]spec{}, layers: map[string][]layer{}}
	var refs []string
	for _, file := range files {
		s, err := readSpec(file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if _, taken := made.specs[s.Ref]; taken {
			return nil, fmt.Errorf("%s: ref %s: another spec has it too", file, s.Ref)
		}
		made.specs[s.Ref] = s
		refs = append(refs, s.Ref)
	}
	list := index{SchemaVersion: 2, MediaType: typeIndex}
	for _, ref := range refs {
		d, err := made.image(made.specs[ref])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", ref, err)
		}
		list.Manifests = append(list.Manifests, d)
	}
	body, err := json.Marshal(list)
	if err != nil {
		return nil, err
	}
	return made.tree, errors.Join(
		made.tree.addFile("oci-layout", 0o644, []byte(`{"imageLayoutVersion":"1.0.0"}`)),
		made.tree.addFile("index.json", 0o644, body),
	)
}

// image adds the blobs of one image and returns the descriptor of its manifest.
func (m *images) image(s spec) (descriptor, error) {
	layers, err := m.layersOf(s, nil)
	if err != nil {
		return descriptor{}, err
	}
	stored := make([]descriptor, len(layers))
	diffIDs := make([]string, len(layers))
	for i, l := range layers {
		stored[i], diffIDs[i] = l.stored, l.diffID
	}
	on := platform{Architecture: runtime.GOARCH, OS: "linux"}
	config, err := addJSON(m.tree, typeConfig, imageConfig{
		Created:  "1970-01-01T00:00:00Z",
		platform: on,
		Config:   s.Config,
		RootFS:   rootFS{Type: "layers", DiffIDs: diffIDs},
	})
	if err != nil {
		return descriptor{}, err
	}
	d, err := addJSON(m.tree, typeManifest, manifest{
		SchemaVersion: 2,
		MediaType:     typeManifest,
		Config:        config,
		Layers:        stored,
	})
	d.Platform = &on
	// containerd names an imported image by the first; other tools by the second.
	d.Annotations = map[string]string{"io.containerd.image.name": s.Ref, "org.opencontainers.image.ref.name": s.Ref}
	return d, err
}

// layersOf adds the layers of an image, those of its base first. above are the
// refs that stand on s.
func (m *images) layersOf(s spec, above []string) ([]layer, error) {
	if known, ok := m.layers[s.Ref]; ok {
		return known, nil
	}
	if above = append(above, s.Ref); slices.Contains(above[:len(above)-1], s.Ref) {
		return nil, fmt.Errorf("base: %s stands on itself", strings.Join(above, " on "))
	}
	var layers []layer
	if s.Base != "" {
		base, ok := m.specs[s.Base]
		if !ok {
			return nil, fmt.Errorf("base %q: no spec of this archive has that ref", s.Base)
		}
		below, err := m.layersOf(base, above)
		if err != nil {
			return nil, err
		}
		layers = slices.Clone(below)
	}
	own, err := m.layer(s)
	if err != nil {
		return nil, err
	}
	layers = append(layers, own)
	m.layers[s.Ref] = layers
	return layers, nil
}

// layer adds the layer that a spec describes itself.
func (m *images) layer(s spec) (layer, error) {
	root, err := s.rootfs(m.from)
	if err != nil {
		return layer{}, err
	}
	plain, err := root.bytes()
	if err != nil {
		return layer{}, err
	}
	var packed bytes.Buffer
	z, err := newZstd(&packed, m.level)
	if err != nil {
		return layer{}, err
	}
	if _, err := z.Write(plain); err != nil {
		return layer{}, errors.Join(err, z.Close())
	}
	if err := z.Close(); err != nil {
		return layer{}, err
	}
	stored, err := addBlob(m.tree, typeLayer, packed.Bytes())
	return layer{stored: stored, diffID: digestOf(plain)}, err
}

func addJSON(t *tree, mediaType string, v any) (descriptor, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return descriptor{}, err
	}
	return addBlob(t, mediaType, body)
}

func addBlob(t *tree, mediaType string, body []byte) (descriptor, error) {
	d := descriptor{MediaType: mediaType, Digest: digestOf(body), Size: int64(len(body))}
	name := "blobs/sha256/" + strings.TrimPrefix(d.Digest, "sha256:")
	if _, shared := t.entries[name]; shared {
		return d, nil
	}
	return d, t.addFile(name, 0o644, body)
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}
