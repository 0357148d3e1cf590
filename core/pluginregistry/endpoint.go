package pluginregistry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/cleat-dev/cleat/core/pluginregistry/registriesfile"
)

// maxPages bounds how often a registry may say that there is more.
const maxPages = 8

// endpoint is one place a repository is looked for.
type endpoint struct {
	registriesfile.Endpoint
	mirrorOf string // the registry, "" if this is the registry itself
}

// origin is the registry itself. Its address is https://, unless the file lists
// it among its own endpoints and says something else.
func (c *Client) origin(host string) (endpoint, error) {
	all, err := c.endpoints(host)
	if err != nil {
		return endpoint{}, err
	}
	i := slices.IndexFunc(all, func(e endpoint) bool { return e.mirrorOf == "" })
	return all[i], nil
}

// endpoints are the mirrors of a registry and then itself, unless it is among
// them.
func (c *Client) endpoints(host string) ([]endpoint, error) {
	own := host
	if host == dockerName {
		own = dockerHost
	}
	mirrors, err := c.registries.Endpoints(host)
	if err != nil {
		return nil, fmt.Errorf("registries.yaml: %w", err)
	}
	var all []endpoint
	itself := false
	for _, m := range mirrors {
		e := endpoint{Endpoint: m}
		if m.Host == own {
			itself = true
		} else {
			e.mirrorOf = host
		}
		all = append(all, e)
	}
	if !itself {
		all = append(all, endpoint{Endpoint: registriesfile.Endpoint{Host: own, Root: registriesfile.DefaultRoot}})
	}
	return all, nil
}

func (c *Client) repository(e endpoint, ref Reference) *remote.Repository {
	return &remote.Repository{
		Client:    c.httpClient(e),
		Reference: registry.Reference{Registry: e.Host, Repository: e.Prefix + ref.Repository},
		PlainHTTP: e.Plain,
		// Some registries redirect or refuse what they were not asked for.
		ManifestMediaTypes:   []string{v1.MediaTypeImageManifest, v1.MediaTypeImageIndex},
		MaxMetadataBytes:     maxManifest,
		ReferrerListMaxPages: maxPages,
		SkipReferrersGC:      true, // many registries allow no deletion
	}
}

// each tries the mirrors of the reference's registry and then the registry
// itself until one succeeds.
func (c *Client) each(ctx context.Context, ref Reference, try func(*remote.Repository) error) error {
	all, err := c.endpoints(ref.Registry)
	if err != nil {
		return err
	}
	var errs []error
	for i, e := range all {
		err := try(c.repository(e, ref))
		if err == nil {
			return nil
		}
		err = c.explain(ctx, e, ref, err)
		if ctx.Err() != nil {
			return err
		}
		if i < len(all)-1 {
			c.log.Info("a mirror does not help, the next is tried", "mirror", e.Host, "plugin", ref.String(), "error", err)
		}
		errs = append(errs, err)
	}
	return join(errs...)
}

// fetchManifest returns a manifest by tag or digest; what it points to is
// unchecked, its own digest is not.
func fetchManifest(ctx context.Context, repo *remote.Repository, reference string) (text []byte, digest string, err error) {
	d, body, err := repo.Manifests().FetchReference(ctx, reference)
	if err != nil {
		return nil, "", err
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	if d.Size > maxManifest {
		return nil, "", fmt.Errorf("the manifest is said to have %d bytes, at most %d are read", d.Size, maxManifest)
	}
	text, err = io.ReadAll(io.LimitReader(body, maxManifest+1))
	if err != nil {
		return nil, "", err
	}
	if len(text) > maxManifest {
		return nil, "", fmt.Errorf("the manifest is larger than the %d bytes that are read", maxManifest)
	}
	digest = d.Digest.String()
	if isDigest(reference) {
		digest = reference
	}
	return text, digest, checkDigest("the manifest", text, digest)
}

// fetchBlob returns what the descriptor describes; its size is bounded already.
func fetchBlob(ctx context.Context, repo *remote.Repository, what string, d v1.Descriptor) (data []byte, err error) {
	body, err := repo.Blobs().Fetch(ctx, d)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	data, err = content.ReadAll(body, d)
	switch {
	case errors.Is(err, content.ErrTrailingData):
		return nil, fmt.Errorf("%s has more than the %d bytes its manifest says", what, d.Size)
	case errors.Is(err, content.ErrMismatchedDigest):
		return nil, fmt.Errorf("%s has another digest than %s: it was changed on its way", what, d.Digest)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil, fmt.Errorf("%s ends before its %d bytes: the connection broke, or the registry is wrong", what, d.Size)
	}
	return data, err
}
