package conformance

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/cleat-dev/cleat/hostabi"
)

// Bounds of what most checks start from: requests made from rules, and what the
// cases ask.
const (
	maxBases      = 8
	maxCasesAsked = 4
)

// bases are requests the plugin's rules match, without object: one for each
// rule, alike ones once.
func (s *subject) bases() []Request {
	var all []Request
	seen := map[string]bool{}
	for _, rule := range s.manifest.Admission.Rules {
		r := baseOf(rule)
		key := strings.Join([]string{string(r.Operation), r.Group, r.Version, r.Resource, r.Subresource}, " ")
		if !seen[key] && len(all) < maxBases {
			seen[key] = true
			all = append(all, r)
		}
	}
	return all
}

func baseOf(rule hostabi.MatchRule) Request {
	resource, sub, _ := strings.Cut(rule.Resources[0], "/")
	r := Request{
		ID: "conformance", Operation: firstOf(rule.Operations, hostabi.OperationCreate), Group: firstOf(rule.APIGroups, ""),
		Version: firstOf(rule.APIVersions, "v1"), Resource: resource, Subresource: sub,
		Namespace: "conformance", Name: "conformance", User: "conformance", NamespaceLabels: labelsOf(rule.NamespaceSelector),
	}
	if r.Resource == "*" {
		r.Resource = "pods"
	}
	if r.Subresource == "*" {
		r.Subresource = "status"
	}
	r.Kind = kindOf(r.Resource)
	return r
}

// firstOf returns the preferred value if the list has it or a star, else the
// first of the list.
func firstOf[S ~string](list []S, preferred S) S {
	if slices.Contains(list, preferred) || slices.Contains(list, "*") {
		return preferred
	}
	return list[0]
}

// kindOf guesses the kind of a resource.
func kindOf(resource string) string {
	name := resource
	switch {
	case strings.HasSuffix(name, "ies"):
		name = strings.TrimSuffix(name, "ies") + "y"
	case strings.HasSuffix(name, "sses"):
		name = strings.TrimSuffix(name, "es")
	default:
		name = strings.TrimSuffix(name, "s")
	}
	if name == "" {
		return "Object"
	}
	return strings.ToUpper(name[:1]) + name[1:]
}

// labelsOf returns namespace labels that a selector selects.
func labelsOf(s *hostabi.LabelSelector) map[string]string {
	labels := map[string]string{}
	if s == nil {
		return labels
	}
	for _, e := range s.MatchExpressions {
		switch {
		case e.Operator == hostabi.LabelIn && len(e.Values) > 0:
			labels[e.Key] = e.Values[0]
		case e.Operator == hostabi.LabelExists:
			labels[e.Key] = "true"
		}
	}
	for k, v := range s.MatchLabels {
		labels[k] = v
	}
	return labels
}

// hooks are the admission hooks the manifest asks for.
func (s *subject) hooks() []string {
	var hooks []string
	if s.manifest.Admission.Mutate {
		hooks = append(hooks, hostabi.ExportAdmissionMutate)
	}
	if s.manifest.Admission.Validate {
		hooks = append(hooks, hostabi.ExportAdmissionValidate)
	}
	return hooks
}

// inquiry is a question to an admission plugin.
type inquiry struct {
	name    string
	request Request
	hooks   []string // nil = all
}

// inquiries makes questions from every base.
func (s *subject) inquiries(make func(base Request) []inquiry) []inquiry {
	var all []inquiry
	for _, base := range s.bases() {
		all = append(all, make(base)...)
	}
	return all
}

// each puts every question to the guest until stop says that there is something
// to tell about an answer.
func (g *guest) each(ctx context.Context, all []inquiry, stop func(inquiry, answer) string) (string, error) {
	for _, q := range all {
		hooks := q.hooks
		if hooks == nil {
			hooks = g.subject.hooks()
		}
		for _, hook := range hooks {
			a, err := g.admit(ctx, hook, q.name, q.request.admission())
			if err != nil {
				return "", err
			}
			if why := stop(q, a); why != "" {
				return why, nil
			}
		}
	}
	return "", nil
}

// survive checks that the plugin comes to a verdict on every question.
func (s *subject) survive(ctx context.Context, all []inquiry) (finding, error) {
	return s.share(ctx, func(g *guest) (finding, error) {
		why, err := g.each(ctx, all, func(_ inquiry, a answer) string {
			if a.trouble != nil {
				return a.String()
			}
			return ""
		})
		switch {
		case err != nil:
			return finding{}, err
		case why != "":
			return failed("%s", why)
		}
		return passed("came to a verdict on %d requests", len(all))
	})
}

// typical are requests as a cluster has them: those of the cases, then one for
// each base.
func (s *subject) typical() ([]inquiry, error) {
	var all []inquiry
	for _, c := range s.cases {
		if c.Mutate != nil {
			all = append(all, inquiry{"case " + c.Name, *c.Mutate, s.hooks()})
		}
		if c.Validate != nil {
			all = append(all, inquiry{"case " + c.Name, *c.Validate, s.hooks()})
		}
		if len(all) >= maxCasesAsked {
			break
		}
	}
	paths, err := s.readPaths()
	if err != nil {
		return nil, err
	}
	writes, err := s.writePaths()
	if err != nil {
		return nil, err
	}
	unwritten := func(p hostabi.FieldPath) any {
		if slices.ContainsFunc(writes, func(w hostabi.FieldPath) bool { return w.Covers(p) || p.Covers(w) }) {
			return absentValue{}
		}
		return usual(p)
	}
	return append(all, s.inquiries(func(base Request) []inquiry {
		base.Object, base.OldObject = object(base, paths, 2, usual), olds(base, paths)
		questions := []inquiry{{name: "a " + base.Kind, request: base}}
		if len(writes) > 0 {
			base.Object = object(base, paths, 2, unwritten)
			questions = append(questions, inquiry{name: fmt.Sprintf("a %s without what the plugin writes", base.Kind), request: base})
		}
		return questions
	})...), nil
}

// olds is the stored object that a request has beside its own.
func olds(r Request, paths []hostabi.FieldPath) map[string]any {
	if r.Operation == hostabi.OperationCreate || r.Operation == hostabi.OperationConnect {
		return nil
	}
	return object(r, paths, 1, usual)
}
