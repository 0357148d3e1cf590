package hostabi_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/hostabi"
)

const coldManifest = `{"name":"x","version":"1.2.3","description":"d","abi":{"major":1,"minor":0},
	"points":["cni"],"capabilities":["cleat_core_v1"],
	"config_schema":{"mtu":{"type":"integer","default":0,"doc":"d"},"name":{"type":"string","doc":"d"},
		"list":{"type":"strings","doc":"d"},"map":{"type":"map","doc":"d"},"on":{"type":"bool","default":true,"doc":"d"}},
	"limits":{"memory_pages":64}}`

const hotManifest = `{"name":"y","version":"0.1.0-rc.1","description":"d","abi":{"major":1,"minor":0},
	"points":["admission"],"capabilities":["cleat_core_v1","cleat_object_v1"],"failure_policy":"ignore",
	"admission":{"mutate":true,"validate":false,"read_paths":["spec.hostPID"],"write_paths":["metadata.labels['a/b']"],
		"rules":[{"name":"r","operations":["*"],"api_groups":["","apps"],"api_versions":["v1"],"resources":["pods","pods/status","*/scale"],
			"namespace_selector":{"match_labels":{"a.b/c":"d"},"match_expressions":[{"key":"k","operator":"In","values":["v"]},{"key":"l","operator":"Exists"}]},
			"match_conditions":[{"name":"c","expression":"true"}]}]}}`

func TestParseManifest(t *testing.T) {
	m, err := hostabi.ParseManifest([]byte(coldManifest))
	if err != nil {
		t.Fatal(err)
	}
	if m.FailurePolicy != hostabi.FailurePolicyFail || !m.HasPoint(hostabi.PointCNI) || m.HasPoint(hostabi.PointAdmission) {
		t.Errorf("got %+v", m)
	}
	wantExports(t, m, "cleat_abi_1 cleat_init cleat_cni_plan")

	if m, err = hostabi.ParseManifest([]byte(hotManifest)); err != nil {
		t.Fatal(err)
	}
	wantExports(t, m, "cleat_abi_1 cleat_init cleat_admission_mutate")

	// A manifest written by a later version may say more.
	later := strings.Replace(coldManifest, `"name":"x"`, `"name":"x","signer":{"key":1}`, 1)
	if _, err := hostabi.ParseManifest([]byte(later)); err != nil {
		t.Errorf("unknown field: %v", err)
	}
}

func wantExports(t *testing.T, m hostabi.Manifest, want string) {
	t.Helper()
	var names []string
	for _, f := range m.RequiredExports() {
		names = append(names, f.Name)
	}
	if got := strings.Join(names, " "); got != want {
		t.Errorf("%s must export %s, want %s", m.Name, got, want)
	}
}

func TestParseManifestRefuses(t *testing.T) {
	for _, tt := range []struct{ manifest, old, new, why string }{
		{coldManifest, `"name":"x"`, `"name":"X"`, `name: "X" is not a lower-case DNS label`},
		{coldManifest, `"name":"x"`, `"name":7`, "cannot unmarshal number"},
		{coldManifest, `"name":"x"`, `"name":"x","Name":"z"`, `key "Name" appears twice`},
		{coldManifest, `1.2.3`, `v1.2.3`, "version"},
		{coldManifest, `1.2.3`, `1.2`, "version"},
		{coldManifest, `1.2.3`, `01.2.3`, "version"},
		{coldManifest, `"description":"d"`, `"description":"a\nb"`, "control character"},
		{coldManifest, `"major":1`, `"major":2`, "abi.major: 2, this host speaks 1"},
		{coldManifest, `"minor":0`, `"minor":9`, "needs ABI 1.9"},
		{coldManifest, `["cni"]`, `[]`, "points: empty; use datastore"},
		{coldManifest, `["cni"]`, `["dns"]`, `points[0]: "dns" is none of`},
		{coldManifest, `["cni"]`, `["cni","cni"]`, "given twice"},
		{coldManifest, `["cni"]`, `["cni","admission"]`, "admission: missing"},
		{coldManifest, `cleat_core_v1`, `cleat_http_v1`, `capabilities[0]: "cleat_http_v1"`},
		{coldManifest, `64`, `99999999`, "limits.memory_pages"},
		{coldManifest, `64`, `-1`, "cannot unmarshal"},
		{coldManifest, `"type":"integer"`, `"type":"float"`, `config_schema.mtu.type: "float"`},
		{coldManifest, `"default":0`, `"default":"0"`, "config_schema.mtu.default"},
		{coldManifest, `"mtu"`, `"MTU size"`, "lower_snake_case"},
		{hotManifest, `["admission"]`, `["cni"]`, "admission: given without"},
		{hotManifest, `"mutate":true`, `"mutate":false`, "neither mutate nor validate"},
		{hotManifest, `"mutate":true,"validate":false`, `"mutate":false,"validate":true`, "write_paths: given without mutate"},
		{hotManifest, `"spec.hostPID"`, `"spec[0]"`, "read_paths[0]"},
		{hotManifest, `"spec.hostPID"`, `"spec['hostPID']"`, `is written "spec.hostPID"`},
		{hotManifest, `"spec.hostPID"`, `"a","a"`, "given twice"},
		{hotManifest, `"operations":["*"]`, `"operations":["PATCH"]`, "operations[0]"},
		{hotManifest, `"operations":["*"]`, `"operations":[]`, "operations: empty"},
		{hotManifest, `"apps"`, `"Apps"`, "api_groups[1]"},
		{hotManifest, `"api_versions":["v1"]`, `"api_versions":[]`, "api_versions: 0 entries"},
		{hotManifest, `"pods/status"`, `"pods/status/x"`, "resources[1]"},
		{hotManifest, `"In","values":["v"]`, `"In"`, "values: 0 entries"},
		{hotManifest, `"Exists"`, `"Exists","values":["v"]`, "takes none"},
		{hotManifest, `"Exists"`, `"Like"`, "operator"},
		{hotManifest, `"a.b/c":"d"`, `"a.b/c/d":"d"`, "not a label key"},
		{hotManifest, `"expression":"true"`, `"expression":" "`, "expression"},
		{hotManifest, `"failure_policy":"ignore"`, `"failure_policy":"maybe"`, "failure_policy"},
	} {
		text := strings.Replace(tt.manifest, tt.old, tt.new, 1)
		if text == tt.manifest {
			t.Fatalf("%s is not in the manifest", tt.old)
		}
		_, err := hostabi.ParseManifest([]byte(text))
		if err == nil || !strings.Contains(err.Error(), tt.why) {
			t.Errorf("%s: got %v, want %q", tt.new, err, tt.why)
		}
	}
	if _, err := hostabi.ParseManifest(make([]byte, hostabi.MaxManifestBytes+1)); err == nil {
		t.Error("a manifest over the limit is accepted")
	}
}

