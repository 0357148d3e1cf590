package pluginhost

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/cleat-dev/cleat/hostabi"
	"github.com/pelletier/go-toml/v2"
)

// LockVersion is the version of the lock format this build reads and writes.
const LockVersion = 1

// MaxLockBytes bounds a lock file; MaxLockPlugins the plugins it may name.
const (
	MaxLockBytes   = 1 << 20
	MaxLockPlugins = 1024
)

const lockHeader = `# The plugins of this cluster and the powers each was granted.
# Written by "cleat plugin lock". A server refuses to start when a plugin differs
# from what stands here. Order, limits, failure_policy, trusted and config may be
# edited by hand; after a change of config run "cleat plugin lock" again.

`

// Lock is the contents of plugins.lock. Its plugins are in the order in which
// they are asked.
type Lock struct {
	Version int            `toml:"version" json:"version"`
	Plugins []LockedPlugin `toml:"plugin" json:"plugins"`
}

// LockedPlugin pins one plugin: what it is, where it comes from, what it may do
// and how far it may go.
type LockedPlugin struct {
	Name    string `toml:"name" json:"name"`
	Version string `toml:"version" json:"version"`
	// Source is "embedded:<file>.wasm", "file:<path below the plugins directory>"
	// or "oci:<reference>@sha256:<digest>".
	Source string `toml:"source" json:"source"`
	SHA256 string `toml:"sha256" json:"sha256"` // of the wasm file, lower-case hex
	ABI    string `toml:"abi" json:"abi"`       // "<major>.<minor>"

	Points       []hostabi.Point `toml:"points" json:"points"`
	Capabilities []string        `toml:"capabilities" json:"capabilities"`
	ReadPaths    []string        `toml:"read_paths,multiline" json:"read_paths"`
	WritePaths   []string        `toml:"write_paths,multiline" json:"write_paths"`
	Lookups      []string        `toml:"lookups,omitempty" json:"lookups,omitempty"` // kinds it may look up

	// Order places the plugin among the others; lower is asked first.
	Order         int                   `toml:"order" json:"order"`
	Limits        LockedLimits          `toml:"limits,inline" json:"limits"`
	FailurePolicy hostabi.FailurePolicy `toml:"failure_policy" json:"failure_policy"`
	// Trusted lifts the hard deadline inside guest loops: faster calls, but a
	// loop that never ends then stops a whole processor. Off unless an operator
	// writes it.
	Trusted bool `toml:"trusted" json:"trusted"`
	// Shadow runs the plugin beside the one of the same name that is no shadow:
	// it decides nothing, and what it would have decided is compared.
	Shadow bool `toml:"shadow,omitempty" json:"shadow,omitempty"`
	// Disabled keeps the entry and leaves the plugin out.
	Disabled bool `toml:"disabled,omitempty" json:"disabled,omitempty"`

	ConfigSHA256      string         `toml:"config_sha256" json:"config_sha256"` // of Config as canonical JSON
	Signer            string         `toml:"signer" json:"signer"`
	ConformanceSHA256 string         `toml:"conformance_sha256" json:"conformance_sha256"`
	Config            map[string]any `toml:"config,omitempty" json:"config,omitempty"`
}

// LockedLimits bounds what a plugin may use.
type LockedLimits struct {
	MemoryPages uint32 `toml:"memory_pages" json:"memory_pages"` // of 64 KiB, per instance
	DeadlineMS  int64  `toml:"deadline_ms" json:"deadline_ms"`   // per call
	PoolMax     int    `toml:"pool_max" json:"pool_max"`         // instances at once
}

// ParseLock reads and validates a lock. Unknown keys are errors, because a
// misspelt limit would otherwise be no limit.
func ParseLock(data []byte) (*Lock, error) {
	l, err := decodeLock(data)
	if err != nil {
		return nil, err
	}
	if err := l.Validate(); err != nil {
		return nil, err
	}
	return l, nil
}

// ParseEditedLock is ParseLock for a lock whose config was edited and whose
// config_sha256 was not, which is what pinning again repairs.
func ParseEditedLock(data []byte) (*Lock, error) {
	l, err := decodeLock(data)
	if err != nil {
		return nil, err
	}
	for i := range l.Plugins {
		p := &l.Plugins[i]
		config, err := p.CanonicalConfig()
		if err != nil {
			return nil, fmt.Errorf("plugins.lock: plugin %s: %w", p.Name, err)
		}
		p.ConfigSHA256 = Digest(config)
	}
	if err := l.Validate(); err != nil {
		return nil, err
	}
	return l, nil
}

