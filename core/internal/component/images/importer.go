package images

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

// importer imports archives that differ from those imported before.
type importer struct {
	store  store
	record *record
	log    *slog.Logger
}

// payload imports an embedded archive.
func (im *importer) payload(ctx context.Context, p Payload) error {
	key := "embedded:" + p.Name
	if known, ok := im.record.Archives[key]; ok && p.Digest != "" && known.SHA256 == p.Digest {
		if missing, err := im.store.Missing(ctx, known.Images); err != nil || len(missing) == 0 {
			return err
		}
	}
	f, err := p.Open()
	if err != nil {
		return err
	}
	defer f.Close()
	sum := sha256.New()
	names, err := im.importStream(ctx, p.Name, io.TeeReader(f, sum))
	if err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); p.Digest != "" && got != p.Digest {
		return fmt.Errorf("its sha256 is %s, not %s: the binary is damaged", got, p.Digest)
	}
	return im.record.put(key, archive{SHA256: p.Digest, Images: names})
}

// file imports an archive of the operator. A file that is gone is none.
func (im *importer) file(ctx context.Context, path string) error {
	name := filepath.Base(path)
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("not a regular file")
	}
	now := archive{Size: info.Size(), ModTime: info.ModTime()}
	known, ok := im.record.Archives[name]
	if ok && known.sameFile(now) && im.held(ctx, known.Images) {
		return nil
	}
	if now.SHA256, err = hashFile(ctx, f); err != nil {
		return err
	}
	if ok && known.SHA256 == now.SHA256 && im.held(ctx, known.Images) {
		now.Images = known.Images
		return im.record.put(name, now)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if now.Images, err = im.importStream(ctx, name, f); err != nil {
		return err
	}
	return im.record.put(name, now)
}

// held reports whether the runtime surely has all the images: somebody may
// have removed them, or its data.
func (im *importer) held(ctx context.Context, names []string) bool {
	missing, err := im.store.Missing(ctx, names)
	return err == nil && len(missing) == 0
}

func (im *importer) importStream(ctx context.Context, name string, r io.Reader) ([]string, error) {
	begin := time.Now()
	plain, err := decompress(r)
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	names, err := im.store.Import(ctx, plain)
	if err != nil {
		return nil, fmt.Errorf("no whole docker-archive or OCI layout with an image for this machine: %w", err)
	}
	if len(names) == 0 {
		return nil, errors.New("holds no image with a name: save it with its tag")
	}
	// What follows the end of the archive belongs to its digest, too.
	if _, err := io.Copy(io.Discard, r); err != nil {
		return nil, err
	}
	im.log.Info("images imported", "file", name, "images", names, "took", time.Since(begin).Round(time.Millisecond))
	return names, nil
}

func hashFile(ctx context.Context, f io.Reader) (string, error) {
	sum := sha256.New()
	if _, err := io.Copy(sum, &stoppableReader{ctx, f}); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// stoppableReader ends with its context: archives may hold gigabytes.
type stoppableReader struct {
	ctx context.Context
	r   io.Reader
}

func (s *stoppableReader) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return s.r.Read(p)
}
