// Package images imports image archives into the container runtime, so that
// a node needs no registry: those embedded in the binary, and those an
// operator puts into <data-dir>/agent/images, at start and whenever one
// appears or changes later. Removing an archive removes no image.
package images

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cleat-dev/cleat/core/internal/paths"
	"github.com/cleat-dev/cleat/core/kernel"
)

// Component is the unit "images".
type Component struct {
	Data paths.Data
	// Endpoint is where containerd listens, as unix://<absolute path>.
	Endpoint string
	// Snapshotter is --snapshotter: images are unpacked for it.
	Snapshotter string
	Payload     []Payload
	Log         *slog.Logger

	open func(ctx context.Context) (store, error) // nil = containerd at Endpoint
}

// Payload is an archive embedded in the binary.
type Payload struct {
	Name   string // as pause.tar.zst
	Digest string // sha256 of the archive as Open gives it, in hex; "" = import it at every start
	Open   func() (io.ReadCloser, error)
}

// store is the part of a container runtime that takes images.
type store interface {
	// Import reads an uncompressed docker-archive or OCI layout, pins and
	// unpacks the images and returns their names.
	Import(ctx context.Context, archive io.Reader) ([]string, error)
	// Missing returns those of the names the runtime does not hold.
	Missing(ctx context.Context, names []string) ([]string, error)
	Close() error
}

// Run imports what there is, is ready, and then follows the directory until
// ctx is done. An archive of the operator that cannot be imported is reported
// and left alone until it changes; one of ours that cannot ends the unit.
func (c *Component) Run(ctx context.Context, ready func()) error {
	if err := os.MkdirAll(c.Data.Images(), 0o700); err != nil {
		return fmt.Errorf("images: %w", err)
	}
	open := c.open
	if open == nil {
		open = func(ctx context.Context) (store, error) { return openContainerd(ctx, c.Endpoint, c.Snapshotter) }
	}
	st, err := open(ctx)
	if errors.Is(err, errNotContainerd) {
		c.Log.Warn("no image is imported: the container runtime is not containerd", "endpoint", c.Endpoint)
		ready()
		<-ctx.Done()
		return nil
	}
	if err != nil {
		return err
	}
	defer st.Close()

	// The watch is set before the directory is read, so that nothing falls
	// between the two.
	w, err := watch(c.Data.Images())
	if err != nil {
		return err
	}
	defer w.Close()

	im := importer{store: st, record: loadRecord(c.Log, recordPath(c.Data)), log: c.Log}
	for _, p := range c.Payload {
		kernel.Report(ctx, "importing %s", p.Name)
		if err := im.payload(ctx, p); err != nil {
			if ctx.Err() != nil {
				return ctx.Err() // cut off by the stop, not broken
			}
			return fmt.Errorf("embedded image archive %s: %w", p.Name, err)
		}
	}
	names, err := archives(c.Data.Images())
	if err != nil {
		return fmt.Errorf("images: %w", err)
	}
	for _, name := range names {
		kernel.Report(ctx, "importing %s", name)
		if err := im.file(ctx, filepath.Join(c.Data.Images(), name)); err != nil && ctx.Err() == nil {
			c.Log.Error("image archive not imported", "file", name, "error", err)
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	ready()

	return w.follow(ctx, func(name string) {
		if err := im.file(ctx, filepath.Join(c.Data.Images(), name)); err != nil && ctx.Err() == nil {
			c.Log.Error("image archive not imported", "file", name, "error", err)
		}
	})
}

// archives lists the archives of a directory in the order of their names.
func archives(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if isArchive(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// isArchive goes by the name: hidden files are somebody's temporary files.
func isArchive(name string) bool {
	return !strings.HasPrefix(name, ".") &&
		slices.ContainsFunc([]string{".tar", ".tar.gz", ".tgz", ".tar.zst"}, func(ext string) bool {
			return strings.HasSuffix(name, ext)
		})
}
