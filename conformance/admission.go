package conformance

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/cleat-dev/cleat/hostabi"
)

// admissionChecks are about plugins of the point admission.
func admissionChecks() []check {
	buffers := append(asked(), "core/buffer-protocol")
	return at(hostabi.PointAdmission,
		core("admission/typical-object", "cleat_admission_validate",
			"A hook comes to a verdict on a request that one of its rules matches.", asked(), checkTypical),
		core("admission/absent-fields", "object_get",
			"An absent value is tag 0: a hook comes to a verdict when one of the fields it reads is absent and the others are there.",
			[]string{"admission/typical-object"}, checkAbsentFields),
		core("admission/wrong-types", "Field paths",
			"A value can be of any type, and one of the wrong type on the way to a field counts as absent.", []string{"admission/absent-fields"}, checkWrongTypes),
		core("admission/empty-texts", "Values",
			"A text can be empty, and so can every list and map.", []string{"admission/typical-object"}, checkEmptyTexts),
		core("admission/unicode", "Values",
			"A text is any UTF-8, with zero bytes, line breaks and quotes.", []string{"admission/typical-object"}, checkUnicode),
		core("admission/long-texts", "Limits",
			"A value can be as large as the limit of a value.", append(buffers, "admission/typical-object"), checkLongTexts),
		core("admission/huge-lists", "Field paths",
			"A list can have a thousand elements.", append(buffers, "admission/typical-object"), checkHugeLists),
		core("admission/empty-request-fields", "request_get",
			"A field of the request can be empty: no name yet, no user, no namespace, no labels of it.", []string{"admission/typical-object"}, checkEmptyRequest),
		core("admission/unknown-rules", "cleat_admission_validate",
			"Bits of the rules mask mean rules of the manifest; a plugin bears bits it has no rule for, and none.", []string{"admission/typical-object"}, checkUnknownRules),
		core("admission/operations", "Request fields",
			"A hook comes to a verdict on every operation its rules name.", []string{"admission/typical-object"}, checkOperations),
		core("admission/delete", "object_get",
			"On DELETE there is no object, any value of it is tag 0, and nothing can be changed.", []string{"admission/typical-object"}, checkDelete),
		core("admission/deterministic", "Rules",
			"Two new instances give the same answer to the same request at the same time, byte for byte.", []string{"admission/typical-object"}, checkDeterministic),
		core("admission/dry-run", "Request fields",
			"A dry run comes to the verdict of the real request.", []string{"admission/deterministic"}, checkDryRun),
		core("admission/instance-independent", "Rules",
			"An instance that has served other requests answers like a new one.", []string{"admission/deterministic"}, checkIndependent),
		core("admission/memory-bounded", "Rules",
			"All memory belongs to the guest, which gives back what a hook took: later calls need no more than earlier ones.",
			[]string{"admission/typical-object"}, checkMemoryBounded),
		extended("admission/idempotent-mutation", "object_set",
			"To mutate the result of a mutation changes nothing more.", []string{"admission/typical-object"}, checkIdempotent),
		extended("admission/warnings-bounded", "Limits",
			"A hook that warns about every element of a list ends before the limit of warnings, so that none is lost.", []string{"admission/huge-lists"}, checkWarnings),
	)
}

func checkTypical(ctx context.Context, s *subject) (finding, error) {
	all, err := s.typical()
	if err != nil {
		return finding{}, err
	}
	return s.survive(ctx, all)
}

// vary checks the requests that make returns for each base and read path.
func (s *subject) vary(ctx context.Context, make func(base Request, paths []hostabi.FieldPath, at hostabi.FieldPath) []inquiry) (finding, error) {
	paths, err := s.readPaths()
	if err != nil {
		return finding{}, err
	}
	if len(paths) == 0 {
		return inapplicable("reads no field")
	}
	return s.survive(ctx, s.inquiries(func(base Request) []inquiry {
		var all []inquiry
		for _, p := range paths {
			all = append(all, make(base, paths, p)...)
		}
		return all
	}))
}

func checkAbsentFields(ctx context.Context, s *subject) (finding, error) {
	return s.vary(ctx, func(base Request, paths []hostabi.FieldPath, at hostabi.FieldPath) []inquiry {
		base.Object = object(base, paths, 2, instead(at, absentValue{}))
		base.OldObject = olds(base, paths)
		return []inquiry{{name: fmt.Sprintf("a %s without %s", base.Kind, at), request: base}}
	})
}

