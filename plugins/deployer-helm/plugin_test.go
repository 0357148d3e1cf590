package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/pluginsdk/plugintest"
)

const manifest = "manifest.json"

// echo renders every chart to one object that says what was asked.
func echo(_ hostabi.DeployRequest, req hostabi.HelmRequest) (hostabi.HelmResult, error) {
	text, err := json.Marshal(req)
	if err != nil {
		return hostabi.HelmResult{}, err
	}
	object := fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":%q},"data":{"asked":%q}}`, req.Release, text)
	return hostabi.HelmResult{Name: "chart", Version: "1.0.0", Objects: []json.RawMessage{[]byte(object)}}, nil
}

func newPlugin(t *testing.T, config map[string]any) *plugintest.Plugin {
	p := plugintest.New(t, manifest, config)
	p.RenderHelm = echo
	return p
}

// asked is what echo was asked.
func asked(t *testing.T, result hostabi.DeployResult, i int) hostabi.HelmRequest {
	t.Helper()
	var o struct {
		Data struct{ Asked string }
	}
	var req hostabi.HelmRequest
	if err := json.Unmarshal(result.Objects[i], &o); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(o.Data.Asked), &req); err != nil {
		t.Fatal(err)
	}
	return req
}

func archive(values string) hostabi.DeployRequest {
	req := hostabi.DeployRequest{Kind: hostabi.DeployKindArchive, File: "web.tgz", Addon: "web"}
	if values != "" {
		req.Companions = map[string]string{companion: values}
	}
	return req
}

func TestArchiveAndDirectory(t *testing.T) {
	p := newPlugin(t, map[string]any{"namespaces": map[string]any{"web": "store"}})
	directory := hostabi.DeployRequest{Kind: hostabi.DeployKindDirectory, File: "app", Addon: "app", Files: []string{"Chart.yaml", "templates/a.yaml"}}
	for _, tc := range []struct {
		req                           hostabi.DeployRequest
		release, namespace, wantValue string
	}{
		{archive(""), "web", "store", `{}`},
		{archive(`{"a":{"b":1,"c":2}}` + "\n---\n" + `{"a":{"b":3},"big":123456789012345678}`), "web", "store", `{"a":{"b":3,"c":2},"big":123456789012345678}`},
		{archive(`{"a":null}`), "web", "store", `{"a":null}`},
		{archive(" \n"), "web", "store", `{}`},
		{directory, "app", "default", `{}`},
	} {
		result, claimed, err := p.Deploy(tc.req)
		if err != nil || !claimed || len(result.Objects) != 1 {
			t.Errorf("%s: %d objects, %v, %v", tc.req.File, len(result.Objects), claimed, err)
			continue
		}
		got := asked(t, result, 0)
		if got.Release != tc.release || got.Namespace != tc.namespace || string(got.Values) != tc.wantValue || got.Archive != "" {
			t.Errorf("%s: asked %+v with values %s", tc.req.File, got, got.Values)
		}
	}
	for _, values := range []string{`[1]`, `"text"`, `7`} {
		if _, _, err := p.Deploy(archive(values)); err == nil || !strings.Contains(err.Error(), "web.values.yaml: values must be an object") {
			t.Errorf("values %s: %v", values, err)
		}
	}
	p.RenderYAML = func(string) ([]any, error) { return nil, errors.New("line 3: a tab") }
	if _, _, err := p.Deploy(archive("a: b")); err == nil || !strings.Contains(err.Error(), "line 3: a tab") {
		t.Errorf("got %v", err)
	}
	p.RenderHelm = func(hostabi.DeployRequest, hostabi.HelmRequest) (hostabi.HelmResult, error) {
		return hostabi.HelmResult{}, errors.New("chart: values.schema.json says no")
	}
	if _, _, err := p.Deploy(archive("")); err == nil || !strings.Contains(err.Error(), "values.schema.json says no") {
		t.Errorf("got %v", err)
	}
}

