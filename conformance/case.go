package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/cleat-dev/cleat/core/extension"
	"github.com/cleat-dev/cleat/core/pluginhost"
	"github.com/cleat-dev/cleat/hostabi"
)

// Case is a question to a plugin and what must come of it. At most one of the
// questions is set; without any, the plugin is only started.
type Case struct {
	Name      string                    `json:"name"`
	Config    map[string]any            `json:"config,omitempty"`
	Mutate    *Request                  `json:"mutate,omitempty"`
	Validate  *Request                  `json:"validate,omitempty"`
	Render    *hostabi.DeployRequest    `json:"render,omitempty"`
	Network   *hostabi.CNIRequest       `json:"network,omitempty"` // its field plugin is filled in
	Datastore *hostabi.DatastoreRequest `json:"datastore,omitempty"`
	Want      Outcome                   `json:"want"`
}

// Request is a request to the API server. Object and OldObject are in the shape
// of decoded JSON, nil when absent.
type Request struct {
	ID              string              `json:"id,omitempty"`
	Operation       hostabi.Operation   `json:"operation"`
	Group           string              `json:"group,omitempty"`
	Version         string              `json:"version"`
	Kind            string              `json:"kind"`
	Resource        string              `json:"resource"`
	Subresource     string              `json:"subresource,omitempty"`
	Namespace       string              `json:"namespace,omitempty"`
	Name            string              `json:"name,omitempty"`
	User            string              `json:"user,omitempty"`
	UserUID         string              `json:"user_uid,omitempty"`
	UserGroups      []string            `json:"user_groups,omitempty"`
	UserExtra       map[string][]string `json:"user_extra,omitempty"`
	DryRun          bool                `json:"dry_run,omitempty"`
	NamespaceLabels map[string]string   `json:"namespace_labels,omitempty"`
	Object          map[string]any      `json:"object,omitempty"`
	OldObject       map[string]any      `json:"old_object,omitempty"`
}

func (r Request) admission() *extension.AdmissionRequest {
	return &extension.AdmissionRequest{
		ID: r.ID, Operation: r.Operation, Group: r.Group, Version: r.Version, Kind: r.Kind,
		Resource: r.Resource, Subresource: r.Subresource, Namespace: r.Namespace, Name: r.Name,
		UserName: r.User, UserUID: r.UserUID, UserGroups: r.UserGroups, UserExtra: r.UserExtra, DryRun: r.DryRun,
		Object:          func() (map[string]any, error) { return r.Object, nil },
		OldObject:       func() (map[string]any, error) { return r.OldObject, nil },
		NamespaceLabels: func() (map[string]string, error) { return r.NamespaceLabels, nil },
	}
}

// captured is the request in the form of a raw call.
func (r Request) captured() (*pluginhost.CapturedRequest, error) {
	object, err := hostabi.AppendJSON(nil, r.Object)
	if err != nil {
		return nil, err
	}
	old, err := hostabi.AppendJSON(nil, r.OldObject)
	if err != nil {
		return nil, err
	}
	return &pluginhost.CapturedRequest{
		ID: r.ID, Operation: r.Operation, Group: r.Group, APIVersion: r.Version, Kind: r.Kind,
		Resource: r.Resource, Subresource: r.Subresource, Namespace: r.Namespace, Name: r.Name,
		User: r.User, UserUID: r.UserUID, Groups: r.UserGroups, DryRun: r.DryRun,
		NamespaceLabels: r.NamespaceLabels, Object: object, OldObject: old,
	}, nil
}

// Bounds of cases that are read.
const (
	maxCaseBytes = 8 << 20 // one file
	maxCases     = 4096
)

// ParseCases reads a JSON list of cases. Unknown fields are errors: a misspelt
// one would be a case that says nothing.
func ParseCases(text []byte) ([]Case, error) {
	if len(text) > maxCaseBytes {
		return nil, fmt.Errorf("cases: %d bytes, the most is %d", len(text), maxCaseBytes)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	d.UseNumber()
	var cases []Case
	if err := d.Decode(&cases); err != nil {
		return nil, fmt.Errorf("cases: %w", err)
	}
	if d.More() {
		return nil, errors.New("cases: text after the list")
	}
	if len(cases) > maxCases {
		return nil, fmt.Errorf("cases: %d of them, the most is %d", len(cases), maxCases)
	}
	for i := range cases {
		if err := cases[i].settle(); err != nil {
			return nil, fmt.Errorf("cases[%d] %q: %w", i, clip(cases[i].Name), err)
		}
	}
	return cases, nil
}

// ReadCases reads a file of cases, or every *.json of a directory in the order
// of names.
func ReadCases(path string) ([]Case, error) {
	names := []string{path}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("cases: %w", err)
	}
	if info.IsDir() {
		if names, err = filepath.Glob(filepath.Join(path, "*.json")); err != nil {
			return nil, fmt.Errorf("cases: %w", err)
		}
	}
	var all []Case
	for _, name := range names {
		text, err := pluginhost.ReadFile(name, maxCaseBytes)
		if err != nil {
			return nil, fmt.Errorf("cases: %w", err)
		}
		cases, err := ParseCases(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, cases...)
	}
	return all, nil
}

