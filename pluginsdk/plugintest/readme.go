//go:build !wasip1

package plugintest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/hostabi"
)

// Readme runs the examples in a plugin's README, so that they stay true. They
// are the fenced blocks below the heading Examples, told apart by what stands
// after the fence:
//
//	```toml            configuration as in plugins.lock: [plugin.config] and
//	                   tables below it; in force until the next such block
//	```json request    what the plugin is asked
//	```json verdict    what an admission plugin decides
//	```json plan       what any other plugin answers; null = not its own
//	```text error      part of the error, after a request or configuration
//
// Every request is followed by what comes of it; other blocks are for readers.
//
// The request to an admission plugin is the object to create, or a JSON object
// with the fields of ReadmeRequest. A verdict has the fields of ReadmeVerdict,
// and all of them that apply. At other points request and plan are the messages
// of package hostabi; fields that are left out are empty.
//
// Readme also wants the headings Name, Description, Config, Capabilities and
// Examples, in this order, and each capability and configuration key of the
// manifest in backquotes.
func Readme(t *testing.T, readmeFile, manifestFile string) {
	t.Helper()
	text, err := os.ReadFile(readmeFile)
	if err != nil {
		t.Fatal(err)
	}
	manifestText, err := os.ReadFile(manifestFile)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := hostabi.ParseManifest(manifestText)
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range readmeProblems(string(text), manifest) {
		t.Error(readmeFile + ": " + problem)
	}
	examples, err := readExamples(string(text))
	if err != nil {
		t.Fatalf("%s: %v", readmeFile, err)
	}
	if len(examples) == 0 {
		t.Errorf("%s: no examples; write blocks ```json request and what comes of them", readmeFile)
	}
	for _, e := range examples {
		t.Run(fmt.Sprintf("line %d", e.line), func(t *testing.T) {
			if err := e.run(manifestFile); err != nil {
				t.Errorf("%s:%d: %v", readmeFile, e.line, err)
			}
		})
	}
}

// ReadmeRequest is a request to an admission plugin in a README.
type ReadmeRequest struct {
	Operation       hostabi.Operation   `json:"operation"` // CREATE when left out
	Resource        string              `json:"resource"`  // pods, pods/ephemeralcontainers; that of the object's kind when left out
	Name            string              `json:"name"`      // these two: the object's when left out
	Namespace       string              `json:"namespace"`
	NamespaceLabels map[string]string   `json:"namespace_labels"`
	User            string              `json:"user"`
	UserUID         string              `json:"user_uid"`
	UserGroups      []string            `json:"user_groups"`
	UserExtra       map[string][]string `json:"user_extra"`
	DryRun          bool                `json:"dry_run"`
	Object          json.RawMessage     `json:"object"`
	OldObject       json.RawMessage     `json:"old_object"`
}

// ReadmeVerdict is what an admission plugin decides, in a README: of mutation
// and validation together.
type ReadmeVerdict struct {
	Allowed  bool              `json:"allowed"`
	Asked    *bool             `json:"asked,omitempty"` // false when no rule matches, so that the plugin is not asked
	Message  string            `json:"message,omitempty"`
	Code     int32             `json:"code,omitempty"` // when it is not 403
	Warnings []string          `json:"warnings,omitempty"`
	Audit    map[string]string `json:"audit,omitempty"`
	Set      map[string]any    `json:"set,omitempty"` // by place: spec.containers[0].image
	Remove   []string          `json:"remove,omitempty"`
	Append   map[string][]any  `json:"append,omitempty"`
	State    map[string]string `json:"state,omitempty"`
}

// example is a request and what comes of it; without a request, what comes of
// starting the plugin.
type example struct {
	line    int // of the request or configuration
	config  string
	request *string
	kind    string // of the answer: verdict, plan or error
	answer  string
}

func (e example) run(manifestFile string) error {
	config, err := parseConfig(e.config)
	if err != nil {
		return err
	}
	p, err := Start(manifestFile, config)
	if e.request == nil || err != nil {
		return e.compareError("starting the plugin", err)
	}
	switch {
	case p.Manifest.Admission != nil:
		err = e.admit(p)
	case p.Manifest.HasPoint(hostabi.PointDatastore):
		err = ask(e, p.Datastore)
	case p.Manifest.HasPoint(hostabi.PointCNI):
		err = ask(e, p.CNI)
	default:
		err = ask(e, p.Deploy)
	}
	return err
}

func (e example) compareError(of string, err error) error {
	switch {
	case e.kind != "error":
		return err
	case err == nil:
		return fmt.Errorf("%s gives no error, want %s", of, e.answer)
	case !strings.Contains(err.Error(), strings.TrimSpace(e.answer)):
		return fmt.Errorf("the error is\n%w\nwant\n%s", err, e.answer)
	}
	return nil
}

