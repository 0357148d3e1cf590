package pluginhost

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"

	"github.com/cleat-dev/cleat/hostabi"
)

// Verdicts of an Outcome.
const (
	VerdictAllow   = "allow"
	VerdictDeny    = "deny"
	VerdictFault   = "fault"
	VerdictDecided = "decided"  // a plan hook has answered
	VerdictNotMine = "not-mine" // a plan hook has left it to others
)

// Outcome is everything a call of a hook came to. Equal calls of a
// deterministic plugin have equal outcomes, byte for byte as JSON.
type Outcome struct {
	Verdict   string            `json:"verdict"`
	Message   string            `json:"message,omitempty"` // of a denial
	Code      int32             `json:"code,omitempty"`    // of a denial
	Warnings  []string          `json:"warnings,omitempty"`
	Audit     []string          `json:"audit,omitempty"` // key=value
	Mutations []OutcomeMutation `json:"mutations,omitempty"`
	State     []string          `json:"state,omitempty"`  // keys that were set, sorted
	Output    json.RawMessage   `json:"output,omitempty"` // of a plan hook
	Fault     *OutcomeFault     `json:"fault,omitempty"`
}

// OutcomeMutation is one recorded change.
type OutcomeMutation struct {
	Op    string `json:"op"`    // set, remove or append
	Place string `json:"place"` // spec.containers[0].image
	Value any    `json:"value,omitempty"`
}

// OutcomeFault is how a call failed.
type OutcomeFault struct {
	Kind   FaultKind `json:"kind"`
	Detail string    `json:"detail"`
}

// JSON returns the outcome as canonical JSON.
func (o Outcome) JSON() ([]byte, error) { return hostabi.AppendJSON(nil, o) }

// outcomeOf describes how a call ended.
func outcomeOf(c *call, result int32, err error) Outcome {
	o := Outcome{Warnings: c.warnings, State: sortedKeys(c.state)}
	for _, a := range c.audit {
		o.Audit = append(o.Audit, a.key+"="+a.value)
	}
	var fault *Fault
	switch {
	case errors.As(err, &fault):
		return Outcome{Verdict: VerdictFault, Fault: &OutcomeFault{fault.Kind, fault.Detail}}
	case c.hook.plan() && result == hostabi.PlanNotMine:
		o.Verdict = VerdictNotMine
	case c.hook.plan():
		o.Verdict, o.Output = VerdictDecided, c.output
	case result == hostabi.VerdictDeny:
		o.Verdict, o.Message, o.Code = VerdictDeny, c.denial.message, c.denial.code
	default:
		o.Verdict = VerdictAllow
		for _, m := range c.mutations {
			o.Mutations = append(o.Mutations, OutcomeMutation{m.kind.String(), place(m.way), m.value})
		}
	}
	return o
}

func (k mutationKind) String() string {
	switch k {
	case mutationSet:
		return "set"
	case mutationRemove:
		return "remove"
	}
	return "append"
}

// place spells the way to a place in an object.
func place(way []wayStep) string {
	var b strings.Builder
	for i, s := range way {
		switch {
		case s.element:
			b.WriteString("[" + strconv.Itoa(s.index) + "]")
		case isWord(s.key, "_-", 1, len(s.key)):
			if i > 0 {
				b.WriteByte('.')
			}
			b.WriteString(s.key)
		default:
			b.WriteString("['" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s.key) + "']")
		}
	}
	return b.String()
}