// settle gives decoded values the types the host uses: whole numbers are
// integers.
func (c *Case) settle() error {
	questions := 0
	for _, set := range []bool{c.Mutate != nil, c.Validate != nil, c.Render != nil, c.Network != nil, c.Datastore != nil} {
		if set {
			questions++
		}
	}
	switch {
	case c.Name == "":
		return errors.New("name: is missing")
	case questions > 1:
		return errors.New("asks more than one question; use one of mutate, validate, render, network and datastore")
	case !slices.Contains([]string{AnswerAllow, AnswerDeny, AnswerDecided, AnswerNotMine, AnswerFault, AnswerStarted, AnswerNoStart}, c.Want.Answer):
		return fmt.Errorf("want.answer: %q is none of allow, deny, decided, not-mine, fault, started, no-start", clip(c.Want.Answer))
	}
	maps := []*map[string]any{&c.Config, &c.Want.Object}
	for _, r := range []*Request{c.Mutate, c.Validate} {
		if r != nil {
			maps = append(maps, &r.Object, &r.OldObject)
		}
	}
	for _, m := range maps {
		if *m == nil {
			continue
		}
		text, err := hostabi.AppendJSON(nil, *m)
		if err != nil {
			return err
		}
		value, err := hostabi.ParseJSON(text)
		if err != nil {
			return err
		}
		*m, _ = value.(map[string]any)
	}
	return nil
}

// ask puts the case's question to a guest; asked is false when it has none.
func (c *Case) ask(ctx context.Context, g *guest) (a answer, asked bool, err error) {
	question := "case " + c.Name
	switch {
	case c.Mutate != nil:
		a, err = g.admit(ctx, hostabi.ExportAdmissionMutate, question, c.Mutate.admission())
	case c.Validate != nil:
		a, err = g.admit(ctx, hostabi.ExportAdmissionValidate, question, c.Validate.admission())
	case c.Render != nil:
		a, err = g.render(ctx, question, extension.DeployInput{DeployRequest: *c.Render})
	case c.Network != nil:
		a, err = g.network(ctx, question, *c.Network)
	case c.Datastore != nil:
		a, err = g.datastore(ctx, question, *c.Datastore)
	default:
		return answer{}, false, nil
	}
	return a, true, err
}

// checkCases runs the cases in order; those with the same configuration share a
// start.
func checkCases(ctx context.Context, s *subject) (_ finding, err error) {
	if len(s.cases) == 0 {
		return inapplicable("came without cases")
	}
	var wrong []string
	runner := caseRunner{subject: s}
	defer func() { err = errors.Join(err, runner.close()) }()
	for _, c := range s.cases {
		got, err := runner.run(ctx, c)
		if err != nil {
			return finding{}, fmt.Errorf("case %s: %w", c.Name, err)
		}
		is, err1 := got.text()
		want, err2 := c.Want.text()
		if err := errors.Join(err1, err2); err != nil {
			return finding{}, fmt.Errorf("case %s: %w", c.Name, err)
		}
		if is != want {
			wrong = append(wrong, fmt.Sprintf("case %s: answered %s, want %s", c.Name, clip(is), clip(want)))
		}
	}
	if len(wrong) > 0 {
		return failed("answered %d of %d cases otherwise; %s", len(wrong), len(s.cases), wrong[0])
	}
	return passed("answered %d cases as it should", len(s.cases))
}

// caseRunner keeps the guests of the configurations that were asked for.
type caseRunner struct {
	subject *subject
	started map[string]startedCase // by configuration
}

type startedCase struct {
	guest *guest
	fault *pluginhost.Fault // set when it did not start
}

func (r *caseRunner) start(ctx context.Context, config map[string]any) (startedCase, error) {
	if config == nil {
		config = r.subject.config
	}
	text, err := hostabi.AppendJSON(nil, config)
	if err != nil {
		return startedCase{}, fmt.Errorf("config: %w", err)
	}
	if c, ok := r.started[string(text)]; ok {
		return c, nil
	}
	var c startedCase
	if c.guest, c.fault, err = r.subject.open(ctx, start{asIs: true, config: config}); err != nil {
		return c, err
	}
	if r.started == nil {
		r.started = map[string]startedCase{}
	}
	r.started[string(text)] = c
	return c, nil
}

func (r *caseRunner) run(ctx context.Context, c Case) (Outcome, error) {
	started, err := r.start(ctx, c.Config)
	switch {
	case err != nil:
		return Outcome{}, err
	case started.fault != nil:
		return Outcome{Answer: AnswerNoStart, Detail: started.fault.Detail}, nil
	}
	a, asked, err := c.ask(ctx, started.guest)
	if err == nil && !asked {
		a.Answer = AnswerStarted
	}
	return a.Outcome, err
}

func (r *caseRunner) close() error {
	var errs []error
	for _, c := range r.started {
		if c.guest != nil {
			errs = append(errs, c.guest.close())
		}
	}
	return errors.Join(errs...)
}