// typed is a value of each type.
func typed() []any {
	return []any{nil, false, true, int64(-1), 1.5, "text", []any{}, []any{"a", nil, int64(1), []any{"b"}}, map[string]any{}, map[string]any{"a": map[string]any{"b": []any{}}}}
}

func checkWrongTypes(ctx context.Context, s *subject) (finding, error) {
	writes, err := s.writePaths()
	if err != nil {
		return finding{}, err
	}
	return s.vary(ctx, func(base Request, paths []hostabi.FieldPath, at hostabi.FieldPath) []inquiry {
		var all []inquiry
		for _, place := range prefixes(at) {
			hooks := s.hooks()
			if above(place, writes) {
				// A mutation would have to go through it.
				hooks = slices.DeleteFunc(hooks, func(h string) bool { return h == hostabi.ExportAdmissionMutate })
			}
			for _, v := range typed() {
				base.Object = object(base, append(slices.Clone(paths), place), 2, instead(place, v))
				base.OldObject = olds(base, paths)
				all = append(all, inquiry{fmt.Sprintf("a %s with %s = %s", base.Kind, place, jsonText(v)), base, hooks})
			}
		}
		return all
	})
}

// prefixes are the places on the way to a path and itself, but not those the
// API server has checked: metadata and spec are maps.
func prefixes(p hostabi.FieldPath) []hostabi.FieldPath {
	var all []hostabi.FieldPath
	text := ""
	for i, s := range p.Segments() {
		switch {
		case s.Each:
			text += "[*]"
		default:
			text += "['" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s.Key) + "']"
		}
		if i == 0 {
			text = s.Key
		}
		if place, err := hostabi.ParseFieldPath(text); err == nil && (i > 0 || len(p.Segments()) == 1) {
			all = append(all, place)
		}
	}
	return all
}

// above reports whether a write path leads through the place.
func above(place hostabi.FieldPath, writes []hostabi.FieldPath) bool {
	return slices.ContainsFunc(writes, func(w hostabi.FieldPath) bool {
		return place.Covers(w) && len(w.Segments()) > len(place.Segments())
	})
}

func jsonText(v any) string {
	text, err := hostabi.AppendJSON(nil, v)
	if err != nil {
		return "a value"
	}
	return string(text)
}

func checkEmptyTexts(ctx context.Context, s *subject) (finding, error) {
	empty := func(p hostabi.FieldPath) any {
		switch shapeOf(p) {
		case shapeMap:
			return map[string]any{}
		case shapeList:
			return []any{}
		case shapeText:
			return ""
		}
		return usual(p)
	}
	return s.vary(ctx, func(base Request, paths []hostabi.FieldPath, at hostabi.FieldPath) []inquiry {
		base.Object = object(base, paths, 2, instead(at, empty(at)))
		base.OldObject = olds(base, paths)
		none := base
		none.Object = object(base, paths, 0, usual)
		return []inquiry{{name: fmt.Sprintf("a %s with an empty %s", base.Kind, at), request: base}, {name: "empty lists in a " + base.Kind, request: none}}
	})
}

