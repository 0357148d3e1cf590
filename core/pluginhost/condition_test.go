package pluginhost

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/core/extension"
	"github.com/cleat-dev/cleat/core/pluginhost/guesttest"
	"github.com/cleat-dev/cleat/hostabi"
)

// TestRulesMask has a guest return the mask as its error number, to see which
// rules reached it.
func TestRulesMask(t *testing.T) {
	rule := func(name string, change func(*hostabi.MatchRule)) hostabi.MatchRule {
		r := guesttest.Admission("x").Admission.Rules[0]
		r.Name = name
		change(&r)
		return r
	}
	labels := func(m map[string]string, e ...hostabi.LabelRequirement) func(*hostabi.MatchRule) {
		return func(r *hostabi.MatchRule) {
			r.NamespaceSelector = &hostabi.LabelSelector{MatchLabels: m, MatchExpressions: e}
		}
	}
	when := func(expressions ...string) func(*hostabi.MatchRule) {
		return func(r *hostabi.MatchRule) {
			for i, e := range expressions {
				r.MatchConditions = append(r.MatchConditions, hostabi.MatchCondition{Name: fmt.Sprintf("c%d", i), Expression: e})
			}
		}
	}
	rules := []hostabi.MatchRule{
		rule("plain", func(*hostabi.MatchRule) {}),
		rule("red", labels(map[string]string{"team": "red"})),
		rule("blue", labels(map[string]string{"team": "blue"})),
		rule("in", labels(nil, hostabi.LabelRequirement{Key: "team", Operator: hostabi.LabelIn, Values: []string{"blue", "red"}})),
		rule("notin", labels(nil, hostabi.LabelRequirement{Key: "team", Operator: hostabi.LabelNotIn, Values: []string{"red"}})),
		rule("exists", labels(nil, hostabi.LabelRequirement{Key: "zone", Operator: hostabi.LabelExists})),
		rule("absent", labels(nil, hostabi.LabelRequirement{Key: "zone", Operator: hostabi.LabelDoesNotExist})),
		rule("cel", when("object.spec.containers.exists(c, c.image.startsWith('b:'))", "oldObject == null")),
		rule("celno", when("request.user.name == 'bob'")),
		rule("celdry", when("request.dryRun")),
		rule("celns", when("namespaceLabels['team'] == 'red' && request.namespace == 'default'")),
	}
	g := guesttest.Guest{Manifest: guesttest.Admission("mask", rules...)}
	returnMask := guesttest.Code([]byte{0x42, 0}, guesttest.Get(1), []byte{0x7d, 0xa7}) // i32(0 - rules)
	g.Hooks = map[string][]byte{hostabi.ExportAdmissionMutate: returnMask, hostabi.ExportAdmissionValidate: returnMask}
	h := lockOf(t, g.Wasm()).open(t)
	mask := func(req *extension.AdmissionRequest) int32 {
		t.Helper()
		p := h.current.Load().admission.plugins[0]
		c := &call{hook: hookValidate, request: &request{AdmissionRequest: req}}
		masks := make([]uint64, 1)
		h.current.Load().admission.index.match(masks, req.Operation, req.Group, req.Version, req.Resource, req.Subresource)
		_, err := p.decide(t.Context(), c, masks[0])
		var fault *Fault
		if err != nil && !errors.As(err, &fault) {
			t.Fatal(err)
		}
		if fault == nil {
			return 0
		}
		var errno hostabi.Errno
		if !errors.As(fault.Err, &errno) {
			t.Fatalf("fault %v", fault)
		}
		return -int32(errno)
	}
	bits := func(names ...string) (m int32) {
		for _, n := range names {
			m |= 1 << slices.IndexFunc(rules, func(r hostabi.MatchRule) bool { return r.Name == n })
		}
		return m
	}
	if got, want := mask(pod()), bits("plain", "red", "in", "absent", "cel", "celns"); got != want {
		t.Errorf("mask %011b, want %011b", got, want)
	}
	dry := pod()
	dry.DryRun = true
	dry.NamespaceLabels = func() (map[string]string, error) {
		return map[string]string{"team": "red", "zone": "z"}, nil
	}
	if got, want := mask(dry), bits("plain", "red", "in", "exists", "cel", "celdry", "celns"); got != want {
		t.Errorf("dry run: mask %011b, want %011b", got, want)
	}
}

func TestConditionErrors(t *testing.T) {
	for expression, want := range map[string]string{
		"object.spec.nodeName == 'x'": "no such key: nodeName",
		"object.metadata.name":        "yields string, want bool",
		"[1,2,3,4,5,6,7,8,9,10].all(a, [1,2,3,4,5,6,7,8,9,10].all(b, [1,2,3,4,5,6,7,8,9,10].all(c, [1,2,3,4,5,6,7,8,9,10].all(d, [1,2,3,4,5,6,7,8,9,10].all(e, [1,2,3,4,5,6,7,8,9,10].all(f, a+b+c+d+e+f > 0))))))": "cost limit exceeded",
	} {
		g := guesttest.Guest{Manifest: guesttest.Admission("cel"), Hooks: hook("x", guesttest.I32(0)).Hooks}
		g.Manifest.Admission.Rules[0].MatchConditions = []hostabi.MatchCondition{{Name: "c", Expression: expression}}
		result, err := lockOf(t, g.Wasm()).open(t).Validate(t.Context(), pod())
		if err != nil || result.Allowed || result.Code != 500 || !strings.Contains(result.Message, want) || !strings.Contains(result.Message, "match condition c") {
			t.Errorf("%s: got %+v, %v, want %q", expression, result, err, want)
		}
	}
	g := guesttest.Guest{Manifest: guesttest.Admission("cel"), Hooks: hook("x", guesttest.I32(0)).Hooks}
	g.Manifest.Admission.Rules[0].MatchConditions = []hostabi.MatchCondition{{Name: "c", Expression: "object.("}, {Name: "d", Expression: "1 + 1"}, {Name: "e", Expression: "secret == 1"}}
	_, err := Inspect(g.Wasm())
	for _, want := range []string{"match condition c", "Syntax error", "match condition d: yields int, want bool", "undeclared reference to 'secret'"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
}
