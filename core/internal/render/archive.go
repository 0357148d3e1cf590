package render

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
)

const (
	// Bounds of a chart unpacked, with the charts packed inside it.
	maxChartBytes = 32 << 20
	maxChartFiles = 8192
	maxFileBytes  = 5 << 20 // what Helm allows one file

	maxNested = 8 // archives within archives
)

// unpacker unpacks an archive and the archives in it under one set of bounds.
type unpacker struct {
	bytes, files int
}

func (u *unpacker) take(n int) error {
	if u.files++; u.files > maxChartFiles {
		return fmt.Errorf("it has more than %d files", maxChartFiles)
	}
	if u.bytes += n; u.bytes > maxChartBytes {
		return fmt.Errorf("it is larger than %d MiB unpacked", maxChartBytes>>20)
	}
	return nil
}

// unpack returns the files of a packed chart, without the directory they are in.
func (u *unpacker) unpack(packed []byte, depth int) (map[string][]byte, error) {
	if depth > maxNested {
		return nil, fmt.Errorf("archives are nested deeper than %d", maxNested)
	}
	plain, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, fmt.Errorf("not a .tgz as `helm package` makes it: %w", err)
	}
	// Headers are no content, but are unpacked too.
	most := int64(maxChartBytes + maxChartFiles*2048)
	stream := &io.LimitedReader{R: plain, N: most}
	reader := tar.NewReader(stream)
	files := map[string][]byte{}
	for {
		header, err := reader.Next()
		switch {
		case stream.N == 0:
			return nil, fmt.Errorf("it is larger than %d MiB unpacked", maxChartBytes>>20)
		case errors.Is(err, io.EOF):
			return u.settle(files, depth)
		case err != nil:
			return nil, fmt.Errorf("read the archive: %w", err)
		}
		if header.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		name, err := entryName(header.Name)
		if err != nil {
			return nil, err
		}
		switch header.Typeflag {
		case tar.TypeDir:
			if err := u.take(0); err != nil {
				return nil, err
			}
			continue
		case tar.TypeReg:
		default:
			return nil, fmt.Errorf("%q in the archive is a link or a device, want files only", header.Name)
		}
		if header.Size > maxFileBytes {
			return nil, fmt.Errorf("%q is %d bytes, at most %d", header.Name, header.Size, maxFileBytes)
		}
		if err := u.take(int(header.Size)); err != nil {
			return nil, err
		}
		content, err := io.ReadAll(reader)
		if err != nil {
			return nil, fmt.Errorf("read %q: %w", header.Name, err)
		}
		if name == "." {
			return nil, fmt.Errorf("%q is not in a directory: pack the chart's directory, with `helm package`", header.Name)
		}
		if _, twice := files[name]; twice {
			return nil, fmt.Errorf("%q is in the archive twice", header.Name)
		}
		files[name] = content
	}
}

// entryName is an entry's path without the first directory, "." for the
// directory itself.
func entryName(name string) (string, error) {
	name = strings.TrimSuffix(name, "/")
	name = strings.TrimPrefix(name, "./")
	if !fs.ValidPath(name) || strings.ContainsAny(name, "\\\x00") {
		return "", fmt.Errorf("%q in the archive is no path below its directory", name)
	}
	_, below, ok := strings.Cut(name, "/")
	if !ok {
		return ".", nil
	}
	return below, nil
}

// settle replaces the charts that are packed in charts/ by their files.
func (u *unpacker) settle(files map[string][]byte, depth int) (map[string][]byte, error) {
	if len(files) == 0 {
		return nil, errors.New("the archive is empty")
	}
	return u.unpackNested(files, depth)
}

func (u *unpacker) unpackNested(files map[string][]byte, depth int) (map[string][]byte, error) {
	out := make(map[string][]byte, len(files))
	for name, content := range files {
		dir, base := path.Split(name)
		nested := path.Ext(base) == ".tgz" && base[0] != '_' && base[0] != '.' &&
			(dir == "charts/" || strings.HasSuffix(dir, "/charts/") && strings.HasPrefix(dir, "charts/"))
		if !nested {
			out[name] = content
			continue
		}
		below, err := u.unpack(content, depth+1)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		// The name of the directory means nothing; it must only be one of its own.
		for inside, content := range below {
			out[path.Join(dir, base+".unpacked", inside)] = content
		}
	}
	return out, nil
}
