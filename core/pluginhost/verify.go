package pluginhost

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Mismatch is one difference between plugins.lock and a plugin.
type Mismatch struct {
	Plugin string
	Field  string // as spelt in the lock
	Locked string
	Found  string
	Fix    string // what to do
}

func (m *Mismatch) Error() string {
	return fmt.Sprintf("plugin %s: %s: plugins.lock has %s, the plugin has %s; %s", m.Plugin, m.Field, m.Locked, m.Found, m.Fix)
}

// acceptFix is the way out of most mismatches.
const acceptFix = "if the change is wanted, review it with `cleat plugin inspect` and run `cleat plugin lock --accept`; otherwise restore the file"

// Verify compares a plugin's file with its entry in the lock, without running
// it. The error joins a *Mismatch for every field that differs.
func Verify(locked LockedPlugin, wasm []byte) (*Inspection, error) {
	return verify(locked, wasm, Digest(wasm))
}

// verify is Verify of a file whose digest is known.
func verify(locked LockedPlugin, wasm []byte, digest string) (*Inspection, error) {
	var errs []error
	differ := func(field, want, found, fix string) {
		if want != found {
			errs = append(errs, &Mismatch{Plugin: locked.Name, Field: field, Locked: quote(want), Found: quote(found), Fix: fix})
		}
	}
	differ("sha256", locked.SHA256, digest, acceptFix)
	ins, err := inspect(wasm, digest)
	if err != nil {
		errs = append(errs, fmt.Errorf("plugin %s: %w", locked.Name, err))
	}
	if ins == nil {
		return nil, errors.Join(errs...)
	}
	m := ins.Manifest
	differ("name", locked.Name, m.Name, acceptFix)
	differ("version", locked.Version, m.Version, acceptFix)
	differ("abi", locked.ABI, m.ABI.String(), acceptFix)
	differ("points", list(locked.Points), list(m.Points), acceptFix)
	differ("capabilities", list(locked.Capabilities), list(m.Capabilities), acceptFix)
	var read, write []string
	if m.Admission != nil {
		read, write = m.Admission.ReadPaths, m.Admission.WritePaths
	}
	differ("read_paths", list(locked.ReadPaths), list(read), acceptFix)
	differ("write_paths", list(locked.WritePaths), list(write), acceptFix)
	differ("lookups", list(locked.Lookups), list(m.Lookups), acceptFix)
	if pages := uint64(locked.Limits.MemoryPages); pages < ins.MemoryPages {
		errs = append(errs, &Mismatch{Plugin: locked.Name, Field: "limits.memory_pages",
			Locked: fmt.Sprint(pages), Found: fmt.Sprintf("a memory that starts with %d", ins.MemoryPages),
			Fix: "raise the limit in plugins.lock"})
	}
	if _, err := m.ResolveConfig(locked.Config); err != nil {
		errs = append(errs, fmt.Errorf("plugin %s: config: %w; correct it in plugins.lock and run `cleat plugin lock`", locked.Name, err))
	}
	return ins, errors.Join(errs...)
}

func quote(s string) string {
	if s == "" {
		return "nothing"
	}
	return fmt.Sprintf("%q", s)
}

// list spells a set the same way whatever its order.
func list[T ~string](values []T) string {
	sorted := slices.Clone(values)
	slices.Sort(sorted)
	texts := make([]string, len(sorted))
	for i, v := range sorted {
		texts[i] = string(v)
	}
	return strings.Join(texts, ", ")
}
