package hostabi

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// problems gathers what is wrong with a manifest.
type problems []error

func (p *problems) add(field, format string, args ...any) {
	*p = append(*p, fmt.Errorf("manifest: %s: %w", field, fmt.Errorf(format, args...)))
}

const maxListed = 64 // entries of any list in a manifest

// Validate returns everything that is wrong with the manifest, joined, or nil.
func (m Manifest) Validate() error {
	var p problems
	if !isLabel(m.Name) {
		p.add("name", "%q is not a lower-case DNS label", clip(m.Name))
	}
	if !isVersion(m.Version) {
		p.add("version", "%q is not like 1.2.3 or 1.2.3-rc.1", clip(m.Version))
	}
	p.checkText("description", m.Description, 500)
	switch {
	case m.ABI.Major != ABIMajor:
		p.add("abi.major", "%d, this host speaks %d", m.ABI.Major, ABIMajor)
	case m.ABI.Minor < 0 || m.ABI.Minor > ABIMinor:
		p.add("abi.minor", "needs ABI %s, this host has %d.%d; use a newer cleat", m.ABI, ABIMajor, ABIMinor)
	}
	checkOneOf(&p, "points", m.Points, Points())
	checkOneOf(&p, "capabilities", m.Capabilities, Capabilities())
	p.checkLimits(m.Limits)
	switch m.FailurePolicy {
	case "", FailurePolicyFail, FailurePolicyIgnore:
	default:
		p.add("failure_policy", "%q is neither fail nor ignore", clip(string(m.FailurePolicy)))
	}
	p.checkSchema(m.ConfigSchema)
	switch {
	case m.HasPoint(PointAdmission) && m.Admission == nil:
		p.add("admission", "missing; the point admission needs it")
	case !m.HasPoint(PointAdmission) && m.Admission != nil:
		p.add("admission", "given without the point admission")
	case m.Admission != nil:
		p.checkAdmission(*m.Admission)
	}
	p.checkLookups(m)
	if m.Deployer != nil {
		p.checkDeployer(m)
	}
	return errors.Join(p...)
}

func (p *problems) checkLookups(m Manifest) {
	granted := slices.Contains(m.Capabilities, ModuleLookup)
	switch {
	case granted && len(m.Lookups) == 0:
		p.add("lookups", "missing; the capability %s needs the kinds it is for", ModuleLookup)
	case !granted && len(m.Lookups) > 0:
		p.add("lookups", "given without the capability %s", ModuleLookup)
	case len(m.Lookups) > MaxLookups:
		p.add("lookups", "%d kinds, the most is %d", len(m.Lookups), MaxLookups)
		return
	}
	for i, text := range m.Lookups {
		at := fmt.Sprintf("lookups[%d]", i)
		if _, err := ParseKind(text); err != nil {
			p.add(at, "%w", err)
		}
		if slices.Contains(m.Lookups[:i], text) {
			p.add(at, "%q is given twice", clip(text))
		}
	}
}

func (p *problems) checkDeployer(m Manifest) {
	d := m.Deployer
	if !m.HasPoint(PointDeployer) {
		p.add("deployer", "given without the point deployer")
	}
	if len(d.Files)+len(d.Archives)+len(d.Directories) == 0 {
		p.add("deployer", "claims nothing; name files, archives or directories")
	}
	for _, list := range []struct {
		field    string
		patterns []string
	}{{"files", d.Files}, {"archives", d.Archives}, {"directories", d.Directories}, {"companions", d.Companions}} {
		at := "deployer." + list.field
		if len(list.patterns) > MaxClaims {
			p.add(at, "%d patterns, the most is %d", len(list.patterns), MaxClaims)
			continue
		}
		for i, pattern := range list.patterns {
			if !isPattern(pattern) {
				p.add(fmt.Sprintf("%s[%d]", at, i), "%q is not a file name with at most one *", clip(pattern))
			}
			if list.field == "companions" && (!strings.HasPrefix(pattern, "*.") || len(pattern) < 3) {
				p.add(fmt.Sprintf("%s[%d]", at, i), "%q must begin with *. and go on", clip(pattern))
			}
		}
	}
}

func (p *problems) checkLimits(l Limits) {
	if l.MemoryPages > MaxMemoryPages {
		p.add("limits.memory_pages", "%d, the most is %d (1 GiB)", l.MemoryPages, MaxMemoryPages)
	}
	if l.DeadlineMS > MaxDeadlineMS {
		p.add("limits.deadline_ms", "%d, the most is %d", l.DeadlineMS, MaxDeadlineMS)
	}
}

func (p *problems) checkAdmission(a AdmissionManifest) {
	if !a.Mutate && !a.Validate {
		p.add("admission", "neither mutate nor validate is true")
	}
	if len(a.WritePaths) > 0 && !a.Mutate {
		p.add("admission.write_paths", "given without mutate")
	}
	p.checkPaths("admission.read_paths", a.ReadPaths)
	p.checkPaths("admission.write_paths", a.WritePaths)
	if len(a.Rules) == 0 || len(a.Rules) > MaxMatchRules {
		p.add("admission.rules", "%d rules, want 1 to %d", len(a.Rules), MaxMatchRules)
		return
	}
	names := map[string]bool{}
	for i, r := range a.Rules {
		at := fmt.Sprintf("admission.rules[%d]", i)
		if names[r.Name] {
			p.add(at+".name", "%q names two rules", clip(r.Name))
		}
		names[r.Name] = true
		p.checkRule(at, r)
	}
}

