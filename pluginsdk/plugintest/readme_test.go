//go:build !wasip1

package plugintest

import (
	"reflect"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/hostabi"
)

func TestParseConfig(t *testing.T) {
	got, err := parseConfig(`# as in plugins.lock
[plugin.config]
text = "a \"b\" \u00fc" # why
literal = 'c:\d'
number = -1_000
yes = true
no=false
"list" = [
  'a', # first
  "b",
]
none = []
inline = {a = 'b', "c.d" = "e"}
empty = { }

[ plugin . config . 'map' ]
"docker.io" = "mirror"
`)
	want := map[string]any{
		"text": `a "b" ü`, "literal": `c:\d`, "number": int64(-1000), "yes": true, "no": false,
		"list": []any{"a", "b"}, "none": []any{}, "inline": map[string]any{"a": "b", "c.d": "e"}, "empty": map[string]any{},
		"map": map[string]any{"docker.io": "mirror"},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	for text, why := range map[string]string{
		"a = 1":                                "before [plugin.config]",
		"[other]":                              "want [plugin.config]",
		"[plugin.config.a.b]":                  "want [plugin.config]",
		"[plugin.config.]":                     "want a key",
		"[plugin.config":                       "want ]",
		"[plugin.config]\na = 1\na = 2":        "line 3: a is there twice",
		"[plugin.config.a]\n[plugin.config.a]": "there twice",
		"[plugin.config]\na = 1.5":             "want the end of the line",
		"[plugin.config]\na =":                 "want a string, integer",
		"[plugin.config]\na 1":                 "want =",
		"[plugin.config]\na = 'b":              "without an end",
		"[plugin.config]\na = \"\\q\"":         "is no string",
		"[plugin.config]\na = '''b'''":         "on one line",
		"[plugin.config]\na = [1]":             "want a string",
		"[plugin.config]\na = ['b' 'c']":       "want , or ]",
		"[plugin.config]\na = {b = 1}":         "want a string",
		"[plugin.config]\na = {b = 'c'":        "want ,",
		"[plugin.config]\na = 1 b = 2":         "end of the line",
	} {
		if got, err := parseConfig(text); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%q: got %v, %v, want %q", text, got, err, why)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add("[plugin.config]\na = ['b', \"c\\n\"]\nd = {e = 'f'}\n[plugin.config.g]\nh = 'i'\n")
	f.Fuzz(func(t *testing.T, text string) {
		config, err := parseConfig(text)
		if err == nil {
			if _, err := hostabi.AppendJSON(nil, config); err != nil && !strings.Contains(err.Error(), "UTF-8") {
				t.Errorf("%q: %v", text, err)
			}
		}
	})
}

const readme = "# probe\n## Name\n## Description\n```json request\nnot an example\n```\n## Config\n`a`\n## Capabilities\n`cleat_core_v1`\n## Examples\n" +
	"```toml\n[plugin.config]\na = 1\n```\n```text error\ntoo small\n```\n" +
	"```toml\n[plugin.config]\na = 2\n```\n```sh\ncleat\n```\n```json request\n{}\n```\n```json   verdict\n{\"allowed\":true}\n```\n" +
	"```json request\n1\n```\n```text error\nno\n```\n"

func TestReadExamples(t *testing.T) {
	got, err := readExamples(readme)
	braces, one := "{}\n", "1\n"
	want := []example{
		{line: 12, config: "[plugin.config]\na = 1\n", kind: "error", answer: "too small\n"},
		{line: 26, config: "[plugin.config]\na = 2\n", request: &braces, kind: "verdict", answer: "{\"allowed\":true}\n"},
		{line: 32, config: "[plugin.config]\na = 2\n", request: &one, kind: "error", answer: "no\n"},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	for text, why := range map[string]string{
		"## Examples\n```json request\n{}\n":                                "no end",
		"## Examples\n```json request\n{}\n```\n":                           "has no answer",
		"## Examples\n```json request\n{}\n```\n```json request\n{}\n```\n": "line 2: the request has no answer",
		"## Examples\n```json verdict\n{}\n```\n":                           "without a request",
		"## Examples\n```toml\n```\n```json verdict\n{}\n```\n":             "without a request",
	} {
		if _, err := readExamples(text); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%q: got %v, want %q", text, err, why)
		}
	}
}

func TestReadmeProblems(t *testing.T) {
	manifest := hostabi.Manifest{Name: "probe", Capabilities: []string{hostabi.ModuleCore}, ConfigSchema: map[string]hostabi.ConfigField{"a": {}}}
	if got := readmeProblems(readme, manifest); len(got) > 0 {
		t.Errorf("a good one has problems: %q", got)
	}
	manifest.ConfigSchema["b"] = hostabi.ConfigField{}
	bad := strings.NewReplacer("# probe\n", "# Probe\n", "## Config\n", "").Replace(readme)
	if got := readmeProblems(bad, manifest); len(got) != 3 {
		t.Errorf("got %q, want the title, the headings and b", got)
	}
}

func TestReadmeRequest(t *testing.T) {
	got, err := readmeRequest(`{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"name":"n","namespace":"s"}}`)
	if err != nil || got.Operation != hostabi.OperationCreate || got.Group != "networking.k8s.io" || got.Version != "v1" ||
		got.Kind != "NetworkPolicy" || got.Resource != "networkpolicies" || got.Name != "n" || got.Namespace != "s" {
		t.Errorf("got %+v, %v", got, err)
	}
	got, err = readmeRequest(`{"operation":"UPDATE","resource":"pods/ephemeralcontainers","namespace":"x","namespace_labels":{"a":"b"},
		"object":{"apiVersion":"v1","kind":"Pod"},"old_object":{"kind":"Pod"}}`)
	if err != nil || got.Operation != hostabi.OperationUpdate || got.Resource != "pods" || got.Subresource != "ephemeralcontainers" ||
		got.Namespace != "x" || got.NamespaceLabels["a"] != "b" || got.OldObject != `{"kind":"Pod"}` {
		t.Errorf("got %+v, %v", got, err)
	}
	for kind, want := range map[string]string{"Pod": "pods", "Ingress": "ingresses", "Gateway": "gateways", "Endpoints": "endpoints", "Policy": "policies"} {
		if got := plural(kind); got != want {
			t.Errorf("%s: %s", kind, got)
		}
	}
	for _, text := range []string{`{`, `[]`, `{"objekt":{}}`, `{}`} {
		if got, err := readmeRequest(text); err == nil {
			t.Errorf("%s: got %+v", text, got)
		}
	}
}

func TestApply(t *testing.T) {
	object := map[string]any{"l": []any{
		map[string]any{"p": []any{"a", "b"}}, map[string]any{}, map[string]any{"p": []any{"c"}},
	}}
	change := func(op, path string, index int, value any) Mutation {
		p, err := hostabi.ParseFieldPath(path)
		if err != nil {
			t.Fatal(err)
		}
		return Mutation{Op: op, Path: p.String(), Index: index, Value: value}
	}
	mutations := []Mutation{
		change(opSet, "l[*].p[*]", 2, "C"),
		change(opRemove, "l[*].p[*]", 0, nil),
		change(opRemove, "l[*].p[*]", 0, nil), // again
		change(opSet, "l[*].p[*]", 1, "B"),
		change(opAppend, "l[*].p", 1, "new"),
		change(opSet, "m['x.y'].z", -1, true),
		change(opRemove, "none.of.this", -1, nil),
	}
	places := []string{"l[2].p[0]", "l[0].p[0]", "l[0].p[0]", "l[0].p[1]", "l[1].p", "m['x.y'].z", "none.of.this"}
	text, err := hostabi.AppendJSON(nil, object)
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range mutations {
		if got := m.Place(string(text)); got != places[i] {
			t.Errorf("mutation %d is at %s, want %s", i, got, places[i])
		}
	}
	got, err := apply(object, mutations)
	want := map[string]any{
		"l": []any{map[string]any{"p": []any{"B"}}, map[string]any{"p": []any{"new"}}, map[string]any{"p": []any{"C"}}},
		"m": map[string]any{"x.y": map[string]any{"z": true}},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	for _, bad := range [][]Mutation{
		{change(opSet, "l.x", -1, 1)},
		{change(opAppend, "l[*]", 0, 1)},
		{change(opSet, "l[*].p[*]", 9, 1)},
		{change(opRemove, "l[*]", 0, nil), change(opSet, "l[*].p", 0, 1)},
	} {
		if got, err := apply(object, bad); err == nil {
			t.Errorf("got %v", got)
		}
	}
}
