package pluginhost

import (
	"fmt"
	"io/fs"
	"slices"

	"github.com/cleat-dev/cleat/hostabi"
)

// Defaults of the limits, for a plugin whose manifest asks for none.
const (
	defaultPages        = 512 // 32 MiB
	defaultHotDeadline  = 200
	defaultColdDeadline = 10_000
	defaultHotPool      = 4
	defaultColdPool     = 1
	orderStep           = 10
)

// Propose returns the entry of a plugin that is not locked yet: every power its
// manifest declares, and the limits it asks for.
func Propose(ins *Inspection, source string, order int) (LockedPlugin, error) {
	m := ins.Manifest
	hot := m.HasPoint(hostabi.PointAdmission)
	p := LockedPlugin{Order: order, FailurePolicy: m.FailurePolicy}
	p.Limits = LockedLimits{
		MemoryPages: orDefault(m.Limits.MemoryPages, uint32(max(defaultPages, 2*ins.MemoryPages))),
		DeadlineMS:  int64(m.Limits.DeadlineMS),
		PoolMax:     defaultColdPool,
	}
	if hot {
		p.Limits.PoolMax = defaultHotPool
	}
	switch {
	case p.Limits.DeadlineMS > 0:
	case hot:
		p.Limits.DeadlineMS = defaultHotDeadline
	default:
		p.Limits.DeadlineMS = defaultColdDeadline
	}
	return p.Repin(ins, source)
}

func orDefault(n, otherwise uint32) uint32 {
	if n == 0 {
		return otherwise
	}
	return n
}

// Repin returns the entry with everything that describes the plugin taken from
// ins, and everything an operator decides kept: order, limits, failure policy,
// trust and config.
func (p LockedPlugin) Repin(ins *Inspection, source string) (LockedPlugin, error) {
	m := ins.Manifest
	p.Name, p.Version, p.Source, p.SHA256, p.ABI = m.Name, m.Version, source, ins.SHA256, m.ABI.String()
	p.Points = slices.Sorted(slices.Values(m.Points))
	p.Capabilities = slices.Sorted(slices.Values(m.Capabilities))
	p.ReadPaths, p.WritePaths = []string{}, []string{}
	p.Lookups = slices.Sorted(slices.Values(m.Lookups))
	if m.Admission != nil {
		p.ReadPaths = append(p.ReadPaths, slices.Sorted(slices.Values(m.Admission.ReadPaths))...)
		p.WritePaths = append(p.WritePaths, slices.Sorted(slices.Values(m.Admission.WritePaths))...)
	}
	if _, err := m.ResolveConfig(p.Config); err != nil {
		return p, fmt.Errorf("plugin %s: %w", m.Name, err)
	}
	config, err := p.CanonicalConfig()
	if err != nil {
		return p, fmt.Errorf("plugin %s: %w", m.Name, err)
	}
	p.ConfigSHA256 = Digest(config)
	return p, nil
}

// NextOrder returns an order behind every plugin of the lock.
func (l *Lock) NextOrder() int {
	last := 0
	for _, p := range l.Plugins {
		last = max(last, p.Order)
	}
	return last + orderStep
}

// LockAlone returns a lock that holds the one plugin and grants it what it asks
// for, and the bundle that lock refers to.
func LockAlone(wasm []byte) (lock []byte, bundle fs.FS, err error) {
	ins, err := Inspect(wasm)
	if err != nil {
		return nil, nil, err
	}
	name := ins.Manifest.Name + ".wasm"
	entry, err := Propose(ins, sourceEmbedded+":"+name, orderStep)
	if err != nil {
		return nil, nil, err
	}
	lock, err = (&Lock{Version: LockVersion, Plugins: []LockedPlugin{entry}}).Marshal()
	return lock, oneFile{name, wasm}, err
}

// Change is one difference between two entries of a plugin.
type Change struct {
	Field  string
	Gained []string // new values
	Lost   []string // values that went
	// Power is set when the change lets the plugin do or see more than before.
	Power bool
}

// Compare lists what differs between the locked entry and the one that would
// replace it, powers first.
func Compare(old, new LockedPlugin) []Change {
	var changes []Change
	powers := func(field string, old, new []string) {
		gained, lost := without(new, old), without(old, new)
		if len(gained)+len(lost) > 0 {
			changes = append(changes, Change{field, gained, lost, len(gained) > 0})
		}
	}
	powers("points", texts(old.Points), texts(new.Points))
	powers("capabilities", old.Capabilities, new.Capabilities)
	powers("read_paths", old.ReadPaths, new.ReadPaths)
	powers("write_paths", old.WritePaths, new.WritePaths)
	powers("lookups", old.Lookups, new.Lookups)
	plain := func(field, old, new string) {
		if old != new {
			changes = append(changes, Change{Field: field, Gained: []string{new}, Lost: []string{old}})
		}
	}
	plain("version", old.Version, new.Version)
	plain("abi", old.ABI, new.ABI)
	plain("source", old.Source, new.Source)
	plain("sha256", old.SHA256, new.SHA256)
	plain("config_sha256", old.ConfigSHA256, new.ConfigSHA256)
	plain("signer", old.Signer, new.Signer)
	plain("conformance_sha256", old.ConformanceSHA256, new.ConformanceSHA256)
	return changes
}

func texts(points []hostabi.Point) []string {
	t := make([]string, len(points))
	for i, p := range points {
		t[i] = string(p)
	}
	return t
}

// without returns the values of a that are not in b.
func without(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(v string) bool { return slices.Contains(b, v) })
}
