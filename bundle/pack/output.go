package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"
)

const (
	densest = zstd.SpeedBestCompression
	fastest = zstd.SpeedFastest
)

// newZstd returns a compressor with one worker: the same input gives the same
// bytes on every machine.
func newZstd(w io.Writer, level zstd.EncoderLevel) (*zstd.Encoder, error) {
	return zstd.NewWriter(w, zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(8<<20))
}

// writeOutput writes what content holds to the file name, compressed when the
// name ends in .zst, and its digest to name.sha256. A file of that name
// appears only when it is whole.
func writeOutput(name string, level zstd.EncoderLevel, content io.WriterTo) (err error) {
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}()

	digest := sha256.New()
	var w io.Writer = io.MultiWriter(f, digest)
	if strings.HasSuffix(name, ".zst") {
		z, err := newZstd(w, level)
		if err != nil {
			return err
		}
		if _, err := content.WriteTo(z); err != nil {
			return errors.Join(err, z.Close())
		}
		if err := z.Close(); err != nil {
			return err
		}
	} else if _, err := content.WriteTo(w); err != nil {
		return err
	}
	if err := errors.Join(f.Chmod(0o644), f.Close()); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	return os.WriteFile(name+".sha256", []byte(hex.EncodeToString(digest.Sum(nil))+"\n"), 0o644)
}