func (p *problems) checkPaths(field string, paths []string) {
	if len(paths) > MaxPaths {
		p.add(field, "%d paths, the most is %d", len(paths), MaxPaths)
		return
	}
	seen := map[string]bool{}
	for i, text := range paths {
		at := fmt.Sprintf("%s[%d]", field, i)
		path, err := ParseFieldPath(text)
		switch {
		case err != nil:
			p.add(at, "%w", err)
		case path.String() != text:
			p.add(at, "%q is written %q", text, path.String())
		case seen[text]:
			p.add(at, "%q is given twice", text)
		}
		seen[text] = true
	}
}

func (p *problems) checkRule(at string, r MatchRule) {
	if !isLabel(r.Name) {
		p.add(at+".name", "%q is not a lower-case DNS label", clip(r.Name))
	}
	checkOneOf(p, at+".operations", r.Operations, append(Operations(), "*"))
	p.checkEach(at+".api_groups", r.APIGroups, "an API group, \"\" or \"*\"", func(s string) bool {
		return s == "" || s == "*" || isSubdomain(s)
	})
	p.checkEach(at+".api_versions", r.APIVersions, "an API version or \"*\"", func(s string) bool {
		return s == "*" || isLabel(s)
	})
	p.checkEach(at+".resources", r.Resources, "a resource, resource/subresource or \"*\"", isResource)
	if r.NamespaceSelector != nil {
		p.checkSelector(at+".namespace_selector", *r.NamespaceSelector)
	}
	if len(r.MatchConditions) > 16 {
		p.add(at+".match_conditions", "%d conditions, the most is 16", len(r.MatchConditions))
		return
	}
	for i, c := range r.MatchConditions {
		at := fmt.Sprintf("%s.match_conditions[%d]", at, i)
		if !isLabel(c.Name) {
			p.add(at+".name", "%q is not a lower-case DNS label", clip(c.Name))
		}
		if strings.TrimSpace(c.Expression) == "" || len(c.Expression) > 4096 {
			p.add(at+".expression", "%d bytes, want a CEL expression of 1 to 4096", len(c.Expression))
		}
	}
}

func (p *problems) checkSelector(at string, s LabelSelector) {
	if len(s.MatchLabels) > maxListed || len(s.MatchExpressions) > maxListed {
		p.add(at, "more than %d conditions", maxListed)
		return
	}
	for _, k := range sortedKeys(s.MatchLabels) {
		if !isLabelKey(k) {
			p.add(at+".match_labels", "%q is not a label key", clip(k))
		}
		if !isLabelValue(s.MatchLabels[k]) {
			p.add(at+".match_labels", "%s: %q is not a label value", clip(k), clip(s.MatchLabels[k]))
		}
	}
	for i, e := range s.MatchExpressions {
		at := fmt.Sprintf("%s.match_expressions[%d]", at, i)
		if !isLabelKey(e.Key) {
			p.add(at+".key", "%q is not a label key", clip(e.Key))
		}
		switch e.Operator {
		case LabelIn, LabelNotIn:
			p.checkEach(at+".values", e.Values, "a label value", isLabelValue)
		case LabelExists, LabelDoesNotExist:
			if len(e.Values) > 0 {
				p.add(at+".values", "given, but %s takes none", e.Operator)
			}
		default:
			p.add(at+".operator", "%q is none of In, NotIn, Exists, DoesNotExist", clip(string(e.Operator)))
		}
	}
}

func (p *problems) checkText(field, text string, most int) {
	if len(text) > most {
		p.add(field, "%d bytes, the most is %d", len(text), most)
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r < 0x20 || r == 0x7f }) {
		p.add(field, "%q holds a control character", clip(text))
	}
}

func (p *problems) checkEach(field string, values []string, want string, ok func(string) bool) {
	if len(values) == 0 || len(values) > maxListed {
		p.add(field, "%d entries, want 1 to %d", len(values), maxListed)
		return
	}
	for i, v := range values {
		switch {
		case !ok(v):
			p.add(fmt.Sprintf("%s[%d]", field, i), "%q is not %s", clip(v), want)
		case slices.Contains(values[:i], v):
			p.add(fmt.Sprintf("%s[%d]", field, i), "%q is given twice", v)
		}
	}
}

// checkOneOf wants at least one value, all from known, each once.
func checkOneOf[S ~string](p *problems, field string, values, known []S) {
	if len(values) == 0 {
		p.add(field, "empty; use %s", join(known))
	}
	for i, v := range values {
		if i == maxListed {
			p.add(field, "%d entries, the most is %d", len(values), maxListed)
			return
		}
		switch {
		case !slices.Contains(known, v):
			p.add(fmt.Sprintf("%s[%d]", field, i), "%q is none of %s", clip(string(v)), join(known))
		case slices.Contains(values[:i], v):
			p.add(fmt.Sprintf("%s[%d]", field, i), "%q is given twice", string(v))
		}
	}
}

func join[S ~string](values []S) string {
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = string(v)
	}
	return strings.Join(texts, ", ")
}