func TestObjects(t *testing.T) {
	p := newPlugin(t, map[string]any{"namespaces": map[string]any{"web": "store"}, "create_namespaces": true})
	object := func(kind, metadata string) json.RawMessage {
		return json.RawMessage(`{"apiVersion":"v1","kind":"` + kind + `","metadata":` + metadata + `}`)
	}
	p.RenderHelm = func(hostabi.DeployRequest, hostabi.HelmRequest) (hostabi.HelmResult, error) {
		return hostabi.HelmResult{
			CRDs: []json.RawMessage{object("CustomResourceDefinition", `{"name":"crd","annotations":{"a":"b"}}`)},
			Objects: []json.RawMessage{
				object("ConfigMap", `{"name":"plain"}`), object("ConfigMap", `{"name":"there","namespace":"other"}`),
				object("PersistentVolumeClaim", `{"name":"kept","annotations":{"helm.sh/resource-policy":"keep"}}`),
				json.RawMessage(`{"apiVersion":"v1","kind":"Big","metadata":{"name":"big"},"n":123456789012345678}`),
			},
			Hooks: []hostabi.HelmHook{
				{Events: []string{"post-install"}, Object: object("ConfigMap", `{"name":"hook"}`)},
				{Events: []string{"pre-install", "pre-upgrade"}, Object: object("Job", `{"name":"migrate"}`)},
				{Events: []string{"post-install"}, Object: object("Pod", `{"name":"once"}`)},
				{Events: []string{"pre-delete"}, Object: object("ConfigMap", `{"name":"late"}`)},
			},
			Warnings: []string{"chart web says that it is deprecated"},
		}, nil
	}
	result, _, err := p.Deploy(archive(""))
	if err != nil {
		t.Fatal(err)
	}
	plugintest.Golden(t, "objects", result)

	for name, raw := range map[string]string{"no object": `"text"`, "no metadata": `{"apiVersion":"v1","kind":"ConfigMap"}`} {
		p.RenderHelm = func(hostabi.DeployRequest, hostabi.HelmRequest) (hostabi.HelmResult, error) {
			return hostabi.HelmResult{Objects: []json.RawMessage{[]byte(raw)}}, nil
		}
		if _, _, err := p.Deploy(archive("")); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// chart is a HelmChart with the fields of its spec.
func chart(name, spec string) string {
	return `{"apiVersion":"helm.cattle.io/v1","kind":"HelmChart","metadata":{"name":"` + name + `","namespace":"kube-system"},"spec":{` + spec + `}}`
}

func file(documents ...string) hostabi.DeployRequest {
	return hostabi.DeployRequest{Kind: hostabi.DeployKindFile, File: "charts.yaml", Addon: "charts",
		Content: strings.Join(documents, "\n---\n"), Variables: map[string]string{"CLUSTER_DOMAIN": "example.test"}}
}

func TestHelmChart(t *testing.T) {
	p := newPlugin(t, map[string]any{"namespaces": map[string]any{"one": "configured"}})
	packed := base64.StdEncoding.EncodeToString([]byte("packed"))
	result, claimed, err := p.Deploy(file(
		chart("one", `"chartContent":"`+packed+`","bootstrap":true,"valuesContent":"{\"a\":1,\"b\":{\"c\":\"%{CLUSTER_DOMAIN}%\"}}","set":{"b.d":"2","b.e":3,"f":"True","g\\.h[1].i":"x","j":2.5}`),
		"null",
		`{"apiVersion":"helm.cattle.io/v1","kind":"HelmChartConfig","metadata":{"name":"one"},"spec":{"valuesContent":"{\"a\":2,\"k\":null}","failurePolicy":"abort"}}`,
		chart("two", `"chartContent":"`+packed+`","targetNamespace":"apps","createNamespace":true,"driftDetection":{}`),
	))
	if err != nil || !claimed || len(result.Objects) != 3 {
		t.Fatalf("%d objects, %v, %v", len(result.Objects), claimed, err)
	}
	one, two := asked(t, result, 0), asked(t, result, 2)
	want := `{"a":2,"b":{"c":"example.test","d":"2","e":3},"f":true,"g.h":[null,{"i":"x"}],"j":2.5,"k":null}`
	if one.Release != "one" || one.Namespace != "kube-system" || one.Archive != packed || string(one.Values) != want {
		t.Errorf("one is %+v with values\n%s, want\n%s", one, one.Values, want)
	}
	if two.Namespace != "apps" || !strings.Contains(string(result.Objects[1]), `"kind":"Namespace"`) || !strings.Contains(string(result.Objects[1]), keepAnnotation) {
		t.Errorf("two is %+v after %s", two, result.Objects[1])
	}
	if !reflect.DeepEqual(result.Warnings, []string{"HelmChart two: spec.driftDetection has no effect"}) {
		t.Errorf("warnings are %q", result.Warnings)
	}
}

func TestNotMine(t *testing.T) {
	p := newPlugin(t, nil)
	for _, req := range []hostabi.DeployRequest{
		file(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}}`),
		file(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"helm.cattle.io"}}`),
		file("helm.cattle.io: [ no JSON, and no YAML for this test"),
		file(`"helm.cattle.io"`), file(""),
		{File: "a.yaml", Content: "{}"},
	} {
		if _, claimed, err := p.Deploy(req); claimed || err != nil {
			t.Errorf("%.60q: claimed %v, %v", req.Content, claimed, err)
		}
	}
}

