package conformance

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/cleat-dev/cleat/core/extension"
	"github.com/cleat-dev/cleat/core/pluginhost"
	"github.com/cleat-dev/cleat/hostabi"
)

// Answers of an Outcome.
const (
	AnswerAllow   = "allow"
	AnswerDeny    = "deny"
	AnswerDecided = "decided"  // a plan hook answered
	AnswerNotMine = "not-mine" // a plan hook left the question to others
	AnswerFault   = "fault"    // the hook came to no answer
	AnswerStarted = "started"  // no question was asked
	AnswerNoStart = "no-start" // there was nothing to ask
)

// Outcome is everything a plugin gave back for one question. Equal outcomes are
// equal as canonical JSON.
type Outcome struct {
	Answer   string            `json:"answer"`
	Code     int32             `json:"code,omitempty"`    // of a denial, an HTTP status
	Message  string            `json:"message,omitempty"` // of a denial
	Object   map[string]any    `json:"object,omitempty"`  // as changed; absent when nothing was
	Warnings []string          `json:"warnings,omitempty"`
	Audit    map[string]string `json:"audit,omitempty"`  // without the plugin's name
	Plan     any               `json:"plan,omitempty"`   // of a plan hook, in the form of its message
	Detail   string            `json:"detail,omitempty"` // of a fault, or why the plugin did not start
}

// text is the outcome as canonical JSON.
func (o Outcome) text() (string, error) {
	text, err := hostabi.AppendJSON(nil, o)
	if err == nil {
		text, err = hostabi.Canonical(text)
	}
	if err != nil {
		return "", fmt.Errorf("outcome: %w", err)
	}
	return string(text), nil
}

// answer is an outcome with how it came about.
type answer struct {
	Outcome
	hook     string
	question string // in a few words
	trouble  *pluginhost.Fault
}

// String says in a few words what the plugin did.
func (a answer) String() string {
	did := ""
	switch {
	case a.trouble != nil:
		did = a.fault()
	case a.Answer == AnswerDeny:
		did = fmt.Sprintf("denied with %d %q", a.Code, clip(a.Message))
	case a.Answer == AnswerAllow && a.Object != nil:
		did = "changed the object"
	case a.Answer == AnswerAllow:
		did = "allowed"
	case a.Answer == AnswerNotMine:
		did = "left it to others"
	default:
		did = "decided"
	}
	return fmt.Sprintf("%s, asked about %s: %s", a.hook, a.question, did)
}

func (a answer) fault() string {
	switch a.trouble.Kind {
	case pluginhost.FaultTrap:
		return "crashed: " + strings.TrimPrefix(a.Detail, "the guest crashed: ")
	case pluginhost.FaultError:
		return "failed: " + a.Detail
	}
	return string(a.trouble.Kind) + " fault: " + a.Detail
}

// broke reports a fault that no input excuses at a plan point, where a plugin
// may refuse an input it can do nothing with.
func (a answer) broke() bool { return a.trouble != nil && a.trouble.Kind != pluginhost.FaultError }

// explained reports whether a negative result came with a reason. Without one
// the host tells what the number means.
func (a answer) explained() bool {
	var errno hostabi.Errno
	return !errors.As(a.trouble, &errno) || a.Detail != fmt.Sprintf("returned %d, %v", int32(errno), errno)
}

func (a *answer) fail(fault *pluginhost.Fault) {
	a.Answer, a.trouble, a.Detail = AnswerFault, fault, fault.Detail
}

// note keeps the answer for the checks at the end.
func (g *guest) note(a answer) answer {
	if a.trouble != nil {
		g.clock.pass()
	}
	if !g.unminded {
		g.subject.answers = append(g.subject.answers, a)
	}
	return a
}

// admit puts a request to a hook of the admission point.
func (g *guest) admit(ctx context.Context, hook, question string, req *extension.AdmissionRequest) (answer, error) {
	ask := g.Validate
	if hook == hostabi.ExportAdmissionMutate {
		ask = g.Mutate
	}
	g.log.takeFault()
	result, err := ask(ctx, req)
	if err != nil {
		return answer{}, err
	}
	a := answer{hook: hook, question: question}
	a.Answer, a.Object, a.Warnings = AnswerAllow, result.Object, result.Warnings
	prefix := g.subject.manifest.Name + "/"
	for key, value := range result.AuditAnnotations {
		// The host adds what became of the decision, under the name of the hook.
		if name, ok := strings.CutPrefix(key, prefix); ok && name != "mutate" && name != "validate" {
			if a.Audit == nil {
				a.Audit = map[string]string{}
			}
			a.Audit[name] = value
		}
	}
	if !result.Allowed {
		a.Answer, a.Code, a.Message = AnswerDeny, result.Code, result.Message
		if fault := g.log.takeFault(); fault != nil {
			a.Code, a.Message = 0, ""
			a.fail(fault)
		}
	}
	return g.note(a), nil
}

// plan turns what the host returned for a plan hook into an answer. An error
// that is no fault says that the plugin left the question to others.
func (g *guest) plan(ctx context.Context, hook, question string, plan any, claimed bool, err error) (answer, error) {
	a := answer{hook: hook, question: question}
	a.Answer = AnswerNotMine
	var fault *pluginhost.Fault
	switch {
	case ctx.Err() != nil:
		return answer{}, ctx.Err()
	case errors.As(err, &fault):
		a.fail(fault)
	case err == nil && claimed:
		a.Answer, a.Plan = AnswerDecided, plan
	}
	return g.note(a), nil
}

func (g *guest) render(ctx context.Context, question string, in extension.DeployInput) (answer, error) {
	result, claimed, err := g.Render(ctx, in)
	return g.plan(ctx, hostabi.ExportDeployerRender, question, result, claimed, err)
}

func (g *guest) network(ctx context.Context, question string, req hostabi.CNIRequest) (answer, error) {
	req.Plugin = g.subject.manifest.Name
	plan, err := g.PlanNetwork(ctx, req)
	return g.plan(ctx, hostabi.ExportCNIPlan, question, plan, err == nil, err)
}

func (g *guest) datastore(ctx context.Context, question string, req hostabi.DatastoreRequest) (answer, error) {
	plan, err := g.PlanDatastore(ctx, req)
	return g.plan(ctx, hostabi.ExportDatastorePlan, question, plan, err == nil, err)
}

// raw is a call that the typed methods of the host cannot make: any input, any
// rules mask.
type raw struct {
	hook    string
	input   []byte
	rules   uint64
	request *pluginhost.CapturedRequest
}

// ask makes a raw call on an instance of its own.
func (s *subject) ask(ctx context.Context, r raw) (pluginhost.Outcome, error) {
	seed := hex.EncodeToString(make([]byte, 32))
	text, err := json.Marshal(pluginhost.Capture{Version: 1, ID: "conformance", Time: newClock(0).at,
		Hook: r.hook, Rules: r.rules, Request: r.request, Input: r.input, Seed: seed, Instance: seed})
	if err != nil {
		return pluginhost.Outcome{}, fmt.Errorf("describe the call: %w", err)
	}
	capture, err := pluginhost.ParseCapture(text)
	if err != nil {
		return pluginhost.Outcome{}, err
	}
	run, err := s.runnableFor(start{})
	if err != nil {
		return pluginhost.Outcome{}, err
	}
	replayed, err := pluginhost.Replay(ctx, s.hostOptions(run, &guest{clock: newClock(0), log: &logbook{}}), run.locked, capture)
	return replayed.Replayed, err
}
