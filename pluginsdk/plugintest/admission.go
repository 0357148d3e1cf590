//go:build !wasip1

package plugintest

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/pluginsdk/internal/guest"
)

// Request is an API request.
type Request struct {
	ID                    string
	Operation             hostabi.Operation
	Group, Version, Kind  string
	Resource, Subresource string
	Namespace, Name       string
	User, UserUID         string
	UserGroups            []string
	UserExtra             map[string][]string
	DryRun                bool
	NamespaceLabels       map[string]string
	Object, OldObject     string // JSON; "" = absent
}

// Verdict is what a hook decided.
type Verdict struct {
	Entered     bool // some rule matched, so the hook was called
	Allowed     bool
	Code        int32 // HTTP status of a denial
	Message     string
	Warnings    []string
	Annotations map[string]string
	Mutations   []Mutation // in the order they were recorded
	// State is what the hook put into the plugin's state, kept unless the
	// request was a dry run; an empty value removes its key.
	State map[string][]byte
}

// Mutation is one recorded change.
type Mutation struct {
	Op    string // set, remove or append
	Path  string // canonical
	Index int    // -1 for a path without [*]
	Value any    // nil for remove
}

// Validate asks cleat_admission_validate. An error is a plugin error.
func (p *Plugin) Validate(req Request) (Verdict, error) {
	return p.admit(hostabi.ExportAdmissionValidate, req, p.Manifest.Admission != nil && p.Manifest.Admission.Validate)
}

// Mutate asks cleat_admission_mutate. An error is a plugin error.
func (p *Plugin) Mutate(req Request) (Verdict, error) {
	return p.admit(hostabi.ExportAdmissionMutate, req, p.Manifest.Admission != nil && p.Manifest.Admission.Mutate)
}

// Admit does what the API server does: it asks cleat_admission_mutate, makes the
// changes, and asks cleat_admission_validate about the result, each if the
// manifest declares it. The verdict has the warnings, annotations and state of
// both; object is the object afterwards, nil if there is none.
func (p *Plugin) Admit(req Request) (v Verdict, object map[string]any, err error) {
	a := p.Manifest.Admission
	if a == nil {
		return v, nil, errors.New("the manifest does not declare the point admission")
	}
	decoded, err := parseObject(req.Object)
	if err != nil {
		return v, nil, fmt.Errorf("object of the test: %w", err)
	}
	object, _ = decoded.(map[string]any)
	v.Allowed = true
	if a.Mutate {
		if v, err = p.Mutate(req); err != nil || !v.Allowed {
			return v, object, err
		}
		if object, err = apply(object, v.Mutations); err != nil {
			return v, object, err
		}
		if len(v.Mutations) > 0 {
			text, err := hostabi.AppendJSON(nil, object)
			if err != nil {
				return v, object, err
			}
			req.Object = string(text)
		}
	}
	if !a.Validate {
		return v, object, nil
	}
	before := v
	v, err = p.Validate(req)
	v.Entered = v.Entered || before.Entered
	v.Mutations = before.Mutations
	v.Warnings = append(before.Warnings, v.Warnings...)
	v.Annotations = union(before.Annotations, v.Annotations)
	v.State = union(before.State, v.State)
	return v, object, err
}

// union has what is in both, the second's where both have a key.
func union[V any](a, b map[string]V) map[string]V {
	if len(a) == 0 {
		return b
	}
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

const handle = 7 // not 0, so that a guest which passes none is noticed

func (p *Plugin) admit(export string, req Request, declared bool) (Verdict, error) {
	if !declared {
		return Verdict{}, fmt.Errorf("the manifest does not declare %s", export)
	}
	rules := p.match(req)
	if rules == 0 {
		return Verdict{Allowed: true}, nil
	}
	h := &fakeHost{plugin: p, request: &req, mutating: export == hostabi.ExportAdmissionMutate}
	var err error
	if h.object, err = parseObject(req.Object); err != nil {
		return Verdict{}, fmt.Errorf("object of the test: %w", err)
	}
	if h.oldObject, err = parseObject(req.OldObject); err != nil {
		return Verdict{}, fmt.Errorf("old object of the test: %w", err)
	}
	n := h.run(func() int32 { return guest.Call(export, handle, rules) })
	v := h.verdict
	v.Entered = true
	switch {
	case n < 0:
		return v, h.failure(export, n)
	case n == hostabi.VerdictAllow:
		v.Allowed, v.Code, v.Message = true, 0, ""
	case n != hostabi.VerdictDeny:
		return v, fmt.Errorf("%s returned %d", export, n)
	default:
		v.Mutations = nil
		if v.Code == 0 {
			v.Code = http.StatusForbidden
		}
	}
	v.State = h.state
	if req.DryRun {
		return v, nil
	}
	return v, h.keepState()
}

func parseObject(text string) (any, error) {
	if text == "" {
		return nil, nil
	}
	return hostabi.ParseJSON([]byte(text))
}

// match returns the bits of the rules that select the request.
func (p *Plugin) match(req Request) uint64 {
	var mask uint64
	for i, r := range p.Manifest.Admission.Rules {
		if has(r.Operations, req.Operation) && has(r.APIGroups, req.Group) && has(r.APIVersions, req.Version) &&
			hasResource(r.Resources, req.Resource, req.Subresource) && selects(r.NamespaceSelector, req.NamespaceLabels) {
			mask |= 1 << i
		}
	}
	return mask
}

func has[S ~string](values []S, v S) bool {
	return slices.Contains(values, "*") || slices.Contains(values, v)
}

func hasResource(values []string, resource, sub string) bool {
	for _, v := range values {
		r, s, _ := strings.Cut(v, "/")
		if (r == "*" || r == resource) && (s == sub || s == "*" && sub != "" || v == "*/*") {
			return true
		}
	}
	return false
}

func selects(s *hostabi.LabelSelector, labels map[string]string) bool {
	if s == nil {
		return true
	}
	for k, want := range s.MatchLabels {
		if have, ok := labels[k]; !ok || have != want {
			return false
		}
	}
	for _, e := range s.MatchExpressions {
		have, ok := labels[e.Key]
		in := ok && slices.Contains(e.Values, have)
		match := map[hostabi.LabelOperator]bool{
			hostabi.LabelIn: in, hostabi.LabelNotIn: !in,
			hostabi.LabelExists: ok, hostabi.LabelDoesNotExist: !ok,
		}[e.Operator]
		if !match {
			return false
		}
	}
	return true
}
