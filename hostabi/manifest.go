package hostabi

import (
	"encoding/json"
	"fmt"
)

// Manifest is what a plugin says about itself, in the custom section
// ManifestSection. ParseManifest returns only valid ones.
type Manifest struct {
	Name          string                 `json:"name"`    // DNS label
	Version       string                 `json:"version"` // semantic version without v
	Description   string                 `json:"description"`
	ABI           ABIVersion             `json:"abi"` // the least ABI it needs
	Points        []Point                `json:"points"`
	Capabilities  []string               `json:"capabilities"` // import modules
	ConfigSchema  map[string]ConfigField `json:"config_schema,omitempty"`
	Limits        Limits                 `json:"limits,omitzero"`
	FailurePolicy FailurePolicy          `json:"failure_policy,omitempty"` // fail when absent
	Admission     *AdmissionManifest     `json:"admission,omitempty"`      // with PointAdmission only
	// Since ABI 1.1.
	Lookups  []string          `json:"lookups,omitempty"`  // kinds to look up, "v1/Namespace", "apps/v1/Deployment"; with ModuleLookup
	Deployer *DeployerManifest `json:"deployer,omitempty"` // with PointDeployer only; absent = DefaultDeployer
}

// DeployerManifest says which files of the manifests directory are offered to
// the plugin. A pattern is a base name with at most one *, which matches
// anything but is never empty.
type DeployerManifest struct {
	Files       []string `json:"files,omitempty"`       // files, such as "*.yaml"
	Archives    []string `json:"archives,omitempty"`    // files that are no text, such as "*.tgz"
	Directories []string `json:"directories,omitempty"` // a directory that directly holds a file of such a name
	// Companions are text files that belong to a file, archive or directory
	// beside them and are never offered alone: in "*.values.yaml", the * stands
	// for its name up to the first dot.
	Companions []string `json:"companions,omitempty"`
}

// DefaultDeployer is what a deployer without a section of its own is offered.
func DefaultDeployer() DeployerManifest {
	return DeployerManifest{Files: []string{"*.yaml", "*.yml", "*.json"}}
}

// ABIVersion is a version of the ABI.
type ABIVersion struct {
	Major int `json:"major"`
	Minor int `json:"minor"`
}

// String returns "1.0".
func (v ABIVersion) String() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

// Limits are what a plugin asks for; 0 leaves the host's default. The lock
// says what it gets.
type Limits struct {
	MemoryPages uint32 `json:"memory_pages,omitempty"` // of 64 KiB
	DeadlineMS  uint32 `json:"deadline_ms,omitempty"`  // for one hook call
}

// Bounds of Limits.
const (
	MaxMemoryPages = 16384 // 1 GiB
	MaxDeadlineMS  = 60_000
)

// ConfigField describes one key of a plugin's configuration.
type ConfigField struct {
	Type    ConfigType      `json:"type"`
	Default json.RawMessage `json:"default,omitempty"` // of that type; absent = the key has no value unless given
	Doc     string          `json:"doc"`
}

// ConfigType is the JSON type of a configuration value.
type ConfigType string

// The types of configuration values.
const (
	ConfigString  ConfigType = "string"
	ConfigBool    ConfigType = "bool"
	ConfigInteger ConfigType = "integer"
	ConfigStrings ConfigType = "strings" // a list of strings
	ConfigMap     ConfigType = "map"     // from string to string
)

// AdmissionManifest says when an admission plugin is asked and what it may see
// and change.
type AdmissionManifest struct {
	Mutate     bool        `json:"mutate"`      // cleat_admission_mutate is to be called
	Validate   bool        `json:"validate"`    // cleat_admission_validate is to be called
	ReadPaths  []string    `json:"read_paths"`  // canonical field paths; each covers what is below it
	WritePaths []string    `json:"write_paths"` // canonical field paths; with Mutate only
	Rules      []MatchRule `json:"rules"`       // bit n of the rules mask is rule n
}

// MatchRule selects requests. A request matches when every part does.
type MatchRule struct {
	Name        string      `json:"name"`         // DNS label, unique in the manifest
	Operations  []Operation `json:"operations"`   // or "*"
	APIGroups   []string    `json:"api_groups"`   // "" is the core group; or "*"
	APIVersions []string    `json:"api_versions"` // or "*"
	// Resources are "pods", or "pods/ephemeralcontainers" for a subresource;
	// "*" is every resource without subresources, "pods/*" every subresource
	// of pods, "*/*" everything.
	Resources         []string         `json:"resources"`
	NamespaceSelector *LabelSelector   `json:"namespace_selector,omitempty"` // a cluster-scoped object has no labels
	MatchConditions   []MatchCondition `json:"match_conditions,omitempty"`   // all true
}

// LabelSelector selects by labels, as Kubernetes does. The empty one selects
// everything.
type LabelSelector struct {
	MatchLabels      map[string]string  `json:"match_labels,omitempty"`
	MatchExpressions []LabelRequirement `json:"match_expressions,omitempty"`
}

// LabelRequirement is one condition on a label.
type LabelRequirement struct {
	Key      string        `json:"key"`
	Operator LabelOperator `json:"operator"`
	Values   []string      `json:"values,omitempty"` // with In and NotIn only
}

// LabelOperator relates a label to values.
type LabelOperator string

// The label operators. NotIn and DoesNotExist match an absent label.
const (
	LabelIn           LabelOperator = "In"
	LabelNotIn        LabelOperator = "NotIn"
	LabelExists       LabelOperator = "Exists"
	LabelDoesNotExist LabelOperator = "DoesNotExist"
)

// MatchCondition is a CEL expression the host evaluates before it enters the
// guest, over object, oldObject, request and namespaceLabels.
type MatchCondition struct {
	Name       string `json:"name"`
	Expression string `json:"expression"`
}

// ParseManifest reads and validates the JSON text of a manifest. Fields it does
// not know are ignored, wrong types, duplicate keys and values out of range are
// not. FailurePolicy is never empty in the result. An error names every field
// that is wrong.
func ParseManifest(text []byte) (Manifest, error) {
	if len(text) > MaxManifestBytes {
		return Manifest{}, fmt.Errorf("manifest: %d bytes, the most is %d", len(text), MaxManifestBytes)
	}
	if _, err := parseJSON(text, true); err != nil {
		return Manifest{}, fmt.Errorf("manifest: %w", err)
	}
	var m Manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return Manifest{}, fmt.Errorf("manifest: %w", err)
	}
	if m.FailurePolicy == "" {
		m.FailurePolicy = FailurePolicyFail
	}
	if err := m.Validate(); err != nil {
		return Manifest{}, err
	}
	return m, nil
}

// HasPoint reports whether the plugin serves the point.
func (m Manifest) HasPoint(p Point) bool {
	for _, have := range m.Points {
		if have == p {
			return true
		}
	}
	return false
}

// RequiredExports returns the functions the guest must export: the marker,
// cleat_init and the hooks of its points.
func (m Manifest) RequiredExports() []Function {
	var required []Function
	for _, f := range Exports() {
		if m.requires(f) {
			required = append(required, f)
		}
	}
	return required
}

func (m Manifest) requires(f Function) bool {
	switch f.Name {
	case ExportAdmissionMutate:
		return m.Admission != nil && m.Admission.Mutate
	case ExportAdmissionValidate:
		return m.Admission != nil && m.Admission.Validate
	}
	for _, p := range f.Points {
		if m.HasPoint(p) {
			return true
		}
	}
	return len(f.Points) == 0
}
