package main

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/pluginsdk/plugintest"
)

const manifest = "manifest.json"

func request(file, content string) hostabi.DeployRequest {
	addon, _, _ := strings.Cut(file, ".")
	return hostabi.DeployRequest{File: file, Addon: addon, Content: content, Variables: map[string]string{
		"CLUSTER_DNS": "10.43.0.10", "CLUSTER_DOMAIN": "cluster.local", "SYSTEM_DEFAULT_REGISTRY": "",
	}}
}

func configMap(name string) string {
	return `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"` + name + `"}}`
}

func TestResults(t *testing.T) {
	p := plugintest.New(t, manifest, nil)
	for name, content := range map[string]string{
		"one":        configMap("a"),
		"stream":     "---\n" + configMap("a") + "\n---\n---\n" + configMap("b") + "\n---\n",
		"empty":      "",
		"variables":  `{"apiVersion":"v1","kind":"Service","metadata":{"name":"dns"},"spec":{"clusterIP":"%{CLUSTER_DNS}%","externalName":"x.%{CLUSTER_DOMAIN}%","image":"%{SYSTEM_DEFAULT_REGISTRY}%coredns"}}`,
		"unknown":    `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"a":"%{CLUSTER_DSN}%","b":"%{CLUSTER_DSN}%","c":"100%{","d":"%{lower}%"}}`,
		"list":       `{"apiVersion":"v1","kind":"List","items":[` + configMap("a") + `,{"apiVersion":"v1","kind":"ConfigMapList","items":[` + configMap("b") + `]},null]}`,
		"own-list":   `{"apiVersion":"example.org/v1","kind":"AllowList","metadata":{"name":"a"},"spec":{"items":[]}}`,
		"order":      configMap("a") + `{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"crd"}}{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"ns"}}`,
		"duplicates": configMap("a") + "\n---\n" + configMap("a"),
	} {
		t.Run(name, func(t *testing.T) {
			result, claimed, err := p.Deploy(request("addon.yaml", content))
			if err != nil || !claimed {
				t.Fatalf("claimed %v, %v", claimed, err)
			}
			plugintest.Golden(t, name, result)
		})
	}
}

func TestClaims(t *testing.T) {
	p := plugintest.New(t, manifest, nil)
	for file, want := range map[string]bool{
		"a.yaml": true, "a.yml": true, "a.json": true, "a.b.YAML": true,
		"a.yaml.skip": false, "a.tgz": false, "yaml": false, "": false, "a.toml": false,
	} {
		if _, claimed, err := p.Deploy(request(file, "")); claimed != want || err != nil {
			t.Errorf("%s: claimed %v, %v", file, claimed, err)
		}
	}
}

func TestRefuses(t *testing.T) {
	p := plugintest.New(t, manifest, nil)
	deep := configMap("a")
	for range maxListDepth + 1 {
		deep = `{"apiVersion":"v1","kind":"List","items":[` + deep + `]}`
	}
	for _, tt := range []struct{ content, why string }{
		{configMap("a") + "\n---\n" + `{"kind":"ConfigMap","metadata":{"name":"a"}}`, "document 2: apiVersion is missing"},
		{`{"apiVersion":"v1","metadata":{"name":"a"}}`, "document 1: kind is missing"},
		{`{"apiVersion":"v1","kind":"ConfigMap","metadata":{}}`, "document 1: metadata.name of ConfigMap is missing"},
		{`{"apiVersion":"v1","kind":"ConfigMap"}`, "document 1: metadata.name of ConfigMap is missing"},
		{`{"apiVersion":"v1","kind":"Pod","metadata":{"generateName":"a-"}}`, "each pass would make another; give it metadata.name"},
		{`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":7}}`, "document 1: metadata.name has JSON type number, want text; write it in quotes"},
		{`{"apiVersion":"v1","kind":"ConfigMap","metadata":[]}`, "document 1: metadata has JSON type array, want an object"},
		{`{"apiVersion":"v1","kind":"List","items":{}}`, "document 1: items has JSON type object, want a list"},
		{`{"apiVersion":"v1","kind":"List","items":[` + configMap("a") + `,{"kind":"x"}]}`, "document 1, items[1]: apiVersion is missing"},
		{`"text"`, "document 1: not an object"},
		{deep, "lists nest deeper than 4"},
	} {
		_, claimed, err := p.Deploy(request("a.yaml", tt.content))
		if err == nil || claimed || !strings.Contains(err.Error(), tt.why) {
			t.Errorf("got %v, want %q", err, tt.why)
		}
	}
}

// What the host says about malformed YAML reaches the operator.
func TestParserErrorStands(t *testing.T) {
	p := plugintest.New(t, manifest, nil)
	p.RenderYAML = func(string) ([]any, error) { return nil, errors.New("line 3: did not find expected key") }
	_, claimed, err := p.Deploy(request("a.yaml", "x"))
	if err == nil || claimed || !strings.Contains(err.Error(), "line 3: did not find expected key") {
		t.Errorf("claimed %v, %v", claimed, err)
	}
}

func FuzzSubstitute(f *testing.F) {
	f.Add("a %{A}% b %{B}% %{ }%")
	f.Add("%{%{A}%}%")
	f.Fuzz(func(t *testing.T, text string) {
		same, _ := substitute(text, nil)
		if same != text {
			t.Errorf("without variables %q became %q", text, same)
		}
		if got, _ := substitute(text, map[string]string{"A": "%{A}%"}); got != text {
			t.Errorf("%q became %q: a value was looked through again", text, got)
		}
	})
}

func FuzzDocument(f *testing.F) {
	f.Add([]byte(configMap("a")))
	f.Add([]byte(`{"apiVersion":"v1","kind":"List","items":[null,[]]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if !json.Valid(text) {
			return // the host hands out JSON
		}
		var c collector
		if err := c.document(1, text); err != nil {
			return
		}
		for _, raw := range c.result().Objects {
			var o head
			if err := json.Unmarshal(raw, &o); err != nil || o.APIVersion == "" || o.Kind == "" || o.Metadata.Name == "" {
				t.Errorf("%s gives %s, %v", text, raw, err)
			}
		}
	})
}
