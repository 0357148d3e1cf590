package main

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/pluginsdk/plugintest"
)

func TestReadme(t *testing.T) { plugintest.Readme(t, "README.md", manifest) }

// block returns the fenced block of the README that begins with the word.
func block(t *testing.T, readme, word string, into any) {
	t.Helper()
	_, rest, found := strings.Cut(readme, "\n```"+word+"\n")
	text, _, closed := strings.Cut(rest, "\n```")
	if !found || !closed {
		t.Fatalf("README.md has no block %q", word)
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		t.Fatalf("block %q: %v", word, err)
	}
}

// The example that has a chart rendered.
func TestReadmeChart(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	readme := string(text)
	var in hostabi.DeployRequest
	var asks, chart, result any
	block(t, readme, "json input", &in)
	block(t, readme, "json asks", &asks)
	block(t, readme, "json chart", &chart)
	block(t, readme, "json result", &result)
	p := plugintest.New(t, manifest, map[string]any{"create_namespaces": true, "namespaces": map[string]any{"shop": "store"}})
	p.RenderHelm = func(_ hostabi.DeployRequest, req hostabi.HelmRequest) (res hostabi.HelmResult, err error) {
		same(t, "request", req, asks)
		return res, remarshal(chart, &res)
	}
	got, claimed, err := p.Deploy(in)
	if err != nil || !claimed {
		t.Fatalf("claimed %v, %v", claimed, err)
	}
	same(t, "result", got, result)
}

func remarshal(from, into any) error {
	text, err := json.Marshal(from)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	var value any
	if err := remarshal(got, &value); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(value, want) {
		t.Errorf("%s is\n%v\nwant\n%v", what, value, want)
	}
}