func TestRefuses(t *testing.T) {
	p := newPlugin(t, nil)
	const other = `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"n"}}`
	content := chart("web", `"chartContent":"eA=="`)
	for name, tc := range map[string]struct {
		req hostabi.DeployRequest
		why string
	}{
		"remote":       {file(chart("web", `"chart":"traefik","repo":"https://charts.example"`)), "run `helm pull traefik --repo https://charts.example`, put the .tgz into the manifests directory as web.tgz"},
		"address":      {file(chart("web", `"chart":"https://charts.example/a.tgz"`)), "charts are not fetched"},
		"no chart":     {file(chart("web", ``)), `spec.chart is ""`},
		"mixed":        {file(other, content), "document 1 (Namespace n) is no HelmChart"},
		"twice":        {file(content, content), "document 2: HelmChart web is in the file twice"},
		"no name":      {file(chart("", `"chartContent":"eA=="`)), "document 1: metadata.name of the HelmChart is missing"},
		"config alone": {file(`{"apiVersion":"helm.cattle.io/v1","kind":"HelmChartConfig","metadata":{"name":"x"}}`), "HelmChartConfig x: the file has no HelmChart of that name"},
		"secrets":      {file(chart("web", `"chartContent":"eA==","valuesSecrets":[{}]`)), "spec.valuesSecrets"},
		"spec":         {file(`{"apiVersion":"helm.cattle.io/v1","kind":"HelmChart","metadata":{"name":"x"},"spec":[]}`), "HelmChart x: spec of the HelmChart"},
		"type":         {file(chart("web", `"chartContent":7`)), "chartContent"},
		"values":       {file(chart("web", `"chartContent":"eA==","valuesContent":"[]"`)), "spec.valuesContent: values must be an object"},
		"set":          {file(chart("web", `"chartContent":"eA==","set":{"a..b":"1"}`)), `spec.set: path "a..b" has an empty key`},
		"set list":     {file(chart("web", `"chartContent":"eA==","set":{"a":[]}`)), `"a" is neither text nor a number`},
	} {
		t.Run(name, func(t *testing.T) {
			_, claimed, err := p.Deploy(tc.req)
			if err == nil || claimed || !strings.Contains(err.Error(), tc.why) {
				t.Errorf("got %v, want %q", err, tc.why)
			}
		})
	}
}

func TestSetRefuses(t *testing.T) {
	for _, path := range []string{"", ".", "a.", ".a", "a..b", "[0]", "a[", "a[x]", "a[-1]", "a[99999]", `a\`} {
		if err := setValue(map[string]any{}, path, "x"); err == nil {
			t.Errorf("%q is a path", path)
		}
	}
	for path, values := range map[string]map[string]any{"a.b": {"a": "text"}, "a[0]": {"a": map[string]any{}}, "a[0].b": {"a": []any{1}}} {
		if err := setValue(values, path, "x"); err == nil {
			t.Errorf("%q goes through %v", path, values)
		}
	}
}

func FuzzSet(f *testing.F) {
	f.Add("a.b[0].c", "x")
	f.Add(`a\.b`, "true")
	f.Fuzz(func(t *testing.T, path, value string) {
		values := map[string]any{}
		if err := setValue(values, path, value); err == nil && len(values) != 1 {
			t.Errorf("%q made %v", path, values)
		}
	})
}

func FuzzDivide(f *testing.F) {
	f.Add(chart("a", `"set":{"a":1}`))
	f.Fuzz(func(t *testing.T, text string) {
		if !json.Valid([]byte(text)) {
			return
		}
		charts, _, err := divide([]json.RawMessage{[]byte(text)})
		if err == nil && len(charts) > 0 {
			_, _ = new(collector).spec(charts[0], chartKind) // it returns
		}
	})
}