// ask runs the hook of a plan point.
func ask[Req, Plan any](e example, hook func(Req) (Plan, bool, error)) error {
	var req Req
	if err := decodeStrictly(*e.request, &req); err != nil {
		return fmt.Errorf("the request: %w", err)
	}
	plan, claimed, err := hook(req)
	if err != nil || e.kind == "error" {
		return e.compareError("the plugin", err)
	}
	var got, want *Plan
	if claimed {
		got = &plan
	}
	if err := decodeStrictly(e.answer, &want); err != nil {
		return fmt.Errorf("the plan: %w", err)
	}
	return compare(got, want)
}

func (e example) admit(p *Plugin) error {
	req, err := readmeRequest(*e.request)
	if err != nil {
		return fmt.Errorf("the request: %w", err)
	}
	v, _, err := p.Admit(req)
	if err != nil || e.kind == "error" {
		return e.compareError("the plugin", err)
	}
	var want ReadmeVerdict
	if err := decodeStrictly(e.answer, &want); err != nil {
		return fmt.Errorf("the verdict: %w", err)
	}
	return compare(readmeVerdict(v, req.Object), want)
}

func compare(got, want any) error {
	gotText, err := json.MarshalIndent(got, "", "  ")
	if err != nil {
		return err
	}
	wantText, err := json.MarshalIndent(want, "", "  ")
	if err != nil {
		return err
	}
	if !bytes.Equal(gotText, wantText) {
		return fmt.Errorf("the answer is\n%s\nwant\n%s", gotText, wantText)
	}
	return nil
}

func decodeStrictly(text string, v any) error {
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	return d.Decode(v)
}

func readmeRequest(text string) (Request, error) {
	var meta struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Metadata   struct {
			Name      string `json:"name"`
			Namespace string `json:"namespace"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal([]byte(text), &meta); err != nil {
		return Request{}, err
	}
	var given ReadmeRequest
	if meta.Kind != "" {
		given.Object = json.RawMessage(text)
	} else if err := decodeStrictly(text, &given); err != nil {
		return Request{}, err
	}
	object := given.Object
	if object == nil {
		object = given.OldObject
	}
	if err := json.Unmarshal(object, &meta); err != nil {
		return Request{}, fmt.Errorf("object: %w", err)
	}
	req := Request{
		ID: "1", Operation: given.Operation, Kind: meta.Kind, Version: meta.APIVersion,
		Namespace: given.Namespace, Name: given.Name, NamespaceLabels: given.NamespaceLabels, DryRun: given.DryRun,
		User: given.User, UserUID: given.UserUID, UserGroups: given.UserGroups, UserExtra: given.UserExtra,
		Object: string(given.Object), OldObject: string(given.OldObject),
	}
	if group, version, ok := strings.Cut(meta.APIVersion, "/"); ok {
		req.Group, req.Version = group, version
	}
	if req.Operation == "" {
		req.Operation = hostabi.OperationCreate
	}
	if req.Name == "" {
		req.Name = meta.Metadata.Name
	}
	if req.Namespace == "" {
		req.Namespace = meta.Metadata.Namespace
	}
	if given.Resource == "" {
		given.Resource = plural(meta.Kind)
	}
	req.Resource, req.Subresource, _ = strings.Cut(given.Resource, "/")
	return req, nil
}

// plural is the resource of a kind, as Kubernetes guesses it.
func plural(kind string) string {
	name := strings.ToLower(kind)
	switch {
	case name == "endpoints":
		return name
	case strings.HasSuffix(name, "s"), strings.HasSuffix(name, "x"), strings.HasSuffix(name, "ch"):
		return name + "es"
	case strings.HasSuffix(name, "y") && !strings.HasSuffix(name, "ay"):
		return strings.TrimSuffix(name, "y") + "ies"
	}
	return name + "s"
}

func readmeVerdict(v Verdict, object string) ReadmeVerdict {
	r := ReadmeVerdict{Allowed: v.Allowed, Message: v.Message, Warnings: v.Warnings, Audit: v.Annotations}
	if !v.Entered {
		r.Asked = new(bool)
	}
	if v.Code != 403 {
		r.Code = v.Code
	}
	for _, m := range v.Mutations {
		switch m.Op {
		case opSet:
			if r.Set == nil {
				r.Set = map[string]any{}
			}
			r.Set[m.Place(object)] = m.Value
		case opAppend:
			if r.Append == nil {
				r.Append = map[string][]any{}
			}
			r.Append[m.Place(object)] = append(r.Append[m.Place(object)], m.Value)
		default:
			r.Remove = append(r.Remove, m.Place(object))
		}
	}
	for key, value := range v.State {
		if r.State == nil {
			r.State = map[string]string{}
		}
		r.State[key] = string(value)
	}
	return r
}
