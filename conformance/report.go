package conformance

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/cleat-dev/cleat/core/pluginhost"
	"github.com/cleat-dev/cleat/hostabi"
	"sigs.k8s.io/yaml"
)

// ReportFormat names the format of a report.
const ReportFormat = "cleat.dev/conformance/v1"

// MaxReportBytes bounds a report that is read.
const MaxReportBytes = 1 << 20

// Report says how a plugin did. The same plugin on the same host gives the same
// bytes.
type Report struct {
	Format string       `json:"format"`
	Host   ReportHost   `json:"host"`
	Plugin ReportPlugin `json:"plugin"`
	// Input is the digest of the configuration and the cases the plugin was
	// checked with, "" for none.
	Input    string  `json:"input_sha256,omitempty"`
	Core     Counts  `json:"core"`
	Extended Counts  `json:"extended"`
	Conforms bool    `json:"conforms"` // no check of the core profile failed
	Checks   []Entry `json:"checks"`
}

// ReportHost is the host that ran the checks.
type ReportHost struct {
	Version string `json:"version"`
	ABI     string `json:"abi"`
}

// ReportPlugin is the plugin that was checked. All but SHA256 is empty when it
// has no valid manifest.
type ReportPlugin struct {
	Name    string          `json:"name"`
	Version string          `json:"version"`
	SHA256  string          `json:"sha256"`
	ABI     string          `json:"abi"`
	Points  []hostabi.Point `json:"points"`
}

// Counts says how the checks of a profile ended.
type Counts struct {
	Passed        int `json:"passed"`
	Failed        int `json:"failed"`
	NotApplicable int `json:"not_applicable"`
}

// Entry is one check of a report.
type Entry struct {
	ID      string        `json:"id"`
	Profile Profile       `json:"profile"`
	Point   hostabi.Point `json:"point,omitempty"` // "" = plugins of every point
	Demand  string        `json:"demand"`
	Section string        `json:"section"` // of ABI.md
	Result  Result        `json:"result"`
	Did     string        `json:"did"` // what the plugin did
}

func (r *Report) describe(m hostabi.Manifest) {
	if m.Name == "" {
		return
	}
	p := &r.Plugin
	p.Name, p.Version, p.ABI = m.Name, m.Version, m.ABI.String()
	p.Points = slices.Sorted(slices.Values(m.Points))
}

func (r *Report) count() {
	r.Core, r.Extended = Counts{}, Counts{}
	for _, e := range r.Checks {
		counts := &r.Core
		if e.Profile == ProfileExtended {
			counts = &r.Extended
		}
		switch e.Result {
		case Pass:
			counts.Passed++
		case Fail:
			counts.Failed++
		default:
			counts.NotApplicable++
		}
	}
	r.Conforms = r.Core.Failed == 0
}

// Failed returns the checks of a profile that failed.
func (r Report) Failed(profile Profile) []Entry {
	var entries []Entry
	for _, e := range r.Checks {
		if e.Result == Fail && e.Profile == profile {
			entries = append(entries, e)
		}
	}
	return entries
}

// JSON returns the report as indented JSON with a line feed at its end.
func (r Report) JSON() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(r); err != nil {
		return nil, fmt.Errorf("write the report: %w", err)
	}
	return b.Bytes(), nil
}

// YAML returns the report as YAML, which is how it is kept beside a plugin.
func (r Report) YAML() ([]byte, error) {
	text, err := yaml.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("write the report: %w", err)
	}
	return text, nil
}

// SHA256 returns the digest of the report as YAML, lower-case hex: what
// plugins.lock calls conformance_sha256.
func (r Report) SHA256() (string, error) {
	text, err := r.YAML()
	if err != nil {
		return "", err
	}
	return pluginhost.Digest(text), nil
}

// ParseReport reads a report, YAML or JSON. One whose summary does not follow
// from its checks is refused.
func ParseReport(text []byte) (Report, error) {
	if len(text) > MaxReportBytes {
		return Report{}, fmt.Errorf("conformance report: %d bytes, the most is %d", len(text), MaxReportBytes)
	}
	var r Report
	if err := yaml.UnmarshalStrict(text, &r); err != nil {
		return Report{}, fmt.Errorf("conformance report: %w", err)
	}
	if r.Format != ReportFormat {
		return Report{}, fmt.Errorf("conformance report: format is %q, want %s; write it anew with `cleat plugin verify --report`", clip(r.Format), ReportFormat)
	}
	counted := r
	counted.count()
	if counted.Core != r.Core || counted.Extended != r.Extended || counted.Conforms != r.Conforms || len(r.Checks) == 0 {
		return Report{}, errors.New("conformance report: its summary does not follow from its checks; write it anew with `cleat plugin verify --report`")
	}
	for i, e := range r.Checks {
		if !slices.Contains([]Result{Pass, Fail, NotApplicable}, e.Result) || !slices.Contains([]Profile{ProfileCore, ProfileExtended}, e.Profile) {
			return Report{}, fmt.Errorf("conformance report: checks[%d]: unknown profile %q or result %q", i, clip(string(e.Profile)), clip(string(e.Result)))
		}
	}
	return r, nil
}
