package main

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"go/format"
	"maps"
	"slices"
	"strings"
	"text/template"

	"github.com/cleat-dev/cleat/hostabi"
)

//go:embed templates
var templates embed.FS

// output is one generated file; path is relative to the hostabi directory.
type output struct {
	path string
	data []byte
}

// target is a generated file and the template that makes it; path is relative
// to the hostabi directory.
type target struct{ path, template string }

// targets are the generated files but abi.json.
func targets() []target {
	return slices.Concat([]target{{"ABI.md", "abi.md.tmpl"}},
		goTargets(), cTargets(), rustTargets(), assemblyscriptTargets())
}

// generate makes every output from the tables and the declarations below dir,
// the hostabi directory.
func generate(dir string) ([]output, error) {
	outputs := []output{}
	text, err := apiJSON()
	if err != nil {
		return nil, err
	}
	outputs = append(outputs, output{"abi.json", text})
	functions := template.FuncMap{"signature": signature}
	for _, language := range []template.FuncMap{goFunctions(), cFunctions(), rustFunctions(dir), assemblyscriptFunctions()} {
		maps.Copy(functions, language)
	}
	all, err := template.New("").Funcs(functions).ParseFS(templates, "templates/*.tmpl")
	if err != nil {
		return nil, err
	}
	m := newModel()
	if m.Messages, m.Words, err = messages(dir); err != nil {
		return nil, err
	}
	for _, t := range targets() {
		var b bytes.Buffer
		if err := all.ExecuteTemplate(&b, t.template, m); err != nil {
			return nil, err
		}
		data := b.Bytes()
		if strings.HasSuffix(t.path, ".go") {
			if data, err = format.Source(data); err != nil {
				return nil, fmt.Errorf("%s: %w", t.path, err)
			}
		}
		outputs = append(outputs, output{t.path, data})
	}
	return outputs, nil
}

// model is what a template sees.
type model struct {
	Major, Minor  int
	Section       string
	Modules       []module
	Exports       []hostabi.Function
	Foreign       []hostabi.Foreign
	Errnos        []hostabi.Errno
	Points        []hostabi.Point
	RequestFields []string
	Limits        []limit
	Messages      []message
	Words         []word
}

type module struct {
	Name      string
	Functions []hostabi.Function
}

type limit struct {
	Name  string
	Value int
	Doc   string
}

func newModel() model {
	m := model{
		Major: hostabi.ABIMajor, Minor: hostabi.ABIMinor, Section: hostabi.ManifestSection,
		Exports: hostabi.Exports(), Foreign: hostabi.ForeignImports(), Errnos: hostabi.Errnos(),
		Points: hostabi.Points(), RequestFields: hostabi.RequestFieldNames(),
		Limits: []limit{
			{"value", hostabi.MaxValueBytes, "bytes of one value, text or JSON document on the hot path"},
			{"message", hostabi.MaxMessageBytes, "bytes of one input, output or rendered stream at a plan point"},
			{"text", hostabi.MaxTextBytes, "bytes of one denial, warning, audit value or error text; longer text is cut"},
			{"log", hostabi.MaxLogBytes, "bytes of one log line; longer text is cut"},
			{"warnings", hostabi.MaxWarnings, "warnings, and audit annotations, of one hook call"},
			{"mutations", hostabi.MaxMutations, "mutations of one hook call"},
			{"paths", hostabi.MaxPaths, "registered field paths of one instance"},
			{"path", hostabi.MaxPathBytes, "bytes of one field path"},
			{"path_steps", hostabi.MaxPathSegments, "steps of one field path"},
			{"manifest", hostabi.MaxManifestBytes, "bytes of a manifest"},
			{"config", hostabi.MaxConfigBytes, "bytes of a plugin's configuration"},
			{"rules", hostabi.MaxMatchRules, "match rules of a manifest"},
			{"random", hostabi.MaxRandomBytes, "bytes of one random call"},
			{"lookups", hostabi.MaxLookups, "kinds a manifest may ask to look up"},
			{"lookup_objects", hostabi.MaxLookupObjects, "objects one lookup_list answers for"},
			{"key", hostabi.MaxKeyBytes, "bytes of one key of the plugin's state"},
			{"state_value", hostabi.MaxStateValue, "bytes of one value of the plugin's state"},
			{"state_keys", hostabi.MaxStateKeys, "keys of the plugin's state"},
			{"state", hostabi.MaxStateBytes, "bytes of all of it, as it is stored (base64 in JSON)"},
			{"claims", hostabi.MaxClaims, "patterns in one list of a deployer's manifest"},
		},
	}
	for _, name := range hostabi.Capabilities() {
		mod := module{Name: name}
		for _, f := range hostabi.Imports() {
			if f.Module == name {
				mod.Functions = append(mod.Functions, f)
			}
		}
		m.Modules = append(m.Modules, mod)
	}
	return m
}

// signature is the wasm signature in words: (level i32, ptr i32, len i32) -> i32.
func signature(f hostabi.Function) string {
	var params []string
	for _, p := range f.Params {
		params = append(params, p.Name+" "+string(p.Type))
	}
	s := "(" + strings.Join(params, ", ") + ")"
	for _, r := range f.Results {
		s += " -> " + string(r)
	}
	return s
}

// jsonFunction is a row of abi.json.
type jsonFunction struct {
	Module  string          `json:"module,omitempty"`
	Name    string          `json:"name"`
	Since   string          `json:"since"`
	Params  []jsonParam     `json:"params"`
	Results []hostabi.Type  `json:"results"`
	Result  string          `json:"result,omitempty"`
	Errors  []string        `json:"errors,omitempty"`
	Points  []hostabi.Point `json:"points,omitempty"`
	Doc     string          `json:"doc"`
}

type jsonParam struct {
	Name string       `json:"name"`
	Type hostabi.Type `json:"type"`
	Role hostabi.Role `json:"role"`
	Doc  string       `json:"doc"`
}

// apiJSON is the table for tools that read JSON.
func apiJSON() ([]byte, error) {
	m := newModel()
	errnos := map[string]int32{}
	for _, e := range m.Errnos {
		errnos[e.Name()] = int32(e)
	}
	limits := map[string]int{}
	for _, l := range m.Limits {
		limits[l.Name] = l.Value
	}
	doc := struct {
		ABI           hostabi.ABIVersion `json:"abi"`
		Section       string             `json:"section"`
		Points        []hostabi.Point    `json:"points"`
		Imports       []jsonFunction     `json:"imports"`
		Exports       []jsonFunction     `json:"exports"`
		Errnos        map[string]int32   `json:"errnos"`
		RequestFields []string           `json:"request_fields"`
		Limits        map[string]int     `json:"limits"`
	}{
		hostabi.ABIVersion{Major: m.Major, Minor: m.Minor}, m.Section, m.Points,
		jsonFunctions(hostabi.Imports()), jsonFunctions(m.Exports), errnos, m.RequestFields, limits,
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(doc)
	return b.Bytes(), err
}

func jsonFunctions(functions []hostabi.Function) []jsonFunction {
	rows := []jsonFunction{}
	for _, f := range functions {
		row := jsonFunction{Module: f.Module, Name: f.Name, Since: f.Since, Params: []jsonParam{},
			Results: append([]hostabi.Type{}, f.Results...), Result: f.Result, Points: f.Points, Doc: f.Doc}
		for _, p := range f.Params {
			row.Params = append(row.Params, jsonParam(p))
		}
		for _, e := range f.Errors {
			row.Errors = append(row.Errors, e.Name())
		}
		rows = append(rows, row)
	}
	return rows
}
