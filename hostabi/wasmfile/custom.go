package wasmfile

import (
	"errors"
	"fmt"

	"github.com/cleat-dev/cleat/hostabi"
)

// ErrNoSection says that a file has no custom section of the name asked for.
var ErrNoSection = errors.New("no such custom section")

// Custom returns the data of the custom section of that name: ErrNoSection when
// there is none, another error when there are several.
func (f *File) Custom(name string) ([]byte, error) {
	var found []byte
	count := 0
	for _, c := range f.Customs {
		if c.Name == name {
			found = c.Data
			count++
		}
	}
	switch count {
	case 0:
		return nil, fmt.Errorf("wasm: %q: %w", name, ErrNoSection)
	case 1:
		return found, nil
	}
	return nil, fmt.Errorf("wasm: %d custom sections %q, want one", count, name)
}

// Manifest returns the plugin's manifest, parsed and validated.
func (f *File) Manifest() (hostabi.Manifest, error) {
	text, err := f.Custom(hostabi.ManifestSection)
	if errors.Is(err, ErrNoSection) {
		return hostabi.Manifest{}, fmt.Errorf("%w; not a cleat plugin, or built without its manifest", err)
	}
	if err != nil {
		return hostabi.Manifest{}, err
	}
	return hostabi.ParseManifest(text)
}

// SetCustom returns the file with exactly one custom section of that name, at
// its end; sections of that name it had before are dropped. Every other byte
// stays as it is.
func SetCustom(file []byte, name string, data []byte) ([]byte, error) {
	body := appendLEB(nil, uint32(len(name)))
	body = append(body, name...)
	if len(file)+len(body)+len(data)+16 > MaxBytes {
		return nil, fmt.Errorf("wasm: file with section %q is over %d bytes", name, MaxBytes)
	}
	sections, err := split(file)
	if err != nil {
		return nil, err
	}
	out := append(make([]byte, 0, len(file)+len(body)+len(data)+16), header...)
	for _, s := range sections {
		if s.id == sectionCustom {
			r := &reader{data: s.body}
			if r.name() == name && r.err == nil {
				continue
			}
		}
		out = append(out, file[s.start:s.end]...)
	}
	out = append(out, sectionCustom)
	out = appendLEB(out, uint32(len(body)+len(data)))
	return append(append(out, body...), data...), nil
}