func TestManifestRefusesTooManyRules(t *testing.T) {
	m, err := hostabi.ParseManifest([]byte(hotManifest))
	if err != nil {
		t.Fatal(err)
	}
	for len(m.Admission.Rules) <= hostabi.MaxMatchRules {
		m.Admission.Rules = append(m.Admission.Rules, m.Admission.Rules[0])
	}
	if err := m.Validate(); err == nil || !strings.Contains(err.Error(), "65 rules") {
		t.Errorf("got %v", err)
	}
	m.Admission.Rules = m.Admission.Rules[:2]
	if err := m.Validate(); err == nil || !strings.Contains(err.Error(), "names two rules") {
		t.Errorf("got %v", err)
	}
}

func TestResolveConfig(t *testing.T) {
	m, err := hostabi.ParseManifest([]byte(coldManifest))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		given map[string]any
		want  string // config, or a part of the error
	}{
		{nil, `{"mtu":0,"on":true}`},
		{map[string]any{"mtu": int64(1400), "on": false, "name": "n"}, `{"mtu":1400,"name":"n","on":false}`},
		{map[string]any{"list": []any{"a"}, "map": map[string]any{"k": "v"}}, `{"list":["a"],"map":{"k":"v"},"mtu":0,"on":true}`},
		{map[string]any{"list": []string{"a"}, "map": map[string]string{"k": "v"}}, `{"list":["a"],"map":{"k":"v"},"mtu":0,"on":true}`},
		{map[string]any{"size": 1}, `config key "size" is unknown to plugin x; it has list, map, mtu, name, on`},
		{map[string]any{"mtu": "secret"}, `config key "mtu" of plugin x: want type integer`},
		{map[string]any{"list": []any{1}}, "want type strings"},
		{map[string]any{"map": map[string]any{"a": 1}}, "want type map"},
		{map[string]any{"name": strings.Repeat("x", hostabi.MaxConfigBytes)}, "the most is 65536"},
	} {
		got, err := m.ResolveConfig(tt.given)
		if err != nil {
			if !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("got %v, want %s", err, tt.want)
			}
			continue
		}
		if string(got) != tt.want {
			t.Errorf("got %s, want %s", got, tt.want)
		}
	}
}

func FuzzParseManifest(f *testing.F) {
	f.Add([]byte(coldManifest))
	f.Add([]byte(hotManifest))
	f.Add([]byte(`{"name":"x","NAME":"y"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := hostabi.ParseManifest(text)
		if err != nil {
			return
		}
		if _, err := m.ResolveConfig(nil); err != nil {
			t.Fatalf("the defaults of %q are refused: %v", text, err)
		}
		encoded, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := hostabi.ParseManifest(encoded); err != nil && len(encoded) <= hostabi.MaxManifestBytes {
			t.Fatalf("%q is accepted, written again as %s it is not: %v", text, encoded, err)
		}
	})
}
