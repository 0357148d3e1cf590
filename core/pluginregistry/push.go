package pluginregistry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote"
)

// ArtifactTypeReport is the type of a conformance report in a registry, and of
// its only layer.
const ArtifactTypeReport = "application/vnd.cleat.conformance.v1+yaml"

func godigest(text string) digest.Digest { return digest.Digest(text) }

// Push puts a plugin into the registry itself, never a mirror, under the
// reference's tag, and returns the reference with the digest.
func (c *Client) Push(ctx context.Context, ref Reference, a *Artifact) (Reference, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	if ref.Digest != "" && ref.Digest != a.Digest {
		return ref, fmt.Errorf("push %s: the plugin has the digest %s; leave the digest out of the reference", ref, a.Digest)
	}
	pinned := ref.Pinned(a.Digest)
	return pinned, c.atOrigin(ctx, ref, "push", func(repo *remote.Repository) error {
		m, err := parseManifest(a.Manifest)
		if err != nil {
			return err
		}
		if err := pushBlob(ctx, repo, m.Config, a.Config); err != nil {
			return err
		}
		if err := pushBlob(ctx, repo, m.Layers[0], a.Wasm); err != nil {
			return err
		}
		tag := ref.Tag
		if tag == "" {
			tag = a.Digest
		}
		return repo.Manifests().PushReference(ctx, a.descriptor(), bytes.NewReader(a.Manifest), tag)
	})
}

// PushReport attaches a conformance report to a plugin that is in the registry.
// The digest returned is that of the report's manifest.
func (c *Client) PushReport(ctx context.Context, ref Reference, a *Artifact, report []byte) (manifestDigest string, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	if len(report) == 0 || len(report) > MaxReportBytes {
		return "", fmt.Errorf("push the report of %s: it has %d bytes, must be 1 to %d", ref, len(report), MaxReportBytes)
	}
	layer := describe(ArtifactTypeReport, report)
	subject := a.descriptor()
	manifest, err := json.Marshal(v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest, ArtifactType: ArtifactTypeReport,
		Config: v1.DescriptorEmptyJSON, Layers: []v1.Descriptor{layer}, Subject: &subject,
	})
	if err != nil {
		return "", err
	}
	d := describe(v1.MediaTypeImageManifest, manifest)
	d.ArtifactType = ArtifactTypeReport
	err = c.atOrigin(ctx, ref, "push the report of", func(repo *remote.Repository) error {
		if err := pushBlob(ctx, repo, v1.DescriptorEmptyJSON, v1.DescriptorEmptyJSON.Data); err != nil {
			return err
		}
		if err := pushBlob(ctx, repo, layer, report); err != nil {
			return err
		}
		return repo.Manifests().Push(ctx, d, bytes.NewReader(manifest))
	})
	return d.Digest.String(), err
}

// atOrigin does something at the registry itself.
func (c *Client) atOrigin(ctx context.Context, ref Reference, what string, do func(*remote.Repository) error) error {
	e, err := c.origin(ref.Registry)
	if err == nil {
		if err = do(c.repository(e, ref)); err != nil {
			err = c.explain(ctx, e, ref, err)
		}
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", what, ref, err)
	}
	return nil
}

// pushBlob uploads what the registry does not have yet.
func pushBlob(ctx context.Context, repo *remote.Repository, d v1.Descriptor, data []byte) error {
	there, err := repo.Blobs().Exists(ctx, d)
	if err == nil && there {
		return nil
	}
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		return err // no connection; to wait for it once more helps nobody
	}
	return repo.Blobs().Push(ctx, d, bytes.NewReader(data))
}