// strange are texts that have broken programs before.
func strange() []string {
	return []string{"\u00e4\u00f6\u00fc\u00df", "\u65e5\u672c\u8a9e", "\U0001f40b\u200d\U0001f40b", "\u202e\u0661\u0301", "a\x00b", "\n\r\t\x1b", `"'\`, "\ufffd\ufeff", "%s%n%d"}
}

func checkUnicode(ctx context.Context, s *subject) (finding, error) {
	return s.vary(ctx, func(base Request, paths []hostabi.FieldPath, at hostabi.FieldPath) []inquiry {
		var all []inquiry
		for _, text := range strange() {
			base.Object = object(base, paths, 2, instead(at, textual(text)(at)))
			base.OldObject = olds(base, paths)
			all = append(all, inquiry{name: fmt.Sprintf("a %s with %s of %q", base.Kind, at, text), request: base})
		}
		return all
	})
}

// longText is a text that fits a value even when a list has it twice.
const longText = 400_000

func checkLongTexts(ctx context.Context, s *subject) (finding, error) {
	return s.vary(ctx, func(base Request, paths []hostabi.FieldPath, at hostabi.FieldPath) []inquiry {
		base.Object = object(base, paths, 2, instead(at, textual(strings.Repeat("y", longText))(at)))
		base.OldObject = olds(base, paths)
		return []inquiry{{name: fmt.Sprintf("a %s with %d bytes at %s", base.Kind, longText, at), request: base}}
	})
}

const hugeList = 1000

func (s *subject) huge(paths []hostabi.FieldPath) []inquiry {
	return s.inquiries(func(base Request) []inquiry {
		base.Object = object(base, paths, hugeList, usual)
		base.OldObject = olds(base, paths)
		bare := base
		bare.Object = object(base, paths, hugeList, func(p hostabi.FieldPath) any {
			if p.Wildcards() > 0 {
				return ""
			}
			return usual(p)
		})
		name := fmt.Sprintf("a %s with lists of %d", base.Kind, hugeList)
		return []inquiry{{name: name, request: base}, {name: name + " empty texts", request: bare}}
	})
}

func checkHugeLists(ctx context.Context, s *subject) (finding, error) {
	paths, err := s.readPaths()
	if err != nil {
		return finding{}, err
	}
	if !slices.ContainsFunc(paths, func(p hostabi.FieldPath) bool { return p.Wildcards() > 0 }) {
		return inapplicable("reads no list")
	}
	return s.survive(ctx, s.huge(paths))
}

func checkEmptyRequest(ctx context.Context, s *subject) (finding, error) {
	paths, err := s.readPaths()
	if err != nil {
		return finding{}, err
	}
	return s.survive(ctx, s.inquiries(func(base Request) []inquiry {
		base.Object = object(base, paths, 2, usual)
		base.OldObject = olds(base, paths)
		unnamed, anonymous, cluster := base, base, base
		unnamed.Name, unnamed.ID = "", ""
		anonymous.User = ""
		cluster.Namespace, cluster.NamespaceLabels = "", nil
		return []inquiry{
			{name: "a request without name", request: unnamed},
			{name: "a request without user", request: anonymous},
			{name: "a request without namespace", request: cluster},
		}
	}))
}

// checkUnknownRules hands the hooks rules masks that their own rules never give.
func checkUnknownRules(ctx context.Context, s *subject) (finding, error) {
	paths, err := s.readPaths()
	if err != nil {
		return finding{}, err
	}
	known := len(s.manifest.Admission.Rules)
	beyond := ^uint64(0)
	if known < 64 {
		beyond <<= known
	}
	masks := []uint64{^uint64(0), beyond, 1 << 63, 0}
	base := s.bases()[0]
	base.Object = object(base, paths, 2, usual)
	base.OldObject = olds(base, paths)
	request, err := base.captured()
	if err != nil {
		return finding{}, err
	}
	for _, hook := range s.hooks() {
		for i, mask := range append([]uint64{1}, masks...) {
			out, err := s.ask(ctx, raw{hook: hook, rules: mask, request: request})
			switch {
			case err != nil:
				return finding{}, err
			case out.Fault != nil && i == 0:
				return inapplicable("comes to no verdict without a cluster to look up")
			case out.Fault != nil:
				return failed("%s, asked with the rules mask %#x: %s", hook, mask, out.Fault.Detail)
			}
		}
	}
	return passed("came to a verdict with %d rules masks", len(masks))
}

// operations are the requests for every operation of every rule.
func (s *subject) operations(want func(hostabi.Operation) bool) ([]inquiry, error) {
	paths, err := s.readPaths()
	if err != nil {
		return nil, err
	}
	var all []inquiry
	for _, rule := range s.manifest.Admission.Rules {
		base := baseOf(rule)
		for _, op := range hostabi.Operations() {
			if !want(op) || !slices.Contains(rule.Operations, op) && !slices.Contains(rule.Operations, "*") {
				continue
			}
			base.Operation = op
			base.Object, base.OldObject = object(base, paths, 2, usual), olds(base, paths)
			if op == hostabi.OperationDelete {
				base.Object = nil
			}
			all = append(all, inquiry{name: fmt.Sprintf("%s of a %s", op, base.Kind), request: base})
		}
	}
	return all, nil
}

func checkOperations(ctx context.Context, s *subject) (finding, error) {
	all, err := s.operations(func(op hostabi.Operation) bool { return op != hostabi.OperationDelete })
	if err != nil {
		return finding{}, err
	}
	if len(all) == 0 {
		return inapplicable("is asked about DELETE only")
	}
	return s.survive(ctx, all)
}

func checkDelete(ctx context.Context, s *subject) (finding, error) {
	all, err := s.operations(func(op hostabi.Operation) bool { return op == hostabi.OperationDelete })
	if err != nil {
		return finding{}, err
	}
	if len(all) == 0 {
		return inapplicable("is not asked about DELETE")
	}
	return s.survive(ctx, all)
}
