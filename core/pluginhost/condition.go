package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cleat-dev/cleat/hostabi"
	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/overloads"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
)

// Limits of one match condition. The cost is CEL's own unit; a million of them
// is about a tenth of a second.
const (
	conditionCost  = 100_000
	conditionCheck = 100 // comprehension steps between looks at the context
)

// rule is the part of a match rule that needs more than the request line.
type rule struct {
	name       string
	selector   *hostabi.LabelSelector
	conditions []condition
}

type condition struct {
	name    string
	program cel.Program
}

// conditionEnv declares what a match condition may use.
func conditionEnv() (*cel.Env, error) {
	return cel.NewEnv(
		cel.Variable("object", cel.DynType),
		cel.Variable("oldObject", cel.DynType),
		cel.Variable("request", cel.MapType(cel.StringType, cel.DynType)),
		cel.Variable("namespaceLabels", cel.MapType(cel.StringType, cel.StringType)),
	)
}

// compileRules compiles the conditions of every rule.
func compileRules(env *cel.Env, rules []hostabi.MatchRule) ([]rule, error) {
	compiled := make([]rule, len(rules))
	var errs []error
	for i, r := range rules {
		compiled[i] = rule{name: r.Name, selector: r.NamespaceSelector}
		for _, c := range r.MatchConditions {
			program, err := compileCondition(env, c.Expression)
			if err != nil {
				errs = append(errs, fmt.Errorf("rule %s, match condition %s: %w", r.Name, c.Name, err))
				continue
			}
			compiled[i].conditions = append(compiled[i].conditions, condition{c.Name, program})
		}
	}
	return compiled, errors.Join(errs...)
}

func compileCondition(env *cel.Env, expression string) (cel.Program, error) {
	ast, issues := env.Compile(expression)
	if err := issues.Err(); err != nil {
		return nil, err
	}
	if out := ast.OutputType(); !out.IsExactType(cel.BoolType) && !out.IsExactType(cel.DynType) {
		return nil, fmt.Errorf("yields %s, want bool", out)
	}
	return env.Program(ast, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(conditionCost), cel.CostTracking(conditionCosts{}), cel.InterruptCheckFrequency(conditionCheck))
}

// conditionCosts charges what works through whole values by their size; CEL's
// own costs take most of it for one step.
type conditionCosts struct{}

// CallCost implements interpreter.ActualCostEstimator.
func (conditionCosts) CallCost(function, _ string, args []ref.Val, _ ref.Val) *uint64 {
	switch function {
	case overloads.Matches:
		// Each character of the text may be tried with each of the pattern.
		cost := uint64(1)
		for _, a := range args {
			text, _ := a.Value().(string)
			cost *= uint64(len(text)/8) + 1
		}
		return &cost
	case operators.Equals, operators.NotEquals, operators.In, operators.OldIn, overloads.Contains, "string", "bytes":
	default:
		return nil
	}
	cost := uint64(1)
	for _, a := range args {
		cost += sizeOf(a.Value())
	}
	return &cost
}

// sizeOf is about how many steps it takes to look at all of a value.
func sizeOf(v any) uint64 {
	const textPerStep = 16
	switch v := v.(type) {
	case string:
		return uint64(len(v)/textPerStep) + 1
	case map[string]any:
		n := uint64(1)
		for k, e := range v {
			n += uint64(len(k)/textPerStep) + sizeOf(e)
		}
		return n
	case []any:
		n := uint64(1)
		for _, e := range v {
			n += sizeOf(e)
		}
		return n
	}
	return 1
}

// matches evaluates selector and conditions; ok is true when all of them hold.
func (r *rule) matches(ctx context.Context, req *request) (ok bool, err error) {
	if r.selector != nil {
		labels, err := req.namespaceLabels()
		if err != nil {
			return false, err
		}
		if !selects(r.selector, labels) {
			return false, nil
		}
	}
	for _, c := range r.conditions {
		vars := &variables{request: req}
		out, _, err := c.program.ContextEval(ctx, vars)
		if vars.err != nil {
			err = vars.err
		}
		if err != nil {
			return false, fmt.Errorf("rule %s, match condition %s: %w", r.name, c.name, err)
		}
		hold, isBool := out.Value().(bool)
		if !isBool {
			return false, fmt.Errorf("rule %s, match condition %s: yields %s, want bool", r.name, c.name, out.Type().TypeName())
		}
		if !hold {
			return false, nil
		}
	}
	return true, nil
}

// variables fetches what an expression names when it names it.
type variables struct {
	request *request
	err     error // why something could not be fetched
}

// Parent implements cel.Activation.
func (v *variables) Parent() cel.Activation { return nil }

// ResolveName implements cel.Activation. An absent object is null.
func (v *variables) ResolveName(name string) (any, bool) {
	switch name {
	case "object":
		object, err := v.request.object()
		return v.nullable(object, err)
	case "oldObject":
		object, err := v.request.oldObject()
		return v.nullable(object, err)
	case "namespaceLabels":
		labels, err := v.request.namespaceLabels()
		if err != nil {
			v.err = err
			return nil, false
		}
		if labels == nil {
			labels = map[string]string{}
		}
		return labels, true
	case "request":
		r := v.request
		return map[string]any{
			"operation": string(r.Operation), "group": r.Group, "version": r.Version, "kind": r.Kind,
			"resource": r.Resource, "subresource": r.Subresource, "namespace": r.Namespace, "name": r.Name,
			"dryRun": r.DryRun, "user": map[string]any{"name": r.UserName, "groups": r.UserGroups},
		}, true
	}
	return nil, false
}

func (v *variables) nullable(object map[string]any, err error) (any, bool) {
	switch {
	case err != nil:
		v.err = err
		return nil, false
	case object == nil:
		return types.NullValue, true
	}
	return object, true
}

// selects reports whether labels satisfy the selector, as Kubernetes means it.
func selects(s *hostabi.LabelSelector, labels map[string]string) bool {
	for k, want := range s.MatchLabels {
		if got, ok := labels[k]; !ok || got != want {
			return false
		}
	}
	for _, e := range s.MatchExpressions {
		value, ok := labels[e.Key]
		hold := false
		switch e.Operator {
		case hostabi.LabelIn:
			hold = ok && slices.Contains(e.Values, value)
		case hostabi.LabelNotIn:
			hold = !ok || !slices.Contains(e.Values, value)
		case hostabi.LabelExists:
			hold = ok
		case hostabi.LabelDoesNotExist:
			hold = !ok
		}
		if !hold {
			return false
		}
	}
	return true
}
