package pluginregistry

import (
	"context"
	"errors"
	"fmt"
	"slices"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote"
)

// Pulled is a plugin as a registry gave it, checked.
type Pulled struct {
	Reference  Reference // with the digest of the manifest
	Artifact   *Artifact
	Signatures []Signature // unverified
	Reports    [][]byte    // conformance reports, unverified
	// Incomplete is why signatures or reports could not be looked for; nil if
	// the lists are what there is.
	Incomplete error
}

// Pull fetches a plugin with its signatures and conformance reports, from a
// mirror if there is one.
func (c *Client) Pull(ctx context.Context, ref Reference) (*Pulled, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	p := &Pulled{}
	var err error
	if p.Artifact, err = c.fetch(ctx, ref); err != nil {
		return nil, fmt.Errorf("pull %s: %w", ref, err)
	}
	p.Reference = ref.Pinned(p.Artifact.Digest)
	var sigErr, reportErr error
	p.Signatures, sigErr = c.fetchSignatures(ctx, p.Reference)
	p.Reports, reportErr = c.fetchReports(ctx, p.Reference)
	p.Incomplete = join(sigErr, reportErr)
	return p, nil
}

// fetch returns the artifact alone.
func (c *Client) fetch(ctx context.Context, ref Reference) (*Artifact, error) {
	wanted, err := ref.wanted()
	if err != nil {
		return nil, err
	}
	var (
		text   []byte
		digest string
		m      v1.Manifest
	)
	err = c.each(ctx, ref, func(repo *remote.Repository) error {
		if text, digest, err = fetchManifest(ctx, repo, wanted); err != nil {
			return err
		}
		m, err = parseManifest(text)
		return err
	})
	if err != nil {
		return nil, err
	}
	config, err := c.blob(ctx, ref, "the config", m.Config)
	if err != nil {
		return nil, err
	}
	if err := checkConfig(config, m.Layers[0].Digest.String()); err != nil {
		return nil, err
	}
	wasm, err := c.blob(ctx, ref, "the module", m.Layers[0])
	if err != nil {
		return nil, err
	}
	return ReadArtifact(digest, text, config, wasm)
}

func (c *Client) blob(ctx context.Context, ref Reference, what string, d v1.Descriptor) (data []byte, err error) {
	err = c.each(ctx, ref, func(repo *remote.Repository) error {
		data, err = fetchBlob(ctx, repo, what, d)
		return err
	})
	return data, err
}

// fetchReports returns the conformance reports that refer to the artifact.
func (c *Client) fetchReports(ctx context.Context, ref Reference) (reports [][]byte, err error) {
	subject := v1.Descriptor{MediaType: v1.MediaTypeImageManifest, Digest: godigest(ref.Digest)}
	err = c.each(ctx, ref, func(repo *remote.Repository) error {
		var found []v1.Descriptor
		err := repo.Referrers(ctx, subject, ArtifactTypeReport, func(page []v1.Descriptor) error {
			found = append(found, page...)
			if len(found) > maxReports {
				// The newest are at the end.
				found = slices.Clone(found[len(found)-maxReports:])
			}
			return nil
		})
		if err != nil {
			return err
		}
		if len(found) == 0 {
			return fmt.Errorf("conformance report of %s: %w", ref, errNone)
		}
		reports = nil
		for _, d := range found {
			text, err := fetchReport(ctx, repo, d)
			if err != nil {
				return err
			}
			reports = append(reports, text)
		}
		return nil
	})
	return reports, ignoreNone(err)
}

func fetchReport(ctx context.Context, repo *remote.Repository, d v1.Descriptor) ([]byte, error) {
	if err := checkDescriptor("the report's manifest", d, maxManifest); err != nil {
		return nil, err
	}
	text, _, err := fetchManifest(ctx, repo, d.Digest.String())
	if err != nil {
		return nil, err
	}
	m, err := decodeManifest(text)
	if err != nil {
		return nil, err
	}
	if len(m.Layers) != 1 || m.Layers[0].MediaType != ArtifactTypeReport {
		return nil, errors.New("the report's manifest has not exactly one layer of the type " + ArtifactTypeReport)
	}
	if err := checkDescriptor("the report", m.Layers[0], MaxReportBytes); err != nil {
		return nil, err
	}
	return fetchBlob(ctx, repo, "the report", m.Layers[0])
}

// errNone makes each go on to the next endpoint, which may have what this one
// lacks.
var errNone = errors.New("there is none")

// ignoreNone is nil if every endpoint had nothing.
func ignoreNone(err error) error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var rest []error
		for _, e := range joined.Unwrap() {
			rest = append(rest, ignoreNone(e))
		}
		return join(rest...)
	}
	if errors.Is(err, errNone) || errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}
