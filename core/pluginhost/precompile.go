package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
)

// Precompile writes a cache seed to dir: the machine code of the plugins,
// compressed, at <cache version>/<entry>.zst, and what it is, at <cache
// version>/<code>.json. A Host whose CacheSeed is that
// directory compiles nothing, as long as it is of the same build and
// architecture, runs on the same set of processor features, and its lock does
// not mark the plugin trusted; any other compiles for itself. Equal plugins
// give equal bytes.
func Precompile(ctx context.Context, dir string, plugins ...[]byte) (err error) {
	raw, err := os.MkdirTemp("", "cleat-precompile-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(raw)) }()
	if err := compileInto(ctx, raw, plugins); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(raw, versionPrefix+"*", "*"))
	if err != nil {
		return err
	}
	for _, from := range files {
		to := filepath.Join(dir, filepath.Base(filepath.Dir(from)), filepath.Base(from))
		err := os.MkdirAll(filepath.Dir(to), 0o755)
		switch {
		case err != nil:
		case isDigest(filepath.Base(from)):
			err = compress(to+seedSuffix, from)
		default:
			err = os.Rename(from, to)
		}
		if err != nil {
			return fmt.Errorf("precompile: %w", err)
		}
	}
	return nil
}

func compileInto(ctx context.Context, dir string, plugins [][]byte) (err error) {
	cache, err := openCache(dir, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cache.Close(ctx)) }()
	for _, wasm := range plugins {
		ins, err := Inspect(wasm)
		if err != nil {
			return fmt.Errorf("precompile: %w", err)
		}
		spec := compileSpec{pages: maxMemoryPages, features: ins.features, granted: ins.Manifest.Capabilities}
		prog, _, err := cache.load(ctx, spec, wasm, ins.SHA256)
		if err != nil {
			return fmt.Errorf("precompile %s: %w", ins.Manifest.Name, err)
		}
		prog.release()
	}
	return nil
}

// compress writes the file at from to the path to.
func compress(to, from string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	// One worker, because the split of the work shows in the output.
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedBestCompression))
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(to, enc.EncodeAll(data, nil), 0o644), enc.Close())
}