func decodeLock(data []byte) (*Lock, error) {
	if len(data) > MaxLockBytes {
		return nil, fmt.Errorf("plugins.lock is %d bytes, more than the %d a lock may have", len(data), MaxLockBytes)
	}
	var l Lock
	dec := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields()
	if err := dec.Decode(&l); err != nil {
		return nil, fmt.Errorf("plugins.lock: %w", explainTOML(err))
	}
	return &l, nil
}

// explainTOML turns the library's terse errors into line, column and key.
func explainTOML(err error) error {
	var unknown *toml.StrictMissingError
	if errors.As(err, &unknown) {
		var all []error
		for _, e := range unknown.Errors {
			row, _ := e.Position()
			all = append(all, fmt.Errorf("line %d: unknown key %q; correct or remove it", row, strings.Join(e.Key(), ".")))
		}
		return errors.Join(all...)
	}
	var bad *toml.DecodeError
	if errors.As(err, &bad) {
		row, col := bad.Position()
		return fmt.Errorf("line %d, column %d: %w", row, col, err)
	}
	return err
}

// Marshal writes the lock; equal locks give equal bytes.
func (l *Lock) Marshal() ([]byte, error) {
	if err := l.Validate(); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.WriteString(lockHeader)
	enc := toml.NewEncoder(&b)
	if err := enc.Encode(l); err != nil {
		return nil, fmt.Errorf("write plugins.lock: %w", err)
	}
	return b.Bytes(), nil
}

// Lookups returns the kinds that its plugins may look up, those switched off left
// out. What is no kind is left out as well; Validate complains of it.
func (l *Lock) Lookups() []hostabi.Kind {
	var kinds []hostabi.Kind
	for _, p := range l.Plugins {
		for _, text := range p.Lookups {
			if kind, err := hostabi.ParseKind(text); err == nil && !p.Disabled && !slices.Contains(kinds, kind) {
				kinds = append(kinds, kind)
			}
		}
	}
	return kinds
}

// Find returns the plugin of that name that is no shadow, or nil.
func (l *Lock) Find(name string) *LockedPlugin {
	for i := range l.Plugins {
		if l.Plugins[i].Name == name && !l.Plugins[i].Shadow {
			return &l.Plugins[i]
		}
	}
	return nil
}

// FindShadow returns the shadow of that name, or nil.
func (l *Lock) FindShadow(name string) *LockedPlugin {
	for i := range l.Plugins {
		if l.Plugins[i].Name == name && l.Plugins[i].Shadow {
			return &l.Plugins[i]
		}
	}
	return nil
}

// CanonicalConfig returns the plugin's config as canonical JSON (sorted keys,
// no spaces), which is what the guest reads and what ConfigSHA256 covers.
func (p *LockedPlugin) CanonicalConfig() ([]byte, error) {
	if len(p.Config) == 0 {
		return []byte("{}"), nil
	}
	if err := checkConfigValue("config", p.Config, 0); err != nil {
		return nil, err
	}
	return hostabi.AppendJSON(nil, p.Config)
}

const maxConfigDepth = 16

// checkConfigValue refuses what TOML can say and JSON cannot.
func checkConfigValue(where string, v any, depth int) error {
	if depth > maxConfigDepth {
		return fmt.Errorf("%s: nested deeper than %d levels", where, maxConfigDepth)
	}
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			if err := checkConfigValue(where+"."+k, e, depth+1); err != nil {
				return err
			}
		}
	case []any:
		for i, e := range v {
			if err := checkConfigValue(fmt.Sprintf("%s[%d]", where, i), e, depth+1); err != nil {
				return err
			}
		}
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("%s: %v is not a number a plugin can read", where, v)
		}
	case string, bool, int64:
	default:
		return fmt.Errorf("%s: a value of kind %T has no JSON form; write it as a string", where, v)
	}
	return nil
}

// Digest is the lower-case hex SHA-256 of data, as a lock spells it.
func Digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
