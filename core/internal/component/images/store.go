package images

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	client "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
)

// What the CRI goes by.
const (
	criNamespace = "k8s.io"
	labelManaged = "io.cri-containerd.image"  // "managed": the image is the CRI's
	labelPinned  = "io.cri-containerd.pinned" // "pinned": the kubelet does not collect it
)

const dialTimeout = 30 * time.Second

var errNotContainerd = errors.New("the container runtime is not containerd")

// containerdStore is the store of a containerd, ours or another.
type containerdStore struct {
	client      *client.Client
	snapshotter string
}

func openContainerd(ctx context.Context, endpoint, snapshotter string) (*containerdStore, error) {
	path := strings.TrimPrefix(endpoint, "unix://")
	c, err := client.New(path, client.WithDefaultNamespace(criNamespace), client.WithTimeout(dialTimeout))
	if err != nil {
		return nil, fmt.Errorf("containerd at %s: %w", endpoint, err)
	}
	if _, err := c.Version(ctx); err != nil {
		if errdefs.IsNotImplemented(err) {
			err = errNotContainerd
		}
		return nil, errors.Join(fmt.Errorf("containerd at %s: %w", endpoint, err), c.Close())
	}
	return &containerdStore{client: c, snapshotter: snapshotter}, nil
}

func (s *containerdStore) Close() error { return s.client.Close() }

func (s *containerdStore) Missing(ctx context.Context, names []string) ([]string, error) {
	var missing []string
	for _, name := range names {
		img, err := s.client.GetImage(ctx, name)
		if err == nil {
			var unpacked bool
			if unpacked, err = img.IsUnpacked(ctx, s.snapshotter); err == nil && unpacked {
				continue
			}
		}
		if err != nil && !errdefs.IsNotFound(err) {
			return nil, fmt.Errorf("image %s: %w", name, err)
		}
		missing = append(missing, name)
	}
	return missing, nil
}

func (s *containerdStore) Import(ctx context.Context, archive io.Reader) ([]string, error) {
	// Without a lease the collector may take an image before all is named.
	ctx, done, err := s.client.WithLease(ctx)
	if err != nil {
		return nil, err
	}
	defer done(context.WithoutCancel(ctx))

	labels := map[string]string{labelManaged: "managed", labelPinned: "pinned"}
	imported, err := s.client.Import(ctx, &stoppableReader{ctx, archive},
		client.WithImageLabels(labels),
		client.WithImageRefTranslator(fullName),
		// An archive of one platform may keep the index of all.
		client.WithSkipMissing())
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, img := range imported {
		full := client.NewImage(s.client, img)
		if err := full.Unpack(ctx, s.snapshotter); err != nil {
			return nil, fmt.Errorf("unpack %s: %w", img.Name, err)
		}
		aliases, err := s.alias(ctx, full, labels)
		if err != nil {
			return nil, err
		}
		names[img.Name] = true
		for _, alias := range aliases {
			names[alias] = true
		}
	}
	return slices.Sorted(maps.Keys(names)), nil
}

// alias names an image by its digest and by its ID, too, as the CRI does with
// what it pulls. It returns the name by digest.
func (s *containerdStore) alias(ctx context.Context, img client.Image, labels map[string]string) ([]string, error) {
	config, err := img.Config(ctx)
	if err != nil {
		return nil, fmt.Errorf("configuration of %s: %w", img.Name(), err)
	}
	aliases := []string{config.Digest.String()}
	if named, err := reference.ParseNormalizedNamed(img.Name()); err == nil {
		if byDigest, err := reference.WithDigest(reference.TrimNamed(named), img.Target().Digest); err == nil {
			aliases = append(aliases, byDigest.String())
		}
	}
	for _, name := range aliases {
		record := images.Image{Name: name, Target: img.Target(), Labels: labels}
		_, err := s.client.ImageService().Create(ctx, record)
		if errdefs.IsAlreadyExists(err) {
			_, err = s.client.ImageService().Update(ctx, record, "target", "labels")
		}
		if err != nil {
			return nil, fmt.Errorf("name %s: %w", name, err)
		}
	}
	return aliases[1:], nil
}

// fullName turns the name in an OCI layout into the one the CRI looks for;
// "" for one that holds a tag only.
func fullName(name string) string {
	if !strings.ContainsAny(name, "/:") {
		return ""
	}
	named, err := reference.ParseDockerRef(name)
	if err != nil {
		return ""
	}
	return named.String()
}
