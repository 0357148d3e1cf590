package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
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

// layout builds the OCI layout that holds the images of all specs.
func layout(from string, specs []string) (*tree, error) {
	t := newTree()
	list := index{SchemaVersion: 2, MediaType: typeIndex}
	for _, file := range specs {
		s, err := readSpec(file)
		if err == nil {
			var d descriptor
			if d, err = image(t, from, s); err == nil {
				list.Manifests = append(list.Manifests, d)
				continue
			}
		}
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	body, err := json.Marshal(list)
	if err != nil {
		return nil, err
	}
	return t, errors.Join(
		t.addFile("oci-layout", 0o644, []byte(`{"imageLayoutVersion":"1.0.0"}`)),
		t.addFile("index.json", 0o644, body),
	)
}

// image adds the blobs of one image and returns the descriptor of its manifest.
func image(t *tree, from string, s spec) (descriptor, error) {
	root, err := s.rootfs(from)
	if err != nil {
		return descriptor{}, err
	}
	plain, err := root.bytes()
	if err != nil {
		return descriptor{}, err
	}
	var packed bytes.Buffer
	z, err := newZstd(&packed, densest)
	if err != nil {
		return descriptor{}, err
	}
	if _, err := z.Write(plain); err != nil {
		return descriptor{}, errors.Join(err, z.Close())
	}
	if err := z.Close(); err != nil {
		return descriptor{}, err
	}
	layer, err := addBlob(t, typeLayer, packed.Bytes())
	if err != nil {
		return descriptor{}, err
	}

	on := platform{Architecture: runtime.GOARCH, OS: "linux"}
	config, err := addJSON(t, typeConfig, imageConfig{
		Created:  "1970-01-01T00:00:00Z",
		platform: on,
		Config:   s.Config,
		RootFS:   rootFS{Type: "layers", DiffIDs: []string{digestOf(plain)}},
	})
	if err != nil {
		return descriptor{}, err
	}
	d, err := addJSON(t, typeManifest, manifest{
		SchemaVersion: 2,
		MediaType:     typeManifest,
		Config:        config,
		Layers:        []descriptor{layer},
	})
	d.Platform = &on
	// containerd names an imported image by the first; other tools by the second.
	d.Annotations = map[string]string{"io.containerd.image.name": s.Ref, "org.opencontainers.image.ref.name": s.Ref}
	return d, err
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
